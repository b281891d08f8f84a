// What passed through a handle, one way: how many bytes, and their SHA-256 while they come in order.
import { createHasher, type Hasher } from './hasher.ts';

export interface Tally {
  bytes: number;
  /** SHA-256 hex of the bytes from `from` on, in order; absent where they did not come in order. */
  sha256?: string;
  /** Offset of the first byte; absent: 0. */
  from?: number;
  /** They did not follow one another, so there is no digest. */
  scattered?: true;
  /** There was no processor to hash them, or no time. */
  unhashed?: true;
}

export interface Meter {
  readonly bytes: number;
  /** The next pieces are from this offset on. */
  seek(offset: number): void;
  take(piece: Buffer): void;
  /** It is no use to hash any more. */
  scatter(): void;
  /** The file is made this long. Where its bytes end anyhow, as scp makes sure of, nothing changes; otherwise as `scatter`. */
  resized(size: bigint): void;
  end(): Promise<Tally | undefined>;
  /** As `end`, at once, for what was cut off: without a digest where that takes a moment. */
  stop(): Tally | undefined;
}

export function createMeter(): Meter {
  let hash: Hasher | undefined;
  let bytes = 0;
  let from = 0;
  let next: number | undefined;
  let scattered = false;
  const drop = (): void => {
    hash?.drop();
    hash = undefined;
  };
  const tally = (hashed: boolean, sha256: string | undefined): Tally | undefined =>
    bytes === 0 && next === undefined && !scattered
      ? undefined
      : {
          bytes,
          ...(sha256 === undefined ? {} : { sha256 }),
          ...(hashed && sha256 === undefined ? { unhashed: true as const } : {}),
          ...(from === 0 ? {} : { from }),
          ...(scattered ? { scattered } : {}),
        };
  return {
    get bytes() {
      return bytes;
    },
    seek(offset) {
      if (scattered) return;
      if (next === undefined) {
        from = offset;
        next = offset;
        hash = createHasher();
      } else if (next !== offset || !Number.isSafeInteger(offset)) {
        scattered = true;
        drop();
      }
    },
    take(piece) {
      bytes += piece.length;
      if (next !== undefined) next += piece.length;
      hash?.update(piece);
    },
    scatter() {
      scattered = true;
      drop();
    },
    resized(size) {
      if (next !== undefined && BigInt(next) === size) return;
      scattered = true;
      drop();
    },
    async end() {
      const hashed = hash;
      hash = undefined;
      return tally(hashed !== undefined, await hashed?.digest());
    },
    stop() {
      const hashed = hash;
      hash = undefined;
      return tally(hashed !== undefined, hashed?.digestNow());
    },
  };
}
