// What the side of scp says that is sent something: a zero, or a line of trouble.
import { MalformedData } from '../../wire/data.ts';
import type { ByteQueue } from '../byte-queue.ts';
import { LONGEST_LINE } from './records.ts';

export interface Answer {
  accepted: boolean;
  /** As they came. */
  bytes: Buffer;
}

/** Undefined: not all of it is here yet. Throws MalformedData. */
export function readAnswer(queue: ByteQueue): Answer | undefined {
  if (queue.length === 0) return undefined;
  const first = queue.peek(1)[0]!;
  if (first === 0) return { accepted: true, bytes: queue.take(1) };
  if (first > 2) throw new MalformedData('an answer that is none');
  const line = readLine(queue);
  return line && { accepted: false, bytes: line };
}

/** With its end. Undefined: it is not here yet. Throws MalformedData. */
export function readLine(queue: ByteQueue): Buffer | undefined {
  const seen = queue.peek(Math.min(queue.length, LONGEST_LINE));
  const end = seen.indexOf(0x0a);
  if (end >= 0) return queue.take(end + 1);
  if (queue.length >= LONGEST_LINE) throw new MalformedData('a line without end');
  return undefined;
}

/** A line of trouble of our own. */
export function trouble(lines: readonly string[]): Buffer {
  return Buffer.from(`\x01scp: ${lines.join(' ').replace(/[\x00-\x1f\x7f]/g, ' ')}\n`);
}
