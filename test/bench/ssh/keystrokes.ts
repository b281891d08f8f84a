// How long a typed character takes to come back from a terminal at the target: both ways at once, one key after the other,
// so that whatever else the machine does is in both.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { percentile } from '../statistics.ts';
import type { Way, Ways } from './ways.ts';

/** Between two keys, milliseconds: whoever types gives every process time to sleep. */
const PAUSE_MS = 5;
const ANSWER_MS = 20_000;

export interface Keystrokes {
  /** Milliseconds from the key to its echo, by way. */
  direct: number[];
  through: number[];
}

/** So many keys each way, on a raw terminal whose program is `cat`. */
export async function measureKeystrokes(ways: Ways, count: number): Promise<Keystrokes> {
  const found: Keystrokes = { direct: [], through: [] };
  const open: Typist[] = [];
  try {
    for (const way of [ways.direct, ways.through]) open.push(await startTypist(way, ways.scene.env));
    // What code the first keys bring in is not what a key costs.
    const warm = Math.min(100, count);
    for (let index = -warm; index < count; index += 1) {
      const pair = index % 2 === 0 ? open : open.toReversed();
      for (const typist of pair) {
        const ms = await typist.type();
        if (index >= 0) found[typist.way].push(ms);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    return found;
  } finally {
    for (const typist of open) typist.stop();
  }
}

interface Typist {
  way: Way['name'];
  /** Presses a key and waits for its echo; milliseconds. */
  type(): Promise<number>;
  stop(): void;
}

async function startTypist(way: Way, env: Record<string, string>): Promise<Typist> {
  const child = spawn('ssh', ['-tt', ...way.config, way.host, 'stty raw -echo; echo ready; cat'], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => undefined);
  const shown = reader(child);
  const typist: Typist = {
    way: way.name,
    async type() {
      const started = performance.now();
      child.stdin.write('x');
      await shown('x');
      return performance.now() - started;
    },
    stop: () => void child.kill('SIGKILL'),
  };
  try {
    await shown('ready');
    return typist;
  } catch (error) {
    typist.stop();
    throw error;
  }
}

/** Waits until the text has come, and forgets what came. */
function reader(child: ChildProcessByStdio<Writable, Readable, null>): (text: string) => Promise<void> {
  let came = '';
  let gone = false;
  let look = (): void => undefined;
  child.stdout.on('data', (data: Buffer) => {
    came += data.toString('latin1');
    look();
  });
  child.once('close', () => {
    gone = true;
    look();
  });
  return (text) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${text} came back`)), ANSWER_MS);
      look = () => {
        if (!gone && !came.includes(text)) return;
        clearTimeout(timer);
        look = () => undefined;
        if (came.includes(text)) resolve();
        else reject(new Error('the terminal is gone'));
        came = '';
      };
      look();
    });
}

export interface Latency {
  p50: number;
  p99: number;
}

/** Milliseconds. `added`: of the percentiles, through less direct. */
export function latenciesOf({ direct, through }: Keystrokes): { direct: Latency; through: Latency; added: Latency } {
  const of = (values: readonly number[]): Latency => ({ p50: percentile(values, 50), p99: percentile(values, 99) });
  const [straight, led] = [of(direct), of(through)];
  return { direct: straight, through: led, added: { p50: led.p50 - straight.p50, p99: led.p99 - straight.p99 } };
}
