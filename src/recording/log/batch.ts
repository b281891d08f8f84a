// The live log's byte format. A file is one header line and then batches; a batch is
//
//   #<index, 12 hex> <payload bytes, 8 hex> <hash of the batch before, 64 hex>\n
//   one JSON line a record …
//   =<SHA-256 over everything of this batch before this line, 64 hex>\n
//
// Each hash covers raw stored bytes and, through the opening line, every batch before it. Pure functions only.
// Guarantees: a batch is accepted whole or not at all, and one spelling only. Does not: prove who wrote it (the mark
// and the sealed segments are signed, this is not).
import { hash } from 'node:crypto';

export const LIVE_FORMAT = 'sallyport-live/1';
export const ZERO_HASH = '0'.repeat(64);

const INDEX_DIGITS = 12;
const LENGTH_DIGITS = 8;
/** `#` index ` ` length ` ` hash `\n` */
export const OPEN_BYTES = 1 + INDEX_DIGITS + 1 + LENGTH_DIGITS + 1 + 64 + 1;
/** `=` hash `\n` */
export const CLOSE_BYTES = 1 + 64 + 1;

/** First line of a live file, canonical JSON. */
export interface LiveFileHeader {
  file: number;
  format: typeof LIVE_FORMAT;
  /** Index of the first batch. */
  index: number;
  /** Hash of the batch before it, in the file before; of the last head when a process starts. */
  prev: string;
  /** The file before this one and how many of its bytes count; what lies beyond was given up after an error. */
  after: { file: number; length: number } | null;
}

export function encodeLiveHeader(header: LiveFileHeader): Buffer {
  const { after, file, format, index, prev } = header;
  const ordered = {
    after: after === null ? null : { file: after.file, length: after.length },
    file,
    format,
    index,
    prev,
  };
  return Buffer.from(`${JSON.stringify(ordered)}\n`);
}

/** The header and its length in bytes; undefined unless the bytes are exactly what `encodeLiveHeader` writes. */
export function decodeLiveHeader(bytes: Buffer): { header: LiveFileHeader; bytes: number } | undefined {
  const end = bytes.subarray(0, 512).indexOf(0x0a);
  if (end < 0) return undefined;
  const line = bytes.subarray(0, end + 1);
  let header: LiveFileHeader;
  try {
    header = JSON.parse(line.toString('latin1')) as LiveFileHeader;
    if (header.format !== LIVE_FORMAT || !Number.isSafeInteger(header.file) || !Number.isSafeInteger(header.index)) {
      return undefined;
    }
    if (!/^[0-9a-f]{64}$/.test(header.prev)) return undefined;
    const { after } = header;
    if (after !== null && !(Number.isSafeInteger(after.file) && Number.isSafeInteger(after.length))) return undefined;
    if (!encodeLiveHeader(header).equals(line)) return undefined;
  } catch {
    return undefined;
  }
  return { header, bytes: line.length };
}

/**
 * Frames a batch in place. `buffer` has OPEN_BYTES free at its start, then the payload up to `end`, then CLOSE_BYTES
 * free. Returns the batch's hash.
 */
export function closeBatch(buffer: Buffer, end: number, index: number, prev: string): string {
  const length = end - OPEN_BYTES;
  const open = `#${index.toString(16).padStart(INDEX_DIGITS, '0')} ${length.toString(16).padStart(LENGTH_DIGITS, '0')} ${prev}\n`;
  buffer.write(open, 0, 'latin1');
  const own = hash('sha256', buffer.subarray(0, end), 'hex');
  buffer.write(`=${own}\n`, end, 'latin1');
  return own;
}

export interface Batch {
  index: number;
  prev: string;
  hash: string;
  /** Byte offset of the payload in the buffer given, and its length. */
  payload: number;
  length: number;
  /** Offset of the first byte after the batch. */
  end: number;
}

export type BatchResult =
  | { kind: 'Batch'; batch: Batch }
  /** Bytes end before the batch does. `needed` bytes from `at` would tell more. */
  | { kind: 'Short'; needed: number }
  | { kind: 'Bad'; reason: 'Opening' | 'Closing' | 'Hash' };

const OPENING = /^#([0-9a-f]{12}) ([0-9a-f]{8}) ([0-9a-f]{64})\n$/;
const CLOSING = /^=([0-9a-f]{64})\n$/;

/** Reads the batch at `at`. Checks its own hash; whether it continues the chain is for the caller. */
export function readBatch(bytes: Buffer, at: number): BatchResult {
  if (bytes.length - at < OPEN_BYTES) return { kind: 'Short', needed: OPEN_BYTES };
  const opening = OPENING.exec(bytes.toString('latin1', at, at + OPEN_BYTES));
  if (opening === null) return { kind: 'Bad', reason: 'Opening' };
  const length = Number.parseInt(opening[2]!, 16);
  const payload = at + OPEN_BYTES;
  const end = payload + length + CLOSE_BYTES;
  if (bytes.length < end) return { kind: 'Short', needed: end - at };
  const closing = CLOSING.exec(bytes.toString('latin1', end - CLOSE_BYTES, end));
  if (closing === null) return { kind: 'Bad', reason: 'Closing' };
  if (hash('sha256', bytes.subarray(at, end - CLOSE_BYTES), 'hex') !== closing[1])
    return { kind: 'Bad', reason: 'Hash' };
  return {
    kind: 'Batch',
    batch: { index: Number.parseInt(opening[1]!, 16), prev: opening[3]!, hash: closing[1]!, payload, length, end },
  };
}

/** Where each line of a payload starts and how long it is, newline included. */
export function* payloadLines(bytes: Buffer, batch: Batch): Generator<{ offset: number; length: number }> {
  const end = batch.payload + batch.length;
  for (let at = batch.payload; at < end; ) {
    const newline = bytes.indexOf(0x0a, at);
    const next = newline < 0 || newline >= end ? end : newline + 1;
    yield { offset: at, length: next - at };
    at = next;
  }
}
