// Cuts a stream of bytes into lines, as a watch sends its JSON. A last line without its end is a broken connection and
// is not given. Memory is bounded by the longest line allowed.
import { KubeConnectionError } from './answer.ts';

const NEWLINE = 0x0a;

/** Lines without their ends, empty ones left out. Throws `TooLarge` for a line of more than `limit` bytes. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let begin = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, begin);
      const piece = chunk.subarray(begin, end === -1 ? chunk.length : end);
      if (size + piece.length > limit) throw new KubeConnectionError('TooLarge', `a line of more than ${limit} bytes`);
      if (piece.length > 0) parts.push(piece);
      size += piece.length;
      if (end === -1) break;
      if (size > 0) yield Buffer.concat(parts, size).toString('utf8');
      parts = [];
      size = 0;
      begin = end + 1;
    }
  }
}
