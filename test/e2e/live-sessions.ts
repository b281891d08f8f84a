// psql sessions that live on and say a second at a time that they do, on the laptop through a tunnel or in a pod through
// the Service. They outlive whoever started them: each writes its answers, its error and its end to files.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { KUBECTL_ACCESS, NAMESPACE, run, type Scene } from './scene.ts';

export interface LiveSession {
  name: string;
  /** Unix seconds by the target's clock, one an answered statement. */
  ticks: readonly number[];
  error: string;
  /** Unix seconds at which psql ended. */
  endedAt: number | undefined;
}

export interface LiveSessions {
  look(): Promise<LiveSession[]>;
  /** Lets them end by themselves. */
  stop(): Promise<void>;
}

/** $1 folder, $2 first number, $3 last number, $4 DSN. One statement a second until the folder has a file `stop`. */
const SCRIPT = `
dir=$1; i=$2; last=$3; dsn=$4
mkdir -p "$dir"
one() {
  ( while [ ! -e "$dir/stop" ]; do echo 'select extract(epoch from clock_timestamp())::bigint;'; sleep 1; done ) |
    psql "$dsn" -X -A -t > "$dir/$1.out" 2> "$dir/$1.err"
  echo "$(date +%s)" > "$dir/$1.end"
}
while [ "$i" -le "$last" ]; do one "$i" & i=$((i+1)); done
wait
`;
const REPORT = `
cd "$1"
for f in *.out; do
  n="\${f%.out}"
  echo "# $n"
  cat "$f"
  if [ -s "$n.err" ]; then echo "! $(cat "$n.err")"; fi
  if [ -e "$n.end" ]; then echo "= $(cat "$n.end")"; fi
done
`;

/** Exported for tests. */
export function readReport(text: string, prefix: string): LiveSession[] {
  return text
    .split(/^# /m)
    .slice(1)
    .map((part) => {
      const [name = '', ...lines] = part.split('\n');
      const ended = lines.find((line) => line.startsWith('= '));
      return {
        name: `${prefix}${name}`,
        ticks: lines.filter((line) => /^\d+$/.test(line)).map(Number),
        error: lines
          .filter((line) => line !== '' && !/^\d+$/.test(line) && !line.startsWith('= '))
          .join('\n')
          .replace(/^! /, ''),
        endedAt: ended === undefined ? undefined : Number(ended.slice(2)),
      };
    });
}

export async function laptopSessions(scene: Scene, name: string, count: number, dsn: string): Promise<LiveSessions> {
  const folder = path.join(scene.folder, name);
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'live', folder, '1', String(count), dsn], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    look: async () => readReport((await run('/bin/sh', ['-c', REPORT, 'look', folder])).stdout, 'laptop '),
    async stop() {
      fs.writeFileSync(path.join(folder, 'stop'), '');
      await ended;
    },
  };
}

export async function podSessions(
  scene: Scene,
  pod: string,
  name: string,
  count: number,
  dsn: string,
): Promise<LiveSessions> {
  const folder = `/tmp/${name}`;
  const sh = (script: string, ...args: string[]): Promise<string> =>
    scene.cluster.kubectl(['-n', NAMESPACE, 'exec', pod, '--', 'sh', '-c', script, 'live', ...args]);
  // The shell that starts it may go: the sessions stay with the pod.
  await sh(
    'script=$1; shift; sh -c "$script" live "$@" > /dev/null 2>&1 < /dev/null &',
    SCRIPT,
    folder,
    '1',
    String(count),
    dsn,
  );
  return {
    look: async () => readReport(await sh(REPORT, folder), `${pod} `),
    async stop() {
      await sh('touch "$1/stop"; sleep 2', folder);
    },
  };
}

export interface Listener {
  dsn: string;
  /** What it said of sockets that could not be carried. */
  problems(): string;
  stop(): Promise<void>;
}

/** `kubectl access connect --listen` as this user. Rejects when it ends before it prints its DSN. */
export async function listen(scene: Scene, user: string, connection: string): Promise<Listener> {
  const child: ChildProcess = spawn(KUBECTL_ACCESS, ['-n', NAMESPACE, 'connect', connection, '--listen'], {
    env: scene.environment(user),
    cwd: scene.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  let problems = '';
  child.stdout?.on('data', (part: Buffer) => (said += part.toString()));
  child.stderr?.on('data', (part: Buffer) => (problems += part.toString()));
  // Whatever a check that fails leaves behind ends with it.
  const end = (): void => void child.kill('SIGTERM');
  process.once('exit', end);
  const ended = new Promise<void>((resolve) =>
    child.once('close', () => {
      process.off('exit', end);
      resolve();
    }),
  );
  const dsn = await Promise.race([
    scene.until('the listener', () => Promise.resolve(/postgresql:\/\/\S+/.exec(said)?.[0]), 30_000),
    ended.then(() => Promise.reject(new Error(`the listener ended: ${said}${problems}`))),
  ]);
  return {
    dsn,
    problems: () => problems,
    async stop() {
      end();
      await ended;
    },
  };
}
