// `replay SESSION` tells a session to people.
import type { RecordEnvelope } from '../../recording/envelope.ts';
import { replayEvent } from '../../recording/replay.ts';
import type { ExitCode, Io } from '../io.ts';
import { eachRecord, type RecordArgs } from './show.ts';
import { machine, type RecordsDeps } from './source.ts';

/** With `-o json|yaml` as `records show`. Exit code 1 if there is no such session, or some of it could not be relied on. */
export function replaySession(args: RecordArgs, io: Io, deps: RecordsDeps): Promise<ExitCode> {
  let before: RecordEnvelope | undefined;
  return eachRecord('ReplayRecord', args, io, deps, (record) => {
    io.out(machine(args.output, record) ?? replayEvent(record, before));
    before = record;
  });
}
