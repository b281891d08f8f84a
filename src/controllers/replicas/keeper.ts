// Keeps the ProxyReplicas of a workload: one an ordinal, each told what to serve and handed its certificates. Guarantees:
// a status is written only where it differs; a replica that is no longer wanted keeps its object for as long as its pod
// may drain. It writes no spec: that is the proxy's word.
import { API_GROUP, API_GROUP_VERSION, API_VERSION } from '../../api/group.ts';
import type { ProxyReplica, ProxyReplicaStatus } from '../../api/replica.ts';
import type { KubeClient } from '../../kube/client.ts';
import { resourcePath } from '../../kube/paths.ts';
import type { SigningKey, TrustedKey } from '../../policy/bundle-signing.ts';
import type { ProtocolDefinition } from '../../protocols/protocol.ts';
import type { ResourceStore } from '../../store/resource-store.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import { withCondition } from '../conditions.ts';
import { publishedNames } from '../pki/connection-keys.ts';
import { type Cache, keyOf } from '../runtime.ts';
import { sameStatus } from '../status.ts';
import { FIELD_MANAGER } from '../workloads/live.ts';
import { isOurs, ownersOf, WORKLOAD_LABEL, workloadLabels } from '../workloads/manifest.ts';
import { ordinalOf, replicaName } from '../workloads/names.ts';
import type { Refusal, WorkloadPlan } from '../workloads/plan.ts';
import { certify } from './certify.ts';
import { handKeys } from './hand-keys.ts';
import type { CertificateIssuer } from './issuer.ts';

const REPLICAS = { group: API_GROUP, version: API_VERSION, plural: 'proxyreplicas' };
/** Over the pod's own grace, so that it is gone by then. */
const EXTRA_GRACE_MS = 45_000;
const LONGEST_GRACE_MS = 3_600_000;

export interface ReplicaKeeperOptions {
  client: KubeClient;
  store: ResourceStore;
  cache: Cache;
  issuer: CertificateIssuer;
  key: SigningKey;
  trusted: readonly TrustedKey[];
  definitions: readonly ProtocolDefinition[];
  /** Where clients reach a Connection now. */
  endpoint(connectionUid: string): { host: string; port: number } | undefined;
  clock: Clock;
  random: Random;
}

export interface ReplicaKeeper {
  /** Makes and tells the replicas that are wanted. Throws KubeConnectionError. */
  keep(
    plan: WorkloadPlan,
    names: readonly string[],
    bundlesOf: (connectionUid: string) => readonly string[],
    signal: AbortSignal,
  ): Promise<{ errors: string[]; problem?: Refusal; againInMs?: number }>;
  /** Deletes those that are not, once they had their time. */
  prune(
    namespace: string,
    workload: string,
    plan: WorkloadPlan | undefined,
    signal: AbortSignal,
  ): Promise<{ againInMs?: number }>;
  /** By ordinal, as last seen. */
  replicasOf(plan: WorkloadPlan): (ProxyReplica | undefined)[];
  /** What the cache says of a replica; to be called for each of its events. */
  seen(replica: ProxyReplica, deleted: boolean): void;
  /** Keys `namespace/workload` of all there are. */
  workloads(): string[];
}

export function createReplicaKeeper(options: ReplicaKeeperOptions): ReplicaKeeper {
  const { client, store, cache, clock } = options;
  /** Names by workload key. */
  const known = new Map<string, Set<string>>();
  /** Made or changed here, and not told by the watch yet. */
  const made = new Map<string, ProxyReplica>();
  /** Since when (monotonic) a replica is not wanted, and how long it may stay. */
  const leaving = new Map<string, { sinceMs: number; graceMs: number }>();
  const graces = new Map<string, number>();

  const find = (namespace: string, name: string): ProxyReplica | undefined =>
    cache.get<ProxyReplica>({ kind: 'ProxyReplica', namespace, name }) ?? made.get(keyOf(namespace, name));

  const make = async (
    plan: WorkloadPlan,
    name: string,
    signal: AbortSignal,
  ): Promise<{ kind: 'Made'; replica: ProxyReplica } | { kind: 'Taken' } | { kind: 'Failed'; message: string }> => {
    const { namespace } = plan;
    const path = resourcePath(REPLICAS, { namespace, name });
    const found = find(namespace, name);
    const labels = workloadLabels(plan.name);
    const owners = ownersOf(plan.connections);
    if (found !== undefined) {
      const { labels: theirs, ownerReferences = [] } = found.metadata;
      if (!isOurs(found.metadata, plan.name)) return { kind: 'Taken' };
      const same =
        Object.entries(labels).every(([key, value]) => theirs?.[key] === value) &&
        ownerReferences.length === owners.length &&
        owners.every(({ uid }) => ownerReferences.some((owner) => owner.uid === uid));
      if (same) return { kind: 'Made', replica: found };
    }
    const answer = await client.patch<ProxyReplica>(
      path,
      {
        apiVersion: API_GROUP_VERSION,
        kind: 'ProxyReplica',
        metadata: { name, namespace, labels, ownerReferences: owners },
        // Empty, so that it takes no field of the proxy's; left out it would give `spec` itself up.
        spec: {},
      },
      'apply',
      { fieldManager: FIELD_MANAGER, force: true, signal },
    );
    if (answer.kind === 'Failed') return { kind: 'Failed', message: answer.message };
    remember(answer.value);
    return { kind: 'Made', replica: answer.value };
  };

  const remember = (replica: ProxyReplica): void => {
    const { namespace, name } = replica.metadata;
    if (cache.get({ kind: 'ProxyReplica', name, ...(namespace ? { namespace } : {}) }) === undefined)
      made.set(keyOf(namespace, name), replica);
    else cache.remember(replica);
  };

  return {
    async keep(plan, names, bundlesOf, signal) {
      const errors: string[] = [];
      let problem: Refusal | undefined;
      const dues: number[] = [];
      const { namespace } = plan;
      const served = plan.connections.map(({ uid, name, protocol, containerPort }) => ({
        definition: options.definitions.find((each) => each.name === protocol),
        names: publishedNames({ uid, name, namespace }, options.endpoint(uid)),
        told: { uid, name, port: containerPort, bundles: bundlesOf(uid).toSorted() },
      }));
      for (let ordinal = 0; ordinal < plan.replicas; ordinal += 1) {
        const name = replicaName(plan.name, ordinal);
        leaving.delete(keyOf(namespace, name));
        const answer = await make(plan, name, signal);
        if (answer.kind === 'Taken') {
          problem ??= {
            reason: 'NameTaken',
            message: `There is a ProxyReplica ${namespace}/${name} that is not Sallyport’s; it was left alone. Delete it.`,
          };
          continue;
        }
        if (answer.kind === 'Failed') {
          errors.push(`ProxyReplica ${name} can not be made: ${answer.message}`);
          continue;
        }
        const { replica } = answer;
        const { problem: bad, ...handed } = await certify({
          ...options,
          spec: replica.spec,
          status: replica.status,
          names,
          nowMs: clock.now(),
        });
        const connections = served.map(({ definition, names: published, told }) => {
          const known = replica.status?.connections?.find(({ uid }) => uid === told.uid)?.keys;
          const { spec } = replica;
          const keys = handKeys({ ...options, spec, known, definition, connectionUid: told.uid, names: published });
          if (keys !== undefined) dues.push(Date.parse(keys.renewAt) - clock.now());
          return keys === undefined ? told : { ...told, keys };
        });
        const status: ProxyReplicaStatus = { ...replica.status, connections, ...handed };
        if (replica.spec.csr !== undefined)
          status.conditions = withCondition(
            replica.status?.conditions,
            bad === undefined
              ? { type: 'Certified', status: 'True', reason: 'Issued', message: 'Its listeners have a certificate.' }
              : { type: 'Certified', status: 'False', reason: 'BadRequest', message: bad.slice(0, 1024) },
            clock.now(),
          );
        if (bad !== undefined) {
          delete status.certificate;
          delete status.certificateFor;
        }
        if (handed.renewAt !== undefined) dues.push(Date.parse(handed.renewAt) - clock.now());
        if (sameStatus(replica.status, status)) continue;
        const written = await store.applyStatus<ProxyReplica>(
          { kind: 'Operator' },
          { kind: 'ProxyReplica', namespace, name },
          replica.metadata.resourceVersion,
          status,
        );
        if (written.kind === 'Ok') remember(written.value);
        else {
          made.delete(keyOf(namespace, name));
          errors.push(
            `status of ProxyReplica ${name} can not be written: ${written.kind === 'Invalid' ? written.problems.join('; ') : written.kind}`,
          );
        }
      }
      graces.set(keyOf(namespace, plan.name), plan.drainSeconds * 1000);
      return {
        errors,
        ...(problem === undefined ? {} : { problem }),
        ...(dues.length === 0 ? {} : { againInMs: Math.max(1000, Math.min(...dues)) }),
      };
    },

    async prune(namespace, workload, plan, signal) {
      const key = keyOf(namespace, workload);
      let againInMs: number | undefined;
      for (const name of known.get(key) ?? []) {
        const ordinal = ordinalOf(workload, name);
        const replica = find(namespace, name);
        if (replica === undefined || !isOurs(replica.metadata, workload)) continue;
        if (plan !== undefined && ordinal !== undefined && ordinal < plan.replicas) continue;
        const id = keyOf(namespace, name);
        const since = leaving.get(id) ?? {
          sinceMs: clock.monotonic(),
          graceMs: Math.min(LONGEST_GRACE_MS, (graces.get(key) ?? 30_000) + EXTRA_GRACE_MS),
        };
        leaving.set(id, since);
        const leftMs = since.sinceMs + since.graceMs - clock.monotonic();
        if (leftMs > 0 && replica.spec.podUid !== undefined) {
          againInMs = Math.min(againInMs ?? Infinity, leftMs);
          continue;
        }
        const answer = await client.delete(resourcePath(REPLICAS, { namespace, name }), {
          uid: replica.metadata.uid,
          signal,
        });
        if (answer.kind === 'Failed' && answer.status !== 404 && answer.status !== 409)
          throw new Error(`ProxyReplica ${name} can not be deleted: ${answer.message}`);
        leaving.delete(id);
        made.delete(id);
      }
      if (plan === undefined && againInMs === undefined) graces.delete(key);
      return againInMs === undefined ? {} : { againInMs };
    },

    replicasOf: (plan) =>
      Array.from({ length: plan.replicas }, (_, ordinal) => find(plan.namespace, replicaName(plan.name, ordinal))),

    seen(replica, deleted) {
      const { namespace, name, labels } = replica.metadata;
      made.delete(keyOf(namespace, name));
      const workload = labels?.[WORKLOAD_LABEL];
      if (workload === undefined) return;
      const key = keyOf(namespace, workload);
      const names = known.get(key) ?? new Set();
      if (deleted) names.delete(name);
      else names.add(name);
      if (deleted) leaving.delete(keyOf(namespace, name));
      if (names.size === 0) known.delete(key);
      else known.set(key, names);
    },

    workloads: () => [...known.keys()],
  };
}
