// How the processes are called that a cluster runs, and the approval page.
import type { Command } from 'commander';
import { collected, type Run } from './shell.ts';

/** The processes of a cluster: started by its manifests, so that the help does not list them. */
export function processVerbs(program: Command, run: Run, outcome: { leave?: boolean }): void {
  program
    .command('operator', { hidden: true })
    .description('the operator: admission, and the controllers in the replica that leads')
    .option('--log-level <level>', 'debug, info, warn or error; default info')
    .option('--webhook-port <port>', 'admission over HTTPS; default 9443')
    .option('--health-port <port>', 'health and metrics; default 8080')
    .action(
      run(
        async (context, _args, options) => {
          outcome.leave = true;
          return (await import('../cluster/operator.ts')).operatorCommand(context.io, options);
        },
        { offline: true },
      ),
    );
  program
    .command('portal')
    .helpGroup('Running:')
    .description('serve the approval page')
    .option('--issuer <url>', 'identity provider whose people log in')
    .option('--client-id <id>', 'client that is registered there for this page')
    .option('--client-secret-file <file>', 'its secret; absent: a public client')
    .option('--ca-file <file>', 'PEM of the CAs that the provider’s certificate may come from')
    .option('--scope <scopes>', 'scopes to ask for; default: openid profile email')
    .option('--url <url>', 'address that people open; default: http://localhost:PORT')
    .option('--host <address>', 'address to listen on; default 127.0.0.1')
    .option('--port <port>', 'default 8844')
    .option('--tls-cert <file>', 'PEM; needed for any address but loopback')
    .option('--tls-key <file>', 'PEM')
    .option('--tls-self-made', 'a certificate of its own, for behind what does not verify it')
    .option('--cluster', 'serve the cluster this pod is in, not this machine')
    .option('--login-origin <url>', 'another origin that logins lead through (repeat it)', collected)
    .option('--log-level <level>', 'debug, info, warn or error; default info')
    .action(
      run(async (context, _args, options) => {
        outcome.leave = true;
        const { state, prefix } = context;
        return (await import('../cluster/portal.ts')).portalCommand(context.io, options, { state, prefix });
      }),
    );
  program
    .command('proxy', { hidden: true })
    .description('one proxy, in its pod')
    .option('--trust <keyId:key>', 'operator key to believe, raw Ed25519 in base64url (repeat it)', collected)
    .option('--operator-namespace <namespace>', 'where the operator’s heartbeat is')
    .option('--log-level <level>', 'debug, info, warn or error; default info')
    .action(
      run(
        async (context, _args, options) => {
          outcome.leave = true;
          return (await import('../cluster/proxy.ts')).proxyCommand(context.io, options);
        },
        { offline: true },
      ),
    );
}
