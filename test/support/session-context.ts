// A gateway in memory for tests of a protocol: policy from a function, records into an array, a fixed credential, holds
// and cuts by hand. Listens with TLS material of its own; nothing here is the real gateway.
import type net from 'node:net';
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { CompiledRule } from '../../src/policy/bundle.ts';
import type { ProtocolRules, SessionPolicy, SessionRule } from '../../src/policy/session-policy.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import type { Limits, Proof, Protocol, SessionContext, TokenSource } from '../../src/protocols/protocol.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { type TestCertificates, testCertificates } from './certificates.ts';
import { listenFor, type TestSessions, testSessions } from './test-sessions.ts';

export interface TestGateway extends TestSessions {
  port: number;
  ca: string;
  password: string;
  /** What OAUTHBEARER takes, and where it says to get it. */
  token: string;
  tokenSource: TokenSource | undefined;
  /** Proofs so far. */
  proofs: Proof[];
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
  const { policy, credential } = options;
  const gateway: TestGateway = Object.assign(
    testSessions(policy, { grant: 'orders-db-7fk2p', account: 'writer', credential }),
    {
      port: 0,
      ca: certificates.ca,
      password: 'ticket',
      token: 'good.token',
      tokenSource: undefined,
      proofs: [],
      close: () => listener.close(),
    },
  );
  const abort = new AbortController();

  const contextOf = (socket: net.Socket, id: string): SessionContext => {
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
        return { kind: 'Granted', session: gateway.granted(id) };
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

  const listener = await listenFor(options.protocol, contextOf, gateway.logs);
  gateway.port = listener.port;
  return gateway;
}
