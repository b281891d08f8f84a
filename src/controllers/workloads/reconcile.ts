// Makes one workload what its Connections ask for. Gathers, lets plan.ts decide, acts: rights first, then pods, then what
// the replicas are told. Guarantees: a proxy is told of a bundle only after its Role names it; an object that is not the
// operator's own is neither changed nor deleted; where everything is right nothing is written; what failed is thrown, so
// that the queue tries again, after everything that does not depend on it was done.
import type { Connection } from '../../api/connection.ts';
import type { Subject } from '../../api/schema.ts';
import type { RecordingStore } from '../../api/store.ts';
import type { PolicyShard } from '../../policy/bundle.ts';
import { homeOf } from '../../policy/prepare-session.ts';
import type { ProtocolDefinition } from '../../protocols/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { ReplicaKeeper } from '../replicas/keeper.ts';
import { certificateNames, externalNames } from '../replicas/names.ts';
import type { Cache, Log, Reconcile } from '../runtime.ts';
import { splitKey } from '../runtime.ts';
import { type LiveObject, mustBeRemade } from './compare.ts';
import type { LiveObjects } from './live.ts';
import { CONNECTION_LABEL, isOurs, MANAGED_BY, type Manifest, PORTS_ANNOTATION } from './manifest.ts';
import { manifestsOf } from './manifests.ts';
import { type PlannedWorkload, planWorkload, type Refusal, type WorkloadPlan, type WorkloadSettings } from './plan.ts';

/** What the last look at a workload came to. */
export interface WorkloadState {
  plan: WorkloadPlan | undefined;
  /** By Connection uid: why it is not served. */
  refused: ReadonlyMap<string, Refusal>;
  /** Why none of it goes on. */
  problem: Refusal | undefined;
  /** Of its replicas' certificates. */
  names: readonly string[];
}

export interface WorkloadReconcilerOptions {
  cache: Cache;
  live: LiveObjects;
  replicas: ReplicaKeeper;
  definitions: readonly ProtocolDefinition[];
  settings: WorkloadSettings;
  clock: Clock;
  log: Log;
  compile(connection: Connection): PolicyShard | undefined;
  /** Whether the first bundle of a Connection waits for its grants. */
  awaitsGrants(connectionUid: string): boolean;
  /** Names of the EnforcementBundles of a Connection. */
  bundlesOf(connectionUid: string): readonly string[];
  /** Connections whose workload has this key. */
  members(key: string): Connection[];
  /** Key of the workload of a Connection that there is. */
  workloadOf(connectionUid: string): string | undefined;
  /** After each look. */
  onState(key: string, state: WorkloadState | undefined): void;
}

const WAIT_FOR_BUNDLES_MS = 5_000;
const LEAVING_MS = 1_000;

export function createWorkloadReconciler(options: WorkloadReconcilerOptions): Reconcile {
  const { cache, live, replicas, settings, clock } = options;
  /** By Connection uid: when it was first seen without bundles. */
  const unpublished = new Map<string, number>();

  const gather = (namespace: string, name: string, connections: Connection[]): PlannedWorkload =>
    planWorkload({
      namespace,
      name,
      connections,
      settings,
      ports: knownPorts(live.get('StatefulSet', namespace, name)),
      store: (store) => cache.get<RecordingStore>({ kind: 'RecordingStore', name: store }),
      subjects: (connection) => subjectsOf(options.compile(connection)),
      describe(connection) {
        const definition = options.definitions.find((each) => each.type === connection.spec.type);
        const port = definition?.describe(connection).ports[0]?.port;
        return definition === undefined || port === undefined ? undefined : { protocol: definition.name, port };
      },
    });

  /** Whether to wait: its bundles are about to be published, and a Role written now would be written again. */
  const awaitsBundles = (plan: WorkloadPlan): boolean =>
    plan.connections.some(({ uid }) => {
      if (options.bundlesOf(uid).length > 0) {
        unpublished.delete(uid);
        return false;
      }
      const since = (options.awaitsGrants(uid) ? undefined : unpublished.get(uid)) ?? clock.monotonic();
      unpublished.set(uid, since);
      return clock.monotonic() - since < WAIT_FOR_BUNDLES_MS;
    });

  return async (key, signal) => {
    const { namespace = '', name } = splitKey(key);
    const connections = options.members(key);
    const planned = gather(namespace, name, connections);
    const { plan } = planned;
    if (planned.keep) {
      options.onState(key, { plan, refused: planned.refused, problem: undefined, names: [] });
      return undefined;
    }
    // What was said of the others in the meantime still holds.
    if (plan !== undefined && awaitsBundles(plan)) return { againInMs: WAIT_FOR_BUNDLES_MS };
    const errors: string[] = [];
    const refused = new Map(planned.refused);
    const bundles = plan?.connections.flatMap(({ uid }) => options.bundlesOf(uid)) ?? [];
    const wanted = plan === undefined ? [] : manifestsOf(plan, settings, bundles);
    const outcome = await applyAll(key, wanted, signal);
    for (const [uid, refusal] of outcome.refused) refused.set(uid, refusal);
    errors.push(...outcome.errors);
    errors.push(...(await removeSurplus(key, namespace, name, plan, wanted, signal)));

    const names =
      plan === undefined
        ? []
        : certificateNames(namespace, plan.connections, (service) =>
            externalNames(live.statusOf('Service', namespace, service)),
          );
    // Without its rights a proxy would only meet refusals.
    const told =
      plan !== undefined && outcome.problem === undefined && outcome.rightsGiven
        ? await replicas.keep(plan, names, options.bundlesOf, signal)
        : undefined;
    const gone = await replicas.prune(namespace, name, plan, signal);
    errors.push(...(told?.errors ?? []));
    if (outcome.problem === undefined && told?.problem !== undefined) outcome.problem = told.problem;
    options.onState(key, connections.length === 0 ? undefined : { plan, refused, problem: outcome.problem, names });
    if (errors.length > 0) throw new Error([...new Set(errors)].join('; '));
    const again = [outcome.againInMs, told?.againInMs, gone.againInMs].filter((ms) => ms !== undefined);
    return again.length === 0 ? undefined : { againInMs: Math.min(...again) };
  };

  async function applyAll(
    key: string,
    wanted: readonly Manifest[],
    signal: AbortSignal,
  ): Promise<{
    problem: Refusal | undefined;
    refused: Map<string, Refusal>;
    errors: string[];
    rightsGiven: boolean;
    againInMs?: number;
  }> {
    const refused = new Map<string, Refusal>();
    const errors: string[] = [];
    let problem: Refusal | undefined;
    let rightsGiven = true;
    let againInMs: number | undefined;
    const { name } = splitKey(key);
    for (const manifest of wanted) {
      const { kind, metadata } = manifest;
      const own = metadata.labels[CONNECTION_LABEL] !== undefined;
      const isPods = kind === 'StatefulSet';
      // Pods of a workload whose account or rights are somebody else's would run as somebody else.
      if (isPods && problem !== undefined) break;
      if (isPods) {
        const there = live.get(kind, metadata.namespace, metadata.name);
        if (there !== undefined && isOurs(there.metadata, name) && mustBeRemade(manifest, there)) {
          options.log('info', 'a StatefulSet is made anew around its pods', { workload: key });
          const failure = await live.remove(there, signal, true);
          if (failure !== undefined) errors.push(failure.message);
          againInMs = LEAVING_MS;
          continue;
        }
      }
      const uids = metadata.ownerReferences.map((owner) => owner.uid);
      const ours = (object: LiveObject): boolean =>
        isOurs(object.metadata, name) ||
        // It was made for the same Connection while that belonged to another workload.
        (own &&
          object.metadata.labels?.[MANAGED_BY] === 'sallyport' &&
          (object.metadata.ownerReferences ?? []).some((owner) => uids.includes(owner.uid)));
      const answer = await live.apply(manifest, ours, signal);
      if (answer.kind === 'Unchanged' || answer.kind === 'Written') continue;
      if (answer.kind === 'Leaving') {
        againInMs = LEAVING_MS;
        if (!own && (kind === 'Role' || kind === 'RoleBinding')) rightsGiven = false;
        continue;
      }
      const refusal: Refusal =
        answer.kind === 'Taken'
          ? {
              reason: 'NameTaken',
              message: `There is a ${kind} ${metadata.namespace}/${metadata.name} that is not Sallyport’s; it was left alone. Delete or rename it, or rename the Connection.`,
            }
          : {
              reason: 'Refused',
              message: `The API server refused ${kind} ${metadata.name}: ${answer.failure.message.slice(0, 1024)}`,
            };
      if (answer.kind === 'Refused') errors.push(refusal.message);
      if (own) for (const uid of uids) refused.set(uid, refusal);
      else problem ??= refusal;
    }
    return { problem, refused, errors, rightsGiven, ...(againInMs === undefined ? {} : { againInMs }) };
  }

  async function removeSurplus(
    key: string,
    namespace: string,
    name: string,
    plan: WorkloadPlan | undefined,
    wanted: readonly Manifest[],
    signal: AbortSignal,
  ): Promise<string[]> {
    const keep = new Set(wanted.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
    const there = [
      ...live.ofWorkload(namespace, name).filter(({ metadata }) => isOurs(metadata, name)),
      ...(plan?.connections.flatMap(({ uid }) => live.ofConnection(uid)) ?? []),
    ];
    const errors: string[] = [];
    const seen = new Set<string>();
    for (const object of there) {
      const { metadata, kind } = object;
      if (seen.has(metadata.uid) || keep.has(`${kind} ${metadata.name}`)) continue;
      seen.add(metadata.uid);
      if (metadata.deletionTimestamp !== undefined || metadata.labels?.[MANAGED_BY] !== 'sallyport') continue;
      // A Connection that moved to another workload took its Service with it, address and all.
      const elsewhere =
        metadata.labels[CONNECTION_LABEL] !== undefined &&
        (metadata.ownerReferences ?? []).some((owner) => {
          const other = options.workloadOf(owner.uid);
          return other !== undefined && other !== key;
        });
      if (elsewhere) continue;
      const failure = await live.remove(object, signal);
      if (failure !== undefined) errors.push(`${kind} ${metadata.name} can not be deleted: ${failure.message}`);
    }
    return errors;
  }
}

function knownPorts(set: LiveObject | undefined): ReadonlyMap<string, number> {
  try {
    const stored: unknown = JSON.parse(set?.metadata.annotations?.[PORTS_ANNOTATION] ?? '{}');
    if (typeof stored !== 'object' || stored === null) return new Map();
    return new Map(Object.entries(stored).filter((entry): entry is [string, number] => Number.isInteger(entry[1])));
  } catch {
    return new Map();
  }
}

/** Whom accepted policies of the namespace name; a ServiceAccount without namespace lives where its policy does. */
function subjectsOf(shard: PolicyShard | undefined): Subject[] {
  return (shard?.policies ?? [])
    .filter((policy) => policy.kind === 'AccessPolicy' && policy.accepted)
    .flatMap((policy) => {
      const home = homeOf(policy);
      return policy.subjects.map((subject) =>
        subject.kind === 'ServiceAccount' && subject.namespace === undefined && home !== undefined
          ? { ...subject, namespace: home }
          : subject,
      );
    });
}
