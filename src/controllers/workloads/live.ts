// What there is of workloads at the API server: a watch a kind over the operator's own label, kept as text, so that a
// thousand workloads cost some ten megabytes. Guarantees: a reader sees its own writes at once, before the watch tells,
// which then says nothing of them; what is free in here is written only if the name is free at the server as well, so
// that an object of somebody else's is never touched.
import type { KubeAnswer, KubeFailure } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import { type ResourceKind, resourcePath } from '../../kube/paths.ts';
import { type Reflector, startReflector } from '../../kube/reflector.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { Log } from '../runtime.ts';
import { isCurrent, type LiveObject } from './compare.ts';
import { CONNECTION_LABEL, MANAGED_SELECTOR, type ManagedKind, type Manifest, WORKLOAD_LABEL } from './manifest.ts';

const RBAC = 'rbac.authorization.k8s.io';
export const MANAGED: Readonly<Record<ManagedKind, ResourceKind>> = {
  ServiceAccount: { group: '', version: 'v1', plural: 'serviceaccounts' },
  Role: { group: RBAC, version: 'v1', plural: 'roles' },
  RoleBinding: { group: RBAC, version: 'v1', plural: 'rolebindings' },
  NetworkPolicy: { group: 'networking.k8s.io', version: 'v1', plural: 'networkpolicies' },
  Service: { group: '', version: 'v1', plural: 'services' },
  PodDisruptionBudget: { group: 'policy', version: 'v1', plural: 'poddisruptionbudgets' },
  StatefulSet: { group: 'apps', version: 'v1', plural: 'statefulsets' },
};
const KINDS = Object.keys(MANAGED) as ManagedKind[];
export const FIELD_MANAGER = 'sallyport';
/**
 * A version that no object ever has, as etcd's first write has 2: applied under it an object is made if there is none of
 * the name, and what is there is left alone with 409.
 */
const NEVER = '1';

/** The parts of status that this folder looks at. */
export interface LiveStatus {
  /** StatefulSet: pods that are ready. */
  readyReplicas?: number;
  /** StatefulSet: pods that there are. */
  replicas?: number;
  /** Service: where a load balancer was given. */
  loadBalancer?: { ingress?: { hostname?: string; ip?: string }[] };
}

export type Applied =
  | { kind: 'Unchanged' }
  | { kind: 'Written' }
  /** Somebody else's object has the name. */
  | { kind: 'Taken' }
  /** It is being deleted: to be tried again. */
  | { kind: 'Leaving' }
  | { kind: 'Refused'; failure: KubeFailure };

export interface LiveObjects {
  /** Resolves once all of it is known. */
  readonly synced: Promise<void>;
  get(kind: ManagedKind, namespace: string, name: string): LiveObject | undefined;
  statusOf(kind: ManagedKind, namespace: string, name: string): LiveStatus;
  /** Objects of this workload, by label. */
  ofWorkload(namespace: string, workload: string): LiveObject[];
  /** Objects that belong to this one Connection, whichever workload they were made for. */
  ofConnection(uid: string): LiveObject[];
  /** Keys `namespace/workload` of everything there is. */
  workloads(): Set<string>;
  /** Writes only what differs. `ours` says whether an object of the name may be taken. Throws KubeConnectionError. */
  apply(manifest: Manifest, ours: (live: LiveObject) => boolean, signal: AbortSignal): Promise<Applied>;
  /** Deletes exactly this object; its pods are left where `orphan` says so. Undefined: it is gone or going. */
  remove(object: LiveObject, signal: AbortSignal, orphan?: boolean): Promise<KubeFailure | undefined>;
  /** How many writes were sent. */
  readonly writes: number;
  stop(): Promise<void>;
}

interface Kept extends KubeObject {
  metadata: KubeObject['metadata'] & { uid: string; resourceVersion: string };
  connections: string[];
  /** Of the object without status. */
  text: string;
  status: LiveStatus;
}

export function watchLiveObjects(options: {
  client: KubeClient;
  clock: Clock;
  random: Random;
  log: Log;
  /** Something of this workload changed. */
  onChange(workloadKey: string): void;
}): LiveObjects {
  const { client } = options;
  let writes = 0;
  const send = (
    path: string,
    { metadata, ...body }: Manifest,
    condition: { uid?: string; resourceVersion?: string },
    signal: AbortSignal,
  ): Promise<KubeAnswer<KubeObject>> => {
    writes += 1;
    return client.patch<KubeObject>(path, { ...body, metadata: { ...metadata, ...condition } }, 'apply', {
      fieldManager: FIELD_MANAGER,
      force: true,
      signal,
    });
  };
  /** Written, and not told by the watch yet. */
  const written = new Map<string, Kept>();
  /** Uids that were deleted, and are not told by the watch yet. */
  const removed = new Set<string>();
  const idOf = (kind: string, namespace: string | undefined, name: string): string => `${kind} ${namespace}/${name}`;

  const reflectors = new Map<ManagedKind, Reflector<Kept>>(
    KINDS.map((kind) => [
      kind,
      startReflector<Kept>({
        client,
        path: resourcePath(MANAGED[kind]),
        labelSelector: MANAGED_SELECTOR,
        clock: options.clock,
        random: options.random,
        log: options.log,
        trim: keep,
        indexers: {
          workload: (object) => [`${object.metadata.namespace}/${object.metadata.labels?.[WORKLOAD_LABEL]}`],
          connection: (object) => object.connections,
        },
        onEvent({ type, object, previous }) {
          const id = idOf(kind, object.metadata.namespace, object.metadata.name);
          if (type === 'Deleted') removed.delete(object.metadata.uid);
          const own = written.get(id);
          if (own !== undefined && (type === 'Deleted' || !isOlder(object, own))) written.delete(id);
          // Whoever wrote it has seen it.
          if (type !== 'Deleted' && own?.metadata.resourceVersion === object.metadata.resourceVersion) return;
          for (const each of [object, previous]) {
            const workload = each?.metadata.labels?.[WORKLOAD_LABEL];
            if (workload !== undefined) options.onChange(`${each!.metadata.namespace}/${workload}`);
          }
        },
      }),
    ]),
  );

  const kept = (kind: ManagedKind, namespace: string, name: string): Kept | undefined => {
    const object = written.get(idOf(kind, namespace, name)) ?? reflectors.get(kind)!.get(namespace, name);
    return object === undefined || removed.has(object.metadata.uid) ? undefined : object;
  };
  const read = ({ text }: Kept): LiveObject => JSON.parse(text) as LiveObject;
  const found = (index: 'workload' | 'connection', value: string): LiveObject[] =>
    KINDS.flatMap((kind) =>
      reflectors
        .get(kind)!
        .indexed(index, value)
        .flatMap(({ metadata }) => kept(kind, metadata.namespace ?? '', metadata.name) ?? []),
    ).map(read);

  const took = ({ kind, metadata: { namespace, name } }: Manifest, answer: KubeObject): Applied => {
    const object = keep(answer as Kept);
    const known = reflectors.get(kind)!.get(namespace, name);
    // The watch may have been faster than the answer.
    if (known === undefined || isOlder(known, object)) written.set(idOf(kind, namespace, name), object);
    return { kind: 'Written' };
  };

  return {
    synced: Promise.all([...reflectors.values()].map(({ synced }) => synced)).then(() => undefined),
    get(kind, namespace, name) {
      const object = kept(kind, namespace, name);
      return object === undefined ? undefined : read(object);
    },
    statusOf: (kind, namespace, name) => kept(kind, namespace, name)?.status ?? {},
    ofWorkload: (namespace, workload) => found('workload', `${namespace}/${workload}`),
    ofConnection: (uid) => found('connection', uid),
    workloads: () =>
      new Set(
        KINDS.flatMap((kind) =>
          reflectors
            .get(kind)!
            .list()
            .map(({ metadata }) => `${metadata.namespace}/${metadata.labels?.[WORKLOAD_LABEL]}`),
        ),
      ),
    async apply(manifest, ours, signal) {
      const { namespace, name } = manifest.metadata;
      const path = resourcePath(MANAGED[manifest.kind], { namespace, name });
      let live = this.get(manifest.kind, namespace, name);
      if (live === undefined) {
        const made = await send(path, manifest, { resourceVersion: NEVER }, signal);
        if (made.kind === 'Ok') return took(manifest, made.value);
        if (made.status !== 409) return { kind: 'Refused', failure: made };
        // There is something of the name that the watch does not show, or has not shown yet.
        const found = await client.get<LiveObject>(path, { signal });
        if (found.kind === 'Failed') return { kind: 'Refused', failure: found.status === 404 ? made : found };
        live = found.value;
      }
      if (!ours(live)) return { kind: 'Taken' };
      if (live.metadata.deletionTimestamp !== undefined) return { kind: 'Leaving' };
      if (isCurrent(manifest, live)) return { kind: 'Unchanged' };
      // Under the uid that was looked at: what was made anew meanwhile may be somebody else's.
      const changed = await send(path, manifest, { uid: live.metadata.uid }, signal);
      return changed.kind === 'Ok' ? took(manifest, changed.value) : { kind: 'Refused', failure: changed };
    },
    async remove(object, signal, orphan = false) {
      const { namespace, name, uid } = object.metadata;
      const kind = object.kind as ManagedKind;
      writes += 1;
      const answer = await client.delete(resourcePath(MANAGED[kind], { namespace, name }), {
        uid,
        propagationPolicy: orphan ? 'Orphan' : 'Background',
        signal,
      });
      if (answer.kind === 'Failed' && answer.status !== 404 && answer.status !== 409) return answer;
      written.delete(idOf(kind, namespace, name));
      if (reflectors.get(kind)!.get(namespace, name)?.metadata.uid === uid) removed.add(uid);
      return undefined;
    },
    get writes() {
      return writes;
    },
    async stop() {
      await Promise.all([...reflectors.values()].map((reflector) => reflector.stop()));
    },
  };
}

/** Versions rise and are numbers since Kubernetes 1.35; where one is none nothing counts as older. */
function isOlder(a: Kept, b: Kept): boolean {
  const [left, right] = [a.metadata.resourceVersion, b.metadata.resourceVersion];
  if (!/^[0-9]+$/.test(left) || !/^[0-9]+$/.test(right)) return false;
  return BigInt(left) < BigInt(right);
}

/** Takes `object` in: what comes out is small and flat. */
function keep(object: Kept): Kept {
  const { status = {}, metadata, ...body } = object as KubeObject & { status?: LiveStatus };
  const { labels, annotations, uid, resourceVersion, deletionTimestamp, namespace, name } = metadata;
  const { ownerReferences } = metadata as { ownerReferences?: LiveObject['metadata']['ownerReferences'] };
  const small = {
    name,
    uid: uid ?? '',
    resourceVersion: resourceVersion ?? '',
    ...(namespace === undefined ? {} : { namespace }),
    ...(labels === undefined ? {} : { labels }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
  };
  const { readyReplicas, replicas, loadBalancer } = status;
  return {
    metadata: small,
    connections: labels?.[CONNECTION_LABEL] === undefined ? [] : (ownerReferences ?? []).map((owner) => owner.uid),
    text: JSON.stringify({
      ...body,
      metadata: { ...small, ...(annotations ? { annotations } : {}), ...(ownerReferences ? { ownerReferences } : {}) },
    }),
    status: {
      ...(readyReplicas === undefined ? {} : { readyReplicas }),
      ...(replicas === undefined ? {} : { replicas }),
      ...(loadBalancer?.ingress === undefined ? {} : { loadBalancer: { ingress: loadBalancer.ingress } }),
    },
  };
}
