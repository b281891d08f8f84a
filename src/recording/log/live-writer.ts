// Writes batches to the live log's files: chained, whole or not at all, rotated by size.
// Guarantees: when `write` throws, the file is cut back to its last whole batch (or given up for a new one, whose header
// says how much of it counts), so the log stays well-formed. Does not: sync by itself; `sync` does.
import type { Files } from '../../system/files.ts';
import { LIVE_FOLDER, liveFileName } from '../layout.ts';
import { syncFolder } from '../seal/heads.ts';
import { CLOSE_BYTES, closeBatch, encodeLiveHeader, LIVE_FORMAT, OPEN_BYTES } from './batch.ts';

export interface LiveFile {
  readonly number: number;
  readonly path: string;
  /** Bytes that count. */
  size: number;
  /** Bytes of records that are not sealed yet. */
  unsealed: number;
}

export interface LiveWriter {
  /** Undefined until the first write. */
  readonly current: LiveFile | undefined;
  /** Hash of the last batch and index of the next one. */
  readonly head: { hash: string; index: number };
  /**
   * Frames and writes one batch: payload from OPEN_BYTES to `end`, CLOSE_BYTES free behind. Returns the file and the
   * offset of the payload in it. Throws Node's error; then nothing of the batch is part of the log.
   */
  write(buffer: Buffer, end: number): { file: LiveFile; offset: number };
  /** Syncs everything written before the call. Calls back asynchronously; one at a time. */
  sync(done: (error: NodeJS.ErrnoException | null) => void): void;
  /** Closes the current file; the next write starts another. */
  giveUp(): void;
  close(): void;
}

interface OpenFile extends LiveFile {
  fd: number;
  syncing: boolean;
  retired: boolean;
}

export function openLiveWriter(options: {
  files: Files;
  folder: string;
  /** Number of the first file, and the hash its chain starts from. */
  first: number;
  prev: string;
  fileBytes: number;
  /** Whether anybody relies on syncs: then a full file is synced before the next one is begun. */
  synced: () => boolean;
}): LiveWriter {
  const { files, folder } = options;
  let nextNumber = options.first;
  let head = { hash: options.prev, index: 0 };
  let file: OpenFile | undefined;
  let last: LiveFile | undefined;

  function writeAll(fd: number, bytes: Uint8Array, length: number, position: number): void {
    for (let offset = 0; offset < length; ) {
      const wrote = files.writeSync(fd, bytes, offset, length - offset, position + offset);
      if (wrote <= 0) throw Object.assign(new Error('the file system took no bytes'), { code: 'EIO' });
      offset += wrote;
    }
  }

  function begin(): OpenFile {
    const number = nextNumber;
    nextNumber += 1;
    const path = `${folder}/${liveFileName(number)}`;
    const fd = files.openSync(path, 'wx+', 0o600);
    try {
      const after = last === undefined ? null : { file: last.number, length: last.size };
      const header = encodeLiveHeader({ after, file: number, format: LIVE_FORMAT, index: head.index, prev: head.hash });
      writeAll(fd, header, header.length, 0);
      syncFolder(files, `${folder}/${LIVE_FOLDER}`);
      return { number, path, size: header.length, unsealed: 0, fd, syncing: false, retired: false };
    } catch (error) {
      files.closeSync(fd);
      try {
        files.unlinkSync(path);
      } catch {
        // It holds no batch; readers skip it.
      }
      throw error;
    }
  }

  function retire(): void {
    if (file === undefined) return;
    file.retired = true;
    if (!file.syncing) files.closeSync(file.fd);
    last = file;
    file = undefined;
  }

  return {
    get current() {
      return file;
    },
    get head() {
      return head;
    },
    write(buffer, end) {
      const length = end + CLOSE_BYTES;
      if (file !== undefined && file.size + length > options.fileBytes && file.size > 512) {
        if (options.synced()) files.fsyncSync(file.fd);
        retire();
      }
      file ??= begin();
      const hash = closeBatch(buffer, end, head.index, head.hash);
      const offset = file.size;
      try {
        writeAll(file.fd, buffer, length, offset);
      } catch (error) {
        try {
          files.ftruncateSync(file.fd, offset);
        } catch {
          retire();
        }
        throw error;
      }
      file.size = offset + length;
      head = { hash, index: head.index + 1 };
      return { file, offset: offset + OPEN_BYTES };
    },
    sync(done) {
      const target = file;
      if (target === undefined) {
        setImmediate(done, null);
        return;
      }
      target.syncing = true;
      files.fdatasync(target.fd, (error) => {
        target.syncing = false;
        if (target.retired) files.closeSync(target.fd);
        done(error);
      });
    },
    giveUp: retire,
    close: retire,
  };
}
