// One process a record folder. Two would each take the other's live log for that of a dead process.
import type { Files } from '../../system/files.ts';
import { LOCK_FILE } from '../layout.ts';

export class RecordFolderInUse extends Error {
  constructor(folder: string, pid: number) {
    super(`process ${pid} writes records to ${folder}; two processes can not share a record folder`);
    this.name = 'RecordFolderInUse';
  }
}

/**
 * Takes the lock or throws RecordFolderInUse. The file names the holder's process id and, on Linux, when that process
 * started, so that an id used again by another process does not keep the folder locked. Returns the function that frees it.
 */
export function lockFolder(files: Files, folder: string): () => void {
  const path = `${folder}/${LOCK_FILE}`;
  const ours = `${process.pid} ${startOf(process.pid)}\n`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const fd = files.openSync(path, 'wx', 0o600);
      try {
        const bytes = Buffer.from(ours);
        files.writeSync(fd, bytes, 0, bytes.length);
      } finally {
        files.closeSync(fd);
      }
      return () => {
        try {
          files.unlinkSync(path);
        } catch (error) {
          // Removed with the whole folder: there is nothing left to unlock.
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        }
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt > 0) throw error;
      const [pid, started] = files.readFileSync(path).toString('latin1').trim().split(' ');
      const holder = Number(pid);
      if (holder > 0 && holder !== process.pid && alive(holder) && startOf(holder) === started) {
        throw new RecordFolderInUse(folder, holder);
      }
      files.unlinkSync(path);
    }
  }

  function startOf(pid: number): string {
    try {
      const stat = files.readFileSync(`/proc/${pid}/stat`).toString('latin1');
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '-';
    } catch {
      return '-';
    }
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
