// What sessions cost by being there, and by beginning: memory of idle ones, the time of a login, the time of one more
// command on a connection that is open.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { median } from '../statistics.ts';
import type { Way, Ways } from './ways.ts';

const READY_MS = 120_000;
/** Bring the code and pools that the next ones find there. */
const FIRST = 10;
/** Logins at once: what waits in the handshake is no idle session. */
const AT_ONCE = 5;
const SETTLE_MS = 3_000;

export interface IdleMemory {
  sessions: number;
  /** Resident with the first few and with all, MiB. */
  before: number;
  with: number;
  /** KiB. */
  perSession: number;
}

/** So many sessions with a command that waits, two at least, behind one gateway process. */
export async function measureIdle(ways: Ways, sessions: number): Promise<IdleMemory> {
  const { pid } = ways.scene.local;
  const open: ChildProcess[] = [];
  try {
    const first = Math.min(FIRST, sessions - 1);
    await openIdle(ways, first, open);
    const before = await settled(pid);
    await openIdle(ways, sessions - first, open);
    const after = await settled(pid);
    return { sessions, before, with: after, perSession: ((after - before) * 1024) / (sessions - first) };
  } finally {
    for (const child of open) child.kill('SIGKILL');
  }
}

async function openIdle(ways: Ways, count: number, open: ChildProcess[]): Promise<void> {
  for (let at = 0; at < count; at += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - at) }, () => startIdle(ways, ways.through, open));
    await Promise.all(some);
  }
}

function startIdle(ways: Ways, way: Way, open: ChildProcess[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('ssh', ['-tt', ...way.config, way.host, 'echo ready; cat'], {
      env: ways.scene.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    open.push(child);
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said += data.toString()));
    const timer = setTimeout(() => reject(new Error('a session did not begin')), READY_MS);
    const over = (act: () => void): void => {
      clearTimeout(timer);
      act();
    };
    child.stdin.on('error', () => undefined);
    child.once('error', (error) => over(() => reject(error)));
    child.once('exit', (code) => over(() => reject(new Error(`a session ended with ${code}: ${said.trim()}`))));
    child.stdout.on('data', (data: Buffer) => {
      if (data.includes('ready')) over(resolve);
    });
  });
}

async function settled(pid: number): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  return residentMiB(pid);
}

export function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

export interface Times {
  direct: number[];
  through: number[];
}

/** Milliseconds of `ssh HOST true`, each with a connection of its own. */
export async function measureLogins(ways: Ways, rounds: number): Promise<Times> {
  return inTurns(ways, rounds, (way) => [...way.config, way.host, 'true']);
}

/** Milliseconds of `ssh HOST true` over a master connection that is open. */
export async function measureCommands(ways: Ways, rounds: number): Promise<Times> {
  const control = (way: Way): string[] => ['-o', `ControlPath=${ways.file(`mux-${way.name}`)}`];
  const both = [ways.direct, ways.through];
  for (const way of both) {
    const { code, stderr } = await ways.scene.run('ssh', [
      ...control(way),
      '-fN',
      '-oControlMaster=yes',
      '-oControlPersist=300',
      ...way.config,
      way.host,
    ]);
    if (code !== 0) throw new Error(`no master ${way.name}: ${stderr}`);
  }
  try {
    // The first through also reaches the target.
    await inTurns(ways, 1, (way) => [...control(way), ...way.config, way.host, 'true']);
    return await inTurns(ways, rounds, (way) => [...control(way), ...way.config, way.host, 'true']);
  } finally {
    for (const way of both)
      await ways.scene.run('ssh', [...control(way), ...way.config, '-O', 'exit', way.host]).catch(() => undefined);
  }
}

async function inTurns(ways: Ways, rounds: number, args: (way: Way) => string[]): Promise<Times> {
  const times: Times = { direct: [], through: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const way of round % 2 === 0 ? [ways.direct, ways.through] : [ways.through, ways.direct]) {
      const started = performance.now();
      const { code, stderr } = await ways.scene.run('ssh', args(way));
      if (code !== 0) throw new Error(`ssh ${way.name} exited ${code}: ${stderr}`);
      times[way.name].push(performance.now() - started);
    }
  }
  return times;
}

/** Medians, milliseconds; `added`: of the pairs. */
export function timesOf({ direct, through }: Times): { direct: number; through: number; added: number } {
  return {
    direct: median(direct),
    through: median(through),
    added: median(through.map((value, index) => value - direct[index]!)),
  };
}
