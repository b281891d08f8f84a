// How each Connection does: its conditions, the proxies that serve it, whether they enforce what was published, whether
// the target answers. Pure but for the gathering.
import type { EnforcementBundleSpec } from '../../../api/bundle-object.ts';
import type { Connection } from '../../../api/connection.ts';
import type { ProxyReplica } from '../../../api/replica.ts';
import type { Resource } from '../../../api/resource.ts';
import { connectionLabel } from '../../../controllers/workloads/names.ts';
import { pathOf } from '../plurals.ts';
import type { Check, Looker, Seen } from './check.ts';

type Bundle = Resource<'EnforcementBundle', EnforcementBundleSpec>;

/** `connections`: those to look at, all of one namespace. */
export async function checkConnections(
  look: Looker,
  namespace: string,
  connections: readonly Connection[],
): Promise<Check[]> {
  const [only] = connections;
  const [replicas, bundles] = await Promise.all([
    look.list<ProxyReplica>(pathOf('ProxyReplica', { namespace })),
    // Bundles are large: what is published is compared for one Connection at a time.
    only !== undefined && connections.length === 1
      ? look.list<Bundle>(
          pathOf('EnforcementBundle', { namespace }),
          `sallyport.dev/connection=${connectionLabel(only.metadata.name)}`,
        )
      : Promise.resolve<Seen<Bundle[]>>({ kind: 'Hidden' }),
  ]);
  return connections.flatMap((connection) => [
    conditionCheck(connection),
    ...replicaChecks(connection, replicas, bundles.kind === 'Seen' ? bundles.value : undefined),
  ]);
}

function conditionCheck(connection: Connection): Check {
  const { metadata, status } = connection;
  const check = { area: 'Connection', subject: `${metadata.namespace}/${metadata.name}` } as const;
  const conditions = status?.conditions ?? [];
  if (conditions.length === 0) {
    return {
      ...check,
      state: 'Fail',
      message: 'The operator has not looked at it',
      fix: 'See the operator above; it looks at a new Connection within seconds.',
    };
  }
  const wrong = ['Accepted', 'Programmed', 'Ready']
    .map((type) => conditions.find((each) => each.type === type))
    .find((each) => each?.status === 'False');
  if (wrong !== undefined)
    return { ...check, state: 'Fail', message: `${wrong.type} is False (${wrong.reason}): ${wrong.message}` };
  const stale = conditions.some(
    ({ observedGeneration }) => observedGeneration !== undefined && observedGeneration < metadata.generation,
  );
  if (stale) return { ...check, state: 'Warn', message: 'The operator has not looked at its last change yet' };
  const ready = conditions.find((each) => each.type === 'Ready');
  return ready?.status === 'True'
    ? { ...check, state: 'Ok', message: 'Ready' }
    : { ...check, state: 'Warn', message: ready?.message ?? 'It is not known whether it is ready' };
}

function replicaChecks(
  connection: Connection,
  seen: Seen<ProxyReplica[]>,
  bundles: readonly Bundle[] | undefined,
): Check[] {
  const { uid, name, namespace } = connection.metadata;
  const subject = `proxies of ${namespace}/${name}`;
  const check = { area: 'Connection', subject } as const;
  if (seen.kind !== 'Seen') {
    return [
      {
        ...check,
        state: 'Unknown',
        message: `You may not read ProxyReplicas in namespace ${namespace} (sallyport-auditor gives it)`,
      },
    ];
  }
  const replicas = seen.value.filter((each) => each.status?.connections?.some((entry) => entry.uid === uid));
  if (replicas.length === 0) {
    return [
      {
        ...check,
        state: 'Fail',
        message: 'No proxy serves it',
        fix: 'The operator makes them; see the condition Programmed and the operator’s log.',
      },
    ];
  }
  return replicas.flatMap((replica) =>
    oneReplica(replica, uid, { ...check, subject: `proxy ${replica.metadata.name} for ${name}` }, bundles),
  );
}

function oneReplica(
  replica: ProxyReplica,
  uid: string,
  check: Pick<Check, 'area' | 'subject'>,
  bundles: readonly Bundle[] | undefined,
): Check[] {
  const pod = replica.metadata.name;
  const log = `kubectl -n ${replica.metadata.namespace} describe pod ${pod}; kubectl -n ${replica.metadata.namespace} logs ${pod}`;
  const served = replica.spec.connections?.find((entry) => entry.uid === uid);
  const checks: Check[] = [];
  if (replica.spec.podUid === undefined) {
    return [{ ...check, state: 'Fail', message: 'Its pod has not reported yet', fix: log }];
  }
  if (served?.listening !== true)
    checks.push({ ...check, state: 'Fail', message: 'It does not listen for it', fix: log });
  if (replica.spec.recordsWritable === false) {
    checks.push({
      ...check,
      state: 'Fail',
      message: 'It can not write records, so it runs no command',
      fix: `Look at the volume claim records-${pod}: is it full? ${log}`,
    });
  }
  if (served?.target?.reachable === false) {
    checks.push({
      ...check,
      state: 'Fail',
      message: `The target can not be used: ${served.target.message}`,
      ...(served.target.hint === undefined ? {} : { fix: served.target.hint }),
    });
  }
  const behind = bundles?.filter(({ spec }) => spec.connectionUid === uid && isBehind(served?.applied ?? [], spec));
  const programmed = replica.status?.conditions?.find((each) => each.type === 'Programmed');
  if (behind !== undefined && behind.length > 0) {
    checks.push({
      ...check,
      state: 'Warn',
      message: `It does not enforce the newest ${behind.map(({ spec }) => spec.shard).join(', ')} yet`,
      fix: `A proxy applies them within a second. If it stays: ${log}`,
    });
  } else if (programmed?.status === 'False') {
    checks.push({ ...check, state: 'Warn', message: programmed.message });
  }
  return checks.length > 0
    ? checks
    : [{ ...check, state: 'Ok', message: 'It listens, and enforces what was published' }];
}

function isBehind(
  applied: readonly { shard: string; epoch: number; sequence: number }[],
  published: { shard: string; epoch: number; sequence: number },
): boolean {
  const own = applied.find(({ shard }) => shard === published.shard);
  if (own === undefined) return true;
  return own.epoch < published.epoch || (own.epoch === published.epoch && own.sequence < published.sequence);
}
