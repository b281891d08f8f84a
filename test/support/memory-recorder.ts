// Records in memory, with the timing of the real log: one flush an event-loop turn, callbacks in order. Can be told to fail.
import type { RecordKind } from '../../src/recording/envelope.ts';
import { RecordingError, type RecordingErrorCode, type RecordLog } from '../../src/recording/recorder.ts';

export interface MemoryEvent {
  stream: string;
  kind: RecordKind;
  channel?: number;
  body: Record<string, unknown>;
}

export interface MemoryRecords extends RecordLog {
  /** What was written, in order; queued events are not in it yet. */
  readonly events: readonly MemoryEvent[];
  of(stream: string, kind?: RecordKind): MemoryEvent[];
  /** From now on every flush fails with this; undefined: works again. */
  fail(code: RecordingErrorCode | undefined): void;
  /** From now on nothing is flushed, as if the disk hung; false: catches up. */
  hang(hanging: boolean): void;
  closed(stream: string): boolean;
}

export function memoryRecords(): MemoryRecords {
  const events: MemoryEvent[] = [];
  const closed = new Set<string>();
  let queue: (MemoryEvent | ((error: RecordingError | undefined) => void))[] = [];
  let failing: RecordingErrorCode | undefined;
  let hanging = false;
  let scheduled = false;

  function schedule(): void {
    if (scheduled || hanging) return;
    scheduled = true;
    setImmediate(flush);
  }
  function flush(): void {
    scheduled = false;
    if (hanging) return;
    const batch = queue;
    queue = [];
    const error = failing === undefined ? undefined : new RecordingError(failing, 'told to fail');
    for (const item of batch) {
      if (typeof item === 'function') item(error);
      else if (error === undefined) events.push(item);
    }
  }
  return {
    events,
    of: (stream, kind) =>
      events.filter((event) => event.stream === stream && (kind === undefined || event.kind === kind)),
    fail(code) {
      failing = code;
    },
    hang(value) {
      hanging = value;
      if (!value && queue.length > 0) schedule();
    },
    closed: (stream) => closed.has(stream),
    session: (stream) => ({
      append(kind, body, channel, constant) {
        // A copy: what is recorded is what was true when it was recorded.
        const copy = structuredClone({ ...body, ...constant?.members }) as Record<string, unknown>;
        queue.push({ stream, kind, ...(channel === undefined ? {} : { channel }), body: copy });
        schedule();
      },
      whenWritten(callback) {
        queue.push(callback);
        schedule();
      },
      get writable() {
        return failing === undefined;
      },
      close() {
        closed.add(stream);
      },
    }),
  };
}
