// The same sshd reached straight and through Sallyport by the same programs, with the same algorithms: what each way
// takes of time and of each process's CPU is the difference.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { alice, type SshScene, startSshScene } from '../../support/ssh-scene.ts';

/** A host of an OpenSSH configuration. */
export interface Way {
  name: 'direct' | 'through';
  /** `-F FILE`, for ssh, scp and sftp. */
  config: readonly [string, string];
  host: string;
}

export interface Ways {
  scene: SshScene;
  direct: Way;
  through: Way;
  /** What both ways to the client, and the gateway to the target, agreed on. */
  algorithms: string;
  /** A new name in a folder that is in memory where there is room for it. */
  file(name: string): string;
  stop(): Promise<void>;
}

const RULES = `
  - {name: no-shutdown, action: Deny, ssh: {commands: ['shutdown **', 'reboot **']}}
  - {name: no-keys, action: Deny, ssh: {paths: ['/etc/shadow', '/etc/ssh/**'], effects: [Write]}}
  - {name: programs, action: Allow, ssh: {commands: ['true', 'cat', 'cat **', 'stty **', 'echo **']}}
  - {name: files, action: Allow, ssh: {paths: ['/dev/shm/**', '/tmp/**']}}
  - {name: all, action: Allow}`;

/** For hundreds of logins at once. */
const SSHD = ['MaxStartups 500', 'MaxSessions 100'];

export async function startWays(): Promise<Ways> {
  const scene = await startSshScene({ open: RULES.slice(1) }, { sshd: { config: SSHD } });
  const memory = '/dev/shm';
  const folder = fs.mkdtempSync(path.join(fs.existsSync(memory) ? memory : scene.folder, 'sallyport-bench-'));
  const stop = async (): Promise<void> => {
    await scene.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  try {
    await scene.request('open');
    const file = (name: string): string => path.join(folder, name);
    const { stdout } = await scene.local.cli(['dsn', 'open', '--user', scene.sshd.user], alice);
    const common = 'BatchMode yes\n  IgnoreUnknown ObscureKeystrokeTiming\n  ObscureKeystrokeTiming no\n';
    fs.writeFileSync(file('through'), `Host target\n  ${common}${configOf(stdout)}`);
    const through: Way = { name: 'through', config: ['-F', file('through')], host: 'target' };
    const agreed = await agreedOn(scene, through);
    fs.writeFileSync(
      file('direct'),
      [
        `Host target\n  ${common}  HostName 127.0.0.1`,
        `Port ${scene.sshd.port}`,
        `User ${scene.sshd.user}`,
        `IdentityFile ${scene.sshd.privateKeyFile}`,
        'IdentitiesOnly yes',
        'StrictHostKeyChecking accept-new',
        `UserKnownHostsFile ${file('known_hosts')}`,
        `KexAlgorithms ${agreed.kex}`,
        `Ciphers ${agreed.cipher}`,
        '',
      ].join('\n  '),
    );
    const direct: Way = { name: 'direct', config: ['-F', file('direct')], host: 'target' };
    const straight = await agreedOn(scene, direct);
    if (JSON.stringify(straight) !== JSON.stringify(agreed))
      throw new Error(`not the same algorithms: ${JSON.stringify(straight)} and ${JSON.stringify(agreed)}`);
    const algorithms = `${agreed.cipher} (MAC: ${agreed.mac.replace(/[<>]/g, '')}), ${agreed.kex}`;
    return { scene, direct, through, algorithms, file, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The command line that `dsn` prints, as lines of a configuration. */
function configOf(command: string): string {
  const words = [...command.trim().matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2]!);
  const lines: string[] = [];
  for (let at = 1; at < words.length; at += 1) {
    const word = words[at]!;
    if (word === '-o') lines.push(words[(at += 1)]!.replace('=', ' '));
    else if (word === '-p') lines.push(`Port ${words[(at += 1)]}`);
    else if (word === '-l') lines.push(`User ${words[(at += 1)]}`);
    else lines.push(`HostName ${word}`);
  }
  return `  ${lines.join('\n  ')}\n`;
}

async function agreedOn(scene: SshScene, way: Way): Promise<{ kex: string; cipher: string; mac: string }> {
  const { code, stderr } = await scene.run('ssh', ['-v', ...way.config, way.host, 'true']);
  const kex = /kex: algorithm: (\S+)/.exec(stderr)?.[1];
  const ciphers = [...stderr.matchAll(/kex: \S+ cipher: (\S+) MAC: (\S+)/g)].map(([, cipher, mac]) => [cipher, mac]);
  const [cipher, mac] = ciphers[0] ?? [];
  if (code !== 0 || kex === undefined || cipher === undefined || mac === undefined)
    throw new Error(`no login ${way.name}: ${stderr}`);
  if (ciphers.some((other) => other[0] !== cipher)) throw new Error('the two directions have different ciphers');
  return { kex, cipher, mac };
}

/** CPU that one run took, seconds: of the client's processes, of the gateway, of sshd's processes. */
export interface Cost {
  seconds: number;
  client: number;
  gateway: number;
  sshd: number;
  /** Of all processors together, whoever used them. */
  machine: number;
  /** `machine` of what there was. */
  busy: number;
}

/** Runs a program to its end, and answers what that took. */
export async function measured(ways: Ways, program: string, args: readonly string[]): Promise<Cost> {
  const { scene } = ways;
  const before = usage(scene);
  const started = performance.now();
  await finished(program, args, scene.env);
  const seconds = (performance.now() - started) / 1000;
  // sshd's own process for this login is counted once it has gone.
  await new Promise((resolve) => setTimeout(resolve, 150));
  const after = usage(scene);
  const machine = after.machine - before.machine;
  return {
    seconds,
    client: after.client - before.client,
    gateway: after.gateway - before.gateway,
    sshd: after.sshd - before.sshd,
    machine,
    busy: machine / Math.max(machine, after.all - before.all),
  };
}

function finished(program: string, args: readonly string[], env: Record<string, string>): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said += data.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} ${args.join(' ')} exited ${code}: ${said.slice(-2000)}`));
    });
  });
}

interface Usage {
  client: number;
  gateway: number;
  sshd: number;
  machine: number;
  all: number;
}

/** Linux counts in hundredths of a second (proc(5)). */
const TICKS = 100;

function usage({ local, sshd }: SshScene): Usage {
  const [own, all] = machineTimes();
  const gateway = timesOf(local.pid);
  return {
    client: timesOf(process.pid).children,
    gateway: gateway.own,
    sshd: timesOf(sshd.pid).own + timesOf(sshd.pid).children,
    machine: own,
    all,
  };
}

/** A process's CPU, of all its threads, and that of its children that have ended; seconds. */
export function timesOf(pid: number): { own: number; children: number } {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  return { own: (fields[11]! + fields[12]!) / TICKS, children: (fields[13]! + fields[14]!) / TICKS };
}

/** Used, and used or idle. */
function machineTimes(): [number, number] {
  const [, user, nice, system, idle, iowait, irq, softirq] = fs
    .readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]!
    .split(/\s+/)
    .map(Number);
  const used = (user! + nice! + system! + irq! + softirq!) / TICKS;
  return [used, used + (idle! + iowait!) / TICKS];
}
