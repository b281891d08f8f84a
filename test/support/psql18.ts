// psql 18 with libpq's OAuth module, in the Debian that scripts/psql18.sh unpacks. Each run has a mount namespace of its
// own, in which that Debian trusts one CA: libcurl takes the system's store and nothing else.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';

const cache =
  process.env['SALLYPORT_CACHE'] ??
  path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport');
const folder = path.join(cache, 'psql-18-1');

/** For `test(name, { skip })`: false if it is there; else how to get it. */
export function psql18Missing(): string | false {
  if (process.getuid?.() !== 0) return 'psql 18 runs in a Debian of its own, which takes root';
  return fs.existsSync(path.join(folder, '.version'))
    ? false
    : 'psql 18 is not there: run scripts/psql18.sh as root (some minutes, once)';
}

export interface Psql18Options {
  args: readonly string[];
  /** PEM that the system's store holds, and nothing beside: of the identity provider. */
  systemCa: string;
  /** PEM for `sslrootcert=${ROOT_CERT}`: of the gateway. */
  serverCa: string;
  env?: Readonly<Record<string, string>>;
  /** Sent to its standard input, which is then closed; absent: it stays open for the caller. */
  input?: string;
}

export interface Psql18Run {
  process: ChildProcessByStdio<Writable, Readable, Readable>;
  /** Standard error so far: where it says where to log in. */
  stderr(): string;
  stdout(): string;
  /** The first match in either output. Rejects once it has ended, or after 30 s. */
  output(pattern: RegExp): Promise<RegExpExecArray>;
  ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
  stop(): void;
}

/** Where `serverCa` is to psql. */
export const ROOT_CERT = '/mnt/server-ca.pem';

const SCRIPT = `
set -e
mount --bind "$1" "$2/mnt"
mount --bind "$1/system-ca.pem" "$2/etc/ssl/certs/ca-certificates.crt"
root=$2
shift 2
exec chroot "$root" /usr/bin/psql "$@"
`;

export function runPsql18(options: Psql18Options): Psql18Run {
  const own = fs.mkdtempSync(path.join(os.tmpdir(), 'psql18-'));
  fs.writeFileSync(path.join(own, 'system-ca.pem'), options.systemCa);
  fs.writeFileSync(path.join(own, 'server-ca.pem'), options.serverCa);
  const child = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-c', SCRIPT, 'sh', own, folder, ...options.args],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C.UTF-8', PSQLRC: '/dev/null', ...options.env },
    },
  );
  if (options.input !== undefined) child.stdin.end(options.input);
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  const seen = (): void => {
    for (const watcher of watchers) watcher();
  };
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8');
    seen();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
    seen();
  });
  child.stdin.on('error', () => undefined);
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      fs.rmSync(own, { recursive: true, force: true });
      resolve({ code, stdout, stderr });
    });
  });
  return {
    process: child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    output: (pattern) =>
      new Promise((resolve, reject) => {
        const fail = (why: string): void => {
          clearTimeout(timer);
          watchers.delete(look);
          reject(new Error(`psql ${why} before it said ${pattern}: ${stdout}${stderr}`));
        };
        const timer = setTimeout(() => fail('took 30 s'), 30_000);
        const look = (): void => {
          const match = pattern.exec(stdout) ?? pattern.exec(stderr);
          if (match === null) return;
          clearTimeout(timer);
          watchers.delete(look);
          resolve(match);
        };
        watchers.add(look);
        look();
        void ended.then(
          () => fail('ended'),
          () => fail('failed'),
        );
      }),
    stop: () => void child.kill('SIGKILL'),
  };
}
