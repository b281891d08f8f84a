// What a session writes its records through. One process-wide log stands behind every recorder; a batch of one
// event-loop turn is one write(2). Nothing may be forwarded to a target before `whenWritten` called back without error.
import type { RecordKind } from './envelope.ts';

export interface SessionRecorder {
  /** Queues one event. Never throws: failure is told by `whenWritten` and `writable`. */
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
