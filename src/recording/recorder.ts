// What a session writes its records through. One process-wide log stands behind every recorder; a batch of one
// event-loop turn is one write(2). Nothing may be forwarded to a target before `whenWritten` called back without error.
import type { RecordKind } from './envelope.ts';

export interface SessionRecorder {
  /**
   * Queues one event. Never throws: failure is told by `whenWritten` and `writable`. A `result` for which nobody waits
   * may be written some milliseconds later than it was queued; all else is written in the same turn.
   */
  append(kind: RecordKind, body: object, channel?: number): void;
  /**
   * Calls back once everything appended so far is written (`durability: Write`) or synced (`Disk`), always
   * asynchronously and in order of the calls. With an error nothing of the batch may be acted on.
   */
  whenWritten(callback: (error: RecordingError | undefined) => void): void;
  /** false while the store refuses writes (full, failing): new commands are to be refused. */
  readonly writable: boolean;
  /** Seals the stream after its `end` event. Idempotent. */
  close(): void;
}

const constants = new WeakMap<object, string>();

/**
 * Declares that a member of bodies never changes, so that it is spelled as JSON once and not for every record. Only for
 * what lives long and is recorded often: what a prepared statement does, which rule let it pass. Returns the value.
 */
export function constantMember<T extends object>(value: T): T {
  const json = JSON.stringify(value) as string | undefined;
  if (json !== undefined) constants.set(value, json);
  return value;
}

/** The JSON of what `constantMember` was told of. */
export function spelledConstant(value: object): string | undefined {
  return constants.get(value);
}

export type RecordingErrorCode = 'NoSpace' | 'IoError' | 'Closed';

export class RecordingError extends Error {
  readonly code: RecordingErrorCode;
  constructor(code: RecordingErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'RecordingError';
    this.code = code;
  }
}

export interface RecordLog {
  session(stream: string): SessionRecorder;
}
