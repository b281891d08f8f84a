// NetworkPolicies: a proxy is reached on its own ports only; a target that lives in the cluster is reached by its proxy
// only, where its author asks for that. Pure. They bite only where the cluster's network enforces them.
import { type Manifest, ownerOf, ownersOf, podLabels, workloadLabels } from './manifest.ts';
import { targetPolicyName } from './names.ts';
import type { PlannedConnection, WorkloadPlan } from './plan.ts';
import { connectionLabels, HEALTH_PORT, TUNNEL_PORT } from './services.ts';

const tcp = (port: number): { protocol: string; port: number } => ({ protocol: 'TCP', port });

/** Says nothing of what leaves: where targets are is for the Connections to say, and for the dial guard to check. */
export function proxyNetworkPolicy(plan: WorkloadPlan): Manifest {
  const ports = [...plan.connections.map(({ containerPort }) => containerPort), TUNNEL_PORT, HEALTH_PORT];
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: {
      name: plan.name,
      namespace: plan.namespace,
      labels: workloadLabels(plan.name),
      ownerReferences: ownersOf(plan.connections),
    },
    spec: {
      podSelector: { matchLabels: podLabels(plan.name) },
      policyTypes: ['Ingress'],
      ingress: [{ ports: ports.sort((a, b) => a - b).map(tcp) }],
    },
  };
}

/** Undefined where the Connection does not ask for one. */
export function targetNetworkPolicy(plan: WorkloadPlan, connection: PlannedConnection): Manifest | undefined {
  if (connection.targetPodSelector === undefined) return undefined;
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: {
      name: targetPolicyName(connection.service),
      namespace: plan.namespace,
      labels: connectionLabels(plan, connection),
      ownerReferences: [ownerOf(connection)],
    },
    spec: {
      podSelector: { matchLabels: { ...connection.targetPodSelector } },
      policyTypes: ['Ingress'],
      ingress: [
        { from: [{ podSelector: { matchLabels: podLabels(plan.name) } }], ports: [tcp(connection.targetPort)] },
      ],
    },
  };
}
