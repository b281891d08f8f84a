// Bytes that came and were not taken yet, without copying what lies in one piece.

export interface ByteQueue {
  readonly length: number;
  push(data: Buffer): void;
  /** The next bytes in one piece, left where they are. Copies only where they lie in several pieces. `count` <= length. */
  peek(count: number): Buffer;
  /** The next bytes, one piece, taken. `count` <= length. */
  take(count: number): Buffer;
  /** As many as lie in the first piece, at most `most`, taken. Length must not be 0. */
  some(most: number): Buffer;
  clear(): void;
}

export function createByteQueue(): ByteQueue {
  let pieces: Buffer[] = [];
  let first = 0;
  let length = 0;
  const gather = (count: number): Buffer => {
    const head = pieces[first];
    if (head && head.length >= count) return head;
    const joined = Buffer.allocUnsafe(count);
    let filled = 0;
    while (filled < count) {
      const piece = pieces[first]!;
      const used = Math.min(piece.length, count - filled);
      piece.copy(joined, filled, 0, used);
      filled += used;
      if (used === piece.length) first += 1;
      else pieces[first] = piece.subarray(used);
    }
    // What was gathered takes the place of the pieces it was made of.
    if (first === 0) pieces.unshift(joined);
    else {
      first -= 1;
      pieces[first] = joined;
    }
    return joined;
  };
  const drop = (count: number): void => {
    const head = pieces[first]!;
    if (head.length === count) {
      first += 1;
      if (first === pieces.length) {
        pieces = [];
        first = 0;
      } else if (first > 64) {
        pieces = pieces.slice(first);
        first = 0;
      }
    } else pieces[first] = head.subarray(count);
    length -= count;
  };
  return {
    get length() {
      return length;
    },
    push(data) {
      if (data.length === 0) return;
      pieces.push(data);
      length += data.length;
    },
    peek: (count) => (count === 0 ? Buffer.alloc(0) : gather(count).subarray(0, count)),
    take(count) {
      if (count === 0) return Buffer.alloc(0);
      const taken = gather(count).subarray(0, count);
      drop(count);
      return taken;
    },
    some(most) {
      const head = pieces[first]!;
      const taken = head.length <= most ? head : head.subarray(0, most);
      drop(taken.length);
      return taken;
    },
    clear() {
      pieces = [];
      first = 0;
      length = 0;
    },
  };
}
