// `records show` gives a session's records as they are, one JSON object a line.
import type { RecordEnvelope } from '../../recording/envelope.ts';
import { isStreamName } from '../../recording/layout.ts';
import { readSession } from '../../recording/reader.ts';
import { harmlessLine } from '../../recording/text.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { type Form, machine, openRecords, problemTeller, type RecordsDeps } from './source.ts';

export interface RecordArgs {
  session: string;
  output?: Form;
}

/** Raw records. Exit code 1 if there is no such session, or some of it could not be relied on. */
export function recordsShow(args: RecordArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  const form = args.output === 'yaml' ? 'yaml' : 'json';
  return eachRecord('ShowRecord', args, io, deps, (record) => io.out(machine(form, record)!));
}

/** Gives each record of a session in order and tells on stderr what is not right with it. */
export async function eachRecord(
  act: string,
  args: RecordArgs,
  io: Io,
  deps: RecordsDeps,
  show: (record: RecordEnvelope) => void,
): Promise<ExitCode> {
  await noteReadOf(act, args, deps);
  const records = recordsOf(args, io, deps);
  for (;;) {
    const next = records.next();
    if (next.done === true) return next.value;
    show(next.value);
    await io.ready();
  }
}

/** Throws CliError if that can be no session, or may not be read. */
export async function noteReadOf(act: string, { session }: RecordArgs, deps: RecordsDeps): Promise<void> {
  if (!isStreamName(session)) {
    throw new CliError(EXIT.failed, `${harmlessLine(session)} is no session`, 'See what is recorded with: records ls');
  }
  await deps.noteRead?.({ act, object: { kind: 'Session', name: session } });
}

/** A session's records, one in memory at a time; what is not right with them is told on stderr. Returns the exit code. */
export function* recordsOf({ session }: RecordArgs, io: Io, deps: RecordsDeps): Generator<RecordEnvelope, ExitCode> {
  const name = harmlessLine(session);
  using view = openRecords(deps);
  const problems = problemTeller(io.err);
  let expected = 0;
  let ended = false;
  for (const item of readSession(view, session)) {
    if (io.signal.aborted) return EXIT.failed;
    if (item.kind === 'Problem') {
      // A piece of another session is not this one's matter.
      if (item.piece.includes(`/${session}.`) || item.piece.startsWith('live/')) problems.tell(item);
      continue;
    }
    if (item.record.seq !== expected)
      problems.tell({ piece: item.piece, message: `records ${expected} to ${item.record.seq - 1} are missing` });
    expected = item.record.seq + 1;
    ended = item.record.kind === 'end';
    yield item.record;
  }
  if (expected === 0) {
    if (problems.count > 0)
      throw new CliError(
        EXIT.failed,
        `No record of session ${name} can be relied on`,
        'What is wrong with them: verify',
      );
    throw new CliError(
      EXIT.failed,
      `There is no record of session ${name}`,
      'See what is recorded with: records ls. Records may have been pruned.',
    );
  }
  if (!ended && session !== 'control')
    io.err(`Session ${name} has no end yet: it lives, or its gateway was killed and not started again.\n`);
  return problems.count > 0 ? EXIT.failed : EXIT.ok;
}
