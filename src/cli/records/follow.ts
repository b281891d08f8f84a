// Follows a session while it lives: its records as they come to the store, from the beginning. The store is looked at
// again and again, the more seldom the longer a look takes; there is nothing to wait on that works on every file system.
// What was told already is not read again, but for headers of segments and the live log.
import type { RecordEnvelope } from '../../recording/envelope.ts';
import { isStreamName } from '../../recording/layout.ts';
import { readSession } from '../../recording/reader.ts';
import { harmlessLine } from '../../recording/text.ts';
import { CliError, EXIT, type ExitCode, type Io, pause } from '../io.ts';
import { openRecords, problemTeller, type RecordsDeps } from './source.ts';

const LOOK_EVERY_MS = 300;
/** Of the time, what looking may take. */
const SHARE = 1 / 5;

/** Until the session ends, or Ctrl-C. Exit code 1 if some of it could not be relied on, or there is none. */
export async function followSession(
  { session }: { session: string },
  io: Io,
  deps: RecordsDeps,
  show: (record: RecordEnvelope) => void,
): Promise<ExitCode> {
  const name = harmlessLine(session);
  if (!isStreamName(session)) throw new CliError(EXIT.failed, `${name} is no session`, 'See which live with: sessions');
  await deps.noteRead?.({ act: 'ReplayRecord', object: { kind: 'Session', name: session }, details: { follow: true } });
  const problems = problemTeller(io.err);
  const told = new Set<string>();
  let next = 0;
  for (;;) {
    const began = performance.now();
    let isOver = false;
    {
      using view = openRecords(deps);
      for (const item of readSession(view, session, { from: next })) {
        if (item.kind === 'Problem') {
          // The same problem is met at every look; a live file's end is still being written.
          const key = `${item.piece} ${item.message}`;
          if (item.piece.includes(`/${session}.`) && !told.has(key)) problems.tell(item);
          told.add(key);
          continue;
        }
        if (item.record.seq < next) continue;
        if (item.record.seq > next)
          problems.tell({ piece: item.piece, message: `records ${next} to ${item.record.seq - 1} are missing` });
        next = item.record.seq + 1;
        show(item.record);
        await io.ready();
        if (io.signal.aborted) break;
        isOver = item.record.kind === 'end';
      }
    }
    if (next === 0) {
      throw new CliError(
        EXIT.failed,
        `There is no record of session ${name}`,
        'See which live with: sessions; and which are on record with: records ls',
      );
    }
    if (isOver || io.signal.aborted) return problems.count > 0 ? EXIT.failed : EXIT.ok;
    try {
      await pause(Math.max(LOOK_EVERY_MS, (performance.now() - began) / SHARE), io.signal);
    } catch {
      return problems.count > 0 ? EXIT.failed : EXIT.ok;
    }
  }
}
