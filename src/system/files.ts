// The few file-system calls that durability hangs on, handed in so that EIO and ENOSPC can be tested.
import fs from 'node:fs';

/** The subset of `node:fs` that stores write through. Errors are Node's own, with `code`. */
export interface Files {
  openSync(path: string, flags: string, mode?: number): number;
  writeSync(fd: number, bytes: Uint8Array, offset: number, length: number, position?: number | null): number;
  readSync(fd: number, bytes: Uint8Array, offset: number, length: number, position: number): number;
  fdatasync(fd: number, done: (error: NodeJS.ErrnoException | null) => void): void;
  fsync(fd: number, done: (error: NodeJS.ErrnoException | null) => void): void;
  fsyncSync(fd: number): void;
  closeSync(fd: number): void;
  ftruncateSync(fd: number, length: number): void;
  readFileSync(path: string): Buffer;
  renameSync(from: string, to: string): void;
  unlinkSync(path: string): void;
  mkdirSync(path: string, options: { recursive: true; mode?: number }): unknown;
  readdirSync(path: string): string[];
  existsSync(path: string): boolean;
  statSync(path: string): { size: number; mtimeMs: number };
}

export const systemFiles: Files = fs;

/**
 * Replaces `path` whole or not at all: writes beside it, syncs, renames, syncs the folder.
 * After a crash a reader sees the old bytes or the new ones. Throws Node's error; the old file is then untouched.
 */
export function writeFileAtomically(files: Files, path: string, bytes: Uint8Array, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const fd = files.openSync(temporary, 'w', mode);
  try {
    for (let offset = 0; offset < bytes.length; ) {
      offset += files.writeSync(fd, bytes, offset, bytes.length - offset);
    }
    files.fsyncSync(fd);
  } finally {
    files.closeSync(fd);
  }
  files.renameSync(temporary, path);
  const folder = files.openSync(path.slice(0, Math.max(1, path.lastIndexOf('/'))), 'r');
  try {
    files.fsyncSync(folder);
  } finally {
    files.closeSync(folder);
  }
}
