// A gateway in memory in front of a real sshd, for tests of the SSH protocol: policy from a function, records into an
// array, a fixed key that gets in, holds and cuts by hand. Nothing here is the real gateway.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { Command } from '../../src/policy/command.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Decision } from '../../src/policy/decision.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import type {
  AuthenticatedSession,
  Cut,
  Gate,
  HoldHandle,
  HoldOutcome,
  HoldRequest,
  Limits,
  Protocol,
  SessionContext,
} from '../../src/protocols/protocol.ts';
import { plainHostKeysOf } from '../../src/protocols/ssh/keys/derive.ts';
import { knownHostsLine } from '../../src/protocols/ssh/keys/known-hosts.ts';
import { RecordingError, type SessionRecorder } from '../../src/recording/recorder.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { newSeed, type Sshd } from './sshd.ts';

export interface SshTestRecord {
  session: string;
  kind: string;
  channel: number | undefined;
  body: Record<string, unknown>;
  written: boolean;
}

export interface SshTestHold {
  request: HoldRequest;
  resolve(outcome: HoldOutcome): void;
  withdrawn: boolean;
}

export interface SshTestSession {
  id: string;
  cut(cut: Cut): void;
  notice(notice: { message: string; hint?: string }): void;
  ended: { reason: string; message: string | undefined; survivors: readonly string[] | undefined } | undefined;
  endedPromise: Promise<void>;
}

export interface SshGateway {
  port: number;
  /** Of a client: private key that gets in, known_hosts that names the gateway. */
  keyFile: string;
  knownHosts: string;
  folder: string;
  seed: Buffer;
  records: SshTestRecord[];
  holds: SshTestHold[];
  sessions: SshTestSession[];
  logs: string[];
  /** Judges by this instead of the policy, where it answers. */
  judge: ((command: Command) => Decision | undefined) | undefined;
  policy: SessionPolicy;
  gate: Gate | undefined;
  recordsFail: boolean;
  nextHold(): Promise<SshTestHold>;
  /** What OpenSSH's ssh needs to come here; then options, host and command follow. */
  args(...more: string[]): string[];
  /** `ssh … HOST COMMAND`, to its end. */
  ssh(args: readonly string[], options?: { input?: Buffer | string; timeoutMs?: number }): Promise<Ran>;
  spawn(args: readonly string[]): ChildProcess;
  close(): Promise<void>;
}

export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: Buffer;
  stderr: string;
}

export interface SshGatewayOptions {
  protocol: Protocol;
  sshd: Sshd;
  policy: SessionPolicy;
  spec?: Partial<NonNullable<ConnectionSpec['ssh']>>;
  credential?: Credential;
  limits?: Partial<Limits>;
  seed?: Buffer;
}

export async function startSshGateway(options: SshGatewayOptions): Promise<SshGateway> {
  const { sshd } = options;
  const seed = options.seed ?? newSeed();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ssh-client-'));
  const keyFile = path.join(folder, 'grant');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', keyFile]);
  const blob = Buffer.from(fs.readFileSync(`${keyFile}.pub`, 'utf8').split(' ')[1]!, 'base64');
  const grantKey = blob.subarray(-32).toString('base64url');
  const knownHosts = path.join(folder, 'known_hosts');
  const credential: Credential = options.credential ?? {
    kind: 'Key',
    username: sshd.user,
    privateKey: sshd.privateKey,
    hosts: [`127.0.0.1:${sshd.port}`],
  };
  const spec: ConnectionSpec = {
    type: 'SSH',
    ssh: { host: '127.0.0.1', port: sshd.port, hostKeys: [sshd.hostKey], ...options.spec },
    accounts: [
      {
        name: 'admin',
        ...(credential.kind === 'Authority'
          ? { certificate: { users: [...credential.users] } }
          : { secretRef: { name: 'admin' } }),
      },
    ],
  };
  const holdWaiters: ((hold: SshTestHold) => void)[] = [];
  const sockets = new Set<net.Socket>();
  const abort = new AbortController();
  let count = 0;
  let denials = 0;

  const gateway: SshGateway = {
    port: 0,
    keyFile,
    knownHosts,
    folder,
    seed,
    records: [],
    holds: [],
    sessions: [],
    logs: [],
    judge: undefined,
    policy: options.policy,
    gate: undefined,
    recordsFail: false,
    nextHold: () => new Promise((resolve) => holdWaiters.push(resolve)),
    // ssh takes the first value of an option: what is asked for comes first.
    args: (...more) => [
      ...more,
      '-F',
      'none',
      '-o',
      `UserKnownHostsFile=${knownHosts}`,
      '-o',
      'GlobalKnownHostsFile=none',
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      'BatchMode=yes',
      '-o',
      'LogLevel=ERROR',
      '-i',
      keyFile,
    ],
    spawn: (args) => spawn('ssh', gateway.args('-p', String(gateway.port)).concat(args), { stdio: 'pipe' }),
    ssh(args, { input, timeoutMs = 30_000 } = {}) {
      const child = gateway.spawn(args);
      return collect(child, input, timeoutMs);
    },
    async close() {
      abort.abort();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };

  const session = (id: string): AuthenticatedSession => {
    let onCut: ((cut: Cut) => void) | undefined;
    let onNotice: ((notice: { message: string; hint?: string }) => void) | undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const own: SshTestSession = {
      id,
      cut: (cut) => onCut?.(cut),
      notice: (notice) => onNotice?.(notice),
      ended: undefined,
      endedPromise: promise,
    };
    gateway.sessions.push(own);
    let pending: SshTestRecord[] = [];
    const record: SessionRecorder = {
      append(kind, body, channel, constant) {
        const copy = structuredClone({ ...body, ...constant?.members }) as Record<string, unknown>;
        const one: SshTestRecord = { session: id, kind, channel, body: copy, written: false };
        gateway.records.push(one);
        pending.push(one);
      },
      whenWritten(callback) {
        const mine = pending;
        pending = [];
        setImmediate(() => {
          if (gateway.recordsFail) return callback(new RecordingError('NoSpace', 'no space'));
          for (const one of mine) one.written = true;
          callback(undefined);
        });
      },
      get writable() {
        return !gateway.recordsFail;
      },
      close: () => undefined,
    };
    return {
      principal: { username: 'ana@corp.example' },
      grant: { name: 'prod-7fk2p', uid: 'grant-uid', policy: 'test/rules', expiresAtMs: Date.now() + 3_600_000 },
      account: 'admin',
      record,
      policy: () => gateway.policy,
      gate: () => gateway.gate,
      decide: (command) => gateway.judge?.(command) ?? decide(gateway.policy, command),
      denialId: () => `d-${(denials += 1).toString(16).padStart(4, '0')}`,
      hold(request) {
        const outcome = Promise.withResolvers<HoldOutcome>();
        const hold: SshTestHold = { request, withdrawn: false, resolve: outcome.resolve };
        const handle: HoldHandle = {
          name: `h-${gateway.holds.length + 1}`,
          untilMs: Date.now() + 60_000,
          preapproved: false,
          outcome: outcome.promise,
          withdraw() {
            hold.withdrawn = true;
            outcome.resolve({ kind: 'Withdrawn' });
          },
        };
        gateway.holds.push(hold);
        holdWaiters.shift()?.(hold);
        return handle;
      },
      credential: async () => credential,
      dial: ({ host, port }, signal) =>
        new Promise((done, reject) => {
          const socket = net.connect({ host, port, signal });
          socket.once('connect', () => done(socket));
          socket.once('error', reject);
        }),
      onCut(listener) {
        onCut = listener;
      },
      onNotice(listener) {
        onNotice = listener;
      },
      observe: { decision: () => undefined, masked: () => undefined, latency: () => undefined },
      ended(reason, message, survivors) {
        own.ended ??= { reason, message, survivors };
        resolve();
      },
    };
  };

  const contextOf = (socket: net.Socket): SessionContext => {
    const id = `s-${(count += 1)}`;
    return {
      id,
      connection: { uid: 'conn-uid', name: 'prod', namespace: 'payments', spec },
      client: { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 },
      clock: systemClock,
      random: systemRandom,
      limits: {
        handshakeMs: 20_000,
        proofs: 6,
        statementBytes: 256 * 1024,
        rowBytes: 1024 * 1024,
        clientBufferBytes: 1024 * 1024,
        recordedRows: 0,
        ...options.limits,
      },
      tls: undefined,
      keys: { seed, certificates: () => [] },
      recognises: (offer) => offer.kind === 'Key' && offer.publicKey === grantKey,
      tokenSource: () => undefined,
      async authenticate(proof) {
        if (proof.kind === 'Key' && proof.publicKey === grantKey) return { kind: 'Granted', session: session(id) };
        return { kind: 'Refused', code: 'InvalidProof', message: 'Sallyport: the key opens nothing' };
      },
      cancels: { register: () => () => undefined, cancel: () => false },
      log: (level, message, fields) => void gateway.logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
      signal: abort.signal,
    };
  };

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.setNoDelay(true);
    options.protocol.accept(socket, contextOf(socket)).catch((error: unknown) => {
      gateway.logs.push(`REJECTED ${String(error)}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  gateway.port = (server.address() as net.AddressInfo).port;
  fs.writeFileSync(
    knownHosts,
    plainHostKeysOf({ seed })
      .map((key) => `${knownHostsLine([{ host: '127.0.0.1', port: gateway.port }], key.blob)}\n`)
      .join(''),
  );
  return gateway;
}

/** A child process to its end; killed where it takes too long. */
export function collect(child: ChildProcess, input?: Buffer | string, timeoutMs = 30_000): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    let stderr = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`took too long: ${Buffer.concat(stdout).subarray(0, 2000).toString()} ${stderr}`));
    }, timeoutMs);
    child.stdout?.on('data', (data: Buffer) => stdout.push(data));
    child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
    child.on('error', reject);
    child.stdin?.on('error', () => undefined);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout: Buffer.concat(stdout), stderr });
    });
    if (input === undefined) child.stdin?.end();
    else child.stdin?.end(input);
  });
}
