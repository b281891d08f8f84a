// Record folders for tests: keys, a log over real files in a temporary folder, files that fail or die when told to.
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type SigningKey, signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import type { ProcessRecordLog, RecordLogOptions } from '../../src/recording/log/process-log.ts';
import { openRecordLog } from '../../src/recording/log/record-log.ts';
import { RecordingError, type SessionRecorder } from '../../src/recording/recorder.ts';
import { openRecordSigner, type RecordSigner } from '../../src/recording/signer.ts';
import { systemClock } from '../../src/system/clock.ts';
import { type Files, systemFiles } from '../../src/system/files.ts';
import { systemRandom } from '../../src/system/random.ts';

export function testControllerKey(): SigningKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  return signingKeyFromPem(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
}

export function testSigner(controllerKey = testControllerKey(), nowMs = Date.now()): RecordSigner {
  return openRecordSigner({ controllerKey, nowMs });
}

/** A folder that is gone when the test is over. Memory-backed where there is such a thing. */
export function recordFolder(context: { after: (done: () => void) => void }): string {
  const base = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
  const folder = fs.mkdtempSync(path.join(base, 'records-'));
  context.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function openTestLog(folder: string, options: Partial<RecordLogOptions> = {}): Promise<ProcessRecordLog> {
  return openRecordLog({
    folder,
    files: systemFiles,
    clock: systemClock,
    random: systemRandom,
    signer: options.signer ?? testSigner(),
    ...options,
  });
}

export function written(recorder: SessionRecorder): Promise<RecordingError | undefined> {
  return new Promise((resolve) => recorder.whenWritten(resolve));
}

export type FileCall = { [K in keyof Files]: Files[K] extends (...args: never[]) => unknown ? K : never }[keyof Files];
export interface CallInfo {
  name: FileCall;
  args: readonly unknown[];
  /** From 0. */
  number: number;
}
/** What to do instead of the call: nothing, fail with this code, write only some bytes. */
export type Fault = { kind: 'Fail'; code: string } | { kind: 'Short'; bytes: number } | undefined;

/** Files that ask before every call. Reading `/proc` is not asked about. */
export function faultyFiles(decide: (call: CallInfo) => Fault): Files & { calls: number } {
  let calls = 0;
  const target: Record<string, unknown> = {
    get calls() {
      return calls;
    },
  };
  const names: readonly FileCall[] = [
    'openSync',
    'writeSync',
    'readSync',
    'fdatasync',
    'fsync',
    'fsyncSync',
    'closeSync',
    'ftruncateSync',
    'readFileSync',
    'renameSync',
    'unlinkSync',
    'mkdirSync',
    'readdirSync',
    'existsSync',
    'statSync',
  ];
  for (const name of names) {
    target[name] = (...args: unknown[]): unknown => {
      const real = systemFiles[name] as (...args: unknown[]) => unknown;
      if (typeof args[0] === 'string' && args[0].startsWith('/proc/')) return real(...args);
      const fault = decide({ name, args, number: calls });
      calls += 1;
      if (fault === undefined) return real(...args);
      if (name === 'existsSync') return false;
      const last = args.at(-1);
      if (fault.kind === 'Short') {
        args[3] = Math.min(fault.bytes, args[3] as number);
        return real(...args);
      }
      const error = Object.assign(new Error(`${fault.code}: injected, ${name}`), { code: fault.code });
      if (typeof last === 'function') {
        setImmediate(last as (error: Error) => void, error);
        return undefined;
      }
      throw error;
    };
  }
  return target as unknown as Files & { calls: number };
}

/**
 * Files of a process that is killed at call number `at`: that call does not happen (a write: half of it does), nor
 * does any later one.
 */
export function mortalFiles(at: number): Files & { calls: number; readonly dead: boolean } {
  let dead = false;
  const files = faultyFiles((call) => {
    // Closing leaves no trace on disk, and the kernel does it for the dead.
    if (call.name === 'closeSync') return undefined;
    if (dead) return { kind: 'Fail', code: 'EDEAD' };
    if (call.number < at) return undefined;
    dead = true;
    if (call.name === 'writeSync') {
      const [fd, bytes, offset, length, position] = call.args as [number, Uint8Array, number, number, number | null];
      systemFiles.writeSync(fd, bytes, offset, Math.floor(length / 2), position);
    }
    return { kind: 'Fail', code: 'EDEAD' };
  });
  Object.defineProperty(files, 'dead', { get: () => dead });
  return files as Files & { calls: number; readonly dead: boolean };
}

/** A session of `commands` commands and results, ended and closed. Resolves with the first error. */
export async function shortSession(
  log: ProcessRecordLog,
  id: string,
  commands = 2,
): Promise<RecordingError | undefined> {
  const session = log.session(id);
  session.append('start', {
    protocol: 'postgresql',
    connection: { uid: 'c-1', name: 'orders-db', namespace: 'payments' },
    grant: { name: 'orders-db-7fk2p', uid: 'g-1', policy: 'payments/orders-team' },
    principal: { username: 'alice@corp.example', groups: ['dev'] },
    account: 'reader',
    client: { address: '127.0.0.1' },
    policyGeneration: 1,
  });
  for (let number = 1; number <= commands; number += 1) {
    session.append('command', {
      id: number,
      verb: 'SELECT',
      text: `select ${number}`,
      effects: [{ action: 'Read', object: [] }],
      decision: 'Allow',
      by: [{ policy: 'payments/orders-team', rule: 'read' }],
      facts: { postgresql: { columns: [], relations: [] } },
    });
    const error = await written(session);
    if (error !== undefined) {
      session.close();
      return error;
    }
    session.append('result', {
      id: number,
      tag: 'SELECT 1',
      rows: 1,
      columns: ['?column?'],
      sample: [[String(number)]],
    });
  }
  session.append('end', { reason: 'ClientClosed' });
  const error = await written(session);
  session.close();
  return error;
}

/** Every file of a folder, by path under it. */
export function filesUnder(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => fs.statSync(path.join(folder, name)).isFile())
    .sort();
}
