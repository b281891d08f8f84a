// What a proxy may do at the API server, and who may come to it through the API server. Pure. A proxy reads the bundles
// and the ProxyReplicas of its own workload by name, never by a whole namespace, and no Secret. The operator can only
// hand out what it holds itself, so its ClusterRole in the chart has these verbs too.
import { API_GROUP } from '../../api/group.ts';
import { type Manifest, ownerOf, ownersOf, workloadLabels } from './manifest.ts';
import { replicaName, tunnelName } from './names.ts';
import type { PlannedConnection, WorkloadPlan } from './plan.ts';
import { connectionLabels } from './services.ts';

const RBAC = 'rbac.authorization.k8s.io';

interface PolicyRule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}

/** `bundles`: names of the EnforcementBundles of the workload's Connections. */
export function proxyRules(plan: WorkloadPlan, bundles: readonly string[]): PolicyRule[] {
  const replicas = Array.from({ length: plan.replicas }, (_, ordinal) => replicaName(plan.name, ordinal));
  const named: PolicyRule[] = [
    {
      apiGroups: [API_GROUP],
      resources: ['proxyreplicas'],
      resourceNames: replicas,
      verbs: ['get', 'list', 'watch', 'patch'],
    },
  ];
  // A rule without names would be one for every name.
  if (bundles.length > 0)
    named.push({
      apiGroups: [API_GROUP],
      resources: ['enforcementbundles'],
      resourceNames: bundles.toSorted(),
      verbs: ['get', 'list', 'watch'],
    });
  return [
    ...named,
    { apiGroups: [API_GROUP], resources: ['accessgrants'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: [API_GROUP], resources: ['commandholds'], verbs: ['create', 'get', 'list', 'watch'] },
    { apiGroups: [API_GROUP], resources: ['commandholds/status'], verbs: ['patch'] },
    {
      apiGroups: [API_GROUP],
      resources: ['accesssessions'],
      verbs: ['create', 'get', 'list', 'watch', 'patch', 'delete'],
    },
    { apiGroups: [API_GROUP], resources: ['accesssessions/status'], verbs: ['patch'] },
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create'] },
  ];
}

export function rbacOf(plan: WorkloadPlan, bundles: readonly string[]): Manifest[] {
  const metadata = {
    name: plan.name,
    namespace: plan.namespace,
    labels: workloadLabels(plan.name),
    ownerReferences: ownersOf(plan.connections),
  };
  return [
    // The pod mounts the token it needs itself, bound to it.
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata, automountServiceAccountToken: false },
    { apiVersion: `${RBAC}/v1`, kind: 'Role', metadata, rules: proxyRules(plan, bundles) },
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: RBAC, kind: 'Role', name: plan.name },
      subjects: [{ kind: 'ServiceAccount', name: plan.name, namespace: plan.namespace }],
    },
  ];
}

/** Empty where nobody is to come that way. */
export function tunnelRbac(plan: WorkloadPlan, connection: PlannedConnection): Manifest[] {
  if (connection.tunnelSubjects.length === 0) return [];
  const name = tunnelName(connection.service);
  const metadata = {
    name,
    namespace: plan.namespace,
    labels: connectionLabels(plan, connection),
    ownerReferences: [ownerOf(connection)],
  };
  return [
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'Role',
      metadata,
      rules: [
        {
          apiGroups: [''],
          resources: ['services/proxy'],
          resourceNames: [`https:${connection.service}:tunnel`],
          verbs: ['get', 'create'],
        },
      ],
    },
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: RBAC, kind: 'Role', name },
      subjects: connection.tunnelSubjects.map((subject) =>
        subject.kind === 'ServiceAccount' ? subject : { apiGroup: RBAC, ...subject },
      ),
    },
  ];
}
