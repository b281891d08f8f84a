// What the record log of a process promises to the rest of it, and what it has to be given.
import type { TrustedKey } from '../../policy/bundle-signing.ts';
import type { Clock } from '../../system/clock.ts';
import type { Files } from '../../system/files.ts';
import type { Random } from '../../system/random.ts';
import type { ControlBody } from '../envelope.ts';
import type { RecordingErrorCode, RecordLog, SessionRecorder } from '../recorder.ts';
import type { Damage, RecoveredSession } from '../recover.ts';
import type { PrunedDay } from '../retention.ts';
import type { RecordSigner } from '../signer.ts';

export type Durability = 'Write' | 'Disk';

export type RecordHealth =
  | { kind: 'Writable' }
  | { kind: 'Unwritable'; code: RecordingErrorCode; message: string }
  /** Records are written, but segments can not be stored. */
  | { kind: 'SealFailing'; message: string }
  | { kind: 'SealWorking' };

export interface RecordLogOptions {
  /** Made if it is not there, mode 0700. */
  folder: string;
  files: Files;
  clock: Clock;
  random: Random;
  signer: RecordSigner;
  /** Of streams that do not say; default Write. */
  durability?: Durability;
  /** Heads elsewhere than in the folder, best on another disk; a path. */
  headsPath?: string;
  /** Controller keys that signed certificates of earlier record keys. */
  trusted?: readonly TrustedKey[];
  /** A live file is closed at this size; default 64 MiB. */
  fileBytes?: number;
  /** A stream is sealed when this much of it is not, before compression; default 1 MiB. */
  segmentBytes?: number;
  /** … or when its oldest record has waited this long; default 10 minutes. */
  sealAfterMs?: number;
  onHealth?: (health: RecordHealth) => void;
  /** Told of every batch and segment, for metrics. */
  onBatch?: (batch: { records: number; bytes: number; milliseconds: number }) => void;
  onSegment?: (segment: { stream: string; bytes: number }) => void;
}

export interface RecordStats {
  writable: boolean;
  /** Milliseconds that the oldest record not yet written has waited; 0 if there is none. */
  lagMs: number;
  records: number;
  batches: number;
  bytes: number;
  segments: number;
  /** Events that could not be recorded. */
  lost: number;
  openStreams: number;
  unsealedBytes: number;
  liveFiles: number;
}

export interface ControlAct {
  act: string;
  actor: ControlBody['actor'];
  object?: ControlBody['object'];
  details?: ControlBody['details'];
}

export interface ProcessRecordLog extends RecordLog {
  /** Throws TypeError if the name is no stream name or is in use. A name is to be used once, ever. */
  session(stream: string, options?: { durability?: Durability }): SessionRecorder;
  /**
   * Records an act of the control plane; with `Disk` it resolves once that is synced. Rejects with RecordingError; then
   * the act should not take effect.
   */
  control(act: ControlAct, options?: { durability?: Durability }): Promise<void>;
  /** Seals whatever is written now. Resolves when that has been tried once for every stream. */
  sealNow(): Promise<void>;
  stats(): RecordStats;
  /**
   * Deletes the days of sealed records that ended before this time (milliseconds since 1970), leaving tombstones.
   * Recorded as an act of `actor`. Today and yesterday are never deleted.
   */
  prune(olderThanMs: number, actor: ControlBody['actor']): Promise<readonly PrunedDay[]>;
  /** What the last process left behind. */
  readonly recovered: { sessions: readonly RecoveredSession[]; damage: readonly Damage[] };
  /** Ends and seals every stream. Idempotent. Rejects if something could not be sealed: it is kept for the next start. */
  close(): Promise<void>;
}
