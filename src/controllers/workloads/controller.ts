// Everything of proxies that lives in Kubernetes, behind one door: which Connections share a workload, the queue that
// makes it so, and what is told of it to the controller of Connections. Holds no state that the API server does not
// have, so it may be killed at any instant.
import { isDeepStrictEqual } from 'node:util';
import type { Connection } from '../../api/connection.ts';
import type { ProxyReplica } from '../../api/replica.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { PolicyShard } from '../../policy/bundle.ts';
import type { SigningKey, TrustedKey } from '../../policy/bundle-signing.ts';
import type { ProbeResult, ProtocolDefinition } from '../../protocols/protocol.ts';
import type { KindName, ResourceStore } from '../../store/resource-store.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { ProxiesView } from '../connections/controller.ts';
import { certificateFor } from '../replicas/certify.ts';
import type { CertificateIssuer } from '../replicas/issuer.ts';
import { createReplicaKeeper, type ReplicaKeeper } from '../replicas/keeper.ts';
import { endpointOf } from '../replicas/names.ts';
import { inStep, type Programmed, programmedOf, reachedOf, type ShardMark } from '../replicas/programmed.ts';
import { type Cache, type CacheEvent, createQueue, keyOf, type Log, type Queue, splitKey } from '../runtime.ts';
import { type LiveObjects, watchLiveObjects } from './live.ts';
import { WORKLOAD_LABEL } from './manifest.ts';
import { type WorkloadSettings, workloadKeyOf } from './plan.ts';
import { createWorkloadReconciler, type WorkloadState } from './reconcile.ts';

export type { WorkloadSettings } from './plan.ts';

/** Kinds that the cache must hold beside what the operator holds anyway. */
export const WORKLOAD_KINDS: readonly KindName[] = ['ProxyReplica', 'RecordingStore'];

export interface WorkloadsOptions {
  client: KubeClient;
  store: ResourceStore;
  definitions: readonly ProtocolDefinition[];
  settings: WorkloadSettings;
  issuer: CertificateIssuer;
  /** Signs the certificates of record keys. */
  key: SigningKey;
  /** Whose record certificates still count. */
  trusted: readonly TrustedKey[];
  bundles: {
    /** Names of the objects that a Connection's shards are kept in. */
    objectsOf(connectionUid: string): readonly string[];
    /** What is stored: (epoch, sequence) by shard. */
    storedOf(connectionUid: string): ReadonlyMap<string, ShardMark>;
  };
  clock: Clock;
  random: Random;
  log: Log;
}

/** What there is once the operator has listed everything. */
export interface WorkloadsSource {
  cache: Cache;
  compile(connection: Connection): PolicyShard | undefined;
  /** Whether its first bundle waits for its grants. */
  awaitsGrants(connectionUid: string): boolean;
  /** What is said here of a Connection changed. */
  lookAgain(connection: Connection): void;
}

export interface Workloads {
  /** Resolves once what is at the API server is known and the first round has begun. Until then nothing is written. */
  attach(source: WorkloadsSource): Promise<void>;
  /** To be called for each change of the cache. */
  onChange(event: CacheEvent): void;
  /** A shard of this Connection was stored or removed. */
  bundlesStored(connectionUid: string): void;
  proxies: ProxiesView;
  /** Where clients of a Connection connect to; undefined: nowhere yet. */
  endpoint(connectionUid: string): { host: string; port: number } | undefined;
  readonly idle: boolean;
  /** Writes to workloads' objects so far. */
  readonly writes: number;
  stop(): Promise<void>;
}

const RESYNC_MS = 600_000;
/** How long proxies may lag behind with a grant before their Connection is said not to be programmed. */
const LAG_MS = 10_000;

/** Starts to watch; writes nothing before `attach`. */
export function startWorkloads(options: WorkloadsOptions): Workloads {
  const { clock, log } = options;
  const live: LiveObjects = watchLiveObjects({ ...options, onChange: (key) => queue?.add(key) });
  live.synced.catch(() => undefined);
  const states = new Map<string, WorkloadState>();
  /** By Connection uid: its key in the cache, its workload's, and what was last told of it. */
  const places = new Map<string, { connectionKey: string; workload: string; told: string }>();
  /** Uids by workload key. */
  const shares = new Map<string, Set<string>>();
  const listed = new Map<string, string>();
  let source: WorkloadsSource | undefined;
  let replicas: ReplicaKeeper | undefined;
  let queue: Queue | undefined;
  let cancelResync = (): void => undefined;

  /** By Connection uid, of those whose proxies lag: since when, and the end of the timer that looks again. */
  const lags = new Map<string, { sinceMs: number; cancel(): void }>();

  const forget = (uid: string): void => {
    settle(uid);
    const place = places.get(uid);
    if (place === undefined) return;
    places.delete(uid);
    listed.delete(uid);
    const uids = shares.get(place.workload);
    uids?.delete(uid);
    if (uids?.size === 0) shares.delete(place.workload);
    queue?.add(place.workload);
  };
  const place = (connection: Connection): void => {
    const { uid, namespace, name } = connection.metadata;
    const workload = workloadKeyOf(connection);
    const known = places.get(uid);
    if (known !== undefined && known.workload !== workload) forget(uid);
    if (!places.has(uid)) places.set(uid, { connectionKey: keyOf(namespace, name), workload, told: '' });
    const uids = shares.get(workload) ?? new Set();
    shares.set(workload, uids.add(uid));
    queue?.add(workload);
  };
  const connectionOf = (uid: string): Connection | undefined => {
    const known = places.get(uid);
    if (known === undefined) return undefined;
    const { namespace, name } = splitKey(known.connectionKey);
    const connection = source?.cache.get<Connection>({ kind: 'Connection', name, ...(namespace ? { namespace } : {}) });
    return connection?.metadata.uid === uid ? connection : undefined;
  };
  const members = (key: string): Connection[] => [...(shares.get(key) ?? [])].flatMap((uid) => connectionOf(uid) ?? []);
  const stateOf = (uid: string): WorkloadState | undefined => states.get(places.get(uid)?.workload ?? '');

  const programmed = (connection: Connection): Programmed => {
    const { uid, namespace = '' } = connection.metadata;
    const state = stateOf(uid);
    const problem = state?.refused.get(uid) ?? state?.problem;
    const plan = state?.plan;
    const found = plan === undefined || replicas === undefined ? [] : replicas.replicasOf(plan);
    const now = programmedOf({
      connection,
      problem,
      workload: plan?.name ?? '',
      replicas: found,
      readyPods: plan === undefined ? 0 : (live.statusOf('StatefulSet', namespace, plan.name).readyReplicas ?? 0),
      published: options.bundles.storedOf(uid),
      certificateFor: ({ spec }) =>
        spec.csr === undefined ? undefined : certificateFor(spec.csr, state?.names ?? [], options.issuer.caPem),
    });
    // Each grant makes them lag for a moment. That is no reason to call a Connection out of order and back.
    const was = connection.status?.conditions?.some(({ type, status }) => type === 'Programmed' && status === 'True');
    if (now.passing !== true || was !== true) {
      settle(uid);
      return now;
    }
    const lag = lags.get(uid) ?? {
      sinceMs: clock.monotonic(),
      cancel: clock.after(LAG_MS + 100, () => tell(places.get(uid)?.workload ?? '')),
    };
    lags.set(uid, lag);
    return clock.monotonic() - lag.sinceMs < LAG_MS ? inStep(found.length) : now;
  };
  function settle(uid: string): void {
    lags.get(uid)?.cancel();
    lags.delete(uid);
  }
  const refused = ({ metadata: { uid } }: Connection) => stateOf(uid)?.refused.get(uid);
  const reached = (connection: Connection): ProbeResult | undefined => {
    const plan = stateOf(connection.metadata.uid)?.plan;
    return plan === undefined || replicas === undefined ? undefined : reachedOf(connection, replicas.replicasOf(plan));
  };
  const endpoint: Workloads['endpoint'] = (uid) => {
    const state = stateOf(uid);
    const connection = state?.plan?.connections.find((each) => each.uid === uid);
    if (state?.plan === undefined || connection === undefined || state.refused.has(uid)) return undefined;
    const { namespace } = state.plan;
    return endpointOf(namespace, connection, live.statusOf('Service', namespace, connection.service));
  };

  /** Tells the controller of Connections where what it would say has changed. */
  const tell = (key: string): void => {
    for (const connection of members(key)) {
      const known = places.get(connection.metadata.uid)!;
      const { uid } = connection.metadata;
      const now = JSON.stringify([refused(connection), programmed(connection), reached(connection), endpoint(uid)]);
      if (known.told === now) continue;
      known.told = now;
      source?.lookAgain(connection);
    }
  };
  const everything = (): void => {
    for (const key of new Set([...shares.keys(), ...live.workloads(), ...(replicas?.workloads() ?? [])]))
      queue?.add(key);
  };
  const armResync = (): void => {
    cancelResync = clock.after(RESYNC_MS, () => {
      everything();
      armResync();
    });
  };

  return {
    async attach(given) {
      source = given;
      const { cache, compile, awaitsGrants } = given;
      const keeper = createReplicaKeeper({ ...options, cache, endpoint });
      replicas = keeper;
      for (const connection of cache.list<Connection>('Connection')) place(connection);
      for (const replica of cache.list<ProxyReplica>('ProxyReplica')) keeper.seen(replica, false);
      await live.synced;
      queue = createQueue({
        name: 'workloads',
        clock,
        log,
        concurrency: 16,
        reconcile: createWorkloadReconciler({
          ...options,
          cache,
          compile,
          awaitsGrants,
          live,
          replicas: keeper,
          members,
          bundlesOf: (uid) => options.bundles.objectsOf(uid),
          workloadOf: (uid) => places.get(uid)?.workload,
          onState(key, state) {
            if (state === undefined) states.delete(key);
            else states.set(key, state);
            tell(key);
          },
        }),
      });
      everything();
      armResync();
    },
    onChange({ kind, type, object, previous }) {
      const { namespace, labels } = object.metadata;
      switch (kind) {
        case 'Connection':
          if (previous !== undefined && previous.metadata.uid !== object.metadata.uid) forget(previous.metadata.uid);
          if (type === 'Deleted') forget(object.metadata.uid);
          // Its status changes nothing in here; its labels say which policies select it.
          else if (
            previous?.metadata.generation !== object.metadata.generation ||
            !isDeepStrictEqual(previous.metadata.labels, labels) ||
            !places.has(object.metadata.uid)
          )
            place(object as Connection);
          return;
        case 'ProxyReplica':
          replicas?.seen(object as ProxyReplica, type === 'Deleted');
          if (labels?.[WORKLOAD_LABEL] !== undefined) queue?.add(keyOf(namespace, labels[WORKLOAD_LABEL]));
          return;
        case 'AccessPolicy':
          // Its subjects are whom the way through the API server is open for.
          if (previous?.metadata.generation === object.metadata.generation && type !== 'Deleted') return;
          for (const key of shares.keys()) if (splitKey(key).namespace === namespace) queue?.add(key);
          return;
        case 'RecordingStore':
          everything();
          return;
        default:
      }
    },
    bundlesStored(uid) {
      const known = places.get(uid);
      if (known === undefined) return;
      const now = options.bundles.objectsOf(uid).join(' ');
      if (listed.get(uid) === now) return tell(known.workload);
      listed.set(uid, now);
      queue?.add(known.workload);
    },
    proxies: { known: ({ metadata }) => stateOf(metadata.uid) !== undefined, refused, programmed, reached },
    endpoint,
    get idle() {
      return queue?.idle ?? false;
    },
    get writes() {
      return live.writes;
    },
    async stop() {
      cancelResync();
      for (const uid of lags.keys()) settle(uid);
      await queue?.stop();
      await live.stop();
    },
  };
}
