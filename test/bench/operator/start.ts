// How much processor a verb takes from its start to its end, against a real API server: what a quiet machine takes in
// wall time, network apart. The program is the compiled one, with Node's compile cache, as it is installed.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { NODE_FLAGS } from './bed.ts';

const ROUNDS = 5;

/** Milliseconds, the median; the first run, which fills the cache, apart. */
export async function verbCpuMs(
  dist: string,
  cache: string,
  kubeconfig: string,
  args: readonly string[],
): Promise<number> {
  const program = [process.execPath, ...NODE_FLAGS, path.join(dist, 'cli/main.js'), ...args];
  const taken: number[] = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    // `times` (POSIX) says what the shell itself took in its first line, and its children in the second.
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', '"$@" >/dev/null && times', 'sh', ...program], {
      env: {
        PATH: process.env['PATH'],
        KUBECONFIG: kubeconfig,
        SALLYPORT_INVOKED_AS: 'kubectl-access',
        NODE_COMPILE_CACHE: cache,
      },
    });
    const children = stdout.trim().split('\n')[1] ?? '';
    const sum = [...children.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
      (ms, [, m, s]) => ms + Number(m) * 60_000 + Number(s) * 1000,
      0,
    );
    if (round > 0) taken.push(sum);
  }
  return taken.sort((a, b) => a - b)[Math.floor(taken.length / 2)]!;
}
