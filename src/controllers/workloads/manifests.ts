// Everything that is to be there for one workload, in the order in which it is made: the rights before the pods that
// need them. Pure.
import { disruptionBudget } from './disruption.ts';
import { type Manifest, sealed } from './manifest.ts';
import { proxyNetworkPolicy, targetNetworkPolicy } from './network-policy.ts';
import type { WorkloadPlan, WorkloadSettings } from './plan.ts';
import { rbacOf, tunnelRbac } from './rbac.ts';
import { connectionService, headlessService } from './services.ts';
import { statefulSet } from './statefulset.ts';

/** `bundles`: names of the EnforcementBundles that its proxies read. */
export function manifestsOf(plan: WorkloadPlan, settings: WorkloadSettings, bundles: readonly string[]): Manifest[] {
  const budget = disruptionBudget(plan);
  return [
    ...rbacOf(plan, bundles),
    proxyNetworkPolicy(plan),
    headlessService(plan),
    ...plan.connections.flatMap((connection) => {
      const around = targetNetworkPolicy(plan, connection);
      return [
        connectionService(plan, connection),
        ...(around === undefined ? [] : [around]),
        ...tunnelRbac(plan, connection),
      ];
    }),
    ...(budget === undefined ? [] : [budget]),
    statefulSet(plan, settings),
  ].map(sealed);
}
