// The processes of this machine, by what /proc says of them.
import fs from 'node:fs';

/** Ids of the processes that fit; `read` gives a file of theirs. Those that end meanwhile do not. */
export function processesWhere(fits: (read: (file: 'cmdline' | 'cgroup') => string, pid: number) => boolean): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return fits((file) => fs.readFileSync(`/proc/${pid}/${file}`, 'utf8'), pid);
      } catch {
        return false;
      }
    });
}
