// Turns records of the live log into sealed segments, one at a time: read them back, compress, sign, store, sync, and
// only then write the head. Guarantees: a segment is stored whole or not at all; a head is written only for a segment
// that is stored and synced; a failed step may be tried again and leaves no second copy. Does not: decide when.

import { hash } from 'node:crypto';
import { dirname } from 'node:path';
import type { Files } from '../../system/files.ts';
import type { Keyring } from '../keyring.ts';
import { liveFileName, segmentName } from '../layout.ts';
import type { RecordSigner } from '../signer.ts';
import type { HeadsWriter } from './heads.ts';
import { decodeSegment, encodeSegment, parseRecord } from './segment.ts';

/** Where some neighbouring records of one stream lie in the live log. */
export interface Extent {
  file: number;
  offset: number;
  length: number;
  /** `seq` of the first, and how many. */
  seq: number;
  count: number;
}

/** How far a stream is sealed, and what of it is not. */
export interface Sealable {
  readonly id: string;
  /** Index of its next segment, and the hash of the one before. */
  index: number;
  prevHash: string;
  /** Written, not sealed, in order. */
  extents: Extent[];
  unsealedBytes: number;
  /** Stored, but its head is not written yet. */
  headless: Headless | undefined;
}

interface Headless {
  hash: string;
  date: string;
  first: number;
  last: number;
  final: boolean;
  taken: number;
  bytes: number;
  adopted: boolean;
}

export interface SealRequest {
  /** The stream ends with what there is now. */
  final: boolean;
  recovered: boolean;
  /** Lines that are in no live file: what recovery adds. Goes behind the last extent. */
  extra?: { lines: Buffer; count: number };
}

export interface Sealer {
  /**
   * Seals the next segment of a stream: as many whole extents as fit, up to a gap in `seq`. Resolves with whether
   * everything that was there at the call is sealed now. Rejects with Node's error; call again later.
   */
  seal(stream: Sealable, request: SealRequest): Promise<{ done: boolean; bytes: number; last: number }>;
  /**
   * If a dying process stored this stream's next segment but not its head, writes the head. `dates`: folders it may lie
   * in. A file of that name that is not ours to adopt is set aside.
   */
  adopt(stream: Sealable, dates: readonly string[], keys: Keyring): Promise<Adoption>;
}

export type Adoption =
  | { kind: 'None' }
  | { kind: 'Adopted'; last: number; final: boolean }
  | { kind: 'SetAside'; path: string };

export function createSealer(options: {
  files: Files;
  folder: string;
  signer: RecordSigner;
  heads: HeadsWriter;
  now: () => number;
  segmentBytes: number;
  /** Told once an extent is sealed, so that live files can go. */
  onSealed: (extent: Extent) => void;
}): Sealer {
  const { files, folder, signer, heads } = options;

  async function writeHead(stream: Sealable, segment: Headless): Promise<void> {
    const { hash: own, date, first, last, final, adopted } = segment;
    await heads.append({
      kind: 'Segment',
      stream: stream.id,
      index: stream.index,
      hash: own,
      date,
      first,
      last,
      final,
      adopted,
    });
    const sealed = stream.extents.splice(0, segment.taken);
    stream.unsealedBytes -= segment.bytes;
    stream.index += 1;
    stream.prevHash = own;
    stream.headless = undefined;
    for (const extent of sealed) options.onSealed(extent);
  }

  function take(stream: Sealable): { taken: number; bytes: number; next: number } {
    let bytes = 0;
    let taken = 0;
    let next = stream.extents[0]?.seq ?? 0;
    for (const extent of stream.extents) {
      if (extent.seq !== next || (taken > 0 && bytes + extent.length > options.segmentBytes)) break;
      bytes += extent.length;
      taken += 1;
      next += extent.count;
    }
    return { taken, bytes, next };
  }

  return {
    async seal(stream, request) {
      if (stream.headless !== undefined) {
        const { bytes, last } = stream.headless;
        await writeHead(stream, stream.headless);
        return { done: stream.extents.length === 0, bytes, last };
      }
      const { taken, bytes, next } = take(stream);
      const all = taken === stream.extents.length;
      const extra = all ? request.extra : undefined;
      if (taken === 0 && extra === undefined) return { done: true, bytes: 0, last: -1 };
      const lines = Buffer.allocUnsafe(bytes + (extra?.lines.length ?? 0));
      readExtents(files, folder, stream.extents, taken, lines);
      extra?.lines.copy(lines, bytes);
      const record = parseRecord(lines.toString('utf8', 0, lines.indexOf(0x0a)));
      if (record === undefined || record.stream !== stream.id) {
        throw Object.assign(new Error(`the live log holds no record of ${stream.id} where one was written`), {
          code: 'EIO',
        });
      }
      const first = record.seq;
      const count = taken === 0 ? extra!.count : next - first + (extra?.count ?? 0);
      const final = request.final && all;
      const content = {
        stream: stream.id,
        index: stream.index,
        prevHash: stream.prevHash,
        first,
        last: first + count - 1,
        final,
        recovered: request.recovered,
        sealedAt: new Date(options.now()).toISOString(),
      };
      const stored = await encodeSegment(signer, content, lines);
      const path = `${folder}/${segmentName(stream.id, stream.index, record.ts)}`;
      await storeAtomically(files, path, stored);
      const date = record.ts.slice(0, 10);
      stream.headless = {
        hash: hash('sha256', stored, 'hex'),
        date,
        first,
        last: content.last,
        final,
        taken,
        bytes,
        adopted: false,
      };
      await writeHead(stream, stream.headless);
      return { done: all, bytes, last: content.last };
    },

    async adopt(stream, dates, keys) {
      for (const date of dates) {
        const path = `${folder}/${segmentName(stream.id, stream.index, date)}`;
        if (!files.existsSync(path)) continue;
        const read = decodeSegment(files.readFileSync(path), keys);
        const ours =
          read.kind === 'Good' &&
          read.header.stream === stream.id &&
          read.header.index === stream.index &&
          read.header.prevHash === stream.prevHash &&
          (stream.extents[0] === undefined || read.header.first === stream.extents[0].seq);
        if (!ours) {
          const aside = `${path}.${options.now()}.foreign`;
          files.renameSync(path, aside);
          return { kind: 'SetAside', path: aside };
        }
        const { first, last, final } = read.header;
        const taken = stream.extents.filter((extent) => extent.seq + extent.count - 1 <= last).length;
        const bytes = stream.extents.slice(0, taken).reduce((sum, extent) => sum + extent.length, 0);
        stream.headless = { hash: read.hash, date, first, last, final, taken, bytes, adopted: true };
        await writeHead(stream, stream.headless);
        return { kind: 'Adopted', last, final };
      }
      return { kind: 'None' };
    },
  };
}

function readExtents(files: Files, folder: string, extents: readonly Extent[], taken: number, into: Buffer): void {
  let at = 0;
  let open: { number: number; fd: number } | undefined;
  try {
    for (let index = 0; index < taken; index += 1) {
      const extent = extents[index]!;
      if (open?.number !== extent.file) {
        if (open !== undefined) files.closeSync(open.fd);
        open = undefined;
        open = { number: extent.file, fd: files.openSync(`${folder}/${liveFileName(extent.file)}`, 'r') };
      }
      for (let done = 0; done < extent.length; ) {
        const read = files.readSync(open.fd, into, at + done, extent.length - done, extent.offset + done);
        if (read === 0) throw Object.assign(new Error('the live log ends before its records do'), { code: 'EIO' });
        done += read;
      }
      at += extent.length;
    }
  } finally {
    if (open !== undefined) files.closeSync(open.fd);
  }
}

/** As `writeFileAtomically`, but syncs off the event loop. */
export async function storeAtomically(files: Files, path: string, bytes: Uint8Array): Promise<void> {
  const parent = dirname(path);
  if (!files.existsSync(parent)) {
    files.mkdirSync(parent, { recursive: true, mode: 0o700 });
    await syncPath(files, dirname(parent));
  }
  const temporary = `${path}.tmp`;
  const fd = files.openSync(temporary, 'w', 0o600);
  try {
    try {
      for (let offset = 0; offset < bytes.length; ) {
        const wrote = files.writeSync(fd, bytes, offset, bytes.length - offset);
        if (wrote <= 0) throw Object.assign(new Error('the file system took no bytes'), { code: 'EIO' });
        offset += wrote;
      }
      await new Promise<void>((resolve, reject) => {
        files.fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } finally {
      files.closeSync(fd);
    }
    files.renameSync(temporary, path);
  } catch (error) {
    try {
      files.unlinkSync(temporary);
    } catch {
      // Recovery removes it.
    }
    throw error;
  }
  await syncPath(files, parent);
}

async function syncPath(files: Files, path: string): Promise<void> {
  const fd = files.openSync(path, 'r');
  try {
    await new Promise<void>((resolve, reject) => {
      files.fsync(fd, (error) => (error === null ? resolve() : reject(error)));
    });
  } finally {
    files.closeSync(fd);
  }
}
