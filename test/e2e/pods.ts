// Processes of a cluster's pods, as this machine sees them: at once, and without a program in the pod.
import { processesWhere } from '../support/processes.ts';

/** Ids of the pod's processes whose command line, words ended by NUL, has `word` in it. */
export function processesOf(podUid: string, word: string): number[] {
  return processesWhere((read) => read('cgroup').includes(podUid) && read('cmdline').includes(word));
}
