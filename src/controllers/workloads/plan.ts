// Decides what one workload is to be, from the Connections that share it. Pure. Guarantees: the same Connections give
// the same plan; a port once given to a Connection stays its own while others come and go; a Connection that can not be
// served is left out with the reason and takes nothing from its neighbours.
import { type Connection, secretsOf } from '../../api/connection.ts';
import { parseDuration } from '../../api/duration.ts';
import type { Subject } from '../../api/schema.ts';
import type { RecordingStore } from '../../api/store.ts';
import { identityOf, serviceName, workloadName } from './names.ts';
import { largerQuantity, quantityOf } from './quantity.ts';
import { forbiddenTarget } from './targets.ts';

/** What the operator was started with, the same for every workload. */
export interface WorkloadSettings {
  image: string;
  imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** Names of Secrets that must exist in the Connections' namespaces. */
  imagePullSecrets: readonly string[];
  /** `keyId:rawPublicKeyBase64url` of each key whose bundles proxies believe. */
  trust: readonly string[];
  operatorNamespace: string;
  /** Whether Roles for the way through the API server are made. */
  tunnelRoles: boolean;
}

export interface PlannedConnection {
  uid: string;
  name: string;
  service: string;
  /** Name of the protocol: `postgresql`. */
  protocol: string;
  /** Of the pods. */
  containerPort: number;
  /** Of the Service. */
  servicePort: number;
  exposure: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** Of the Service; none of Sallyport's own. */
  annotations: Readonly<Record<string, string>>;
  /** CIDR blocks that the load balancer takes clients from; undefined: any. */
  sourceRanges: readonly string[] | undefined;
  secrets: readonly string[];
  targetPort: number;
  targetPodSelector: Readonly<Record<string, string>> | undefined;
  tunnelSubjects: readonly TunnelSubject[];
}

/** As in a RoleBinding. */
export type TunnelSubject =
  | { kind: 'User' | 'Group'; name: string }
  | { kind: 'ServiceAccount'; name: string; namespace: string };

export interface WorkloadPlan {
  namespace: string;
  name: string;
  connections: readonly PlannedConnection[];
  replicas: number;
  drainSeconds: number;
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  records: { storageClassName: string | undefined; size: string; accessMode: string };
}

export interface Refusal {
  reason: string;
  message: string;
}

export interface PlannedWorkload {
  /** Undefined: nothing is to be there. */
  plan: WorkloadPlan | undefined;
  /** By Connection uid: why it is not served. */
  refused: ReadonlyMap<string, Refusal>;
  /** What is there is to stay as it is: a Connection is served, and how can not be told now. */
  keep: boolean;
}

export interface GatheredWorkload {
  namespace: string;
  name: string;
  /** Every Connection of the namespace whose workload has this name. */
  connections: readonly Connection[];
  /** Port and protocol by Connection; undefined: nobody serves its type. */
  describe(connection: Connection): { protocol: string; port: number } | undefined;
  /** Subjects of the accepted policies that select it, their namespaces filled in. */
  subjects(connection: Connection): readonly Subject[];
  /** Ports as they are, by Connection uid. */
  ports: ReadonlyMap<string, number>;
  store(name: string): RecordingStore | undefined;
  settings: WorkloadSettings;
}

/** The certificate names every Connection in four ways, and an object has room for so many. */
export const MOST_CONNECTIONS = 64;
export const FIRST_PORT = 15_432;
const DEFAULT_DRAIN_MS = 30_000;
const DEFAULT_STORE = 'default';
const BUILT_IN: WorkloadPlan['records'] = { storageClassName: undefined, size: '10Gi', accessMode: 'ReadWriteOnce' };
/** What the operator and kubectl keep on objects for themselves. */
const OWN_ANNOTATION = /^(?:[^/]*\.)?(?:sallyport\.dev|kubectl\.kubernetes\.io)\//;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

export function planWorkload(gathered: GatheredWorkload): PlannedWorkload {
  const { namespace, name, settings } = gathered;
  const refused = new Map<string, Refusal>();
  const byAge = gathered.connections.toSorted(
    (a, b) =>
      Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp) ||
      (a.metadata.uid < b.metadata.uid ? -1 : 1),
  );
  const first = byAge[0];
  if (first === undefined) return { plan: undefined, refused, keep: false };
  const identity = identityOf(first);
  const storeName = storeOf(first);
  const members: Connection[] = [];
  for (const connection of byAge) {
    const why = refusalOf(connection, gathered, identity, storeName, members.length);
    if (why === undefined) members.push(connection);
    else refused.set(connection.metadata.uid, why);
  }
  if (members.length === 0) return { plan: undefined, refused, keep: false };
  const records = recordsOf(gathered.store(storeName), storeName);
  if (records === undefined) {
    for (const { metadata } of members) {
      refused.set(metadata.uid, {
        reason: 'NoRecordingStore',
        message: `There is no RecordingStore ${storeName}, so no proxy may start. Make it, or name another in spec.recording.storeRef.`,
      });
    }
    return { plan: undefined, refused, keep: true };
  }
  const ports = assignPorts(
    members.map(({ metadata }) => metadata.uid),
    gathered.ports,
  );
  return {
    refused,
    keep: false,
    plan: {
      namespace,
      name,
      connections: members
        .map((connection) => plannedConnection(connection, gathered, ports.get(connection.metadata.uid)!))
        .sort((a, b) => (a.uid < b.uid ? -1 : 1)),
      replicas: Math.max(...members.map(({ spec }) => spec.proxy?.replicas ?? 1)),
      drainSeconds: Math.max(...members.map(({ spec }) => drainOf(spec.proxy?.drainTimeout))),
      resources: resourcesOf(members),
      records,
    },
  };

  function plannedConnection(connection: Connection, from: GatheredWorkload, port: number): PlannedConnection {
    const { metadata, spec } = connection;
    const { protocol, port: own } = from.describe(connection)!;
    const selector = spec.networkPolicy?.targetPodSelector;
    return {
      uid: metadata.uid,
      name: metadata.name,
      service: serviceName(metadata.name),
      protocol,
      containerPort: port,
      servicePort: spec.exposure?.port ?? own,
      exposure: spec.exposure?.type ?? 'ClusterIP',
      annotations: Object.fromEntries(
        Object.entries(spec.exposure?.annotations ?? {}).filter(([key]) => !OWN_ANNOTATION.test(key)),
      ),
      sourceRanges: spec.exposure?.sourceRanges,
      secrets: secretsOf(spec).sort(),
      targetPort: targetOf(connection)?.port ?? own,
      targetPodSelector: selector,
      tunnelSubjects: settings.tunnelRoles ? tunnelSubjects(from.subjects(connection)) : [],
    };
  }
}

/** Where a Connection's commands go, as its author wrote it. */
export function targetOf({ spec }: Connection): { host: string; port: number | undefined } | undefined {
  const target = spec.type === 'SSH' ? spec.ssh : spec.postgresql;
  return target === undefined ? undefined : { host: target.host, port: target.port };
}

function storeOf({ spec }: Connection): string {
  return spec.recording?.storeRef?.name ?? DEFAULT_STORE;
}

function recordsOf(store: RecordingStore | undefined, name: string): WorkloadPlan['records'] | undefined {
  if (store === undefined) return name === DEFAULT_STORE ? BUILT_IN : undefined;
  const { storageClassName, size, accessMode } = store.spec.volume ?? {};
  return { storageClassName, size: size ?? BUILT_IN.size, accessMode: accessMode ?? BUILT_IN.accessMode };
}

function refusalOf(
  connection: Connection,
  gathered: GatheredWorkload,
  identity: ReturnType<typeof identityOf>,
  storeName: string,
  count: number,
): Refusal | undefined {
  const { spec } = connection;
  const own = identityOf(connection);
  if (own.kind !== identity.kind || own.name !== identity.name)
    return {
      reason: 'NameClash',
      message: `Its proxy would be called ${gathered.name}, as that of ${identity.kind} ${identity.name} is. Rename it.`,
    };
  if (gathered.describe(connection) === undefined)
    return { reason: 'UnknownType', message: `No protocol serves type ${spec.type}.` };
  const target = targetOf(connection);
  if (target === undefined) return { reason: 'NoTarget', message: 'It names no target.' };
  const forbidden = forbiddenTarget(target.host, {
    own: gathered.namespace,
    operator: gathered.settings.operatorNamespace,
  });
  if (forbidden !== undefined) return forbidden;
  const selector = spec.networkPolicy?.targetPodSelector;
  if (selector !== undefined && Object.keys(selector).length === 0)
    return {
      reason: 'SelectorTooWide',
      message:
        'spec.networkPolicy.targetPodSelector is empty, which would close every pod of the namespace. Give the labels of the target’s pods.',
    };
  if (storeOf(connection) !== storeName)
    return {
      reason: 'GroupConflict',
      message: `Its group keeps its records in RecordingStore ${storeName}, and it asks for ${storeOf(connection)}. Name the same store, or another proxy.group.`,
    };
  if (count >= MOST_CONNECTIONS)
    return {
      reason: 'GroupFull',
      message: `Its group has ${MOST_CONNECTIONS} Connections already. Name another proxy.group.`,
    };
  return undefined;
}

function drainOf(text: string | undefined): number {
  const ms = text === undefined ? undefined : parseDuration(text);
  return Math.ceil((ms ?? DEFAULT_DRAIN_MS) / 1000);
}

/** Of several Connections that share a proxy each resource is the largest that one of them gives. */
function resourcesOf(members: readonly Connection[]): WorkloadPlan['resources'] {
  const largest = (of: 'requests' | 'limits'): Record<string, string> => {
    const all: Record<string, string> = {};
    for (const { spec } of members) {
      for (const [key, value] of Object.entries(spec.proxy?.resources?.[of] ?? {})) {
        const known = all[key];
        all[key] = known === undefined ? value : largerQuantity(known, value);
      }
    }
    return all;
  };
  const requests = { cpu: '50m', memory: '96Mi', ...largest('requests') };
  const given = largest('limits');
  const limits: Record<string, string> = { memory: largerQuantity('512Mi', requests.memory), ...given };
  // The defaults must not make a pod that Kubernetes refuses: a request is never above its limit.
  for (const key of ['cpu', 'memory'] as const) {
    const limit = given[key];
    const asked = largest('requests')[key];
    if (limit === undefined || asked !== undefined) continue;
    const value = quantityOf(limit);
    if (value !== undefined && value < quantityOf(requests[key])!) requests[key] = limit;
  }
  return { requests, limits };
}

/** Keeps what is; gives the rest the lowest free ones in the order of their uids. */
export function assignPorts(uids: readonly string[], known: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const ports = new Map<string, number>();
  const taken = new Set<number>();
  for (const uid of uids.toSorted()) {
    const port = known.get(uid);
    if (port === undefined || port < FIRST_PORT || port >= FIRST_PORT + 10_000 || taken.has(port)) continue;
    ports.set(uid, port);
    taken.add(port);
  }
  // Ports of those that left are free again only where nothing else is: their pods may still be there.
  const resting = new Set([...known].filter(([uid]) => !ports.has(uid)).map(([, port]) => port));
  let next = FIRST_PORT;
  for (const uid of uids.toSorted()) {
    if (ports.has(uid)) continue;
    while (taken.has(next) || resting.has(next)) next += 1;
    ports.set(uid, next);
    taken.add(next);
  }
  return ports;
}

/** Who may be named in a RoleBinding, each once. What RBAC would refuse is left out: one odd name must not stop all. */
function tunnelSubjects(subjects: readonly Subject[]): TunnelSubject[] {
  const found = new Map<string, TunnelSubject>();
  for (const { kind, name, namespace } of subjects) {
    if (name === undefined || name === '') continue;
    if (kind === 'User' || kind === 'Group') found.set(`${kind} ${name}`, { kind, name });
    if (kind !== 'ServiceAccount' || namespace === undefined) continue;
    if (!NAME.test(name) || !/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace)) continue;
    found.set(`${kind} ${namespace}/${name}`, { kind, name, namespace });
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, subject]) => subject);
}

/** Key of the workload that serves a Connection: `namespace/name`. */
export function workloadKeyOf(connection: Connection): string {
  return `${connection.metadata.namespace ?? ''}/${workloadName(identityOf(connection))}`;
}
