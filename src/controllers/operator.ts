// All controllers over one store: the operator of one machine or one cluster. It holds no state that its store does not,
// the epoch and what it published apart, so it can be killed at any instant.
import type { Connection } from '../api/connection.ts';
import { parseDuration } from '../api/duration.ts';
import type { AccessApproval, AccessGrant, AccessGrantStatus } from '../api/grant.ts';
import { REPLICA_LABEL } from '../api/group.ts';
import type { CommandHold } from '../api/hold.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../api/policy.ts';
import type { ProxyReplica } from '../api/replica.ts';
import type { Resource } from '../api/resource.ts';
import { EVERY_CONNECTION, type IdentityShard, type PolicyShard } from '../policy/bundle.ts';
import { type SigningKey, type TrustedKey, trustedKeyOf } from '../policy/bundle-signing.ts';
import { type BrokenResource, compilePolicies } from '../policy/compile.ts';
import { type Eligibility, eligiblePolicy } from '../policy/eligibility.ts';
import type { Principal } from '../policy/principal.ts';
import type { ProbeResult } from '../protocols/protocol.ts';
import type { KindName } from '../store/resource-store.ts';
import { misfit } from './bundles/build.ts';
import { bundlesTouchedBy, createBundleController, HEARTBEAT_MS } from './bundles/controller.ts';
import { saysSomethingElse } from './changes.ts';
import { createConnectionReconciler, type ProxiesView } from './connections/controller.ts';
import { createGrantReconciler, grantsTouchedBy } from './grants/controller.ts';
import type { Choice } from './grants/decide.ts';
import { ownerOf } from './grants/people.ts';
import { createHoldReconciler, holdsTouchedBy } from './holds/controller.ts';
import { createIdentityController, providersTouchedBy, type StoredIdentity } from './identity-providers/controller.ts';
import { type HttpsGet, httpsGet } from './identity-providers/fetch.ts';
import { createLockReconciler } from './locks/controller.ts';
import type { NotifierServices } from './notifiers/channel.ts';
import { NOTIFIER_KINDS, type NotifierDesk } from './notifiers/controller.ts';
import { connectionTouchedByTicket, startNotifiers, withheldByTicket } from './notifiers/start.ts';
import { publishedKeys } from './pki/connection-keys.ts';
import { createPolicyReconciler, policiesTouchedBy } from './policies/controller.ts';
import type { ControllerContext, ShardPublisher } from './ports.ts';
import {
  type Cache,
  type CacheEvent,
  createQueue,
  type Indexers,
  keyOf,
  openCache,
  type Queue,
  type Reconcile,
} from './runtime.ts';

const KINDS: readonly KindName[] = [
  'Connection',
  'AccessPolicy',
  'ClusterAccessPolicy',
  'AccessLock',
  'AccessGrant',
  'AccessApproval',
  'CommandHold',
  'IdentityProvider',
];
const RESYNC_MS = 600_000;

const connectionOf = (object: Resource): string[] => {
  const { spec, metadata } = object as AccessGrant | CommandHold;
  return [keyOf(metadata.namespace, spec.connectionRef.name)];
};
const INDEXERS: Indexers = {
  AccessGrant: {
    connection: connectionOf,
    parent: (object) => {
      const ref = (object as AccessGrant).spec.extends;
      return ref === undefined ? [] : [ref.uid];
    },
    clientKey: (object) => {
      const { clientKey } = (object as AccessGrant).spec;
      return clientKey === undefined ? [] : [clientKey];
    },
  },
  CommandHold: { connection: connectionOf },
  AccessApproval: {
    target: (object) => {
      const { spec, metadata } = object as AccessApproval;
      return [`${spec.targetRef.kind} ${keyOf(metadata.namespace, spec.targetRef.name)}`];
    },
  },
};

export interface OperatorOptions extends Omit<ControllerContext, 'cache'> {
  key: SigningKey;
  epoch: number;
  publisher: ShardPublisher;
  /** What tokens were verified by before this process began; absent: it is not known, keys are fetched anew. */
  storedIdentity?: StoredIdentity;
  /** Keys that what is stored may be signed by. Default: `key`. */
  trusted?: readonly TrustedKey[];
  /** How issuers are asked. Default: over HTTPS. */
  get?: HttpsGet;
  /** One heartbeat for every Connection, as a cluster has it. */
  commonHeartbeat?: boolean;
  broken(): readonly BrokenResource[];
  endpoint(connectionUid: string): { host: string; port: number } | undefined;
  caBundle: string;
  probe(connection: Connection, signal: AbortSignal): Promise<ProbeResult>;
  /** See ConnectionControllerOptions. */
  probeStamp?(connection: Connection): string;
  /** What the proxies say of a Connection, where they are processes of their own. */
  proxies?: ProxiesView;
  /** Further kinds to hold in the cache, and who else hears of every change from the start on. */
  also?: { kinds: readonly KindName[]; onChange(event: CacheEvent): void };
  /** How many keys of a kind are worked on at once (default 4), and how long each rests in between (ms, default 0). */
  pace?: { concurrency: number; restMs: number };
  /** What notifiers and tickets need of the process; absent: nobody is told, and no ticket can be read. */
  notifiers?: NotifierServices;
  /** How commands begin in hints: `sallyport`. */
  prefix: string;
  /** Address of the approval page, for hints. */
  portal?: string;
  /** Told how many emergencies wait for their sign-off, whenever that changes. */
  signOffsDue?(count: number): void;
}

export interface Operator {
  cache: Cache;
  /** What the files or endpoints say changed: everything is looked at again. */
  resync(): void;
  /** What the proxies say of this Connection changed: its status is looked at again. */
  lookAgain(connection: Connection): void;
  /** Whether the first bundle of this Connection waits for its grants to be decided. */
  awaitsGrants(connectionUid: string): boolean;
  /** The policy shard of a Connection as it is now. */
  compile(connection: Connection): PolicyShard | undefined;
  /** Signs and publishes all shards of a Connection anew; of `*`, the keys of issuers. */
  republish(connectionUid: string): void;
  /** What tokens are verified by now. */
  readonly identity: IdentityShard;
  /** Somebody showed a token by a key that this IdentityProvider is not known to have: it is asked, once a minute at most. */
  unknownKey(provider: string): void;
  /** Under which policy somebody's request would run. */
  eligibility(
    connection: Connection,
    principal: Principal,
    request: { account?: string; policyRef?: string; durationMs?: number; breakGlass?: boolean },
  ): Eligibility | undefined;
  /** Who tells notifiers, where the process has what they need. */
  notifiers: NotifierDesk | undefined;
  /** Whether every queue has run dry. */
  readonly idle: boolean;
  stop(): Promise<void>;
}

/** Resolves once everything is listed and the first round of every queue has begun. */
export async function startOperator(options: OperatorOptions): Promise<Operator> {
  const { store, clock, log, definitions } = options;
  const queues: { kinds: readonly KindName[]; touched(event: CacheEvent): string[]; queue: Queue }[] = [];
  let started = false;
  // Compiling is asked for by several controllers for one change; one answer serves them while nothing changed.
  let compiled = new Map<string, { generation: number; shard: PolicyShard | undefined }>();
  const dispatch = (event: CacheEvent): void => {
    // What was compiled from the old files is void before anybody hears of the new ones.
    if (event.kind === 'AccessPolicy' || event.kind === 'ClusterAccessPolicy') {
      if (saysSomethingElse(event)) compiled = new Map();
    } else if (event.kind === 'Connection' && saysSomethingElse(event)) compiled.delete(event.object.metadata.uid);
    // First: where a Connection lives must be known before its bundle is published.
    options.also?.onChange(event);
    for (const { touched, queue } of queues) for (const key of touched(event)) queue.add(key);
  };
  const kinds = [...KINDS, ...(options.notifiers === undefined ? [] : NOTIFIER_KINDS), ...(options.also?.kinds ?? [])];
  const cache = await openCache(store, kinds, (event) => started && dispatch(event), log, clock, INDEXERS);
  const context: ControllerContext = { ...options, cache };

  const compile = (connection: Connection): PolicyShard | undefined => {
    const { uid, generation } = connection.metadata;
    const known = compiled.get(uid);
    if (known?.generation === generation) return known.shard;
    const definition = definitions.find((each) => each.type === connection.spec.type);
    const shard =
      definition &&
      compilePolicies({
        connection,
        policies: cache.list<AccessPolicy>('AccessPolicy', connection.metadata.namespace),
        clusterPolicies: cache.list<ClusterAccessPolicy>('ClusterAccessPolicy'),
        broken: options.broken(),
        protocol: definition.rules,
      });
    compiled.set(uid, { generation, shard });
    return shard;
  };
  const eligibility: Operator['eligibility'] = (connection, principal, request) => {
    const shard = compile(connection);
    if (shard === undefined) return undefined;
    const policies = cache.list<AccessPolicy>('AccessPolicy', connection.metadata.namespace);
    return eligiblePolicy({ shard, policies, request: { principal, ...request } });
  };
  const choose = (grant: AccessGrant, principal: Principal, pinned: string | undefined): Choice => {
    const { connectionRef, account, duration, sealed } = grant.spec;
    // Who may have a sealed grant is whom the policy trusts in an emergency, and for as long at a time.
    const breakGlass = grant.spec.breakGlass ?? (sealed === undefined ? undefined : true);
    const connection = cache.get<Connection>({
      kind: 'Connection',
      ...(grant.metadata.namespace ? { namespace: grant.metadata.namespace } : {}),
      name: connectionRef.name,
    });
    if (connection === undefined) return { kind: 'Refused', message: `There is no Connection ${connectionRef.name}.` };
    const durationMs = duration === undefined ? undefined : parseDuration(duration);
    const ask = (policyRef: string | undefined): Eligibility | undefined =>
      eligibility(connection, principal, {
        ...(account !== undefined ? { account } : {}),
        ...(policyRef !== undefined ? { policyRef } : {}),
        ...(durationMs !== undefined ? { durationMs } : {}),
        ...(breakGlass !== undefined ? { breakGlass } : {}),
      });
    // It stays with the policy it waited under, so that a second one written meanwhile does not stop it.
    const named = grant.spec.policyRef?.name;
    const first = ask(named ?? pinned);
    const answer = named === undefined && pinned !== undefined && first?.kind !== 'Eligible' ? ask(undefined) : first;
    if (answer === undefined)
      return { kind: 'Refused', message: `No protocol serves Connection ${connectionRef.name}.` };
    return answer.kind === 'Eligible'
      ? { kind: 'Eligible', policy: answer.policy, account: answer.account, durationMs: answer.durationMs }
      : { kind: 'Refused', message: `${answer.message}. ${answer.hint.replaceAll('\n', ' ')}` };
  };

  const withheld = (grant: AccessGrant, status: AccessGrantStatus): string | undefined => {
    const { namespace } = grant.metadata;
    const connection = cache.get<Connection>({
      kind: 'Connection',
      ...(namespace ? { namespace } : {}),
      name: grant.spec.connectionRef.name,
    });
    const shard = connection && compile(connection);
    if (shard === undefined) return `Connection ${grant.spec.connectionRef.name} is gone`;
    const { requester } = grant.spec;
    if (status.policy === undefined || status.account === undefined || requester === undefined) return undefined;
    const name = `${status.policy.namespace ?? namespace ?? ''}/${status.policy.name}`;
    const { username, uid, groups = [], aliases = [], workload } = requester;
    const asked: Principal = {
      username,
      ...(uid ? { uid } : {}),
      groups,
      aliases,
      ...(workload === undefined ? {} : { workload }),
    };
    return (
      misfit(shard, name, status.policy.uid, status.account, ownerOf(grant.spec, asked)) ??
      withheldByTicket(context, grant)
    );
  };

  // A proxy that fell into somebody's hands must not have consent given for the sessions of another.
  const doubt = ({ metadata, spec }: CommandHold): string | undefined => {
    if (options.proxies === undefined) return undefined;
    const { namespace, labels } = metadata;
    const name = labels?.[REPLICA_LABEL] ?? '';
    const replica = cache.get<ProxyReplica>({ kind: 'ProxyReplica', ...(namespace ? { namespace } : {}), name });
    return replica?.status?.connections?.some((served) => served.name === spec.connectionRef.name)
      ? undefined
      : `Proxy ${name || '(not named)'}, which told of this command, does not serve Connection ${spec.connectionRef.name}.`;
  };

  const bundles = createBundleController({
    ...context,
    ...options,
    cache,
    compile,
    deciding: () => !grantQueue.idle,
    withheld: (grant) => withheldByTicket(context, grant),
  });
  const queue = (
    name: string,
    kinds: readonly KindName[],
    touched: (event: CacheEvent) => string[],
    reconcile: Reconcile,
  ): Queue => {
    const made = createQueue({ name, reconcile, clock, log, ...options.pace });
    queues.push({ kinds, touched, queue: made });
    return made;
  };
  const only = (kind: KindName) => (event: CacheEvent) =>
    event.kind === kind ? [keyOf(event.object.metadata.namespace, event.object.metadata.name)] : [];
  const grantQueue = queue(
    'grants',
    ['AccessGrant'],
    (event) => grantsTouchedBy(event, cache),
    createGrantReconciler({
      ...context,
      choose,
      withheld,
      prefix: options.prefix,
      ...(options.portal === undefined ? {} : { portal: options.portal }),
      ...(options.signOffsDue === undefined ? {} : { signOffsDue: options.signOffsDue }),
    }),
  );
  queue('holds', ['CommandHold'], holdsTouchedBy, createHoldReconciler({ ...context, doubt }));
  const bundleQueue = queue(
    'bundles',
    ['Connection'],
    (event) => [...bundlesTouchedBy(event, cache), ...connectionTouchedByTicket(event, cache)],
    bundles.reconcile,
  );
  queue('locks', ['AccessLock'], only('AccessLock'), createLockReconciler(context));
  const { storedIdentity } = options;
  const identity = createIdentityController({
    ...context,
    get: options.get ?? httpsGet,
    stored: storedIdentity ?? { read: () => Promise.resolve(undefined) },
    trusted: options.trusted ?? [trustedKeyOf(options.key)],
    publish(shard) {
      const envelope = bundles.identity(shard);
      if (envelope !== undefined) storedIdentity?.keep?.(envelope);
    },
  });
  const identityQueue = queue(
    'identity',
    ['IdentityProvider'],
    (event) => (event.kind === 'IdentityProvider' ? providersTouchedBy(cache, event.object.metadata.name) : []),
    identity.reconcile,
  );
  queue(
    'policies',
    ['AccessPolicy', 'ClusterAccessPolicy'],
    (event) => policiesTouchedBy(event, cache),
    createPolicyReconciler({ ...context, compile }),
  );
  const connectionQueue = queue(
    'connections',
    ['Connection'],
    (event) =>
      event.kind === 'AccessPolicy' || event.kind === 'ClusterAccessPolicy'
        ? bundlesTouchedBy(event, cache)
        : only('Connection')(event),
    createConnectionReconciler({
      ...context,
      compile,
      endpoint: options.endpoint,
      caBundle: options.caBundle,
      publishedKeys: (connection, endpoint) => publishedKeys(options, connection, endpoint),
      probe: options.probe,
      ...(options.probeStamp === undefined ? {} : { probeStamp: options.probeStamp }),
      ...(options.proxies === undefined ? {} : { proxies: options.proxies }),
      broken: () =>
        options.broken().flatMap((each) =>
          each.kind === 'Connection' && each.name !== undefined
            ? [
                {
                  kind: 'Connection' as const,
                  name: each.name,
                  problem: each.problem,
                  ...(each.namespace ? { namespace: each.namespace } : {}),
                },
              ]
            : [],
        ),
    }),
  );

  const notifiers =
    options.notifiers === undefined
      ? undefined
      : startNotifiers({ ...context, services: options.notifiers, prefix: options.prefix, queue });

  const resync = (): void => {
    compiled = new Map();
    for (const { kinds, queue: each } of queues) {
      for (const kind of kinds) {
        const objects = cache.list(kind);
        // Those of one Connection in a row: the sooner all are decided, the sooner its bundle is whole.
        if (kind === 'AccessGrant') objects.sort((a, b) => (connectionOf(a)[0]! < connectionOf(b)[0]! ? -1 : 1));
        for (const { metadata } of objects) each.add(keyOf(metadata.namespace, metadata.name));
      }
    }
  };
  await identity.recover();
  // Those that came while the cache was filled and keys were read, of which nobody has heard yet. Nothing is awaited from
  // here until everybody hears of everything: what came in between would have no place, and its bundle be published nowhere.
  for (const object of cache.list<Connection>('Connection'))
    options.also?.onChange({ kind: 'Connection', type: 'Added', object, previous: undefined });
  started = true;
  resync();
  let cancelBeat: () => void = () => undefined;
  let cancelResync: () => void = () => undefined;
  const armBeat = (): void => {
    cancelBeat = clock.after(HEARTBEAT_MS, () => {
      bundles.heartbeat();
      armBeat();
    });
  };
  const armResync = (): void => {
    cancelResync = clock.after(RESYNC_MS, () => {
      resync();
      armResync();
    });
  };
  if (options.commonHeartbeat === true) bundles.heartbeat();
  armBeat();
  armResync();

  return {
    cache,
    resync,
    get identity() {
      return identity.shard;
    },
    unknownKey(provider) {
      if (identity.hint(provider)) identityQueue.add(keyOf(undefined, provider));
    },
    republish(connectionUid) {
      if (connectionUid === EVERY_CONNECTION) return void bundles.identity(identity.shard, true);
      const key = bundles.forget(connectionUid);
      if (key !== undefined) bundleQueue.add(key);
    },
    awaitsGrants: bundles.awaitsGrants,
    lookAgain: ({ metadata }) => connectionQueue.add(keyOf(metadata.namespace, metadata.name)),
    compile,
    eligibility,
    notifiers,
    get idle() {
      return queues.every((each) => each.queue.idle);
    },
    async stop() {
      cancelBeat();
      cancelResync();
      cache.stop();
      await Promise.all(queues.map((each) => each.queue.stop()));
      await notifiers?.stop();
    },
  };
}
