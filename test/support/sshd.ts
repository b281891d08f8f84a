// A real sshd for one test file: own port, keys, configuration and log in a folder of its own. As root it may log in
// anybody, otherwise only who runs it. Ends with `stop`, and takes its connections with it.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

const SSHD = '/usr/sbin/sshd';
const START_MS = 10_000;

export interface Sshd {
  port: number;
  /** The user that logs in: whoever runs the test. */
  user: string;
  /** Folder of its own; tests may use it, too. */
  folder: string;
  /** Public host key, `ssh-ed25519 AAAA…`, as `spec.ssh.hostKeys` takes it. */
  hostKey: string;
  /** Public keys of its host certificate's authority. */
  hostAuthority: string;
  /** Private key that it lets in. */
  privateKey: string;
  privateKeyFile: string;
  pid: number;
  log(): string;
  stop(): Promise<void>;
}

export interface SshdOptions {
  /** Line of the authority whose user certificates it takes. */
  userAuthority?: string;
  /** Added in front of the configuration: the first value of a keyword wins. */
  config?: readonly string[];
}

export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-sshd-'));
  fs.chmodSync(folder, 0o755);
  const at = (name: string): string => path.join(folder, name);
  const text = (name: string): string => fs.readFileSync(at(name), 'utf8');
  const keygen = (...args: string[]): void => void execFileSync('ssh-keygen', ['-q', ...args], { stdio: 'pipe' });
  keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at('host'));
  keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at('authority'));
  keygen('-s', at('authority'), '-I', 'target', '-h', '-n', 'target.example', at('host.pub'));
  keygen('-t', 'ed25519', '-N', '', '-C', '', '-f', at('login'));
  fs.copyFileSync(at('login.pub'), at('authorized_keys'));
  if (options.userAuthority !== undefined) fs.writeFileSync(at('authorities'), `${options.userAuthority}\n`);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const port = await freePort();
  fs.writeFileSync(
    at('sshd_config'),
    [
      ...(options.config ?? []),
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${at('host')}`,
      `AuthorizedKeysFile ${at('authorized_keys')}`,
      ...(options.userAuthority === undefined ? [] : [`TrustedUserCAKeys ${at('authorities')}`]),
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin yes',
      'PrintMotd no',
      'PrintLastLog no',
      // bash reads no .bashrc below its first level: what is in that of whoever runs the tests can take seconds.
      'SetEnv SHLVL=1',
      'AcceptEnv LANG LC_* GIT_PROTOCOL SALLY_*',
      // Of this one keyword the last value wins.
      ...(options.config?.some((line) => line.startsWith('MaxStartups ')) === true ? [] : ['MaxStartups 200']),
      'Subsystem sftp internal-sftp',
      'LogLevel VERBOSE',
      '',
    ].join('\n'),
  );
  const child = spawn(SSHD, ['-D', '-f', at('sshd_config'), '-E', at('log')], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  const log = (): string => (fs.existsSync(at('log')) ? text('log') : '');
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const deadline = Date.now() + START_MS;
  while (!(await canConnect(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`sshd did not start: ${log()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const line = (name: string): string => text(name).trim().split(' ').slice(0, 2).join(' ');
  return {
    port,
    user: os.userInfo().username,
    folder,
    hostKey: line('host.pub'),
    hostAuthority: line('authority.pub'),
    privateKey: text('login'),
    privateKeyFile: at('login'),
    pid: child.pid!,
    log,
    async stop() {
      for (const pid of childrenOf(child.pid!)) kill(pid);
      child.kill('SIGKILL');
      await exited;
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** 32 bytes, as `ConnectionKeys.seed`. */
export const newSeed = (): Buffer => randomBytes(32);

function childrenOf(pid: number): number[] {
  try {
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return children === ''
      ? []
      : children
          .split(' ')
          .map(Number)
          .flatMap((child) => [child, ...childrenOf(child)]);
  } catch {
    return [];
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone already
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.once('error', () => resolve(false));
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
