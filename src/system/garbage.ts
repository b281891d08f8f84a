// Gives memory back that nobody uses. V8 does so by itself only while it allocates: a process that has done much work at
// its start and then rests would keep all of it. Not for regular use: it stops the process for some ten milliseconds.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/** Collects everything at once, and gives free pages back to the system. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  // The function is there in contexts that are made under the flag.
  const collect = runInNewContext('gc') as Collect;
  setFlagsFromString('--no-expose-gc');
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
