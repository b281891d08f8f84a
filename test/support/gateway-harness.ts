// A gateway with the line protocol before a key-value server, fed by hand: what a controller would sign is made here.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import net from 'node:net';
import type { TestContext } from 'node:test';
import type { CommandHoldSpec } from '../../src/api/hold.ts';
import { createDialGuard, type DialGuardOptions } from '../../src/gateway/dial-guard.ts';
import { createGateway, type Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import type { FeedEvent } from '../../src/gateway/ports.ts';
import { type ClientKeyPair, generateClientKey } from '../../src/identity/keys.ts';
import { issueTicket } from '../../src/identity/tickets.ts';
import type {
  BundleGrant,
  CompiledPolicy,
  CompiledRule,
  OverlayShard,
  Release,
  ShardEnvelope,
  ShardName,
} from '../../src/policy/bundle.ts';
import { keyIdOf, type SigningKey, signShard, trustedKeyOf } from '../../src/policy/bundle-signing.ts';
import type { Credential } from '../../src/protocols/credential.ts';
import { type ManualClock, manualClock } from '../../src/system/manual-clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { type KeyServer, lineProtocol, startKeyServer } from './line-protocol.ts';
import { type MemoryRecords, memoryRecords } from './memory-recorder.ts';

export const CONNECTION_UID = '3f2b7c1e-1111-4222-8333-444455556666';

export function signingKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { keyId: keyIdOf(publicKey), privateKey };
}

export interface OpenedHold {
  name: string;
  namespace: string;
  uid: string;
  spec: CommandHoldSpec;
}

export interface Harness {
  gateway: Gateway;
  clock: ManualClock;
  target: KeyServer;
  records: MemoryRecords;
  key: SigningKey;
  logged: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[];
  holds: { opened: OpenedHold[]; closed: { name: string; event: string }[] };
  /** Called by openHold and closeHold before they answer; may throw or wait. */
  controlPlane: { onOpen?: () => Promise<void>; onClose?: (event: string) => Promise<void> };
  credential: Extract<Credential, { kind: 'Password' }>;
  /** Signs and delivers a shard with the next sequence. */
  publish(shard: ShardName, payload: unknown, more?: { connectionUid?: string; key?: SigningKey }): ShardEnvelope;
  deliver(event: FeedEvent): void;
  policy(change?: Partial<CompiledPolicy>, spec?: object): void;
  grants(...grants: BundleGrant[]): void;
  overlay(change?: Partial<OverlayShard>): void;
  releases(...releases: Release[]): void;
  heartbeat(): void;
  release(hold: OpenedHold, change?: Partial<Release>): Release;
  /** A ticket of `client`'s key. */
  ticket(grant: BundleGrant, client?: ClientKeyPair, more?: Partial<Parameters<typeof issueTicket>[0]>): string;
  connect(): Promise<Client>;
  /** Connects and logs in; fails the test unless welcomed. */
  login(grant?: BundleGrant): Promise<Client>;
}

export interface Client {
  id: string;
  socket: net.Socket;
  send(line: string): void;
  /** The next line; rejects when the connection ends first or nothing comes for 5 s. */
  next(): Promise<string>;
  ask(line: string): Promise<string>;
  /** Resolves once the connection is closed. */
  closed: Promise<void>;
}

export const alice = generateClientKey();

export function grantFor(clock: ManualClock, change: Partial<BundleGrant> = {}): BundleGrant {
  return {
    name: 'orders-db-7fk2p',
    uid: 'aaaaaaaa-0000-4000-8000-000000000001',
    specHash: 'h',
    principal: { username: 'alice@corp.example', groups: ['payments'], aliases: [] },
    via: 'Local',
    account: 'reader',
    policy: 'payments/orders-team',
    clientKey: alice.publicKey,
    commandHashes: [],
    notBeforeMs: clock.now() - 60_000,
    expiresAtMs: clock.now() + 3_600_000,
    ticketUntilExpiry: false,
    ...change,
  };
}

export function rule(name: string, action: CompiledRule['action'], more: Partial<CompiledRule> = {}): CompiledRule {
  return { ref: { policy: 'payments/orders-team', rule: name }, action, enforce: true, exempt: [], ...more };
}

export const RULES: CompiledRule[] = [
  rule('all', 'Allow'),
  rule('no-drop', 'Deny', { matcher: { member: 'lines', value: { actions: ['Define'] } } }),
  rule('held-writes', 'Hold', {
    matcher: { member: 'lines', value: { actions: ['Write'], keys: ['held/*'] } },
    hold: { count: 1, approvers: [{ kind: 'Group', name: 'dba' }], timeoutMs: 60_000 },
  }),
];

/** Everything it starts is stopped when the test ends, however it ends. */
export async function startHarness(
  context: Pick<TestContext, 'after'>,
  change: Partial<GatewayOptions> & { dial?: DialGuardOptions; bare?: boolean } = {},
): Promise<Harness> {
  const target = await startKeyServer();
  const clock = manualClock();
  const records = memoryRecords();
  const key = signingKey();
  const listeners = new Set<(event: FeedEvent) => void>();
  const current = new Map<string, ShardEnvelope>();
  const logged: Harness['logged'] = [];
  const holds: Harness['holds'] = { opened: [], closed: [] };
  const controlPlane: Harness['controlPlane'] = {};
  const credential: Harness['credential'] = {
    kind: 'Password',
    username: 'svc',
    password: 'correct-horse',
    hosts: ['127.0.0.1'],
  };
  const clients: Client[] = [];
  let sequence = 0;
  let holdCount = 0;

  const deliver = (event: FeedEvent): void => {
    if (event.kind === 'Shard') current.set(`${event.envelope.connectionUid}/${event.envelope.shard}`, event.envelope);
    for (const listener of listeners) listener(event);
  };
  const { dial, bare, limits, ...options } = change;
  const gateway = createGateway({
    protocols: [lineProtocol],
    feed: {
      subscribe(listener) {
        for (const envelope of current.values()) listener({ kind: 'Shard', envelope });
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    trustedKeys: () => [trustedKeyOf(key)],
    controlPlane: {
      async openHold(hold) {
        await controlPlane.onOpen?.();
        const opened = { ...hold, uid: `hold-uid-${++holdCount}` };
        holds.opened.push(opened);
        return { uid: opened.uid };
      },
      async closeHold({ name }, event) {
        await controlPlane.onClose?.(event);
        holds.closed.push({ name, event });
      },
    },
    credentials: { read: () => Promise.resolve(credential) },
    records,
    tlsFor: () => undefined,
    listen: () => ({ host: '127.0.0.1', port: 0 }),
    dialGuard: createDialGuard({ allowLoopback: true, ...dial }),
    clock,
    random: systemRandom,
    log: (level, message, fields = {}) => logged.push({ level, message, fields }),
    // A login that waits for a grant would wait for this clock, which stands still.
    limits: { grantWaitMs: 0, ...limits },
    ...options,
  });

  const harness: Harness = {
    gateway,
    clock,
    target,
    records,
    key,
    logged,
    holds,
    controlPlane,
    credential,
    deliver,
    publish(shard, payload, more = {}) {
      const connectionUid = more.connectionUid ?? CONNECTION_UID;
      const envelope = signShard(more.key ?? key, { connectionUid, shard, epoch: 1, sequence: ++sequence, payload });
      deliver({ kind: 'Shard', envelope });
      return envelope;
    },
    policy(policyChange = {}, spec = {}) {
      harness.publish('policy', policyShard(target.port, policyChange, spec));
    },
    grants: (...grants) => void harness.publish('grants-0', { grants }),
    overlay: (overlayChange = {}) => void harness.publish('overlay', { locks: [], voidTickets: [], ...overlayChange }),
    releases: (...releases) => void harness.publish('releases', { releases }),
    heartbeat: () => void harness.publish('heartbeat', { atMs: clock.now() }),
    release: (hold, releaseChange = {}) => ({
      hold: hold.name,
      holdUid: hold.uid,
      grantUid: hold.spec.grantRef.uid,
      sessionId: hold.spec.sessionId,
      commandHash: hold.spec.commandHash,
      decision: 'Approved',
      by: ['dba-oncall@corp.example'],
      usableUntilMs: clock.now() + 600_000,
      ...releaseChange,
    }),
    ticket: (grant, client = alice, more = {}) =>
      issueTicket({
        privateKey: client.privateKey,
        grantUid: grant.uid,
        connectionUid: CONNECTION_UID,
        nowMs: clock.now(),
        random: systemRandom,
        ...more,
      }),
    async connect() {
      const endpoint = gateway.endpoints().get(CONNECTION_UID);
      assert.ok(endpoint, 'the Connection is reachable');
      const client = openClient(endpoint);
      clients.push(client);
      return await new Promise((resolve, reject) => {
        client.socket.once('connect', () => resolve(client));
        client.socket.once('error', reject);
      });
    },
    async login(grant = grantFor(clock)) {
      const client = await harness.connect();
      const answer = await client.ask(`TICKET ${harness.ticket(grant)}`);
      assert.match(answer, /^WELCOME s-/);
      client.id = answer.slice('WELCOME '.length);
      return client;
    },
  };
  context.after(async () => {
    for (const client of clients) client.socket.destroy();
    const stopped = gateway.stop(0);
    // Timers are the test's to run: the cut budget must be able to pass.
    const pump = setInterval(() => clock.advance(500), 5);
    await stopped;
    clearInterval(pump);
    await target.close();
  });
  if (bare !== true) {
    harness.policy();
    harness.grants(grantFor(clock));
    harness.overlay();
    harness.heartbeat();
  }
  await gateway.start();
  return harness;
}

/** The payload of a policy shard for one Connection. */
export function policyShard(
  port: number,
  change: Partial<CompiledPolicy>,
  spec: object,
  uid: string = CONNECTION_UID,
): unknown {
  const policy: CompiledPolicy = {
    kind: 'AccessPolicy',
    name: 'payments/orders-team',
    uid: 'policy-uid',
    generation: 1,
    accepted: true,
    subjects: [{ kind: 'Group', name: 'payments' }],
    accounts: ['reader'],
    rules: RULES,
    masks: [],
    trustedFunctions: [],
    session: { ticketUntilExpiry: false },
    ...change,
  };
  return {
    connection: {
      uid,
      name: 'orders-db',
      namespace: 'payments',
      generation: 1,
      spec: {
        type: 'Lines',
        postgresql: { host: '127.0.0.1', port },
        accounts: [{ name: 'reader', secretRef: { name: 'orders-db-reader' } }],
        ...spec,
      },
    },
    policies: [policy],
  };
}

function openClient(endpoint: { host: string; port: number }): Client {
  const socket = net.connect(endpoint);
  const ready: string[] = [];
  const waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  let rest = '';
  let ended = false;
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    const parts = (rest + chunk.toString('latin1')).split('\n');
    rest = parts.pop()!;
    for (const line of parts) {
      const waiter = waiting.shift();
      if (waiter === undefined) ready.push(line);
      else waiter.resolve(line);
    }
  });
  socket.on('close', () => {
    ended = true;
    for (const waiter of waiting.splice(0)) waiter.reject(new Error('the connection ended'));
  });
  const client: Client = {
    id: '',
    socket,
    closed,
    send: (line) => void socket.write(`${line}\n`),
    next() {
      const line = ready.shift();
      if (line !== undefined) return Promise.resolve(line);
      if (ended) return Promise.reject(new Error('the connection ended'));
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error('nothing came for 5 s')), 5_000);
        const settle =
          <T>(act: (value: T) => void) =>
          (value: T): void => {
            clearTimeout(timer);
            act(value);
          };
        waiting.push({ resolve: settle(resolve), reject: settle(reject) });
      });
    },
    ask(line) {
      client.send(line);
      return client.next();
    },
  };
  return client;
}

/** Waits until a condition holds, at most 5 s. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
