// Where the kinds are served. Apart from the table of kinds, whose schemas would take a seventh of a second to load.
import { API_GROUP, API_VERSION } from '../../api/group.ts';
import { type PathParts, resourcePath } from '../../kube/paths.ts';
import type { KindName } from '../../store/resource-store.ts';

export const PLURALS: Readonly<Record<KindName, string>> = {
  Connection: 'connections',
  AccessPolicy: 'accesspolicies',
  ClusterAccessPolicy: 'clusteraccesspolicies',
  AccessGrant: 'accessgrants',
  AccessApproval: 'accessapprovals',
  CommandHold: 'commandholds',
  AccessLock: 'accesslocks',
  AccessSession: 'accesssessions',
  RecordingStore: 'recordingstores',
  Notifier: 'notifiers',
  ClusterNotifier: 'clusternotifiers',
  IdentityProvider: 'identityproviders',
  EnforcementBundle: 'enforcementbundles',
  ProxyReplica: 'proxyreplicas',
};
const CLUSTER_SCOPED: readonly KindName[] = [
  'ClusterAccessPolicy',
  'IdentityProvider',
  'RecordingStore',
  'ClusterNotifier',
];

export const isClusterScoped = (kind: KindName): boolean => CLUSTER_SCOPED.includes(kind);

/** Path of one object, or of all of a namespace, or of all where there is none. */
export function pathOf(kind: KindName, parts: PathParts = {}): string {
  const { namespace, ...rest } = parts;
  return resourcePath(
    { group: API_GROUP, version: API_VERSION, plural: PLURALS[kind] },
    isClusterScoped(kind) || namespace === undefined ? rest : { namespace, ...rest },
  );
}
