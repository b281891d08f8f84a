// How login, logout and whoami are called, and what request and connect take from jobs.
import type { Command } from 'commander';
import type { Shell } from '../usage/shell.ts';

/** For jobs, which have no kubeconfig. */
export function pipelineOptions(command: Command): Command {
  return command
    .option('--server <url>', 'in a CI job: ask this portal, as the job that its token says it is')
    .option('--token-file <file>', 'the job’s token; default: what GitHub or GitLab give the job')
    .option('--audience <text>', 'whom the token is made for, where the CI system makes it; default sallyport')
    .option('--server-ca <file>', 'PEM of the CA to verify the portal with; default: the system’s');
}

/** Who one is: of use before any access. */
export function identityVerbs({ verb, run }: Shell): void {
  const group = 'Getting access';
  verb('login [provider]', 'log in at an identity provider: in the browser, or with a code from any device', group, [
    'login',
    'login corp --device                  # no browser here; what it brings never approves',
    'login --issuer https://id.corp.example --client-id sallyport --ca-file ca.pem',
  ])
    .option('--device', 'show a code to enter in a browser elsewhere')
    .option('--no-browser', 'print the address of the page instead of opening it')
    .option('--issuer <url>', 'log in there; default: the IdentityProvider’s issuer')
    .option('--client-id <id>', 'as this public client, with --issuer')
    .option('--ca-file <file>', 'PEM of the CA to verify the issuer with; default: the system’s')
    .option('--scope <scopes>', 'scopes to ask for, with --issuer; default: openid offline_access profile email')
    .action(
      run(async (context, [name], options) => (await import('./login.ts')).login(context, name, options), {
        offline: true,
      }),
    );
  verb('logout [provider]', 'forget a login and have the provider end it', group, ['logout', 'logout --all'])
    .option('--all', 'of every place, not just this one')
    .action(
      run(async (context, [name], options) => (await import('./login.ts')).logout(context, name, options), {
        offline: true,
      }),
    );
  verb('whoami', 'who you are here, and your logins', group, ['whoami', 'whoami -o json']).action(
    run(async (context, _args, options) => (await import('./login.ts')).whoami(context, options), {
      offline: true,
    }),
  );
}
