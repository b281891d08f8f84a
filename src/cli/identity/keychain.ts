// The keychain of the operating system keeps one thing: the key that this person's tokens are encrypted with. It is short
// whatever a provider puts into its tokens (macOS reads lines of 4 KiB at most), it is written once and not at each
// refresh, and the tokens themselves stay in one file that is replaced whole. What is secret goes by stdin and comes by
// stdout, never by an argument or the environment; every call has a deadline.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import type { Io } from '../io.ts';

export interface Keychain {
  /** For people: `the keychain of macOS`. */
  name: string;
  /** undefined: it has none. Rejects if it can not be asked. */
  load(): Promise<Buffer | undefined>;
  /** Rejects unless it is there afterwards. */
  save(key: Buffer): Promise<void>;
  remove(): Promise<void>;
}

/** People may have to unlock it first. */
const DEADLINE_MS = 60_000;
const SERVICE = 'dev.sallyport.logins';
const KEY_TEXT = /^[0-9a-f]{64}$/;

/** The one that is there; `account` tells several folders of logins apart and is hex. */
export function systemKeychain(env: Io['env'], platform: NodeJS.Platform, account: string): Keychain | undefined {
  if (env['SALLYPORT_TOKEN_STORE'] === 'file') return undefined;
  if (platform === 'darwin' && onPath('security', env)) return macKeychain(env, account);
  const bus = env['DBUS_SESSION_BUS_ADDRESS'];
  if (platform === 'linux' && bus && onPath('secret-tool', env)) return secretService(env, account);
  return undefined;
}

function macKeychain(env: Io['env'], account: string): Keychain {
  const load = async (): Promise<Buffer | undefined> => {
    const run = await call('security', ['find-generic-password', '-s', SERVICE, '-a', account, '-w'], '', env);
    if (run.code === 44) return undefined; // errSecItemNotFound
    if (run.code !== 0) throw new Error(`security exited with ${run.code}`);
    return keyOf(run.out);
  };
  return {
    name: 'the keychain of macOS',
    load,
    async save(key) {
      const line = `add-generic-password -U -s ${SERVICE} -a ${account} -l "Sallyport logins" -w ${key.toString('hex')}\n`;
      await call('security', ['-i'], line, env); // exits with 0 whatever became of it
      if ((await load())?.equals(key) !== true) throw new Error('security did not keep the key');
    },
    async remove() {
      await call('security', ['delete-generic-password', '-s', SERVICE, '-a', account], '', env);
    },
  };
}

function secretService(env: Io['env'], account: string): Keychain {
  const attributes = ['service', SERVICE, 'account', account];
  const load = async (): Promise<Buffer | undefined> => {
    const run = await call('secret-tool', ['lookup', ...attributes], '', env);
    // Exits with 1 where there is none, and says something only where it failed.
    if (run.code !== 0 && run.complained) throw new Error(`secret-tool exited with ${run.code}`);
    return run.out.trim() === '' ? undefined : keyOf(run.out);
  };
  return {
    name: 'the Secret Service of this desktop',
    load,
    async save(key) {
      const run = await call(
        'secret-tool',
        ['store', '--label=Sallyport logins', ...attributes],
        key.toString('hex'),
        env,
      );
      if (run.code !== 0) throw new Error(`secret-tool exited with ${run.code}`);
      if ((await load())?.equals(key) !== true) throw new Error('secret-tool did not keep the key');
    },
    async remove() {
      await call('secret-tool', ['clear', ...attributes], '', env);
    },
  };
}

function keyOf(text: string): Buffer {
  const hex = text.trim();
  if (!KEY_TEXT.test(hex)) throw new Error('the keychain holds something else under our name');
  return Buffer.from(hex, 'hex');
}

interface Run {
  code: number;
  out: string;
  complained: boolean;
}

function call(program: string, args: readonly string[], input: string, env: Io['env']): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...env },
      timeout: DEADLINE_MS,
      killSignal: 'SIGKILL',
    });
    let out = '';
    let complained = false;
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      if (out.length < 4096) out += part;
    });
    child.stderr.on('data', () => {
      complained = true;
    });
    child.stdin.on('error', () => undefined); // it may leave without reading
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? -1, out, complained }));
    child.stdin.end(input);
  });
}

function onPath(program: string, env: Io['env']): boolean {
  return (env['PATH'] ?? '')
    .split(path.delimiter)
    .filter(path.isAbsolute)
    .some((folder) => {
      try {
        accessSync(path.join(folder, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
