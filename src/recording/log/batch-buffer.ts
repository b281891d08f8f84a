// The batch that is gathered: lines one behind another with room for the batch's own frame, and whose each is. Memory: as
// large as the largest batch of late, never more than a batch and one line over what is kept.
import { CLOSE_BYTES, OPEN_BYTES } from './batch.ts';
import type { Line } from './line.ts';
import type { Stream } from './stream.ts';

const FIRST_BUFFER = 256 * 1024;
const KEPT_BUFFER = 4 * 1024 * 1024;

export class BatchBuffer {
  /** The frame's opening bytes, then lines up to `end`. */
  bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER);
  end = OPEN_BYTES;
  /** Whose the lines are, in order, and where each ends. */
  streams: Stream[] = [];
  ends: number[] = [];

  add(stream: Stream, { head, tail }: Line): void {
    const most = this.end + head.length * 3 + (tail?.length ?? 0) + CLOSE_BYTES;
    if (most > this.bytes.length) this.#grow(most);
    this.end += this.bytes.write(head, this.end, 'utf8');
    if (tail !== undefined) {
      this.bytes.set(tail, this.end);
      this.end += tail.length;
    }
    this.streams.push(stream);
    this.ends.push(this.end);
  }

  clear(): void {
    this.streams = [];
    this.ends = [];
    this.end = OPEN_BYTES;
    if (this.bytes.length > KEPT_BUFFER) this.bytes = Buffer.allocUnsafeSlow(FIRST_BUFFER);
  }

  #grow(most: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(most, this.bytes.length * 2));
    this.bytes.copy(larger, 0, 0, this.end);
    this.bytes = larger;
  }
}
