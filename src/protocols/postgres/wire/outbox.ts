// What goes to one peer in one turn: spans of received chunks and buffers of our own, in order. Neighbouring spans of
// one chunk become one, so that forwarding a pipeline untouched is one write of one slice.
import type { Writable } from 'node:stream';

// Joining small pieces costs less than a system call (and a TLS record) each; large ones are not worth copying.
const JOIN_UP_TO = 64 * 1024;

export class Outbox {
  #buffers: Buffer[] = [];
  #starts: number[] = [];
  #ends: number[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  span(buffer: Buffer, start: number, end: number): void {
    const last = this.#buffers.length - 1;
    this.#bytes += end - start;
    if (last >= 0 && this.#buffers[last] === buffer && this.#ends[last] === start) {
      this.#ends[last] = end;
      return;
    }
    this.#buffers.push(buffer);
    this.#starts.push(start);
    this.#ends.push(end);
  }

  add(buffer: Buffer): void {
    this.span(buffer, 0, buffer.length);
  }

  clear(): void {
    this.#buffers = [];
    this.#starts = [];
    this.#ends = [];
    this.#bytes = 0;
  }

  /** Writes everything at once. False when the peer should be given time to drain. */
  flush(to: Writable): boolean {
    const count = this.#buffers.length;
    if (count === 0) return true;
    let ready: boolean;
    if (count === 1) {
      ready = to.write(this.#buffers[0]!.subarray(this.#starts[0]!, this.#ends[0]!));
    } else if (this.#bytes <= JOIN_UP_TO) {
      const joined = Buffer.allocUnsafe(this.#bytes);
      let at = 0;
      for (let i = 0; i < count; i += 1) at += this.#buffers[i]!.copy(joined, at, this.#starts[i]!, this.#ends[i]!);
      ready = to.write(joined);
    } else {
      to.cork();
      ready = true;
      for (let i = 0; i < count; i += 1) {
        ready = to.write(this.#buffers[i]!.subarray(this.#starts[i]!, this.#ends[i]!));
      }
      to.uncork();
    }
    this.clear();
    return ready;
  }
}
