// `audit columns CONNECTION/SCHEMA.TABLE.COLUMN`: who read a column, when, and whether they saw it masked.
import { columnReads, parseColumnPattern } from '../../recording/audit.ts';
import { alignedTable } from '../../recording/text.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { type Form, jsonList, machine, openRecords, problemTeller, type RecordsDeps, sinceTime } from './source.ts';

export interface AuditColumnsArgs {
  pattern: string;
  since?: string;
  user?: string;
  output?: Form;
}

const MOST_ROWS = 10_000;

/** Exit code 1 if some records could not be relied on: then the answer may not be whole. */
export async function auditColumns(args: AuditColumnsArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const pattern = parseColumnPattern(args.pattern);
  if (pattern === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `${args.pattern} names no column`,
      'Write CONNECTION/SCHEMA.TABLE.COLUMN, for example orders-db/public.cards.number; each part may be *.',
    );
  }
  const since = sinceTime(args.since, deps.now());
  await deps.noteRead?.({ act: 'AuditColumns', object: { kind: 'Column', name: args.pattern } });
  using view = openRecords(deps);
  const problems = problemTeller(io.err);
  const filter = {
    ...(since === undefined ? {} : { since }),
    ...(args.user === undefined ? {} : { user: args.user }),
    onProblem: problems.tell,
  };
  const rows: string[][] = [];
  let found = 0;
  const list = args.output === 'json' ? jsonList(io.out) : undefined;
  for (const read of columnReads(view, pattern, filter)) {
    await io.ready();
    if (io.signal.aborted) return EXIT.failed;
    found += 1;
    const text = args.output === 'name' ? `${read.session}\n` : machine(args.output, read);
    if (list !== undefined) list.add(read);
    else if (text !== undefined) io.out(text);
    else if (rows.length < MOST_ROWS) {
      rows.push([
        read.at.slice(0, 19),
        read.username,
        read.connection,
        read.session,
        `#${read.command}`,
        read.how,
        read.outcome,
        String(read.rows),
        read.columns.join(','),
        read.text,
      ]);
    }
  }
  list?.end();
  if (rows.length > 0) {
    // Records come session by session; people read by time.
    rows.sort(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
    io.out(
      alignedTable([
        ['WHEN', 'USER', 'CONNECTION', 'SESSION', 'COMMAND', 'HOW', 'OUTCOME', 'ROWS', 'COLUMNS', 'STATEMENT'],
        ...rows,
      ]),
    );
    if (found > rows.length)
      io.err(`${found - rows.length} more; narrow it with --since or --user, or take -o json.\n`);
  } else if (found === 0) io.err('No recorded command read it.\n');
  if (problems.count > 0) io.err('Some records could not be relied on, so this may not be all; run verify.\n');
  return problems.count > 0 ? EXIT.failed : EXIT.ok;
}
