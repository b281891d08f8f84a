// Sessions of one grant that end together: each a client of OpenSSH's with something at the target that has to go. How long
// until the client was closed, and until nothing of it was left.
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { Connection } from '../../src/api/connection.ts';
import type { AccessGrant } from '../../src/api/grant.ts';
import { openSshPrivateKey } from '../../src/cli/clients/ssh-key.ts';
import { systemRandom } from '../../src/system/random.ts';
import { actsOn, type HeldGrant, type Person, sleep, until } from './in-process.ts';
import type { SshScene } from './ssh-scene.ts';

const START_MS = 60_000;
const GONE_MS = 20_000;
const STEP_MS = 4;

/** What a client runs, and how it is known that nothing of it is left. */
interface Running {
  client: ChildProcess;
  /** What it said on stderr and, of terminals, on stdout. */
  said(): string;
  isGone(): boolean;
}

interface Bed {
  scene: SshScene;
  /** Before the command or other arguments: key, port and the rest. */
  options: readonly string[];
  host: string;
  folder: string;
}

export type CutKind = keyof typeof KINDS;

export interface CutTimes {
  /** Milliseconds from the grant's end to the client's close, and to the end of what it ran. */
  closedMs: number;
  goneMs: number;
  said: string;
}

/** Commands whose processes write their numbers into a file; `count` of them. */
const KINDS = {
  'an interactive shell and its jobs': (bed) =>
    processes(bed, 3, ['-tt'], () => 'exec bash --norc -i', {
      typed: (file) => `sleep 1000 & nohup sleep 1001 >/dev/null 2>&1 & echo $$ $(jobs -p) > ${file}\n`,
    }),
  sleep: (bed) => processes(bed, 1, [], (file) => `echo $$ > ${file}; exec sleep 1000`),
  'a program that ignores TERM and HUP': (bed) =>
    processes(bed, 1, [], (file) => `trap '' TERM HUP; echo $$ > ${file}; while :; do sleep 0.2; done`),
  'a stream of data': (bed) =>
    processes(bed, 1, [], (file) => `echo $$ > ${file}; while :; do head -c 200000 /dev/zero; sleep 0.02; done`),
  'what has detached itself': (bed) =>
    processes(bed, 3, [], (file) => {
      const one = `echo $$ >> ${file}; exec sleep 1000`;
      const quiet = '</dev/null >/dev/null 2>&1';
      return `setsid sh -c '${one}' ${quiet} & (nohup setsid sh -c '${one}' ${quiet} &); trap '' TERM; ${one}`;
    }),
  'an sftp transfer': transfer,
  'a forward': forward,
} as const satisfies Record<string, (bed: Bed) => Promise<Running>>;

export const CUT_KINDS = Object.keys(KINDS) as CutKind[];

/** Gets a grant, starts `kinds` on it, has it revoked or waits for its end. */
export async function sshCutTrial(
  scene: SshScene,
  who: Person,
  how: 'revoke' | 'expiry',
  kinds: readonly CutKind[],
  options: { expiryMs?: number; aliveMs?: number } = {},
): Promise<Record<CutKind, CutTimes>> {
  const acts = actsOn(scene.local);
  const expiryMs = options.expiryMs ?? 12_000;
  const held = await acts.request(who, 'web1', { duration: how === 'expiry' ? `${expiryMs / 1000}s` : '1h' });
  const grant = await until('the grant to be active', async () => {
    const seen = await acts.client.get<AccessGrant>('AccessGrant', 'payments', held.grant.metadata.name);
    return seen?.status?.phase === 'Active' ? seen : undefined;
  });
  const bed = await bedOf(scene, held);
  const runs: { kind: CutKind; running: Running; closed: Promise<number>; gone: () => Promise<number> }[] = [];
  try {
    for (const kind of kinds) {
      const running = await KINDS[kind](bed);
      const closed = new Promise<number>((resolve) => running.client.once('close', () => resolve(performance.now())));
      runs.push({ kind, running, closed, gone: () => gone(kind, running) });
    }
    await sleep(options.aliveMs ?? 2000);
    for (const { kind, running } of runs)
      if (running.isGone() || running.client.exitCode !== null)
        throw new Error(`${kind} ended early: ${running.said()}`);
    let from: number;
    if (how === 'revoke') {
      await acts.decide(who, held.grant, 'Withdraw');
      from = performance.now();
    } else from = Date.parse(grant.status!.expiresAt!) - performance.timeOrigin;
    await sleep(Math.max(0, from - performance.now()));
    const times = await Promise.all(
      runs.map(async ({ kind, running, closed, gone }) => {
        const [closedAt, goneAt] = await Promise.all([closed, gone()]);
        return [
          kind,
          { closedMs: Math.max(0, closedAt - from), goneMs: Math.max(0, goneAt - from), said: running.said() },
        ] as const;
      }),
    );
    return Object.fromEntries(times) as Record<CutKind, CutTimes>;
  } finally {
    for (const { running } of runs) running.client.kill('SIGKILL');
    fs.rmSync(bed.folder, { recursive: true, force: true });
  }
}

async function gone(kind: string, running: Running): Promise<number> {
  const deadline = Date.now() + GONE_MS;
  while (!running.isGone()) {
    if (Date.now() > deadline) throw new Error(`still there after ${GONE_MS} ms: ${kind}`);
    await sleep(STEP_MS);
  }
  return performance.now();
}

async function bedOf(scene: SshScene, held: HeldGrant): Promise<Bed> {
  const acts = actsOn(scene.local);
  const connection = await acts.client.get<Connection>('Connection', 'payments', 'web1');
  const { host, port } = connection!.status!.endpoint!;
  const folder = fs.mkdtempSync(path.join(scene.folder, 'trial-'));
  const key = path.join(folder, 'key');
  const known = path.join(folder, 'known_hosts');
  fs.writeFileSync(key, openSshPrivateKey(held.key, '', systemRandom), { mode: 0o600 });
  fs.writeFileSync(known, `${connection!.status!.ssh!.knownHosts!.join('\n')}\n`);
  const set = ['IdentitiesOnly=yes', `UserKnownHostsFile=${known}`, 'GlobalKnownHostsFile=none', 'BatchMode=yes'];
  const options = ['-F', 'none', '-i', key, ...set.flatMap((one) => ['-o', one]), '-o', `Port=${port}`];
  return { scene, options: [...options, '-o', `User=${scene.sshd.user}`], host, folder };
}

function start(program: string, args: readonly string[]): { client: ChildProcess; said(): string } {
  const client = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  const hear = (bytes: Buffer): void => {
    said = (said + bytes.toString('latin1')).slice(-8192);
  };
  client.stdin.on('error', () => undefined);
  client.stdout.on('data', hear);
  client.stderr.on('data', hear);
  return { client, said: () => said };
}

async function processes(
  bed: Bed,
  count: number,
  args: readonly string[],
  command: (file: string) => string,
  { typed }: { typed?: (file: string) => string } = {},
): Promise<Running> {
  const file = path.join(bed.folder, `pids-${systemRandom.bytes(6).toString('hex')}`);
  const { client, said } = start('ssh', [...bed.options, ...args, bed.host, command(file)]);
  if (typed !== undefined) client.stdin!.write(typed(file));
  const pids = await until(
    'the processes to start',
    () => {
      if (client.exitCode !== null) throw new Error(`ssh ended: ${said()}`);
      const found = (fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '').match(/\d+(?=\s)/g) ?? [];
      return found.length >= count ? found.map(Number) : undefined;
    },
    START_MS,
  );
  return { client, said, isGone: () => !pids.some(runs) };
}

/** Whoever has the file open at the target is what carries it. */
async function transfer(bed: Bed): Promise<Running> {
  const file = path.join(bed.folder, `large-${systemRandom.bytes(6).toString('hex')}`);
  fs.closeSync(fs.openSync(file, 'w'));
  fs.truncateSync(file, 1e12);
  const { client, said } = start('sftp', [...bed.options, '-l', '80000', '-b', '-', bed.host]);
  client.stdin!.write(`get ${file} /dev/null\n`);
  const pid = await until(
    'the transfer to start',
    () => descendants(bed.scene.sshd.pid).find((one) => hasOpen(one, file)),
    START_MS,
  );
  return { client, said, isGone: () => !runs(pid) };
}

async function forward(bed: Bed): Promise<Running> {
  const server = net.createServer();
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  const { client, said } = start('ssh', [...bed.options, '-W', `127.0.0.1:${port}`, bed.host]);
  client.stdin!.write('x');
  const socket = await accepted;
  server.close();
  let isGone = false;
  socket.resume().on('error', () => undefined);
  socket.on('close', () => (isGone = true));
  return { client, said, isGone: () => isGone };
}

/** A process that nobody has waited for yet does nothing any more. */
function runs(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

function hasOpen(pid: number, file: string): boolean {
  try {
    return fs.readdirSync(`/proc/${pid}/fd`).some((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === file);
  } catch {
    return false;
  }
}

function descendants(pid: number): number[] {
  try {
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    return children.map(Number).flatMap((child) => [child, ...descendants(child)]);
  } catch {
    return [];
  }
}
