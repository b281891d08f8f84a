// Cuts a byte stream of typed PostgreSQL messages (one byte type, int32 length that counts itself) into messages.
//
// Guarantees: bytes come out in order and exactly once; a message is copied only when it arrives in pieces *and* its
// reader wants it whole; memory for such a message grows with the bytes that really arrived (at most doubled), never
// with the length a peer claims. What may be long passes through in pieces. A bad length stops the framer for good.
// Does not know what messages mean: its handler says, from type and length alone, how each one is to be treated.

/** Whole: given in one piece. Pass: given in the pieces it arrives in. Drop: swallowed. */
export type Treatment = 'Whole' | 'Pass' | 'Drop';

export interface FrameHandler {
  /** `total` counts the type byte and the length field. */
  header(type: number, total: number): Treatment;
  /** One whole message, type and length included. The bytes belong to the framer's input: copy what must outlive the call's turn. */
  whole(type: number, buffer: Buffer, start: number, end: number): void;
  /** A piece of a passing message; `first` and `last` are both true when it came in one. */
  piece(type: number, buffer: Buffer, start: number, end: number, first: boolean, last: boolean): void;
  /** The last byte of a dropped message went by. */
  dropped(type: number): void;
  /** The stream can not be followed any more. Called once. */
  broken(problem: string): void;
}

/** PostgreSQL's own bound (PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize - 1). */
export const LARGEST_MESSAGE = 0x3fffffff;

const HEADER = 5;
const FIRST_ALLOCATION = 4096;

export class Framer {
  readonly #handler: FrameHandler;
  readonly #header = Buffer.alloc(HEADER);
  #headerLength = 0;
  #treatment: Treatment | undefined;
  #type = 0;
  #total = 0;
  /** Bytes of the current message already seen. */
  #seen = 0;
  #assembly: Buffer | undefined;
  #queue: Buffer[] = [];
  #offset = 0;
  #queued = 0;
  #paused = false;
  #running = false;
  #broken = false;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Bytes taken in but not yet looked at (because of `pause`), plus what a half-arrived message holds. */
  get buffered(): number {
    return this.#queued + (this.#assembly === undefined ? 0 : this.#seen);
  }

  /** Whether some pieces of a passing message have been given out and others not. */
  get inMessage(): boolean {
    return this.#treatment === 'Pass';
  }

  get paused(): boolean {
    return this.#paused;
  }

  push(chunk: Buffer): void {
    if (this.#broken || chunk.length === 0) return;
    this.#queue.push(chunk);
    this.#queued += chunk.length;
    this.#run();
  }

  /** No callback comes after the one that called this. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#run();
  }

  /** Forgets everything and takes in nothing more. */
  stop(): void {
    this.#broken = true;
    this.#queue = [];
    this.#queued = 0;
    this.#assembly = undefined;
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#queue.length > 0 && !this.#paused && !this.#broken) {
        const chunk = this.#queue[0]!;
        const from = this.#offset;
        const to = this.#consume(chunk, from);
        this.#queued -= Math.min(this.#queued, to - from);
        if (to < chunk.length) this.#offset = to;
        else if (this.#queue.length > 0) {
          this.#queue.shift();
          this.#offset = 0;
        }
      }
    } finally {
      this.#running = false;
    }
  }

  #consume(chunk: Buffer, from: number): number {
    let at = from;
    const end = chunk.length;
    while (at < end && !this.#paused && !this.#broken) {
      if (this.#treatment !== undefined) {
        at = this.#continue(chunk, at, end);
        continue;
      }
      if (this.#headerLength > 0 || end - at < HEADER) {
        const take = Math.min(HEADER - this.#headerLength, end - at);
        chunk.copy(this.#header, this.#headerLength, at, at + take);
        this.#headerLength += take;
        at += take;
        if (this.#headerLength < HEADER) return at;
        this.#headerLength = 0;
        if (!this.#open(this.#header, 0)) return end;
        // The header's bytes are gone from the chunk: give them as a piece of their own.
        const header = Buffer.from(this.#header);
        this.#continue(header, 0, HEADER);
        continue;
      }
      if (!this.#open(chunk, at)) return end;
      if (this.#treatment === 'Whole' && this.#total <= end - at) {
        const start = at;
        at += this.#total;
        this.#treatment = undefined;
        this.#handler.whole(this.#type, chunk, start, at);
        continue;
      }
      at = this.#continue(chunk, at, end);
    }
    return at;
  }

  #open(buffer: Buffer, at: number): boolean {
    const type = buffer[at]!;
    const length = (buffer[at + 1]! << 24) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 8) | buffer[at + 4]!;
    if (length < 4 || length > LARGEST_MESSAGE) {
      this.stop();
      this.#handler.broken(`message of type 0x${type.toString(16).padStart(2, '0')} claims a length of ${length}`);
      return false;
    }
    this.#type = type;
    this.#total = length + 1;
    this.#seen = 0;
    this.#treatment = this.#handler.header(type, this.#total);
    if (this.#broken) return false;
    return true;
  }

  #continue(chunk: Buffer, at: number, end: number): number {
    const take = Math.min(this.#total - this.#seen, end - at);
    const first = this.#seen === 0;
    const to = at + take;
    const treatment = this.#treatment;
    if (treatment === 'Whole') this.#assemble(chunk, at, to);
    this.#seen += take;
    const last = this.#seen === this.#total;
    if (last) this.#treatment = undefined;
    if (treatment === 'Pass') this.#handler.piece(this.#type, chunk, at, to, first, last);
    else if (last && treatment === 'Drop') this.#handler.dropped(this.#type);
    else if (last) {
      const whole = this.#assembly!;
      this.#assembly = undefined;
      this.#handler.whole(this.#type, whole, 0, this.#total);
    }
    return to;
  }

  #assemble(chunk: Buffer, at: number, to: number): void {
    const needed = this.#seen + (to - at);
    let assembly = this.#assembly;
    if (assembly === undefined || assembly.length < needed) {
      const size = Math.min(this.#total, Math.max(needed, FIRST_ALLOCATION, (assembly?.length ?? 0) * 2));
      const grown = Buffer.allocUnsafeSlow(size);
      assembly?.copy(grown, 0, 0, this.#seen);
      assembly = grown;
      this.#assembly = grown;
    }
    chunk.copy(assembly, this.#seen, at, to);
  }
}
