// `audit privileged | files | transfers | forwards`: questions to the records of SSH.
import type { AuditFilter } from '../../recording/audit.ts';
import { fileTransfers, fileUses, forwardUses, privilegedCommands, type SshAct } from '../../recording/audit-ssh.ts';
import type { StoreView } from '../../recording/store-view.ts';
import { alignedTable, byteCount } from '../../recording/text.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { type Form, jsonList, machine, openRecords, problemTeller, type RecordsDeps, sinceTime } from './source.ts';

export interface SshAuditArgs {
  since?: string;
  user?: string;
  connection?: string;
  output?: Form;
}

const MOST_ROWS = 10_000;

interface Question<Answer extends SshAct> {
  act: string;
  object: { kind: string; name: string };
  ask(view: StoreView, filter: AuditFilter): Iterable<Answer>;
  head: readonly string[];
  row(answer: Answer): readonly string[];
  none: string;
}

/** `all`: also what was approved or refused. */
export function auditPrivileged(args: SshAuditArgs & { all?: boolean }, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  return answered(args, io, deps, {
    act: 'AuditPrivileged',
    object: { kind: 'Records', name: '*' },
    ask: (view, filter) => privilegedCommands(view, filter, { all: args.all === true }),
    head: ['AS', 'WHY', 'APPROVED BY', 'COMMAND LINE'],
    row: ({ user, why, approvedBy, verb, text }) => [user, why.join('; '), approvedBy.join(', ') || '-', text || verb],
    none: 'No such command is recorded.\n',
  });
}

export function auditFiles(args: SshAuditArgs & { path: string }, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  if (!/^[/*]/.test(args.path)) {
    throw new CliError(
      EXIT.misconfigured,
      `${args.path} is no absolute path`,
      'Write /etc/passwd, or /var/log/* for all below.',
    );
  }
  return answered(args, io, deps, {
    act: 'AuditFiles',
    object: { kind: 'File', name: args.path },
    ask: (view, filter) => fileUses(view, args.path, filter),
    head: ['HOW', 'ACTIONS', 'PATHS', 'COMMAND LINE'],
    row: ({ how, actions, paths, verb, text }) => [how, actions.join(',') || '?', paths.join(', '), text || verb],
    none: 'No recorded command used or named it.\n',
  });
}

export function auditTransfers(args: SshAuditArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  return answered(args, io, deps, {
    act: 'AuditTransfers',
    object: { kind: 'Records', name: '*' },
    ask: fileTransfers,
    head: ['DIRECTION', 'BYTES', 'SHA-256', 'PATH'],
    row: ({ direction, bytes, sha256, path }) => [direction, byteCount(bytes), sha256?.slice(0, 16) ?? '-', path],
    none: 'No file is recorded that moved.\n',
  });
}

export function auditForwards(args: SshAuditArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  return answered(args, io, deps, {
    act: 'AuditForwards',
    object: { kind: 'Records', name: '*' },
    ask: forwardUses,
    head: ['DIRECTION', 'DESTINATION', 'TO TARGET', 'TO CLIENT'],
    row: ({ direction, destination, toTarget, toClient }) => [
      direction,
      destination,
      byteCount(toTarget),
      byteCount(toClient),
    ],
    none: 'No forward is recorded.\n',
  });
}

/** Exit code 1 if some records could not be relied on: then the answer may not be whole. */
async function answered<Answer extends SshAct>(
  args: SshAuditArgs,
  io: Io,
  deps: RecordsDeps,
  question: Question<Answer>,
): Promise<ExitCode> {
  const since = sinceTime(args.since, deps.now());
  await deps.noteRead?.({ act: question.act, object: question.object });
  using view = openRecords(deps);
  const problems = problemTeller(io.err);
  const filter: AuditFilter = {
    ...(since === undefined ? {} : { since }),
    ...(args.user === undefined ? {} : { user: args.user }),
    ...(args.connection === undefined ? {} : { connection: args.connection }),
    onProblem: problems.tell,
  };
  const rows: string[][] = [];
  let found = 0;
  const list = args.output === 'json' ? jsonList(io.out) : undefined;
  for (const answer of question.ask(view, filter)) {
    await io.ready();
    if (io.signal.aborted) return EXIT.failed;
    found += 1;
    const text = args.output === 'name' ? `${answer.session}\n` : machine(args.output, answer);
    if (list !== undefined) list.add(answer);
    else if (text !== undefined) io.out(text);
    else if (rows.length < MOST_ROWS) {
      const { at, username, connection, session, command, outcome } = answer;
      rows.push([at.slice(0, 19), username, connection, session, `#${command}`, outcome, ...question.row(answer)]);
    }
  }
  list?.end();
  if (rows.length > 0) {
    // Records come session by session; people read by time.
    rows.sort(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
    io.out(alignedTable([['WHEN', 'USER', 'CONNECTION', 'SESSION', 'COMMAND', 'OUTCOME', ...question.head], ...rows]));
    if (found > rows.length)
      io.err(`${found - rows.length} more; narrow it with --since or --user, or take -o json.\n`);
  } else if (found === 0) io.err(question.none);
  if (problems.count > 0) io.err('Some records could not be relied on, so this may not be all; run verify.\n');
  return problems.count > 0 ? EXIT.failed : EXIT.ok;
}
