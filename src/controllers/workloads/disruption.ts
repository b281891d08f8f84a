// PodDisruptionBudget: a drained node takes one replica at a time. Pure.
import { type Manifest, ownersOf, podLabels, workloadLabels } from './manifest.ts';
import type { WorkloadPlan } from './plan.ts';

/** Undefined for a single replica: a budget would only keep its node from being drained. */
export function disruptionBudget(plan: WorkloadPlan): Manifest | undefined {
  if (plan.replicas < 2) return undefined;
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: {
      name: plan.name,
      namespace: plan.namespace,
      labels: workloadLabels(plan.name),
      ownerReferences: ownersOf(plan.connections),
    },
    spec: {
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
      selector: { matchLabels: podLabels(plan.name) },
    },
  };
}
