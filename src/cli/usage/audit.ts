// How the verbs are called that read the records.
import type { Command } from 'commander';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import type { RecordsDeps } from '../records/source.ts';
import type { SshAuditArgs } from '../records/ssh.ts';
import type { Action, Run, Shell } from './shell.ts';

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
          import('../records/ls.ts'),
          import('../verbs/records.ts'),
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
          import('../records/show.ts'),
          import('../verbs/records.ts'),
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
          import('../records/replay.ts'),
          import('../verbs/records.ts'),
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
            import('../records/verify.ts'),
            import('../verbs/records.ts'),
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
          import('../records/columns.ts'),
          import('../verbs/records.ts'),
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
      verbs: typeof import('../records/ssh.ts'),
    ) => (args: SshAuditArgs & { all?: boolean; path: string }, io: Io, deps: RecordsDeps) => Promise<ExitCode>,
  ): ReturnType<Run> =>
    onRecords(async (context, [path], options: SshAuditOptions) => {
      const [verbs, { recordsDeps }] = await Promise.all([import('../records/ssh.ts'), import('../verbs/records.ts')]);
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

const recordsElsewhere: Action = async () => {
  throw new CliError(
    EXIT.misconfigured,
    'The records of a cluster lie on the volumes of its proxies, and kubectl access does not mount those',
    'Mount a copy of the claim records-<proxy pod> and run there: sallyport verify FOLDER --root KEY, or sallyport replay SESSION --state FOLDER, where FOLDER holds records/.',
  );
};

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

/** Only what was given, and nothing else of the options. */
function picked<T extends object, K extends keyof T>(options: T, names: readonly K[]): Partial<Pick<T, K>> {
  const found: Partial<Pick<T, K>> = {};
  for (const name of names) if (options[name] !== undefined) found[name] = options[name];
  return found;
}
