// Processes of a cluster's pods, as this machine sees them: at once, and without a program in the pod.
import fs from 'node:fs';

/** Ids of the pod's processes whose command line, words ended by NUL, has `word` in it. */
export function processesOf(podUid: string, word: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(podUid) &&
          fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(word)
        );
      } catch {
        return false;
      }
    });
}
