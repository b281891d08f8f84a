// One session's records, or the control plane's, on their way: what is numbered, gathered, written and not sealed yet.
import type { RecordingError } from '../recorder.ts';
import type { Sealable } from '../seal/sealer.ts';
import { ZERO_HASH } from './batch.ts';
import { linePrefix } from './line.ts';
import type { Durability } from './process-log.ts';

export interface Stream extends Sealable {
  readonly prefix: string;
  readonly durability: Durability;
  nextSeq: number;
  /** Records in the batch that is being gathered. */
  pending: number;
  /** When the oldest unsealed record was written, monotonic ms. */
  since: number;
  /** `seq` of its `end`; -1 while it has none. */
  endSeq: number;
  closed: boolean;
  /** Events that no record tells of. */
  lost: number;
  /** What the next callback has to be told. */
  failure: RecordingError | undefined;
  queued: boolean;
}

export function newStream(id: string, durability: Durability): Stream {
  return {
    id,
    prefix: linePrefix(id),
    durability,
    index: 0,
    prevHash: ZERO_HASH,
    extents: [],
    unsealedBytes: 0,
    headless: undefined,
    nextSeq: 0,
    pending: 0,
    since: 0,
    endSeq: -1,
    closed: false,
    lost: 0,
    failure: undefined,
    queued: false,
  };
}
