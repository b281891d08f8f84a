// Whether a Connection's proxies enforce what is published, and what they found at its target. Pure. A proxy counts as
// in step only by its own word for every shard, so a sentence in here is never more hopeful than the truth; the word of
// a pod that is gone does not count.
import type { Connection } from '../../api/connection.ts';
import type { ProxyReplica } from '../../api/replica.ts';
import type { ProbeResult } from '../../protocols/protocol.ts';

export interface Programmed {
  ok: boolean;
  reason: string;
  message: string;
  /** It lags behind with grants and the like, as it does for a moment after each: worth saying only if it stays so. */
  passing?: true;
}
export interface ShardMark {
  epoch: number;
  sequence: number;
}

export interface ProgrammedView {
  connection: Connection;
  /** Why it is not served at all. */
  problem: { reason: string; message: string } | undefined;
  workload: string;
  /** One for each ordinal; undefined: there is no object yet. */
  replicas: readonly (ProxyReplica | undefined)[];
  /** Pods that Kubernetes calls ready. */
  readyPods: number;
  /** (epoch, sequence) by shard as stored; empty: nothing is published. */
  published: ReadonlyMap<string, ShardMark>;
  /** What a replica's certificate has to be for; undefined: it has not asked. */
  certificateFor(replica: ProxyReplica): string | undefined;
}

const not = (reason: string, message: string): Programmed => ({ ok: false, reason, message });

export function programmedOf(view: ProgrammedView): Programmed {
  const { connection, replicas, workload } = view;
  const { namespace = '', uid } = connection.metadata;
  if (view.problem !== undefined) return not(view.problem.reason, view.problem.message);
  if (replicas.length === 0) return not('Starting', 'Its proxies are being made.');
  if (view.published.size === 0) return not('NotPublished', 'What its proxies are to enforce is not written yet.');
  let passing: Programmed | undefined;
  for (const [ordinal, replica] of replicas.entries()) {
    const name = `${workload}-${ordinal}`;
    const said = replica?.spec.connections?.find((each) => each.uid === uid);
    const look = `kubectl -n ${namespace} describe pod ${name}`;
    if (replica === undefined || replica.spec.podUid === undefined)
      return not('ProxyStarting', `Proxy ${name} has not started. If it stays so: ${look}`);
    if (replica.spec.recordsWritable === false)
      return not('RecordsNotWritable', `Proxy ${name} can not write records, so it lets no command through: ${look}`);
    const wanted = view.certificateFor(replica);
    if (wanted === undefined || replica.status?.certificateFor !== wanted)
      return not('NoCertificate', `Proxy ${name} has no certificate for the Connection’s names yet.`);
    if (said === undefined) return not('ProxyBehind', `Proxy ${name} does not serve it yet.`);
    for (const [shard, mark] of view.published) {
      const applied = said.applied.find((each) => each.shard === shard);
      if (applied !== undefined && !isBefore(applied, mark)) continue;
      const behind = not('ProxyBehind', `Proxy ${name} does not enforce the newest ${shard} yet.`);
      if (shard === 'policy') return behind;
      passing = { ...behind, passing: true };
    }
    if (!said.listening) return not('NotListening', `Proxy ${name} has no listener open for it: ${look}`);
  }
  if (view.readyPods < replicas.length)
    return not(
      'ProxyNotReady',
      `${view.readyPods} of ${replicas.length} proxies ${replicas.length === 1 ? 'is' : 'are'} ready. If it stays so: kubectl -n ${namespace} get pods -l sallyport.dev/workload=${workload}`,
    );
  return passing ?? inStep(replicas.length);
}

export function inStep(replicas: number): Programmed {
  return {
    ok: true,
    reason: 'Programmed',
    message: `${replicas === 1 ? '1 proxy enforces' : `${replicas} proxies enforce`} the newest policy.`,
  };
}

const isBefore = (a: ShardMark, b: ShardMark): boolean =>
  a.epoch < b.epoch || (a.epoch === b.epoch && a.sequence < b.sequence);

/** What the proxies found at the target: a failure of any counts; undefined: none has looked. */
export function reachedOf(
  connection: Connection,
  replicas: readonly (ProxyReplica | undefined)[],
): ProbeResult | undefined {
  const looks = replicas.flatMap((replica) => {
    const said = replica?.spec.connections?.find((each) => each.uid === connection.metadata.uid);
    return said?.target === undefined ? [] : [said.target];
  });
  const failed = looks.find((look) => !look.reachable);
  if (failed !== undefined) return { kind: 'Failed', reason: failed.message, hint: failed.hint ?? '' };
  return looks[0] === undefined ? undefined : { kind: 'Reachable', version: looks[0].message };
}
