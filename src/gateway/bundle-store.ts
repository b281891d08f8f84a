// One Connection's bundle as far as it has been proven: shards are verified, put in order, and turned into a view.
//
// Guarantees: nothing unsigned, older, rolled back or of another Connection changes what is allowed (INV-04, INV-12); a
// bad shard leaves the good one standing; what takes access away needs no signature and is never undone by a shard that
// still allows it (INV-03). Memory is bounded by what trusted keys signed.
// Does not guarantee freshness of a single shard: whoever can withhold shards can delay a signed change. Ended grants
// therefore come over `GrantEnded` as well, and silence of the whole controller is the heartbeat's business.
import {
  type BundleGrant,
  EVERY_CONNECTION,
  type GrantsShard,
  type HeartbeatShard,
  type IdentityShard,
  type OverlayShard,
  type PolicyShard,
  type Release,
  type ShardEnvelope,
} from '../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../policy/bundle-signing.ts';
import type { Clock } from '../system/clock.ts';
import type { GatewayMetrics, LogLine } from './observer.ts';
import type { BundleFeed, BundleView, FeedEvent } from './ports.ts';
import { envelopeFault, type Payload, readPayload } from './shard-payload.ts';

/** How a grant ended, as far as the gateway knows. */
export interface GrantEnd {
  phase: 'Denied' | 'Expired' | 'Revoked' | 'Deleted';
  by?: string;
}

export type BundleChange =
  /** Anything of the Connection's bundle changed; look again. */
  | { kind: 'Changed'; connectionUid: string; shard: string }
  /** The Connection itself is gone. */
  | { kind: 'Gone'; connectionUid: string };

export interface ConnectionBundle {
  readonly uid: string;
  /** Absent until the policy shard is known, and after it is gone. */
  readonly view: BundleView | undefined;
  /** Rises with every change of grants or overlay. */
  readonly revision: number;
  /** Why nothing may run now, or undefined: shards that are missing, or no fresh heartbeat. */
  silent(): string | undefined;
  /** Policy and locks are there and the controller is not: its heartbeat is missing or old. */
  orphaned(): boolean;
  /** A grant that is listed and has not ended; its own clock may still say that it is too early or too late. */
  grant(uid: string): BundleGrant | undefined;
  /** Kept for a while after the end, so that its owner can be told why. */
  endedGrant(uid: string): { grant: BundleGrant; end: GrantEnd } | undefined;
  /** All that are kept; bounded. */
  endedGrants(): Iterable<{ grant: BundleGrant; end: GrantEnd }>;
  /** Why a grant that was in force is not any more. */
  endOf(uid: string): GrantEnd | undefined;
  /**
   * Milliseconds until the grant ends, by wall clock and by how much time has really passed since the gateway first saw
   * it, whichever is less: a wall clock set back extends nothing. <= 0: it has ended.
   */
  remaining(grant: BundleGrant): number;
  isVoid(jti: string): boolean;
  /** Wall time at which the last heartbeat came. */
  readonly heartbeatAtMs: number | undefined;
  /** The newest proven shards by name; one that is gone since is still named. */
  readonly applied: ReadonlyMap<string, { epoch: number; sequence: number }>;
}

export interface BundleStore {
  connection(uid: string): ConnectionBundle | undefined;
  connections(): Iterable<ConnectionBundle>;
  stop(): void;
}

export interface BundleStoreOptions {
  feed: BundleFeed;
  trustedKeys: () => readonly TrustedKey[];
  serves: (connectionUid: string) => boolean;
  clock: Clock;
  log: LogLine;
  metrics: GatewayMetrics;
  heartbeatMs: number;
  onChange: (change: BundleChange) => void;
}

const MOST_ENDED = 4096;
const EMPTY_OVERLAY: OverlayShard = { locks: [], voidTickets: [] };

interface Mark {
  epoch: number;
  sequence: number;
  payloadHash: string;
}

interface Heartbeat {
  shard: HeartbeatShard;
  atMonotonic: number;
  atWall: number;
}

interface State extends ConnectionBundle {
  marks: Map<string, Mark>;
  grantShards: Map<string, GrantsShard>;
  grants: Map<string, BundleGrant>;
  deadlines: Map<string, { expiresAtMs: number; atMonotonic: number }>;
  ended: Map<string, { grant: BundleGrant; end: GrantEnd }>;
  overlay: OverlayShard | undefined;
  releases: readonly Release[];
  heartbeat: Heartbeat | undefined;
  voided: ReadonlySet<string>;
  policy: PolicyShard | undefined;
  generation: number;
  revision: number;
  view: BundleView | undefined;
}

/** Subscribes at once; `onChange` may be called before this returns. */
export function openBundleStore(options: BundleStoreOptions): BundleStore {
  const { clock, log, metrics } = options;
  const states = new Map<string, State>();
  /** Grants ended without a signature, by uid: no shard revives them. Oldest first. */
  const endedUnsigned = new Map<string, GrantEnd>();
  const forEvery: {
    heartbeat: Heartbeat | undefined;
    identity: IdentityShard | undefined;
    marks: Map<string, Mark>;
  } = { heartbeat: undefined, identity: undefined, marks: new Map() };
  // One counter for the process: a Connection that is deleted and made again never repeats a generation.
  let generations = 0;

  function stateOf(uid: string): State {
    const known = states.get(uid);
    if (known !== undefined) return known;
    const state: State = {
      uid,
      marks: new Map(),
      grantShards: new Map(),
      grants: new Map(),
      deadlines: new Map(),
      ended: new Map(),
      overlay: undefined,
      releases: [],
      heartbeat: forEvery.heartbeat,
      voided: new Set(),
      policy: undefined,
      generation: 0,
      revision: 0,
      view: undefined,
      silent: () => silence(state),
      orphaned: () =>
        state.policy !== undefined && state.overlay !== undefined && silentMs(state) > options.heartbeatMs,
      grant: (grantUid) => (endedUnsigned.has(grantUid) ? undefined : state.grants.get(grantUid)),
      endedGrant: (grantUid) => state.ended.get(grantUid),
      endedGrants: () => state.ended.values(),
      endOf: (grantUid) => endedUnsigned.get(grantUid) ?? state.ended.get(grantUid)?.end,
      remaining: (grant) => remaining(state, grant),
      isVoid: (jti) => state.voided.has(jti),
      get heartbeatAtMs() {
        return state.heartbeat?.atWall;
      },
      get applied() {
        return state.marks;
      },
    };
    states.set(uid, state);
    return state;
  }

  /** Monotonic time stands still while a machine sleeps and wall time can be set: either may call a heartbeat stale. */
  function silentMs({ heartbeat }: State): number {
    if (heartbeat === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(clock.monotonic() - heartbeat.atMonotonic, clock.now() - heartbeat.shard.atMs);
  }

  function silence(state: State): string | undefined {
    if (state.policy === undefined) return 'its policy has not arrived';
    if (state.overlay === undefined) return 'its locks have not arrived';
    if (state.heartbeat === undefined) return 'no heartbeat of the controller has arrived';
    const { shard } = state.heartbeat;
    const silent = silentMs(state);
    if (silent > options.heartbeatMs) return `no heartbeat of the controller for ${Math.floor(silent / 1000)} s`;
    if (shard.atMs - clock.now() > options.heartbeatMs)
      return 'the clock of this machine is behind that of the controller';
    return undefined;
  }

  function remaining(state: State, grant: BundleGrant): number {
    const byWall = grant.expiresAtMs - clock.now();
    const known = state.deadlines.get(grant.uid);
    const deadline = known?.expiresAtMs === grant.expiresAtMs ? known.atMonotonic : undefined;
    return deadline === undefined ? byWall : Math.min(byWall, deadline - clock.monotonic());
  }

  function rebuildGrants(state: State): void {
    const before = state.grants;
    const grants = new Map<string, BundleGrant>();
    for (const shard of state.grantShards.values()) for (const grant of shard.grants) grants.set(grant.uid, grant);
    for (const grant of grants.values()) {
      if (state.deadlines.get(grant.uid)?.expiresAtMs !== grant.expiresAtMs) {
        state.deadlines.set(grant.uid, {
          expiresAtMs: grant.expiresAtMs,
          atMonotonic: clock.monotonic() + (grant.expiresAtMs - clock.now()),
        });
      }
      if (!endedUnsigned.has(grant.uid)) state.ended.delete(grant.uid);
    }
    for (const [uid, grant] of before) {
      if (grants.has(uid)) continue;
      const end: GrantEnd = endedUnsigned.get(uid) ?? { phase: remaining(state, grant) <= 0 ? 'Expired' : 'Revoked' };
      remember(state.ended, uid, { grant, end });
    }
    // A grant that only moves between shards keeps the deadline it had.
    for (const [uid, { atMonotonic }] of state.deadlines) {
      if (!grants.has(uid) && atMonotonic <= clock.monotonic()) state.deadlines.delete(uid);
    }
    state.grants = grants;
  }

  function renew(state: State, policyChanged: boolean): void {
    state.revision += 1;
    if (policyChanged) state.generation = ++generations;
    state.view =
      state.policy === undefined
        ? undefined
        : {
            policy: state.policy,
            generation: state.generation,
            grants: state.grants,
            overlay: state.overlay ?? EMPTY_OVERLAY,
            releases: state.releases,
            heartbeat: state.heartbeat?.shard,
            identity: forEvery.identity,
          };
    const { policy } = state;
    if (policy !== undefined) {
      metrics.bundle(
        `${policy.connection.namespace}/${policy.connection.name}`,
        state.generation,
        state.heartbeat?.atWall,
      );
    }
  }

  function refuse(envelope: ShardEnvelope, reason: string): void {
    metrics.badShard(reason);
    log('warn', 'a bundle shard was refused; the last good one stays in force', {
      connection: String(envelope.connectionUid).slice(0, 64),
      shard: String(envelope.shard).slice(0, 64),
      epoch: Number(envelope.epoch),
      sequence: Number(envelope.sequence),
      reason,
    });
  }

  function onShard(envelope: ShardEnvelope): void {
    const fault = envelopeFault(envelope);
    if (fault !== undefined) return refuse(envelope, fault);
    const forAll = envelope.connectionUid === EVERY_CONNECTION;
    const common = envelope.shard === 'heartbeat' || envelope.shard === 'identity';
    if (forAll ? !common : envelope.shard === 'identity' || !options.serves(envelope.connectionUid)) {
      return refuse(envelope, 'Foreign');
    }
    // Order first: it is cheap, and a repeated shard is no event. What is unsigned never gets to move the mark.
    const mark = forAll
      ? forEvery.marks.get(envelope.shard)
      : states.get(envelope.connectionUid)?.marks.get(envelope.shard);
    if (mark !== undefined) {
      const order = envelope.epoch - mark.epoch || envelope.sequence - mark.sequence;
      if (order < 0) return refuse(envelope, 'Older');
      if (order === 0) {
        if (envelope.payloadHash !== mark.payloadHash) refuse(envelope, 'SameSequenceOtherContent');
        return;
      }
    }
    const verdict = verifyShard(options.trustedKeys(), envelope);
    if (verdict.kind === 'Bad') return refuse(envelope, verdict.reason);
    const change = readPayload(envelope, verdict.payload);
    if (change === undefined) return refuse(envelope, 'Payload');
    if (change.kind === 'Policy' && change.policy.connection.uid !== envelope.connectionUid) {
      return refuse(envelope, 'Foreign');
    }
    const { epoch, sequence, payloadHash } = envelope;
    const fresh: Mark = { epoch, sequence, payloadHash };
    if (forAll) {
      forEvery.marks.set(envelope.shard, fresh);
      if (change.kind === 'Heartbeat') forEvery.heartbeat = heard(change.heartbeat);
      if (change.kind === 'Identity') forEvery.identity = change.identity;
      for (const state of states.values()) {
        if (change.kind === 'Heartbeat') state.heartbeat = forEvery.heartbeat;
        changed(state, envelope.shard, false);
      }
      return;
    }
    const state = stateOf(envelope.connectionUid);
    state.marks.set(envelope.shard, fresh);
    apply(state, envelope.shard, change);
    changed(state, envelope.shard, change.kind === 'Policy');
  }

  function changed(state: State, shard: string, policyChanged: boolean): void {
    renew(state, policyChanged);
    options.onChange({ kind: 'Changed', connectionUid: state.uid, shard });
  }

  const heard = (shard: HeartbeatShard): Heartbeat => ({
    shard,
    atMonotonic: clock.monotonic(),
    atWall: clock.now(),
  });

  function apply(state: State, shard: string, change: Payload): void {
    switch (change.kind) {
      case 'Policy':
        state.policy = change.policy;
        return;
      case 'Grants':
        state.grantShards.set(shard, change.grants);
        return rebuildGrants(state);
      case 'Releases':
        state.releases = change.releases;
        return;
      case 'Overlay':
        state.overlay = change.overlay;
        state.voided = new Set(change.overlay.voidTickets);
        return;
      case 'Heartbeat':
        state.heartbeat = heard(change.heartbeat);
        return;
      case 'Identity':
        return; // it is for every Connection
    }
  }

  /** A shard that is gone takes away what it allowed. Locks stay: their absence would allow. So do the marks: an older shard stays older. */
  function onGone(connectionUid: string, shard: string): void {
    const state = states.get(connectionUid);
    if (state === undefined) return;
    if (shard === 'policy') {
      const { policy } = state;
      state.policy = undefined;
      renew(state, true);
      if (policy !== undefined) metrics.connectionGone(`${policy.connection.namespace}/${policy.connection.name}`);
      return options.onChange({ kind: 'Gone', connectionUid });
    }
    if (state.grantShards.delete(shard)) rebuildGrants(state);
    else if (shard === 'releases') state.releases = [];
    else return;
    renew(state, false);
    options.onChange({ kind: 'Changed', connectionUid, shard });
  }

  /** Whoever still holds on to the state finds nothing allowed in it. */
  function onConnectionGone(connectionUid: string): void {
    const state = states.get(connectionUid);
    if (state === undefined) return;
    state.grantShards.clear();
    rebuildGrants(state);
    state.releases = [];
    onGone(connectionUid, 'policy');
    states.delete(connectionUid);
  }

  function onGrantEnded(event: Extract<FeedEvent, { kind: 'GrantEnded' }>): void {
    const end: GrantEnd = { phase: event.phase, ...(event.by === undefined ? {} : { by: event.by }) };
    if (endedUnsigned.has(event.grantUid)) return;
    endedUnsigned.set(event.grantUid, end);
    if (endedUnsigned.size > MOST_ENDED) forgetOneEnd();
    for (const state of states.values()) {
      const grant = state.grants.get(event.grantUid);
      if (grant === undefined) continue;
      remember(state.ended, grant.uid, { grant, end });
      renew(state, false);
      options.onChange({ kind: 'Changed', connectionUid: state.uid, shard: 'grants' });
    }
  }

  /** Forgets the oldest end that no shard contradicts; only such a one is safe to forget. */
  function forgetOneEnd(): void {
    for (const uid of endedUnsigned.keys()) {
      if ([...states.values()].some((state) => state.grants.has(uid))) continue;
      endedUnsigned.delete(uid);
      return;
    }
  }

  const unsubscribe = options.feed.subscribe((event) => {
    try {
      if (event.kind === 'Shard') onShard(event.envelope);
      else if (event.kind === 'ShardGone') onGone(event.connectionUid, event.shard);
      else if (event.kind === 'ConnectionGone') onConnectionGone(event.connectionUid);
      else onGrantEnded(event);
    } catch (error) {
      // A listener's fault must not stop the feed for everybody else.
      metrics.badShard('Error');
      log('error', 'an event of the bundle feed could not be handled', { error: String(error) });
    }
  });

  return { connection: (uid) => states.get(uid), connections: () => states.values(), stop: unsubscribe };
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MOST_ENDED) map.delete(map.keys().next().value!);
}
