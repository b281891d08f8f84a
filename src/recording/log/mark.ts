// The mark: a signed statement, renewed about every second, of how far the live log has got. A live log that is
// shorter than its mark, or other, was changed. Not synced: after a power failure it may be older than the log.
import type { SignedBody } from '../signed-line.ts';

export const MARK_FORMAT = 'sallyport-mark/1';

export interface Mark extends SignedBody {
  format: typeof MARK_FORMAT;
  /** Oldest live file that is still needed, and the newest. */
  oldest: number;
  file: number;
  /** Bytes of the newest file that count. */
  length: number;
  /** Index and hash of the last batch. */
  index: number;
  hash: string;
}
