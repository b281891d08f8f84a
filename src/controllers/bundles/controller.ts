// Publishes each Connection's signed bundle: the shards policy, grants-N, releases, overlay, and a heartbeat. A shard is
// signed anew only when what it says changed. (epoch, sequence) only ever grows: the epoch is raised and stored at every
// start, before anything is published. A grant is in the same shard from its first publication to its last, whoever leads:
// a proxy is told of each shard on its own, and one that it does not find where it was it takes for revoked.
import { sha256Hex } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessLock } from '../../api/lock.ts';
import {
  EVERY_CONNECTION,
  type GrantShardName,
  type IdentityShard,
  type PolicyShard,
  type ShardEnvelope,
  type ShardName,
} from '../../policy/bundle.ts';
import { type SigningKey, signShard } from '../../policy/bundle-signing.ts';
import { type Files, writeFileAtomically } from '../../system/files.ts';
import { saysSomethingElse } from '../changes.ts';
import type { ControllerContext, ShardPublisher } from '../ports.ts';
import { type CacheEvent, keyOf, type Reconcile, splitKey } from '../runtime.ts';
import { bundleGrants, bundleLocks, bundleReleases, grantShards, grantsPayload } from './build.ts';

/** Gateways take a controller for dead after 5 minutes without one. */
export const HEARTBEAT_MS = 30_000;
/** How long a first bundle waits for grants at most, and how often it looks whether it still has to. */
const LONGEST_WAIT_MS = 600_000;
const LOOK_AGAIN_MS = 1_000;

export interface BundleControllerOptions extends ControllerContext {
  key: SigningKey;
  publisher: ShardPublisher;
  epoch: number;
  /** The policy shard of a Connection; undefined: no protocol serves its type. */
  compile(connection: Connection): PolicyShard | undefined;
  /** One heartbeat for every Connection instead of one each: a cluster has many, and each beat is a write there. */
  commonHeartbeat?: boolean;
  /** Whether grants are being decided now. */
  deciding?(): boolean;
  /** Why a grant in force is not published yet, beside what its policy says. */
  withheld?(grant: AccessGrant): string | undefined;
}

/** Raises the stored epoch by one and returns it. A file that can not be read starts from the clock, which is higher. */
export function nextEpoch(files: Files, path: string, nowMs: number): number {
  let last = 0;
  if (files.existsSync(path)) {
    const stored = Number(files.readFileSync(path).toString('utf8').trim());
    last = Number.isSafeInteger(stored) ? stored : Math.floor(nowMs / 1000);
  }
  writeFileAtomically(files, path, Buffer.from(`${last + 1}\n`));
  return last + 1;
}

export interface BundleController {
  reconcile: Reconcile;
  /** Publishes a heartbeat for every Connection it has published. */
  heartbeat(): void;
  /** Publishes what tokens are verified by, for all Connections; undefined: it says so already. `again`: even then. */
  identity(shard: IdentityShard, again?: boolean): ShardEnvelope | undefined;
  /** Forgets what it has published of this Connection: its next reconcile publishes all of it. Returns its key. */
  forget(connectionUid: string): string | undefined;
  /** Whether the first bundle of this Connection waits for its grants. */
  awaitsGrants(connectionUid: string): boolean;
}

export function createBundleController(options: BundleControllerOptions): BundleController {
  const { cache, sealer, clock, publisher } = options;
  let sequence = 0;
  /** By Connection key: its uid, the hash of what each shard said last, and the shard of each grant. */
  const published = new Map<
    string,
    { uid: string; shards: Map<ShardName, string>; places: ReadonlyMap<string, GrantShardName> }
  >();
  /** By uid of Connections whose first bundle waits for grants: since when. */
  const waiting = new Map<string, number>();

  const publish = (
    connectionUid: string,
    shards: Map<ShardName, string> | undefined,
    shard: ShardName,
    payload: unknown,
  ): ShardEnvelope | undefined => {
    const hash = sha256Hex(JSON.stringify(payload));
    if (shards?.get(shard) === hash) return undefined;
    sequence += 1;
    const envelope = signShard(options.key, { connectionUid, shard, epoch: options.epoch, sequence, payload });
    publisher.publish(envelope);
    shards?.set(shard, hash);
    return envelope;
  };
  const beat = (uid: string): void => void publish(uid, undefined, 'heartbeat', { atMs: clock.now() });
  const common = new Map<ShardName, string>();

  /**
   * Milliseconds until it is published in any case, where it is better not done yet: nothing is stored, so no proxy has
   * anything that could be taken away, and each of its grants that is decided in a moment would write the shard anew.
   */
  const awaited = (uid: string, grants: readonly AccessGrant[]): number => {
    const soon =
      options.deciding?.() === true &&
      publisher.holds?.(uid) === false &&
      grants.some(({ status }) => status === undefined);
    if (!soon) return 0;
    const since = waiting.get(uid) ?? clock.monotonic();
    waiting.set(uid, since);
    return Math.max(0, since + LONGEST_WAIT_MS - clock.monotonic());
  };

  const withdraw = (key: string): void => {
    const known = published.get(key);
    if (known === undefined) return;
    for (const shard of [...known.shards.keys(), 'heartbeat']) publisher.withdraw(known.uid, shard);
    published.delete(key);
  };

  const reconcile: Reconcile = async (key) => {
    const { namespace, name } = splitKey(key);
    const connection = cache.get<Connection>({ kind: 'Connection', ...(namespace ? { namespace } : {}), name });
    const shard = connection === undefined ? undefined : options.compile(connection);
    const known = published.get(key);
    if (connection === undefined || shard === undefined) {
      withdraw(key);
      return undefined;
    }
    const { uid } = connection.metadata;
    if (known !== undefined && known.uid !== uid) withdraw(key);
    const asked = cache
      .indexed<AccessGrant>('AccessGrant', 'connection', key)
      .filter((grant) => options.withheld?.(grant) === undefined);
    const first = !published.has(key);
    if (first && awaited(uid, asked) > 0) return { againInMs: LOOK_AGAIN_MS };
    waiting.delete(uid);
    if (first) published.set(key, { uid, shards: new Map(), places: publisher.placed?.(uid) ?? new Map() });
    const entry = published.get(key)!;
    const { shards } = entry;
    const nowMs = clock.now();
    const definition = options.definitions.find(({ type }) => type === connection.spec.type);
    const { grants } = bundleGrants(
      shard,
      asked,
      sealer,
      nowMs,
      // A hash that no command has, where the protocol has none: such a grant was refused.
      (account, text) => definition?.commandHash?.(connection, account, text) ?? '',
    );
    const split = grantShards(grants, entry.places);
    entry.places = new Map(
      Array.from(split, ([name_, part]) => part.map(({ uid: grant }) => [grant, name_] as const)).flat(),
    );
    const releases = bundleReleases(cache.indexed<CommandHold>('CommandHold', 'connection', key), sealer, nowMs);
    const locks = bundleLocks(connection.metadata, cache.list<AccessLock>('AccessLock', namespace), nowMs);
    // What takes away goes out before what gives, the policy before the grants that lean on it.
    publish(uid, shards, 'overlay', { locks, voidTickets: [] });
    publish(uid, shards, 'policy', shard);
    for (const [shardName, part] of split) publish(uid, shards, shardName, grantsPayload(part));
    publish(uid, shards, 'releases', { releases });
    for (const stale of Array.from(shards.keys())) {
      if (!stale.startsWith('grants-') || split.has(stale as GrantShardName)) continue;
      publisher.withdraw(uid, stale);
      shards.delete(stale);
    }
    publisher.keepOnly?.(uid, new Set(shards.keys()));
    if (first && options.commonHeartbeat !== true) beat(uid);
    const ends = [
      ...grants.map((grant) => grant.expiresAtMs),
      ...locks.flatMap((lock) => (lock.untilMs === undefined ? [] : [lock.untilMs])),
      ...releases.map((release) => release.usableUntilMs + 60_001),
    ].filter((at) => at > nowMs);
    return ends.length === 0 ? undefined : { againInMs: Math.min(...ends) - nowMs };
  };

  return {
    reconcile,
    heartbeat() {
      if (options.commonHeartbeat === true) return beat(EVERY_CONNECTION);
      for (const { uid } of published.values()) beat(uid);
    },
    awaitsGrants: (uid) => waiting.has(uid),
    identity(shard, again = false) {
      if (again) common.delete('identity');
      return publish(EVERY_CONNECTION, common, 'identity', shard);
    },
    forget(uid) {
      for (const [key, known] of published) {
        if (known.uid !== uid) continue;
        // The names stay, so that shards that are no longer wanted are still withdrawn.
        for (const shard of known.shards.keys()) known.shards.set(shard, '');
        return key;
      }
      return undefined;
    },
  };
}

/** Keys of Connections whose bundle an event bears on. */
export function bundlesTouchedBy(event: CacheEvent, cache: ControllerContext['cache']): string[] {
  const { namespace, name } = event.object.metadata;
  const all = (within?: string): string[] =>
    cache.list<Connection>('Connection', within).map((each) => keyOf(each.metadata.namespace, each.metadata.name));
  switch (event.kind) {
    case 'Connection':
      return saysSomethingElse(event) ? [keyOf(namespace, name)] : [];
    case 'AccessLock':
      return all(namespace);
    case 'AccessPolicy':
      return saysSomethingElse(event) ? all(namespace) : [];
    case 'ClusterAccessPolicy':
      return saysSomethingElse(event) ? all() : [];
    case 'AccessGrant':
      return [keyOf(namespace, (event.object as AccessGrant).spec.connectionRef.name)];
    case 'CommandHold':
      return [keyOf(namespace, (event.object as CommandHold).spec.connectionRef.name)];
    default:
      return [];
  }
}
