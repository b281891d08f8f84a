// `records ls`: sessions, the oldest first.
import { listSessions } from '../../recording/audit.ts';
import { alignedTable } from '../../recording/text.ts';
import { EXIT, type ExitCode, type Io } from '../io.ts';
import { type Form, jsonList, machine, openRecords, problemTeller, type RecordsDeps, sinceTime } from './source.ts';

export interface RecordsLsArgs {
  since?: string;
  user?: string;
  connection?: string;
  output?: Form;
}

/** Exit code 1 if some records could not be relied on. */
export async function recordsLs(args: RecordsLsArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const since = sinceTime(args.since, deps.now());
  await deps.noteRead?.({ act: 'ListRecords', object: { kind: 'Records', name: '*' }, details: { ...args } });
  using view = openRecords(deps);
  const problems = problemTeller(io.err);
  const { user, connection } = args;
  const filter = {
    ...(since === undefined ? {} : { since }),
    ...(user === undefined ? {} : { user }),
    ...(connection === undefined ? {} : { connection }),
    onProblem: problems.tell,
  };
  const sessions = [...listSessions(view, filter)].sort((a, b) =>
    a.started < b.started ? -1 : a.started > b.started ? 1 : 0,
  );
  if (args.output === 'name') for (const { session } of sessions) io.out(`${session}\n`);
  else if (args.output === 'json') {
    const list = jsonList(io.out);
    sessions.forEach(list.add);
    list.end();
  } else if (args.output === 'yaml') for (const session of sessions) io.out(machine('yaml', session)!);
  else if (sessions.length === 0) io.err('No session is recorded that matches.\n');
  else {
    const wide = args.output === 'wide';
    const head = [
      'SESSION',
      'USER',
      'CONNECTION',
      'ACCOUNT',
      'STARTED',
      'ENDED',
      'COMMANDS',
      'DENIED',
      'HELD',
      'ROWS',
      'MASKED',
    ];
    const rows = sessions.map((one) => [
      one.session,
      one.username,
      one.connection,
      one.account,
      one.started.slice(0, 19),
      one.ended === undefined ? 'live' : `${one.ended.slice(0, 19)} ${one.reason}`,
      ...[one.commands, one.denied, one.held, one.rows, one.masked].map(String),
      ...(wide ? [one.grant, one.policy, one.client] : []),
    ]);
    io.out(alignedTable([wide ? [...head, 'GRANT', 'POLICY', 'CLIENT'] : head, ...rows]));
  }
  return problems.count > 0 ? EXIT.failed : EXIT.ok;
}
