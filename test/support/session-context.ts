// A gateway in memory for tests of a protocol: policy from a function, records into an array, a fixed credential, holds
// and cuts by hand. Listens with TLS material of its own; nothing here is the real gateway.
import net from 'node:net';
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { CompiledRule } from '../../src/policy/bundle.ts';
import { decide } from '../../src/policy/decide.ts';
import type { ProtocolRules, SessionPolicy, SessionRule } from '../../src/policy/session-policy.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import type {
  AuthenticatedSession,
  Cut,
  Gate,
  HoldHandle,
  HoldOutcome,
  HoldRequest,
  Limits,
  Proof,
  Protocol,
  SessionContext,
  TokenSource,
} from '../../src/protocols/protocol.ts';
import { RecordingError, type SessionRecorder } from '../../src/recording/recorder.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { type TestCertificates, testCertificates } from './certificates.ts';

export interface TestRecord {
  session: string;
  kind: string;
  body: Record<string, unknown>;
  written: boolean;
}

export interface TestHold {
  request: HoldRequest;
  handle: HoldHandle;
  resolve(outcome: HoldOutcome): void;
  withdrawn: boolean;
}

export interface TestSession {
  id: string;
  cut(cut: Cut): void;
  ended: { reason: string; message: string | undefined } | undefined;
  endedPromise: Promise<void>;
}

export interface TestGateway {
  port: number;
  ca: string;
  password: string;
  /** What OAUTHBEARER takes, and where it says to get it. */
  token: string;
  tokenSource: TokenSource | undefined;
  /** Proofs so far. */
  proofs: Proof[];
  records: TestRecord[];
  holds: TestHold[];
  sessions: TestSession[];
  logs: string[];
  /** Changed at will; the next command sees it. */
  policy: SessionPolicy;
  gate: Gate | undefined;
  /** Answers whenWritten with an error while set. */
  recordsFail: boolean;
  /** Keeps whenWritten back until called. */
  holdRecords: boolean;
  releaseRecords(): void;
  nextHold(): Promise<TestHold>;
  close(): Promise<void>;
}

export interface TestGatewayOptions {
  protocol: Protocol;
  spec: ConnectionSpec;
  credential: Credential;
  policy: SessionPolicy;
  limits?: Partial<Limits>;
  insecure?: boolean;
}

/** One Allow without a matcher and nothing else. */
export function transparentPolicy(generation = 1): SessionPolicy {
  const ref = { policy: 'test/all', rule: 'all' };
  return {
    generation,
    broken: [],
    denies: [],
    holds: [],
    allows: [{ source: compiled('all', 'Allow', undefined), prepared: undefined }],
    masks: [],
    trustedFunctions: [],
    transparent: ref,
  };
}

function compiled(
  name: string,
  action: CompiledRule['action'],
  matcher: unknown,
  extra: Partial<CompiledRule> = {},
): CompiledRule {
  return {
    ref: { policy: 'test/rules', rule: name },
    action,
    enforce: true,
    exempt: [],
    ...(matcher === undefined ? {} : { matcher: { member: 'sql', value: matcher } }),
    ...extra,
  };
}

/** Everything is allowed but what `deny` and `hold` match. */
export function rulesPolicy(
  rules: ProtocolRules,
  options: {
    deny?: Record<string, unknown>;
    hold?: Record<string, unknown>;
    generation?: number;
    masks?: SessionPolicy['masks'];
  },
): SessionPolicy {
  const rule = (
    name: string,
    action: CompiledRule['action'],
    matcher: unknown,
    extra: Partial<CompiledRule> = {},
  ): SessionRule => ({
    source: compiled(name, action, matcher, extra),
    prepared: rules.prepare(matcher),
  });
  return {
    generation: options.generation ?? 1,
    broken: [],
    denies: Object.entries(options.deny ?? {}).map(([name, matcher]) => rule(name, 'Deny', matcher)),
    holds: Object.entries(options.hold ?? {}).map(([name, matcher]) =>
      rule(name, 'Hold', matcher, {
        hold: { count: 1, approvers: [{ kind: 'Group', name: 'dba' }], timeoutMs: 60_000 },
      }),
    ),
    allows: [{ source: compiled('all', 'Allow', undefined), prepared: undefined }],
    masks: options.masks ?? [],
    trustedFunctions: [],
    transparent: undefined,
  };
}

export async function startTestGateway(options: TestGatewayOptions): Promise<TestGateway> {
  const certificates: TestCertificates = await testCertificates();
  const tls = { current: () => certificates.server };
  const keys = new Map<string, () => void>();
  const kept: (() => void)[] = [];
  const holdWaiters: ((hold: TestHold) => void)[] = [];
  const gateway: TestGateway = {
    port: 0,
    ca: certificates.ca,
    password: 'ticket',
    token: 'good.token',
    tokenSource: undefined,
    proofs: [],
    records: [],
    holds: [],
    sessions: [],
    logs: [],
    policy: options.policy,
    gate: undefined,
    recordsFail: false,
    holdRecords: false,
    releaseRecords() {
      gateway.holdRecords = false;
      for (const callback of kept.splice(0)) callback();
    },
    nextHold() {
      return new Promise((resolve) => holdWaiters.push(resolve));
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  let denials = 0;
  let count = 0;
  const abort = new AbortController();
  const sockets = new Set<net.Socket>();

  const context = (socket: net.Socket): SessionContext => {
    const id = `s-${(count += 1)}`;
    return {
      id,
      connection: { uid: 'conn-uid', name: 'orders-db', namespace: 'payments', spec: options.spec },
      client: { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 },
      clock: systemClock,
      random: systemRandom,
      limits: {
        handshakeMs: 5_000,
        proofs: 1,
        statementBytes: 256 * 1024,
        rowBytes: 16 * 1024 * 1024,
        clientBufferBytes: 1024 * 1024,
        recordedRows: 50,
        ...options.limits,
      },
      tls: options.insecure === true ? undefined : tls,
      keys: undefined,
      recognises: () => false,
      tokenSource: () => gateway.tokenSource,
      async authenticate(proof) {
        gateway.proofs.push(proof);
        const isGoodPassword = (shown: typeof proof): boolean =>
          shown.kind === 'Password' && shown.secret === gateway.password;
        if (proof.kind === 'Token' ? proof.token !== gateway.token : !isGoodPassword(proof)) {
          return {
            kind: 'Refused',
            code: 'InvalidProof',
            message: 'Sallyport: the ticket is not valid',
            hint: 'sallyport connect makes a new one',
          };
        }
        return { kind: 'Granted', session: session(id) };
      },
      cancels: {
        register(key, cancel) {
          keys.set(key.toString('hex'), cancel);
          return () => void keys.delete(key.toString('hex'));
        },
        cancel(key) {
          const found = keys.get(key.toString('hex'));
          found?.();
          return found !== undefined;
        },
      },
      log: (level, message, fields) => void gateway.logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
      signal: abort.signal,
    };
  };

  const session = (id: string): AuthenticatedSession => {
    let listener: ((cut: Cut) => void) | undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const own: TestSession = { id, cut: (cut) => listener?.(cut), ended: undefined, endedPromise: promise };
    gateway.sessions.push(own);
    let pending: TestRecord[] = [];
    const record: SessionRecorder = {
      append(kind, body, _channel, constant) {
        const one: TestRecord = {
          session: id,
          kind,
          body: structuredClone({ ...body, ...constant?.members }) as Record<string, unknown>,
          written: false,
        };
        gateway.records.push(one);
        pending.push(one);
      },
      whenWritten(callback) {
        const mine = pending;
        pending = [];
        const write = (): void => {
          if (gateway.recordsFail) return callback(new RecordingError('NoSpace', 'no space'));
          for (const one of mine) one.written = true;
          callback(undefined);
        };
        if (gateway.holdRecords) kept.push(write);
        else setImmediate(write);
      },
      get writable() {
        return !gateway.recordsFail;
      },
      close: () => undefined,
    };
    return {
      principal: { username: 'ana@corp.example' },
      grant: { name: 'orders-db-7fk2p', uid: 'grant-uid', policy: 'test/rules', expiresAtMs: Date.now() + 3_600_000 },
      account: 'writer',
      record,
      policy: () => gateway.policy,
      gate: () => gateway.gate,
      decide: (command) => decide(gateway.policy, command),
      onNotice: () => undefined,
      denialId: () => `d-${(denials += 1).toString(16).padStart(4, '0')}`,
      hold(request) {
        const outcome = Promise.withResolvers<HoldOutcome>();
        const hold: TestHold = {
          request,
          withdrawn: false,
          resolve: outcome.resolve,
          handle: {
            name: `h-${gateway.holds.length + 1}`,
            untilMs: Date.now() + 60_000,
            preapproved: false,
            outcome: outcome.promise,
            withdraw() {
              hold.withdrawn = true;
              outcome.resolve({ kind: 'Withdrawn' });
            },
          },
        };
        gateway.holds.push(hold);
        holdWaiters.shift()?.(hold);
        return hold.handle;
      },
      credential: async () => options.credential,
      dial: ({ host, port }, signal) =>
        new Promise((resolve, reject) => {
          const socket = net.connect({ host, port, signal });
          socket.once('connect', () => resolve(socket));
          socket.once('error', reject);
        }),
      onCut(callback) {
        listener = callback;
      },
      observe: { decision: () => undefined, masked: () => undefined, latency: () => undefined },
      ended(reason, message) {
        own.ended ??= { reason, message };
        resolve();
      },
    };
  };

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.setNoDelay(true);
    void options.protocol.accept(socket, context(socket)).catch((error: unknown) => {
      gateway.logs.push(`REJECTED ${String(error)}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  gateway.port = (server.address() as net.AddressInfo).port;
  return gateway;
}
