// What a session writes its records through. One process-wide log stands behind every recorder; a batch of one
// event-loop turn is one write(2). Nothing may be forwarded to a target before `whenWritten` called back without error.
import type { RecordKind } from './envelope.ts';

/** Members that the bodies of many records share, spelled once. */
export interface ConstantMembers {
  readonly members: Readonly<Record<string, unknown>>;
  /** As JSON, without the braces; not empty. */
  readonly json: string;
}

/** `members`: at least one that JSON can spell. They must not change afterwards. */
export function constantMembers(members: Readonly<Record<string, unknown>>): ConstantMembers {
  return { members, json: JSON.stringify(members).slice(1, -1) };
}

export interface SessionRecorder {
  /**
   * Queues one event. Never throws: failure is told by `whenWritten` and `writable`. A `result` for which nobody waits
   * may be written some milliseconds later than it was queued; all else is written in the same turn.
   * `constant`: members that come behind the body's own, none of which it may repeat.
   */
  append(kind: RecordKind, body: object, channel?: number, constant?: ConstantMembers): void;
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
