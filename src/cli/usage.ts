// How each verb is called: its options, examples and where it is found in the help. Each verb is a function elsewhere.
// Modules with a SQL parser or a server in them are loaded by the verbs that need them, so that the others start at once.
import type { Command } from 'commander';
import { type Context, findConnection, findGrant, type VerbNeeds } from './context.ts';
import { pipelineOptions } from './identity/verbs.ts';
import { CliError, EXIT, type ExitCode, type Io } from './io.ts';
import type { RecordsDeps } from './records/source.ts';
import type { SshAuditArgs } from './records/ssh.ts';

export type Action = (context: Context, args: string[], options: GivenOptions) => Promise<ExitCode>;
// Commander knows options by name only; each verb's own type says which it has declared.
type GivenOptions = Record<string, never>;

export type Verb = (usage: string, summary: string, group: string, examples?: readonly string[]) => Command;
export type Run = (action: Action, needs?: VerbNeeds) => (...given: unknown[]) => Promise<void>;

export interface Shell {
  verb: Verb;
  run: Run;
  /** How commands begin: `sallyport` or `kubectl access`. */
  prefix: string;
  /** Verbs and options of `kubectl access`. */
  cluster: boolean;
}

export function engineerVerbs({ verb, run, cluster }: Shell): void {
  const group = 'Getting access';
  verb('ls', 'Connections, where they are, and what you may do there', group).action(
    run(async (context) => (await import('./verbs/views.ts')).ls(context)),
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
          ? (await import('./verbs/request.ts')).request(context, name!, options)
          : (await import('./identity/pipeline.ts')).requestAt(context, name!, options),
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
        const { seal, save } = await import('./verbs/seal.ts');
        if (options.save !== undefined) return save(context, await findGrant(context, options.save));
        if (name === undefined) throw new CliError(EXIT.misconfigured, 'Name a Connection', 'See `ls`.');
        return seal(context, name, options);
      }),
    );
  verb('unseal <grant>', 'print a DSN of a sealed grant, asking nobody', group, ['unseal orders-db-7fk2p']).action(
    run(async (context, [name]) => (await import('./verbs/seal.ts')).unseal(context, name!), { offline: true }),
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
          ? (await import('./verbs/connect.ts')).connect(context, name!, { ...options, command })
          : (await import('./identity/pipeline.ts')).connectAt(context, name!, { ...options, command }),
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
    .action(run(async (context, [name], options) => (await import('./verbs/connect.ts')).dsn(context, name!, options)));
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
    run(async (context, _args, options) => (await import('./verbs/ssh.ts')).sshConfig(context, options)),
  );
  proxyCommand.action(
    run(async (context, [name], options) => (await import('./verbs/ssh.ts')).proxyCommand(context, name!, options)),
  );
  verb('status [name]', 'your grants, or one grant or hold in full', group, [
    'status',
    'status orders-db-7fk2p',
    'status --all',
  ])
    .option('--all', 'everybody’s')
    .action(
      run(async (context, [name], options) =>
        (await import('./verbs/views.ts')).status(context, name, options['all'] === true),
      ),
    );
  decision(verb, run, 'withdraw', 'Withdraw', 'give up a request or grant of yours, or a held statement', group);
}

function decision(
  verb: Verb,
  run: Run,
  name: string,
  kind: 'Approve' | 'Deny' | 'Revoke' | 'Withdraw' | 'SignOff',
  summary: string,
  group: string,
): void {
  verb(`${name} <name>`, summary, group, [
    `${name} orders-db-7fk2p`,
    ...(kind === 'Deny' ? [`${name} h-3b7 --reason "add a WHERE"`] : []),
  ])
    .option('--reason <text>', 'told to whom it concerns')
    .option('-y, --yes', 'do not ask')
    .action(
      run(async (context, [target], options) =>
        (await import('./verbs/decide.ts')).decide(context, kind, target!, options),
      ),
    );
}

export function approverVerbs({ verb, run }: Shell): void {
  const group = 'Approving';
  verb('pending', 'requests and held statements that wait for somebody', group, ['pending', 'pending --sign-off'])
    .option('--sign-off', 'emergencies whose review is due')
    .action(run(async (context, _args, options) => (await import('./verbs/views.ts')).pending(context, options)));
  decision(verb, run, 'approve', 'Approve', 'approve a request or a held statement, after showing it', group);
  decision(verb, run, 'deny', 'Deny', 'deny a request or a held statement', group);
  decision(verb, run, 'revoke', 'Revoke', 'end a grant that is in force', group);
  decision(verb, run, 'sign-off', 'SignOff', 'sign off a grant that was taken by break-glass', group);
  verb('holds', 'statements that were held', group).action(
    run(async (context) => (await import('./verbs/views.ts')).holds(context)),
  );
}

export function securityVerbs({ verb, run }: Shell): void {
  const group = 'Security';
  verb('sessions', 'live sessions', group).action(
    run(async (context) => (await import('./verbs/views.ts')).sessions(context)),
  );
  verb('kill <id...>', 'cut sessions', group, ['kill s-5w2mc']).action(
    run(async (context, ids) => (await import('./verbs/security.ts')).kill(context, ids)),
  );
  verb('lock', 'end sessions and refuse new ones until unlocked', group, [
    'lock --user mallory@corp.example --reason "laptop stolen"',
    'lock --connection orders-db --for 2h --reason "restore in progress"',
  ])
    .option('--user <name>', 'somebody, by any of their names')
    .option('--group <name>', 'whoever is in the group or was at login')
    .option('--connection <name>', 'one Connection')
    .option('--everything', 'every Connection of the namespace')
    .option('--reason <text>', 'told to those it reaches')
    .option('--for <duration>', 'how long; default until unlocked')
    .action(run(async (context, _args, options) => (await import('./verbs/security.ts')).lock(context, options)));
  verb('unlock <name>', 'lift a lock', group, ['unlock lock-7fk2p']).action(
    run(async (context, [name]) => (await import('./verbs/security.ts')).unlock(context, name!)),
  );
}

export function auditVerbs({ verb, run, cluster }: Shell): void {
  const group = 'Audit';
  const onRecords = (action: Action): ReturnType<Run> =>
    cluster ? run(recordsElsewhere, { offline: true }) : run(action);
  const records = verb('records', 'sessions on record', group);
  records
    .command('ls')
    .description('sessions, who and when')
    .option('--since <time>', 'from then on: 24h, 30d, 2026-01-31')
    .option('--user <name>', 'of this person')
    .option('--connection <name>', 'on this Connection')
    .action(
      onRecords(async (context, _args, options: { since?: string; user?: string; connection?: string }) => {
        const [{ recordsLs }, { recordsDeps }] = await Promise.all([
          import('./records/ls.ts'),
          import('./verbs/records.ts'),
        ]);
        return recordsLs(
          { ...picked(options, ['since', 'user', 'connection']), output: context.output },
          context.io,
          recordsDeps(context),
        );
      }),
    );
  records
    .command('show <session>')
    .description('every record of a session, raw: one JSON document a line (-o yaml: one YAML document each)')
    .action(
      onRecords(async (context, [session]) => {
        const [{ recordsShow }, { recordsDeps }] = await Promise.all([
          import('./records/show.ts'),
          import('./verbs/records.ts'),
        ]);
        return recordsShow({ session: session!, output: context.output }, context.io, recordsDeps(context));
      }),
    );
  verb('replay <session>', 'what happened in a session, command by command; -o json: one record a line', group, [
    'replay s-5w2mc',
    'replay s-5w2mc --play --speed 4      # a terminal, as its user saw it',
    'replay s-5w2mc --asciicast --out s-5w2mc.cast',
    'replay s-5w2mc --play --follow       # while it lives',
  ])
    .option('--play', 'play its terminal in this one; Ctrl-C ends it')
    .option('--speed <factor>', 'play it so many times as fast')
    .option('--max-pause <seconds>', 'cut longer pauses to this; default 2')
    .option('--asciicast', 'write its terminal as asciicast v3')
    .option('--out <file>', 'with --asciicast: there, and not on standard output')
    .option('--channel <number>', 'of a connection with several')
    .option('--follow', 'go on while it lives')
    .action(
      onRecords(async (context, [session], options: ReplayOptions) => {
        const [{ replaySession }, { recordsDeps }] = await Promise.all([
          import('./records/replay.ts'),
          import('./verbs/records.ts'),
        ]);
        return replaySession(
          {
            session: session!,
            output: context.output,
            ...picked(options, ['play', 'asciicast', 'out', 'follow']),
            ...numbers(picked(options, ['speed', 'maxPause', 'channel']), {
              speed: [0.01, 1000],
              maxPause: [0, 86_400],
              channel: [0, 0xffff_ffff],
            }),
          },
          context.io,
          recordsDeps(context),
        );
      }),
    );
  verb('verify [folder...]', 'prove that no record was changed, dropped or cut off', group, [
    'verify',
    'verify /mnt/archive/records --root KEY',
  ])
    .option('--root <key...>', 'root key, raw or a PEM file; default: the one of the state folder')
    .option('--expect-head <entry:hash>', 'a head that an earlier run printed: nothing after it may be missing')
    .action(
      run(
        async (context, folders, options: { root?: string[]; expectHead?: string }) => {
          const [{ verify }, { recordsDeps }] = await Promise.all([
            import('./records/verify.ts'),
            import('./verbs/records.ts'),
          ]);
          return verify(
            { folders, ...picked(options, ['root', 'expectHead']), output: context.output },
            context.io,
            recordsDeps(context),
          );
        },
        { offline: true },
      ),
    );
  const audit = verb('audit', 'questions to the records', group);
  audit
    .command('columns <pattern>')
    .description('who saw a column, when, masked or clear: orders-db/public.cards.number')
    .option('--since <time>', 'from then on: 24h, 30d, 2026-01-31')
    .option('--user <name>', 'by this person')
    .action(
      onRecords(async (context, [pattern], options: { since?: string; user?: string }) => {
        const [{ auditColumns }, { recordsDeps }] = await Promise.all([
          import('./records/columns.ts'),
          import('./verbs/records.ts'),
        ]);
        return auditColumns(
          { pattern: pattern!, ...picked(options, ['since', 'user']), output: context.output },
          context.io,
          recordsDeps(context),
        );
      }),
    );
  const ofSsh = (name: string, description: string): Command =>
    audit
      .command(name)
      .description(description)
      .option('--since <time>', 'from then on: 24h, 30d, 2026-01-31')
      .option('--user <name>', 'by this person')
      .option('--connection <name>', 'on this Connection');
  const asked = (
    question: (
      verbs: typeof import('./records/ssh.ts'),
    ) => (args: SshAuditArgs & { all?: boolean; path: string }, io: Io, deps: RecordsDeps) => Promise<ExitCode>,
  ): ReturnType<Run> =>
    onRecords(async (context, [path], options: SshAuditOptions) => {
      const [verbs, { recordsDeps }] = await Promise.all([import('./records/ssh.ts'), import('./verbs/records.ts')]);
      const args = {
        ...picked(options, ['since', 'user', 'connection', 'all']),
        output: context.output,
        path: path ?? '',
      };
      return question(verbs)(args, context.io, recordsDeps(context));
    });
  ofSsh('privileged', 'what ran over SSH as root or by sudo and the like, and nobody approved')
    .option('--all', 'also what was approved or refused')
    .action(asked(({ auditPrivileged }) => auditPrivileged));
  ofSsh('files <path>', 'who used a file over SSH, or named it: /etc/shadow, /var/log/*').action(
    asked(({ auditFiles }) => auditFiles),
  );
  ofSsh('transfers', 'files that moved over SSH, with their lengths and digests').action(
    asked(({ auditTransfers }) => auditTransfers),
  );
  ofSsh('forwards', 'where SSH forwards led, and how many bytes passed').action(
    asked(({ auditForwards }) => auditForwards),
  );
}

interface SshAuditOptions {
  since?: string;
  user?: string;
  connection?: string;
  all?: boolean;
}

interface ReplayOptions {
  play?: boolean;
  speed?: string;
  maxPause?: string;
  asciicast?: boolean;
  out?: string;
  channel?: string;
  follow?: boolean;
}

/** Options that are numbers, each between its bounds. */
function numbers<K extends string>(
  options: { readonly [N in K]?: string },
  bounds: Readonly<Record<K, readonly [number, number]>>,
): Partial<Record<K, number>> {
  const found: Partial<Record<K, number>> = {};
  for (const name of Object.keys(bounds) as K[]) {
    const text = options[name];
    if (text === undefined) continue;
    const number = Number(text);
    const [least, most] = bounds[name];
    if (text.trim() === '' || !(number >= least && number <= most)) {
      const option = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      throw new CliError(EXIT.misconfigured, `--${option} ${text} is no number from ${least} to ${most}`);
    }
    found[name] = number;
  }
  return found;
}

const catalogElsewhere: Action = async () => {
  throw new CliError(
    EXIT.misconfigured,
    'The schema of a database is not exported through a cluster: its credentials stay in the proxy',
    'Where you may read the credentials, serve the same Connection by sallyport local DIR, then: sallyport catalog export NAME',
  );
};

const recordsElsewhere: Action = async () => {
  throw new CliError(
    EXIT.misconfigured,
    'The records of a cluster lie on the volumes of its proxies, and kubectl access does not read them yet',
    'Mount a copy of the claim records-<proxy pod> and run there: sallyport verify FOLDER --root KEY, or sallyport replay SESSION --state FOLDER, where FOLDER holds records/.',
  );
};

/** Only what was given, and nothing else of the options. */
function picked<T extends object, K extends keyof T>(options: T, names: readonly K[]): Partial<Pick<T, K>> {
  const found: Partial<Pick<T, K>> = {};
  for (const name of names) if (options[name] !== undefined) found[name] = options[name];
  return found;
}

export function authorVerbs({ verb, run, prefix, cluster }: Shell): void {
  const group = 'Writing policies';
  verb('why <subject>', 'explain a denial by its id, or a statement for you now', group, [
    'why d-51c0',
    `why --connection orders-db "drop table orders" --as alice@corp.example ${cluster ? '--as-group' : '--groups'} orders-team`,
  ])
    .option('--connection <name>', 'where, for a statement')
    .option('--account <name>', 'account of the Connection')
    .option('--policy <name>', 'policy to run under, where several fit')
    .action(
      run(async (context, [subject], options) =>
        (await import('./verbs/why.ts')).explainWhy(context, subject!, options),
      ),
    );
  const policy = verb('policy', 'test and check policies without a server', group);
  policy
    .command('test <directory>')
    .description('run the policy tests (kind PolicyTest) of a directory; exit code 1 when one fails')
    .option('--policies <directory>', 'where the policies are, if not beside the tests')
    .option('--junit <file>', 'write JUnit XML there as well')
    .addHelpText(
      'after',
      `\nExamples:\n  ${prefix} policy test ./access\n  ${prefix} policy test ./access -o junit > report.xml\n`,
    )
    .action(
      run(
        async ({ io }, [dir], options: { policies?: string; junit?: string; output?: string }) =>
          (await import('./policy/test.ts')).policyTest(
            { dir: dir!, policies: options.policies, output: options.output, junitFile: options.junit },
            io,
          ),
        { anyForm: true, offline: true },
      ),
    );
  policy
    .command('lint <directory>')
    .description('every problem and doubt of a directory, with file and line')
    .option('--strict', 'warnings fail too')
    .action(
      run(
        async ({ io }, [dir], options: { strict?: boolean; output?: string }) =>
          (await import('./policy/lint.ts')).policyLint(
            { dir: dir!, output: options.output, strict: options.strict },
            io,
          ),
        { anyForm: true, offline: true },
      ),
    );
  verb('preset [name]', 'print the rules a preset stands for', group, ['preset ReadOnly', 'preset ReadOnly --type SSH'])
    .option('--type <type>', 'Connections that it is for: PostgreSQL (default) or SSH')
    .action(
      run(
        async ({ io }, [name], options: { type?: string }) => {
          const { preset, presetRules } = await import('./policy/preset.ts');
          return preset({ name }, io, await presetRules(options.type));
        },
        { offline: true },
      ),
    );
  const catalog = verb('catalog', 'schemas of Connections, for policy tests', group);
  catalog
    .command('export <connection>')
    .description('print the schema of a Connection’s database as JSON: names and types, no data')
    .option('--account <name>', 'account to look with; default: the first')
    .action(
      cluster
        ? run(catalogElsewhere, { offline: true })
        : run(async (context, [name], options: { account?: string }) => {
            const { metadata } = await findConnection(context, name!);
            const found = await context.client.catalog(metadata.namespace ?? 'default', metadata.name, options.account);
            context.io.out(`${JSON.stringify(found, null, 2)}\n`);
            return EXIT.ok;
          }),
    );
}

/** What only `kubectl access` has. */
export function clusterVerbs({ verb, run }: Shell): void {
  verb('key <connection>', 'make a key for a grant that you write as YAML, and print it', 'Getting access', [
    'key orders-db                       # the YAML to save, review and kubectl create',
    'key orders-db -o name               # the public key alone',
  ]).action(run(async (context, [name]) => (await import('./verbs/key.ts')).key(context, name!)));
  verb('doctor [connection]', 'what is wrong here, and who could go around Sallyport', 'Security', [
    'doctor',
    'doctor orders-db -o json',
  ])
    .option('--strict', 'warnings fail too')
    .action(
      run(async (context, [name], options) => (await import('./cluster/doctor.ts')).doctor(context, name, options)),
    );
}

/** For options that may be repeated. */
export const collected = (value: string, before: string[] = []): string[] => [...before, value];

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
          return (await import('./cluster/operator.ts')).operatorCommand(context.io, options);
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
        return (await import('./cluster/portal.ts')).portalCommand(context.io, options, { state, prefix });
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
          return (await import('./cluster/proxy.ts')).proxyCommand(context.io, options);
        },
        { offline: true },
      ),
    );
}
