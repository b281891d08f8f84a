// Reads a live file batch by batch in bounded memory, checking the chain. Shared by reading and verifying.
import fs from 'node:fs';
import { type Batch, decodeLiveHeader, type LiveFileHeader, OPEN_BYTES, readBatch } from './batch.ts';

export type LiveItem =
  | { kind: 'Header'; header: LiveFileHeader; end: number }
  /** `bytes` holds the payload at `batch.payload`; `at` is the batch's offset in the file. */
  | { kind: 'Batch'; batch: Batch; bytes: Buffer; at: number; end: number }
  /** The file ends within a batch, or within the header. */
  | { kind: 'Torn'; at: number; bytes: number }
  | { kind: 'Bad'; at: number; reason: 'Header' | 'Opening' | 'Closing' | 'Hash' | 'Chain' };

const CHUNK = 1 << 20;
/** A batch longer than this is taken for damage. A writer flushes far earlier; one record may be long. */
const LARGEST_BATCH = 512 * 1024 * 1024;

/** `until`: bytes of the file that count; absent, all of them. Stops at the first thing that is wrong. */
export function* readLiveFile(fd: number, until = fs.fstatSync(fd).size): Generator<LiveItem> {
  let at = 0;
  const load = (length: number): Buffer => {
    const bytes = Buffer.allocUnsafe(Math.min(length, Math.max(0, until - at)));
    let done = 0;
    while (done < bytes.length) {
      const read = fs.readSync(fd, bytes, done, bytes.length - done, at + done);
      if (read === 0) break;
      done += read;
    }
    return bytes.subarray(0, done);
  };

  const first = load(1024);
  const start = decodeLiveHeader(first);
  if (start === undefined) {
    yield first.includes(0x0a)
      ? { kind: 'Bad', at: 0, reason: 'Header' }
      : { kind: 'Torn', at: 0, bytes: first.length };
    return;
  }
  yield { kind: 'Header', header: start.header, end: start.bytes };
  let { prev, index } = start.header;
  at = start.bytes;
  let bytes = load(CHUNK);
  let offset = 0;
  for (;;) {
    const read = readBatch(bytes, offset);
    if (read.kind === 'Bad') {
      yield { kind: 'Bad', at, reason: read.reason };
      return;
    }
    if (read.kind === 'Short') {
      const left = until - at;
      if (left === 0) return;
      if (left < read.needed) {
        yield { kind: 'Torn', at, bytes: left };
        return;
      }
      if (read.needed > LARGEST_BATCH) {
        yield { kind: 'Bad', at, reason: 'Opening' };
        return;
      }
      bytes = load(Math.max(CHUNK, read.needed === OPEN_BYTES ? CHUNK : read.needed));
      offset = 0;
      if (bytes.length < read.needed) {
        yield { kind: 'Torn', at, bytes: bytes.length };
        return;
      }
      continue;
    }
    const { batch } = read;
    if (batch.prev !== prev || batch.index !== index) {
      yield { kind: 'Bad', at, reason: 'Chain' };
      return;
    }
    const length = batch.end - offset;
    yield { kind: 'Batch', batch, bytes, at, end: at + length };
    prev = batch.hash;
    index += 1;
    at += length;
    offset = batch.end;
  }
}
