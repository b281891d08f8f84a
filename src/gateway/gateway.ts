// The data plane. One listener a Connection; every accepted socket becomes a session with an id of its own; who, whether
// and when are decided here, the wire is the protocol's. Knows no protocol by name.
//
// Guarantees: no session without a proven grant in force (INV-01); a session ends when its grant ends, is locked or
// killed, by the gateway's own clocks (INV-03); without a fresh signed heartbeat or writable records no command is let
// through (INV-04); half-open handshakes, sessions and holds are bounded (INV-11).
// Does not guarantee: that a protocol asks before it forwards. That is the protocol's half of INV-01.
import type { Socket } from 'node:net';
import type { ConnectionSpec } from '../api/connection.ts';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { CredentialSource } from '../protocols/credential.ts';
import type { ConnectionKeys, Cut, Protocol, ServerTls } from '../protocols/protocol.ts';
import type { SessionRecorder } from '../recording/recorder.ts';
import type { Clock } from '../system/clock.ts';
import { type Random, randomSuffix } from '../system/random.ts';
import { type BundleChange, type BundleStore, openBundleStore } from './bundle-store.ts';
import { createCancelRegistry } from './cancel-registry.ts';
import type { DialGuard } from './dial-guard.ts';
import { createHalfOpenPlaces } from './half-open.ts';
import { createHoldDesk } from './holds.ts';
import { createFailureLimiter, DEFAULT_PROCESS_LIMITS, keyedCount, type ProcessLimits } from './limits.ts';
import { createListeners } from './listeners.ts';
import { type GatewayMetrics, type LogLine, NO_METRICS } from './observer.ts';
import type { BundleFeed, ControlPlane } from './ports.ts';
import type { Renewal, RenewalProof } from './renewal.ts';
import type { SealedUses } from './sealed-grants.ts';
import { createSession, type Session } from './session.ts';
import type { SessionWorld } from './session-world.ts';
import { usedTickets } from './used-tickets.ts';

/** A Connection as the gateway knows it: from its signed policy shard. */
export interface GatewayConnection {
  uid: string;
  name: string;
  namespace: string;
  spec: ConnectionSpec;
}

/** Where sessions write their records. A `RecordLog` is one. */
export interface SessionRecords {
  session(stream: string, options: { durability: 'Write' | 'Disk' }): SessionRecorder;
}

export interface GatewayOptions {
  protocols: readonly Protocol[];
  feed: BundleFeed;
  /** Whose signatures on bundle shards count. Read at each shard, so that keys may rotate. */
  trustedKeys: () => readonly TrustedKey[];
  controlPlane: ControlPlane;
  credentials: CredentialSource;
  records: SessionRecords;
  /** TLS of a Connection's listener; undefined: none, and protocols decide whether they talk without. */
  tlsFor(connection: GatewayConnection): ServerTls | undefined;
  /**
   * Keys of a Connection's listener, where its protocol has keys of its own (`ownKeys`); undefined: they are not there yet,
   * and nobody is served until they are. Asked at each socket.
   */
  keysFor?(connection: GatewayConnection): ConnectionKeys | undefined;
  /** Where a Connection is to be reached; port 0: any. Asked again at every change of the Connection. */
  listen(connection: GatewayConnection): { host: string; port: number };
  dialGuard: DialGuard;
  clock: Clock;
  random: Random;
  log: LogLine;
  metrics?: GatewayMetrics;
  limits?: Partial<ProcessLimits>;
  /** Connections this process serves; a shard of any other is refused. Default: all that are signed. */
  serves?: (connectionUid: string) => boolean;
  /** Where uses of sealed grants are counted; absent: none is opened. */
  sealedUses?: SealedUses;
  /** Somebody showed a token by a key that this IdentityProvider is not known to have: it may have a new one. */
  onUnknownKey?: (provider: string) => void;
  /** How hints begin: `sallyport` (default) or `kubectl access`. */
  commandPrefix?: string;
}

export interface SessionInfo {
  id: string;
  connection: { uid: string; name: string; namespace: string };
  protocol: string;
  state: 'Handshake' | 'Live' | 'Ending';
  client: { address: string; port: number };
  startedAtMs: number;
  lastActivityMs: number;
  /** From authentication on. */
  principal?: { username: string };
  grant?: { name: string; uid: string; policy: string; expiresAtMs: number };
  account?: string;
  /** Names of the holds it waits for. */
  holds: readonly string[];
  cut?: Cut['code'];
}

export interface Endpoint {
  host: string;
  port: number;
}

export interface Readiness {
  ok: boolean;
  /** Sentences for people; empty when ok. */
  reasons: readonly string[];
}

/** What the gateway has proven of one Connection. */
export interface ServedConnection {
  /** From its policy shard; undefined before that has come and after it is gone. */
  connection: GatewayConnection | undefined;
  /** The newest proven shards by name; one that is gone since is still named. */
  applied: ReadonlyMap<string, { epoch: number; sequence: number }>;
  /** Why no command may run on it now. */
  silent: string | undefined;
}

export interface Gateway {
  /** Subscribes to the feed and opens listeners as Connections come. Resolves once every Connection that the feed told at once is listening or has failed to. */
  start(): Promise<void>;
  /** Stops accepting, lets sessions finish for `drainMs`, cuts the rest (`Shutdown`). Resolves when none is left. A second call may be less patient. */
  stop(drainMs: number): Promise<void>;
  sessions(): SessionInfo[];
  /**
   * Takes a socket that came another way than by the Connection's listener, such as through a tunnel. `client` is what
   * limits count and records name; `address` need not be an IP address. Answers the session's id, if it took the socket.
   */
  accept(connectionUid: string, socket: Socket, client: { address: string; port: number }): string | undefined;
  /** By uid: every Connection that a shard was ever proven for. */
  connections(): ReadonlyMap<string, ServedConnection>;
  /** Ends one session; false if there is none of that id. */
  kill(id: string, by: string): boolean;
  /**
   * Hands a live session a newer token of the person whose it is, so that it may go on where the policy wants them to prove
   * themselves again (`session.reauthenticate`). The proof alone decides; `address` is whose failures are counted. Where the
   * person may no longer do what the session does, it is cut.
   */
  renew(sessionId: string, proof: RenewalProof, address: string): Promise<Renewal>;
  /** By Connection uid: where each is reached now. */
  endpoints(): ReadonlyMap<string, Endpoint>;
  /** Calls back whenever an endpoint opened, moved or closed. Returns the function that stops it. */
  onEndpoints(listener: () => void): () => void;
  ready(): Readiness;
}

/** How often sessions are looked at for what no event tells: idleness, a wall clock that was set. */
const SWEEP_MS = 1_000;

export function createGateway(options: GatewayOptions): Gateway {
  const { clock, random, log } = options;
  const limits: ProcessLimits = { ...DEFAULT_PROCESS_LIMITS, ...options.limits };
  const metrics = options.metrics ?? NO_METRICS;
  const stopNow = new AbortController();
  const sessions = new Map<string, Session>();
  const halfOpen = createHalfOpenPlaces(clock, limits);
  const watchers = new Set<() => void>();
  const holds = createHoldDesk({ controlPlane: options.controlPlane, clock, random, limits, metrics, log });
  let store: BundleStore | undefined;
  let draining = false;
  let cancelSweep = (): void => {};
  const onEmpty = new Set<() => void>();

  const world: SessionWorld = {
    options,
    limits,
    metrics,
    holds,
    cancels: createCancelRegistry(random),
    failures: createFailureLimiter(clock, limits),
    sessionCounts: keyedCount(),
    usedTickets: usedTickets(clock),
    prefix: options.commandPrefix ?? 'sallyport',
    signal: stopNow.signal,
    draining: () => draining,
  };

  const listeners = createListeners({
    clock,
    log,
    onSocket,
    onChange() {
      for (const watcher of watchers) watcher();
    },
  });

  function refuse(socket: Socket, reason: Parameters<GatewayMetrics['socketRefused']>[0]): undefined {
    metrics.socketRefused(reason);
    socket.destroy();
  }

  function onSocket(uid: string, socket: Socket): void {
    const { remoteAddress: address, remotePort: port } = socket;
    if (address === undefined || port === undefined) return void socket.destroy();
    accept(uid, socket, { address, port });
  }

  function accept(uid: string, socket: Socket, client: { address: string; port: number }): string | undefined {
    const { address } = client;
    const bundle = store?.connection(uid);
    const connection = bundle?.view?.policy.connection;
    const protocol = options.protocols.find(({ type }) => type === connection?.spec.type);
    if (draining || bundle === undefined || connection === undefined || protocol === undefined) {
      return refuse(socket, 'Draining');
    }
    const { name, namespace, spec } = connection;
    const keys = protocol.ownKeys !== undefined ? options.keysFor?.({ uid, name, namespace, spec }) : undefined;
    if (protocol.ownKeys !== undefined && keys === undefined) return refuse(socket, 'NoKeys');
    if (sessions.size >= limits.sockets) return refuse(socket, 'Sockets');
    const id = freshId();
    const place = halfOpen.take(address, () => {
      metrics.socketRefused('Displaced');
      sessions.get(id)?.giveWay();
    });
    if (place.kind === 'Refused') return refuse(socket, place.reason);
    const session = createSession(world, {
      id,
      socket,
      client,
      connection: { uid, name, namespace, spec },
      protocol,
      bundle,
      tls: options.tlsFor({ uid, name, namespace, spec }),
      keys,
      onHandshakeOver: place.giveBack,
      onGone() {
        sessions.delete(id);
        if (sessions.size === 0) for (const resolve of onEmpty) resolve();
      },
    });
    sessions.set(id, session);
    session.run();
    return id;
  }

  function freshId(): string {
    for (;;) {
      // 61 bits: never the id of another session, in all the years that records are kept.
      const id = `s-${randomSuffix(random, 13)}`;
      if (!sessions.has(id)) return id;
    }
  }

  const opening = new Set<Promise<void>>();

  function onBundle(change: BundleChange): void {
    const uid = change.connectionUid;
    const bundle = store?.connection(uid);
    if (change.kind === 'Gone') listeners.drop(uid);
    else if (change.shard === 'policy') reach(uid);
    if (bundle === undefined) return;
    // A grant that outgrew its shard's limit moves to another: shards that come in one go are judged together.
    if (change.kind === 'Changed' && change.shard.startsWith('grants-')) reviewSoon(uid);
    else reviewSessions(uid);
    if (change.kind === 'Gone' || change.shard === 'releases') holds.review(uid, bundle.view);
  }

  function reviewSessions(uid: string): void {
    for (const session of sessions.values()) if (session.connectionUid === uid) session.review();
  }

  const reviewing = new Set<string>();
  function reviewSoon(uid: string): void {
    if (reviewing.has(uid)) return;
    reviewing.add(uid);
    queueMicrotask(() => {
      reviewing.delete(uid);
      reviewSessions(uid);
    });
  }

  /** Opens or moves the listener of a Connection whose policy shard is new. */
  function reach(uid: string): void {
    const connection = store?.connection(uid)?.view?.policy.connection;
    if (connection === undefined || draining) return;
    const label = `${connection.namespace}/${connection.name}`;
    if (!options.protocols.some(({ type }) => type === connection.spec.type)) {
      log('error', 'no protocol serves this type of Connection', { connection: label, type: connection.spec.type });
      return listeners.drop(uid);
    }
    let wanted: { host: string; port: number };
    try {
      wanted = options.listen(connection);
    } catch (error) {
      log('error', 'a Connection can not be listened for', { connection: label, error: String(error) });
      return listeners.drop(uid);
    }
    const opened = listeners.want(uid, wanted);
    opening.add(opened);
    void opened.finally(() => opening.delete(opened));
  }

  function sweep(): void {
    for (const session of sessions.values()) session.review();
    cancelSweep = clock.after(SWEEP_MS, sweep);
  }

  return {
    async start() {
      // The feed may speak before subscribe() returns: those events are heard once the store can be asked.
      const early: BundleChange[] = [];
      store = openBundleStore({
        feed: options.feed,
        trustedKeys: options.trustedKeys,
        serves: options.serves ?? (() => true),
        clock,
        log,
        metrics,
        heartbeatMs: limits.heartbeatMs,
        onChange: (change) => (store === undefined ? early.push(change) : onBundle(change)),
      });
      for (const change of early) onBundle(change);
      sweep();
      await Promise.all(opening);
    },

    async stop(drainMs) {
      draining = true;
      // The clock's timers keep no process alive: without this one it could exit before the last session is seen out.
      const keepAlive = setInterval(() => {}, 1_000);
      await listeners.close();
      for (const session of sessions.values()) {
        if (session.info().state === 'Handshake')
          session.cut({ code: 'Shutdown', message: 'the gateway is shutting down' });
      }
      const empty = new Promise<void>((resolve) => {
        onEmpty.add(resolve);
        if (sessions.size === 0) resolve();
      });
      const cancelDrain = clock.after(drainMs, () => {
        const cut: Cut = { code: 'Shutdown', message: 'the gateway is shutting down', hint: 'Connect again.' };
        for (const session of sessions.values()) session.cut(cut);
      });
      await empty; // it comes: every cut ends within its budget
      cancelDrain();
      cancelSweep();
      store?.stop();
      stopNow.abort();
      clearInterval(keepAlive);
    },

    sessions: () => [...sessions.values()].map((session) => session.info()),
    accept,

    connections() {
      const found = new Map<string, ServedConnection>();
      for (const bundle of store?.connections() ?? []) {
        const connection = bundle.view?.policy.connection;
        found.set(bundle.uid, { connection, applied: bundle.applied, silent: bundle.silent() });
      }
      return found;
    },

    kill(id, by) {
      const session = sessions.get(id);
      if (session === undefined) return false;
      const hint = `${world.prefix} connect ${session.info().connection.name}`;
      session.cut({ code: 'Killed', message: `session ${id} was ended by ${by}`, hint });
      return true;
    },

    async renew(sessionId, proof, address) {
      const session = sessions.get(sessionId);
      if (session === undefined)
        return { kind: 'Refused', code: 'NoSession', message: 'There is no such session here.' };
      return await session.renew(proof, address);
    },

    endpoints: () => listeners.endpoints(),
    onEndpoints(listener) {
      watchers.add(listener);
      return () => watchers.delete(listener);
    },

    ready() {
      const reasons: string[] = [];
      if (store === undefined) reasons.push('not started');
      if (draining) reasons.push('shutting down');
      const problems = listeners.problems();
      for (const bundle of store?.connections() ?? []) {
        const connection = bundle.view?.policy.connection;
        if (connection === undefined) continue;
        const label = `${connection.namespace}/${connection.name}`;
        const silent = bundle.silent();
        const problem = problems.get(bundle.uid);
        if (silent !== undefined) reasons.push(`${label}: ${silent}`);
        if (problem !== undefined) reasons.push(`${label}: ${problem}`);
      }
      return { ok: reasons.length === 0, reasons };
    },
  };
}
