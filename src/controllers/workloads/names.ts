// How everything that a proxy needs in a cluster is called. Pure. Guarantees: valid DNS labels, short enough for what
// Kubernetes appends to them, and no two names for one object or one for two: a name that could be read as another's is
// replaced by a shortened one that carries a hash of what it stands for (32 bits; the reconciler sees to what may clash
// even then).
import { sha256Hex } from '../../api/canonical.ts';

const PREFIX = 'sallyport-';
const GROUP_PREFIX = `${PREFIX}shared-`;
/** Leaves room for `-tunnel` and for the hash that StatefulSets append to their revisions' labels. */
const LONGEST = 45;
const HASH = 8;

/** What a workload serves: one Connection, or all of one group in a namespace. */
export type WorkloadIdentity = { kind: 'Connection'; name: string } | { kind: 'Group'; name: string };

export function identityOf(connection: {
  metadata: { name: string };
  spec: { proxy?: { group?: string } };
}): WorkloadIdentity {
  const group = connection.spec.proxy?.group;
  return group === undefined ? { kind: 'Connection', name: connection.metadata.name } : { kind: 'Group', name: group };
}

/** StatefulSet, ServiceAccount, Role, RoleBinding, PodDisruptionBudget and NetworkPolicy of a workload. */
export function workloadName(identity: WorkloadIdentity): string {
  return identity.kind === 'Connection' ? serviceName(identity.name) : named(GROUP_PREFIX, 'group', identity.name);
}

/** Service of a Connection, whoever serves it. */
export function serviceName(connection: string): string {
  return named(PREFIX, 'connection', connection);
}

/** Headless Service that gives a workload's pods their names. */
export const headlessName = (workload: string): string => `${workload}-pods`;

/** Role and RoleBinding that open the way through the API server to one Connection's Service. */
export const tunnelName = (service: string): string => `${service}-tunnel`;

/** NetworkPolicy around a Connection's target. */
export const targetPolicyName = (service: string): string => `${service}-target`;

/** The pod and the ProxyReplica of that ordinal. */
export const replicaName = (workload: string, ordinal: number): string => `${workload}-${ordinal}`;

/** Undefined: it is not a replica's name of this workload. */
export function ordinalOf(workload: string, name: string): number | undefined {
  if (!name.startsWith(`${workload}-`)) return undefined;
  const rest = name.slice(workload.length + 1);
  return /^(0|[1-9][0-9]{0,3})$/.test(rest) ? Number(rest) : undefined;
}

/** Value of the label `sallyport.dev/connection`: the Connection's name where that is short enough for a label. */
export function connectionLabel(connection: string): string {
  return connection.length <= 63 ? connection : serviceName(connection);
}

/** Name of the volume of a Secret: Secrets may have dots and 253 characters. */
export const secretVolume = (secret: string): string => `secret-${sha256Hex(secret).slice(0, 16)}`;

/** Endings that this file appends itself, and what a shortened name looks like. */
const RESERVED_END = /-(?:pods|tunnel|target|[0-9a-f]{8})$/;

/** What the chart and the operator call their own in the namespace of the release: a Connection there is called otherwise. */
const OWN: ReadonlySet<string> = new Set(
  [
    'dashboard',
    'heartbeat',
    'keys',
    'metrics',
    'operator',
    'portal',
    'proxies',
    'trust',
    'unknown-keys',
    'webhook',
  ].map((name) => `${PREFIX}${name}`),
);

function named(prefix: string, kind: 'connection' | 'group', name: string): string {
  const plain = `${prefix}${name}`;
  const ambiguous = (kind === 'connection' && name.startsWith('shared-')) || RESERVED_END.test(plain) || OWN.has(plain);
  if (!ambiguous && plain.length <= LONGEST && !name.includes('.')) return plain;
  const readable = plain
    .replaceAll('.', '-')
    .slice(0, LONGEST - HASH - 1)
    .replace(/-+$/, '');
  return `${readable}-${sha256Hex(`${kind}/${name}`).slice(0, HASH)}`;
}
