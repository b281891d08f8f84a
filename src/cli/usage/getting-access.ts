// How the verbs are called by which engineers find, ask for and use access.
import { findGrant } from '../context.ts';
import { pipelineOptions } from '../identity/verbs.ts';
import { CliError, EXIT } from '../io.ts';
import { decision } from './approving.ts';
import type { Shell } from './shell.ts';

export function engineerVerbs({ verb, run, cluster }: Shell): void {
  const group = 'Getting access';
  verb('ls', 'Connections, where they are, and what you may do there', group).action(
    run(async (context) => (await import('../verbs/views.ts')).ls(context)),
  );
  const request = verb('request <connection>', 'ask for access', group, [
    'request orders-db --for 1h --reason INC-1234 --wait',
    'request orders-db --for 2h --not-before 22:00 --reason "night deploy"',
    'request orders-db --extend orders-db-7fk2p --for 30m --reason "not done yet"',
    'request orders-db --command-file migration.sql --reason "release 41" --wait',
    'request orders-db --break-glass --reason "INC-1234: orders are stuck"',
  ])
    .option('--for <duration>', 'how long, for example 30m or 1h30m; default 1h or what the policy allows')
    .option('--reason <text>', 'why; approvers see it')
    .option('--account <name>', 'account of the Connection; default: the policy’s first')
    .option('--policy <name>', 'policy to run under, where several fit')
    .option('--not-before <time>', 'begin then: 22:00 or 2026-01-31T22:00:00Z')
    .option('--extend <grant>', 'carry on when this grant of yours ends; live sessions stay')
    .option('--ticket <id>', 'number in a ticket system')
    .option(
      '--break-glass',
      'skip the approvals where the policy lets you; needs --reason, and somebody will review it',
    )
    .option('--command-file <file>', 'SQL whose statements are approved with the request: those run without waiting')
    .option('--for-user <name>', 'on behalf of this user, where the policy makes you a delegator')
    .option('--provider <name>', 'with --for-user: IdentityProvider whose token logs in as them')
    .option('--key <public>', 'with --for-user: their public key, as `key` prints it')
    .option('--wait', 'wait for the approval');
  pipelineOptions(request).action(
    run(
      async (context, [name], options) =>
        options['server'] === undefined
          ? (await import('../verbs/request.ts')).request(context, name!, options)
          : (await import('../identity/pipeline.ts')).requestAt(context, name!, options),
      { offlineWith: 'server' },
    ),
  );
  verb('seal [connection]', 'have access approved now for a time when nobody can be asked', group, [
    'seal orders-db --for 30m --uses 2 --reason "on call in March" --wait',
    'seal --save orders-db-7fk2p        # once it is approved',
  ])
    .option('--for <duration>', 'how long each use lasts; default 30m')
    .option('--valid-for <duration>', 'how long it can be opened; default and most 720h')
    .option('--uses <count>', 'how often, on each proxy; default 1')
    .option('--reason <text>', 'why; approvers see it')
    .option('--account <name>', 'account of the Connection; default: the policy’s first')
    .option('--policy <name>', 'policy to run under, where several fit')
    .option('--wait', 'wait for the approval')
    .option('--save <grant>', 'keep what opens this grant, which was approved meanwhile')
    .action(
      run(async (context, [name], options: { save?: string; validFor?: string; uses?: string }) => {
        const { seal, save } = await import('../verbs/seal.ts');
        if (options.save !== undefined) return save(context, await findGrant(context, options.save));
        if (name === undefined) throw new CliError(EXIT.misconfigured, 'Name a Connection', 'See `ls`.');
        return seal(context, name, options);
      }),
    );
  verb('unseal <grant>', 'print a DSN of a sealed grant, asking nobody', group, ['unseal orders-db-7fk2p']).action(
    run(async (context, [name]) => (await import('../verbs/seal.ts')).unseal(context, name!), { offline: true }),
  );
  const connect = verb(
    'connect <connection> [command...]',
    'start a client (psql with a fresh ticket, or ssh with the grant’s key)',
    group,
    [
      'connect orders-db',
      'connect orders-db -- psql -c "select 1"',
      'connect orders-db --listen 6432      # a DSN for IDEs and pools, one ticket per login',
      'connect web1                         # a shell, where the policy allows one',
      'connect web1 --user deploy -- systemctl status nginx',
      'connect web1 -- -L 8080:localhost:80 -N',
    ],
  )
    .option('--account <name>', 'account of the Connection')
    .option('--user <name>', 'SSH: user of the target; default: the account’s first, or its name')
    .option('--policy <name>', 'policy to run under, where several fit')
    .option('--grant <name>', 'this grant, not the one that lasts longest')
    .option('--reason <text>', 'why, where a grant is made on the spot (Standing access)')
    .option('--for <duration>', 'how long, where a grant is made on the spot (Standing access)')
    .option('--wait', 'wait for a pending approval')
    .option('--token', 'by the token of your login, even where the grant’s key is here')
    .option('--listen [port]', 'keep a loopback listener instead of starting a client');
  if (cluster) {
    connect
      .option('--tunnel', 'through the API server, even where there is a shorter way')
      .option('--direct', 'straight to the endpoint; default only in pods and where it is exposed to the outside');
  }
  pipelineOptions(connect).action(
    run(
      async (context, [name, ...command], options: Record<string, never>) =>
        options['server'] === undefined
          ? (await import('../verbs/connect.ts')).connect(context, name!, { ...options, command })
          : (await import('../identity/pipeline.ts')).connectAt(context, name!, { ...options, command }),
      { offlineWith: 'server' },
    ),
  );
  verb('dsn <connection>', 'print a DSN whose password is a ticket (5 minutes); for SSH the command line', group, [
    'dsn orders-db',
    'dsn web1                             # ssh -o … ; holds no secret',
    'dsn web1 --ticket                    # to type where a client asks for it, on a machine without the key',
    'dsn orders-db --until-expiry',
    'dsn orders-db --oauth                # psql 18 logs in by itself; holds no secret',
  ])
    .option('--account <name>', 'account of the Connection')
    .option('--user <name>', 'SSH: user of the target')
    .option('--ticket', 'SSH: a ticket for one login, in place of the command line')
    .option('--policy <name>', 'policy to run under, where several fit')
    .option('--grant <name>', 'this grant, not the one that lasts longest')
    .option('--oauth', 'for psql 18, which logs in at the identity provider: no ticket in it')
    .option('--until-expiry', 'a ticket that lasts to the grant’s end, where the policy allows it')
    .action(run(async (context, [name], options) => (await import('../verbs/dsn.ts')).dsn(context, name!, options)));
  const sshConfig = verb(
    'ssh-config',
    'print what lets ssh, scp, rsync, git and editors in by a Connection’s name',
    group,
    [
      'ssh-config --write                   # to a file of its own; then, once, Include it in ~/.ssh/config',
      'ssh-config > /tmp/config; scp -F /tmp/config notes.txt web1:',
    ],
  ).option('--write', 'to a file in the folder of your keys, and say how to include it');
  const proxyCommand = verb(
    'proxy-command <connection>',
    'carry an SSH connection over stdin and stdout: for ProxyCommand',
    group,
    ['proxy-command payments/web1'],
  ).option('--prepare', 'write key and known hosts for a login that follows, and end');
  for (const each of cluster ? [sshConfig, proxyCommand] : []) {
    each
      .option('--tunnel', 'through the API server, even where there is a shorter way')
      .option('--direct', 'straight to the endpoint; default only in pods and where it is exposed to the outside');
  }
  sshConfig.action(
    run(async (context, _args, options) => (await import('../verbs/ssh.ts')).sshConfig(context, options)),
  );
  proxyCommand.action(
    run(async (context, [name], options) => (await import('../verbs/ssh.ts')).proxyCommand(context, name!, options)),
  );
  verb('status [name]', 'your grants, or one grant or hold in full', group, [
    'status',
    'status orders-db-7fk2p',
    'status --all',
  ])
    .option('--all', 'everybody’s')
    .action(
      run(async (context, [name], options) =>
        (await import('../verbs/views.ts')).status(context, name, options['all'] === true),
      ),
    );
  decision(verb, run, 'withdraw', 'Withdraw', 'give up a request or grant of yours, or a held statement', group);
}

/** What only `kubectl access` has. */
export function clusterVerbs({ verb, run }: Shell): void {
  verb('key <connection>', 'make a key for a grant that you write as YAML, and print it', 'Getting access', [
    'key orders-db                       # the YAML to save, review and kubectl create',
    'key orders-db -o name               # the public key alone',
  ]).action(run(async (context, [name]) => (await import('../verbs/key.ts')).key(context, name!)));
  verb('doctor [connection]', 'what is wrong here, and who could go around Sallyport', 'Security', [
    'doctor',
    'doctor orders-db -o json',
  ])
    .option('--strict', 'warnings fail too')
    .action(
      run(async (context, [name], options) => (await import('../cluster/doctor.ts')).doctor(context, name, options)),
    );
}
