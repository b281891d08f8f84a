// A gateway in memory in front of a real sshd, for tests of the SSH protocol: policy from a function, records into an
// array, a fixed key that gets in, holds and cuts by hand. Nothing here is the real gateway.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import type net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { SessionPolicy } from '../../src/policy/session-policy.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import type { Limits, Protocol, SessionContext } from '../../src/protocols/protocol.ts';
import { plainHostKeysOf } from '../../src/protocols/ssh/keys/derive.ts';
import { knownHostsLine } from '../../src/protocols/ssh/keys/known-hosts.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { newSeed, type Sshd } from './sshd.ts';
import { listenFor, type TestSessions, testSessions } from './test-sessions.ts';

export interface SshGateway extends TestSessions {
  port: number;
  /** Of a client: private key that gets in, known_hosts that names the gateway. */
  keyFile: string;
  knownHosts: string;
  folder: string;
  seed: Buffer;
  /** What OpenSSH's ssh needs to come here; then options, host and command follow. */
  args(...more: string[]): string[];
  /** `ssh … HOST COMMAND`, to its end. */
  ssh(args: readonly string[], options?: RunOptions): Promise<Ran>;
  spawn(args: readonly string[]): ChildProcess;
  close(): Promise<void>;
}

export interface RunOptions {
  input?: Buffer | string;
  timeoutMs?: number;
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
  const abort = new AbortController();
  const sessions = testSessions(options.policy, { grant: 'prod-7fk2p', account: 'admin', credential });

  const gateway: SshGateway = Object.assign(sessions, {
    port: 0,
    keyFile,
    knownHosts,
    folder,
    seed,
    // ssh takes the first value of an option: what is asked for comes first.
    args: (...more: string[]) => [
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
    spawn: (args: readonly string[]) =>
      spawn('ssh', gateway.args('-p', String(gateway.port)).concat(args), { stdio: 'pipe' }),
    ssh(args: readonly string[], { input, timeoutMs = 30_000 }: RunOptions = {}) {
      const child = gateway.spawn(args);
      return collect(child, input, timeoutMs);
    },
    async close() {
      abort.abort();
      await listener.close();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  });

  const contextOf = (socket: net.Socket, id: string): SessionContext => {
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
        if (proof.kind === 'Key' && proof.publicKey === grantKey)
          return { kind: 'Granted', session: gateway.granted(id) };
        return { kind: 'Refused', code: 'InvalidProof', message: 'Sallyport: the key opens nothing' };
      },
      cancels: { register: () => () => undefined, cancel: () => false },
      log: (level, message, fields) => void gateway.logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
      signal: abort.signal,
    };
  };

  const listener = await listenFor(options.protocol, contextOf, gateway.logs);
  gateway.port = listener.port;
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
