// The heads: one signed line for every sealed segment, each line naming the hash of the line before. A segment that is
// missing, foreign or older than its head shows, and so does a session that is missing whole.
// Guarantees: lines are appended in order, synced before the caller goes on, and a torn last line is never kept.
// Does not: notice that the file and everything it spoke of were rolled back together; for that compare the last head
// with one noted elsewhere (`verify` takes it).
import { createHash, hash } from 'node:crypto';
import { dirname } from 'node:path';
import type { Files } from '../../system/files.ts';
import type { Keyring, SignatureVerdict } from '../keyring.ts';
import { ZERO_HASH } from '../log/batch.ts';
import { decodeSignedLine, encodeSignedLine, type SignedBody } from '../signed-line.ts';
import type { RecordSigner } from '../signer.ts';

export const HEAD_FORMAT = 'sallyport-head/1';
const READ_BYTES = 1 << 20;
const LONGEST_LINE = 4096;

export type HeadEvent =
  /** A process began to write. `live`: the number its first live file will have. */
  | { kind: 'Opened'; live: number }
  /** It ended in order: everything is sealed, no live log is left. */
  | { kind: 'Closed' }
  | {
      kind: 'Segment';
      stream: string;
      index: number;
      /** SHA-256 over the segment's stored bytes. */
      hash: string;
      /** Folder it lies in: `2026-01-31`. */
      date: string;
      first: number;
      last: number;
      final: boolean;
      /** Written by the next process for a segment that a dying one had stored without its head. */
      adopted: boolean;
    }
  /** Retention deletes a whole date folder. `digest`: see `pruneDigest`. */
  | { kind: 'Pruned'; date: string; segments: number; digest: string; by: string }
  /** The heads were found damaged and set aside as `file`, whose bytes have this hash. */
  | { kind: 'Damaged'; file: string; hash: string };

export type Head = HeadEvent &
  SignedBody & {
    format: typeof HEAD_FORMAT;
    /** From 0, without gaps. */
    entry: number;
    /** SHA-256 over the line before, newline included; 64 zeros for entry 0. */
    prev: string;
  };

export interface HeadsPosition {
  /** Number of the next entry. */
  entry: number;
  prev: string;
  /** Bytes of the whole lines. */
  length: number;
}

export interface HeadsWriter {
  /** Appends and syncs, one after the other. On rejection nothing was appended; it may be tried again. */
  append(event: HeadEvent): Promise<void>;
  readonly position: HeadsPosition;
  close(): void;
}

export type HeadProblem = 'Format' | 'Chain' | Exclude<SignatureVerdict, 'Good'>;
export type HeadItem =
  | { kind: 'Head'; head: Head; at: number; end: number; hash: string }
  | { kind: 'Bad'; problem: HeadProblem; at: number }
  /** The file ends within a line. */
  | { kind: 'Torn'; at: number; bytes: number };

export const FIRST_POSITION: HeadsPosition = { entry: 0, prev: ZERO_HASH, length: 0 };

/**
 * Walks a heads file from `from`; goes on after a bad line as far as lines can be told apart. Throws if it can not be
 * read.
 */
export function* readHeads(
  files: Files,
  path: string,
  keys: Keyring,
  from: HeadsPosition = FIRST_POSITION,
): Generator<HeadItem> {
  const fd = files.openSync(path, 'r');
  try {
    let rest: Buffer = Buffer.alloc(0);
    let at = from.length;
    let { entry, prev } = from;
    for (let position = at; ; ) {
      const chunk = Buffer.allocUnsafe(READ_BYTES);
      const read = files.readSync(fd, chunk, 0, chunk.length, position);
      position += read;
      const bytes = rest.length === 0 ? chunk.subarray(0, read) : Buffer.concat([rest, chunk.subarray(0, read)]);
      let start = 0;
      for (let newline = bytes.indexOf(0x0a); newline >= 0; newline = bytes.indexOf(0x0a, start)) {
        const line = bytes.subarray(start, newline);
        const own = hash('sha256', bytes.subarray(start, newline + 1), 'hex');
        const decoded = decodeSignedLine(line, HEAD_FORMAT, keys);
        if (decoded.kind === 'Bad') yield { kind: 'Bad', problem: decoded.reason, at };
        else {
          const head = decoded.body as Head;
          if (head.entry !== entry || head.prev !== prev) yield { kind: 'Bad', problem: 'Chain', at };
          entry = head.entry;
          yield { kind: 'Head', head, at, end: at + newline + 1 - start, hash: own };
        }
        entry += 1;
        prev = own;
        at += newline + 1 - start;
        start = newline + 1;
      }
      rest = Buffer.from(bytes.subarray(start));
      if (rest.length > LONGEST_LINE) {
        yield { kind: 'Bad', problem: 'Format', at };
        return;
      }
      if (read === 0) break;
    }
    if (rest.length > 0) yield { kind: 'Torn', at, bytes: rest.length };
  } finally {
    files.closeSync(fd);
  }
}

/**
 * A place in the last `bytes` of a heads file to read on from, after a line that is itself good. The start where the
 * file is no larger; undefined where that line is not good.
 */
export function headsTail(files: Files, path: string, keys: Keyring, bytes: number): HeadsPosition | undefined {
  const { size } = files.statSync(path);
  if (size <= bytes) return FIRST_POSITION;
  const window = Buffer.alloc(2 * LONGEST_LINE);
  const begin = size - bytes;
  const fd = files.openSync(path, 'r');
  let read: number;
  try {
    read = files.readSync(fd, window, 0, window.length, begin);
  } finally {
    files.closeSync(fd);
  }
  const start = window.subarray(0, read).indexOf(0x0a) + 1;
  const end = window.subarray(0, read).indexOf(0x0a, start);
  if (start === 0 || end < 0) return undefined;
  const decoded = decodeSignedLine(window.subarray(start, end), HEAD_FORMAT, keys);
  if (decoded.kind === 'Bad') return undefined;
  return {
    entry: (decoded.body as Head).entry + 1,
    prev: hash('sha256', window.subarray(start, end + 1), 'hex'),
    length: begin + end + 1,
  };
}

/** Opens for appending at `position`, cutting off whatever torn bytes lie beyond. Throws Node's error. */
export function openHeads(
  files: Files,
  path: string,
  signer: RecordSigner,
  now: () => number,
  start: HeadsPosition,
): HeadsWriter {
  const existed = files.existsSync(path);
  const fd = files.openSync(path, existed ? 'r+' : 'wx+', 0o600);
  files.ftruncateSync(fd, start.length);
  files.fsyncSync(fd);
  if (!existed) syncFolder(files, dirname(path));
  let position = start;
  let turn: Promise<void> = Promise.resolve();
  return {
    get position() {
      return position;
    },
    append(event) {
      const mine = turn.then(() => appendNow(event));
      turn = mine.catch(() => {});
      return mine;
    },
    close: () => files.closeSync(fd),
  };

  async function appendNow(event: HeadEvent): Promise<void> {
    const head: Head = {
      ...event,
      format: HEAD_FORMAT,
      keyId: signer.keyId,
      at: new Date(now()).toISOString(),
      entry: position.entry,
      prev: position.prev,
    };
    const line = await encodeSignedLine(signer, head);
    try {
      for (let offset = 0; offset < line.length; ) {
        const wrote = files.writeSync(fd, line, offset, line.length - offset, position.length + offset);
        if (wrote === 0) throw new Error('nothing was written');
        offset += wrote;
      }
      await new Promise<void>((resolve, reject) => {
        files.fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } catch (error) {
      files.ftruncateSync(fd, position.length);
      throw error;
    }
    position = {
      entry: position.entry + 1,
      prev: hash('sha256', line, 'hex'),
      length: position.length + line.length,
    };
  }
}

/** What a tombstone commits to: the heads of every segment of that date, in order. Feed it each, then take the hex digest. */
export function pruneDigest(): {
  add(head: Head & { kind: 'Segment' }): void;
  hex(): string;
  readonly segments: number;
} {
  const digest = createHash('sha256');
  let segments = 0;
  return {
    add(head) {
      digest.update(`${head.entry} ${head.stream} ${head.index} ${head.hash}\n`);
      segments += 1;
    },
    hex: () => digest.copy().digest('hex'),
    get segments() {
      return segments;
    },
  };
}

export function syncFolder(files: Files, path: string): void {
  const fd = files.openSync(path, 'r');
  try {
    files.fsyncSync(fd);
  } finally {
    files.closeSync(fd);
  }
}
