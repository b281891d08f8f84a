// What every object that the operator makes for a workload has in common. Pure. An object is the operator's own if it
// carries these labels and is owned by a Connection; nothing else is ever changed or deleted.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import { API_GROUP, API_GROUP_VERSION } from '../../api/group.ts';
import type { OwnerReference } from '../../api/resource.ts';

export const MANAGED_BY = 'app.kubernetes.io/managed-by';
export const WORKLOAD_LABEL = 'sallyport.dev/workload';
export const CONNECTION_LABEL = 'sallyport.dev/connection';
/** SHA-256 of the object as it was applied, so that a field that is wanted no more is noticed. */
export const HASH_ANNOTATION = 'sallyport.dev/applied-hash';
/** On the StatefulSet: uid of each Connection to its container port, so that ports stay when others come and go. */
export const PORTS_ANNOTATION = 'sallyport.dev/ports';
/** What the operator's watches select. */
export const MANAGED_SELECTOR = `${MANAGED_BY}=sallyport,app.kubernetes.io/name=sallyport-proxy`;

export type ManagedKind =
  | 'ServiceAccount'
  | 'Role'
  | 'RoleBinding'
  | 'NetworkPolicy'
  | 'Service'
  | 'PodDisruptionBudget'
  | 'StatefulSet';

export interface ManifestMeta {
  name: string;
  namespace: string;
  labels: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences: OwnerReference[];
}

/** An object as it is to be; further members by kind (`spec`, `rules`, …). */
export interface Manifest {
  apiVersion: string;
  kind: ManagedKind;
  metadata: ManifestMeta;
  [member: string]: unknown;
}

/** What a selector needs to find the pods of one workload. */
export function podLabels(workload: string): Record<string, string> {
  return { 'app.kubernetes.io/name': 'sallyport-proxy', [WORKLOAD_LABEL]: workload };
}

export function workloadLabels(workload: string): Record<string, string> {
  return { ...podLabels(workload), [MANAGED_BY]: 'sallyport', 'app.kubernetes.io/instance': workload };
}

/** Never as controller: a shared object has several owners, and goes with the last. */
export function ownerOf(connection: { name: string; uid: string }): OwnerReference {
  return { apiVersion: API_GROUP_VERSION, kind: 'Connection', name: connection.name, uid: connection.uid };
}

export function ownersOf(connections: readonly { name: string; uid: string }[]): OwnerReference[] {
  return connections.map(ownerOf).sort((a, b) => (a.uid < b.uid ? -1 : 1));
}

/** Whether the operator made it for this workload. */
export function isOurs(
  metadata: { labels?: Record<string, string>; ownerReferences?: readonly OwnerReference[] },
  workload: string,
): boolean {
  return (
    metadata.labels?.[MANAGED_BY] === 'sallyport' &&
    metadata.labels[WORKLOAD_LABEL] === workload &&
    (metadata.ownerReferences ?? []).some(
      (owner) => owner.kind === 'Connection' && owner.apiVersion.startsWith(`${API_GROUP}/`),
    )
  );
}

/** With the annotation that says what was applied. */
export function sealed(manifest: Manifest): Manifest {
  const hash = sha256Hex(canonicalJson(manifest)).slice(0, 16);
  const { annotations = {} } = manifest.metadata;
  return {
    ...manifest,
    metadata: { ...manifest.metadata, annotations: { ...annotations, [HASH_ANNOTATION]: hash } },
  };
}
