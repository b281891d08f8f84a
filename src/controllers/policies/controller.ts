// Says of each AccessPolicy and ClusterAccessPolicy whether it is in force, on how many Connections, and records that it
// changed. What it selects is enforced by the bundle, not by this status.

import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import type { Connection } from '../../api/connection.ts';
import type { AccessPolicy, ClusterAccessPolicy, PolicyStatus } from '../../api/policy.ts';
import type { CompiledPolicy, PolicyShard } from '../../policy/bundle.ts';
import { policyName } from '../../policy/compile.ts';
import { conditionsFor } from '../../policy/conditions.ts';
import { reservedInPolicy } from '../../policy/reserved.ts';
import { saysSomethingElse } from '../changes.ts';
import { withCondition } from '../conditions.ts';
import { objectOf } from '../grants/controller.ts';
import type { ControllerContext } from '../ports.ts';
import { type CacheEvent, keyOf, type Reconcile, splitKey } from '../runtime.ts';
import { writeStatus } from '../status.ts';

export interface PolicyControllerOptions extends ControllerContext {
  compile(connection: Connection): PolicyShard | undefined;
}

/** Keys are those of policies; a ClusterAccessPolicy has no namespace. A Connection bears on all of them. */
export function policiesTouchedBy(event: CacheEvent, cache: ControllerContext['cache']): string[] {
  const { namespace, name } = event.object.metadata;
  if (event.kind === 'AccessPolicy' || event.kind === 'ClusterAccessPolicy') return [keyOf(namespace, name)];
  if (event.kind !== 'Connection' || !saysSomethingElse(event)) return [];
  return [
    ...cache.list('AccessPolicy', namespace).map((each) => keyOf(each.metadata.namespace, each.metadata.name)),
    ...cache.list('ClusterAccessPolicy').map((each) => keyOf(undefined, each.metadata.name)),
  ];
}

export function createPolicyReconciler(options: PolicyControllerOptions): Reconcile {
  const { cache, clock, records } = options;
  return async (key) => {
    const { namespace, name } = splitKey(key);
    const policy =
      namespace === undefined
        ? cache.get<ClusterAccessPolicy>({ kind: 'ClusterAccessPolicy', name })
        : cache.get<AccessPolicy>({ kind: 'AccessPolicy', namespace, name });
    if (policy === undefined) return undefined;
    const compiled: { on: string; policy: CompiledPolicy }[] = [];
    for (const connection of cache.list<Connection>('Connection', namespace)) {
      const entry = options
        .compile(connection)
        ?.policies.find((each) => each.kind === policy.kind && each.name === policyName(policy));
      if (entry !== undefined) compiled.push({ on: connection.metadata.name, policy: entry });
    }
    const { generation } = policy.metadata;
    let conditions = policy.status?.conditions;
    for (const condition of conditionsFor(compiled, reservedInPolicy(policy))) {
      conditions = withCondition(conditions, { ...condition, observedGeneration: generation }, clock.now());
    }
    const status: PolicyStatus = {
      observedGeneration: generation,
      connections: compiled.length,
      ...(conditions ? { conditions } : {}),
    };
    if (policy.status?.observedGeneration !== generation) {
      await records.write({
        act: policy.status?.observedGeneration === undefined ? 'policy.create' : 'policy.change',
        actor: { username: 'files' },
        object: objectOf(policy),
        details: { generation, specHash: sha256Hex(canonicalJson(policy.spec)) },
      });
    }
    await writeStatus(options, policy, status);
    return undefined;
  };
}
