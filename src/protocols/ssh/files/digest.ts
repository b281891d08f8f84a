// What passed through a handle, one way: how many bytes, and their SHA-256 while they come in order.
import { createHash, type Hash } from 'node:crypto';

export interface Tally {
  bytes: number;
  /** SHA-256 hex of the bytes from `from` on, in order; absent where they did not come in order. */
  sha256?: string;
  /** Offset of the first byte; absent: 0. */
  from?: number;
  /** They did not follow one another, so there is no digest. */
  scattered?: true;
}

export interface Meter {
  readonly bytes: number;
  /** The next pieces are from this offset on. */
  seek(offset: number): void;
  take(piece: Buffer): void;
  /** It is no use to hash any more. */
  scatter(): void;
  end(): Promise<Tally | undefined>;
}

export function createMeter(): Meter {
  let hash: Hash | undefined;
  let bytes = 0;
  let from = 0;
  let next: number | undefined;
  let scattered = false;
  return {
    get bytes() {
      return bytes;
    },
    seek(offset) {
      if (scattered) return;
      if (next === undefined) {
        from = offset;
        next = offset;
        hash = createHash('sha256');
      } else if (next !== offset || !Number.isSafeInteger(offset)) {
        scattered = true;
        hash = undefined;
      }
    },
    take(piece) {
      bytes += piece.length;
      if (next !== undefined) next += piece.length;
      hash?.update(piece);
    },
    scatter() {
      scattered = true;
      hash = undefined;
    },
    async end() {
      if (bytes === 0 && !scattered && next === undefined) return undefined;
      return {
        bytes,
        ...(hash ? { sha256: hash.digest('hex') } : {}),
        ...(from === 0 ? {} : { from }),
        ...(scattered ? { scattered } : {}),
      };
    },
  };
}
