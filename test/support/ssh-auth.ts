// Two ends of an SSH transport in memory, and a gateway's side of a login: for tests of authentication alone.
import { randomBytes } from 'node:crypto';
import type { Credential } from '../../src/protocols/credential.ts';
import type {
  AuthenticatedSession,
  Authentication,
  Limits,
  Offer,
  Proof,
  SessionContext,
} from '../../src/protocols/protocol.ts';
import type { UpstreamLogin } from '../../src/protocols/ssh/auth/client.ts';
import { ed25519Signer } from '../../src/protocols/ssh/keys/signer.ts';
import type { Transport } from '../../src/protocols/ssh/transport/transport.ts';
import type { Clock } from '../../src/system/clock.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';

export interface FakeTransport extends Transport {
  sent: Buffer[];
  isAuthenticated: boolean;
  disconnected: { code: number; text: string } | undefined;
}

/** Messages arrive in order, in a later turn of the event loop. */
export function transportPair(options: { peerSignatureAlgorithms?: readonly string[]; hostKey?: Buffer } = {}): {
  server: FakeTransport;
  client: FakeTransport;
} {
  const sessionId = randomBytes(32);
  const hostKey = options.hostKey ?? ed25519Signer(randomBytes(32)).blob;
  const make = (role: 'Server' | 'Client'): FakeTransport & { peer: FakeTransport | undefined } => {
    let closed = false;
    const own: FakeTransport & { peer: FakeTransport | undefined } = {
      peer: undefined,
      role,
      sessionId,
      peerVersion: 'SSH-2.0-Test',
      hostKey,
      peerSignatureAlgorithms: options.peerSignatureAlgorithms,
      algorithms: {
        kex: 'none',
        hostKey: 'ssh-ed25519',
        cipher: { clientToServer: 'none', serverToClient: 'none' },
        mac: { clientToServer: '', serverToClient: '' },
        strict: true,
      },
      onMessage: () => undefined,
      onClose: () => undefined,
      onDrain: () => undefined,
      sent: [],
      isAuthenticated: false,
      disconnected: undefined,
      queuedBytes: 0,
      send(payload) {
        if (closed) return true;
        own.sent.push(payload);
        setImmediate(() => {
          if (!closed || own.disconnected !== undefined) own.peer?.onMessage(Buffer.from(payload));
        });
        return true;
      },
      pause: () => undefined,
      resume: () => undefined,
      authenticated() {
        own.isAuthenticated = true;
      },
      disconnect(code, text) {
        if (closed) return;
        closed = true;
        own.disconnected = { code, text };
        setImmediate(() => own.peer?.onClose({ disconnect: { code, text } }));
      },
      destroy() {
        if (closed) return;
        closed = true;
        setImmediate(() => own.peer?.onClose({}));
      },
    };
    return own;
  };
  const server = make('Server');
  const client = make('Client');
  server.peer = client;
  client.peer = server;
  return { server, client };
}

export interface AuthGateway {
  context: SessionContext;
  proofs: Proof[];
  offers: Offer[];
  logs: string[];
  /** Reasons of sessions that have ended. */
  ended: string[];
  sessions: AuthenticatedSession[];
  abort(): void;
}

export interface AuthGatewayOptions {
  /** What is granted; anything else is InvalidProof. */
  grants: (proof: Proof) => Authentication['kind'] | Extract<Authentication, { kind: 'Refused' }> | undefined;
  recognises?: (offer: Offer) => boolean;
  address?: string;
  limits?: Partial<Limits>;
  clock?: Clock;
  /** Before an answer. */
  wait?: () => Promise<void>;
}

export function authGateway(options: AuthGatewayOptions): AuthGateway {
  const abort = new AbortController();
  const refusedInvalid: Authentication = {
    kind: 'Refused',
    code: 'InvalidProof',
    message: 'Sallyport: the proof is not valid',
  };
  const gateway: AuthGateway = {
    proofs: [],
    offers: [],
    logs: [],
    ended: [],
    sessions: [],
    abort: () => abort.abort(),
    context: {
      id: 's-1',
      connection: {
        uid: 'conn-uid',
        name: 'bastion',
        namespace: 'payments',
        spec: { type: 'SSH', ssh: { host: '127.0.0.1' }, accounts: [] },
      },
      client: { address: options.address ?? '192.0.2.7', port: 40_000 },
      clock: options.clock ?? systemClock,
      random: systemRandom,
      limits: {
        handshakeMs: 5_000,
        proofs: 6,
        statementBytes: 256 * 1024,
        rowBytes: 16 * 1024 * 1024,
        clientBufferBytes: 1024 * 1024,
        recordedRows: 50,
        ...options.limits,
      },
      tls: undefined,
      keys: undefined,
      tokenSource: () => undefined,
      cancels: { register: () => () => undefined, cancel: () => false },
      log: (level, message, fields) => void gateway.logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
      signal: abort.signal,
      recognises(offer) {
        gateway.offers.push(offer);
        return options.recognises?.(offer) ?? false;
      },
      async authenticate(proof) {
        gateway.proofs.push(proof);
        await options.wait?.();
        const answer = options.grants(proof);
        if (answer === undefined || answer === 'Refused') return refusedInvalid;
        if (answer !== 'Granted') return answer;
        const session = sessionThatOnlyEnds((reason) => void gateway.ended.push(reason));
        gateway.sessions.push(session);
        return { kind: 'Granted', session };
      },
    },
  };
  return gateway;
}

/** Everything but its end is out of a login's reach: touching it fails the test. */
function sessionThatOnlyEnds(ended: (reason: string) => void): AuthenticatedSession {
  const session: Pick<AuthenticatedSession, 'ended' | 'principal' | 'account' | 'grant'> = {
    principal: { username: 'ana@corp.example' },
    account: 'ops',
    grant: { name: 'bastion-7fk2p', uid: 'grant-uid', policy: 'payments/ops', expiresAtMs: Number.MAX_SAFE_INTEGER },
    ended: (reason) => ended(reason),
  };
  return session as AuthenticatedSession;
}

/** Our own login at a target, of anybody; `more` says what of it matters. */
export function upstreamLogin(credential: Credential, more: Partial<UpstreamLogin> = {}): UpstreamLogin {
  return {
    user: 'deploy',
    credential,
    keys: undefined,
    session: { id: 's-1', grant: 'g', person: 'ana@corp.example', grantExpiresAtMs: Date.now() + 60_000 },
    permits: {},
    clock: systemClock,
    random: systemRandom,
    deadlineMs: 5_000,
    signal: new AbortController().signal,
    ...more,
  };
}
