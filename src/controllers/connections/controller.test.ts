// What a Connection's conditions say in a cluster, where proxies serve it.
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Connection } from '../../api/connection.ts';
import type { PolicyShard } from '../../policy/bundle.ts';
import { connection, policy, shardOf } from '../../policy/test-resources.ts';
import { type ConnectionControllerOptions, createConnectionReconciler, type ProxiesView } from './controller.ts';

async function conditionsOf(
  given: Connection,
  shard: PolicyShard,
  proxies: ProxiesView | undefined,
  more: Partial<ConnectionControllerOptions> = {},
): Promise<Record<string, string>> {
  let written: Connection['status'];
  const options = {
    cache: { get: () => given, remember: () => undefined },
    store: {
      applyStatus(_actor: unknown, _key: unknown, _version: string, status: Connection['status']) {
        written = status;
        return Promise.resolve({ kind: 'NotFound' });
      },
    },
    clock: { now: () => 0, monotonic: () => 0 },
    records: { write: () => Promise.resolve() },
    compile: () => shard,
    endpoint: () => ({ host: 'sallyport-orders-db.payments.svc', port: 5432 }),
    caBundle: '',
    publishedKeys: () => ({}),
    broken: () => [],
    proxies,
    ...more,
  } as unknown as ConnectionControllerOptions;
  await createConnectionReconciler(options)('payments/orders-db', new AbortController().signal);
  return Object.fromEntries(
    (written?.conditions ?? []).map(({ type, status, reason, message }) => [type, `${status} ${reason}: ${message}`]),
  );
}

const made = connection('orders-db');
const inCluster: Connection = { ...made, spec: { ...made.spec, proxy: { replicas: 2 } } };
const shard = shardOf({ policies: [policy('team')] });
const good: ProxiesView = {
  known: () => true,
  refused: () => undefined,
  programmed: () => ({ ok: true, reason: 'Programmed', message: 'All proxies enforce it.' }),
  reached: () => ({ kind: 'Reachable', version: 'PostgreSQL 18' }),
};

test('nothing of local mode is said in a cluster', async () => {
  const told = await conditionsOf(inCluster, shard, good);
  assert.equal(told['Accepted'], 'True Accepted: 1 policy is in force.');
  assert.match(told['Ready']!, /^True/);
});

test('what no proxy may serve is not accepted, with the reason', async () => {
  const why = { reason: 'TargetForbidden', message: 'The target 127.0.0.1 is loopback.' };
  const told = await conditionsOf(inCluster, shard, {
    ...good,
    refused: () => why,
    programmed: () => ({ ok: false, ...why }),
    reached: () => undefined,
  });
  for (const type of ['Accepted', 'Programmed', 'Ready'])
    assert.equal(told[type], 'False TargetForbidden: The target 127.0.0.1 is loopback.');
});

test('INV-10: what was said of the proxies stands until they were looked at, and a change of the spec is told at once', async () => {
  const unknown: ProxiesView = { ...good, known: () => false };
  const { generation } = inCluster.metadata;
  const said: Connection = { ...inCluster, status: { observedGeneration: generation, conditions: [] } };
  assert.deepEqual(await conditionsOf(said, shard, unknown), {});
  assert.match((await conditionsOf(said, shard, good))['Ready']!, /^True/);
  const changed: Connection = { ...inCluster, status: { observedGeneration: generation - 1, conditions: [] } };
  assert.match((await conditionsOf(changed, shard, unknown))['Accepted']!, /^True/);
  // The first word waits for what there is to say of the proxies.
  assert.deepEqual(await conditionsOf(inCluster, shard, unknown), {});
});

test('a file that is broken is what every column tells, not what the target of its former text answers', async () => {
  const told = await conditionsOf(made, shard, undefined, {
    broken: () => [
      {
        kind: 'Connection',
        namespace: 'payments',
        name: 'orders-db',
        problem: 'orders.yaml:3: spec.typ: unknown field "typ"; did you mean "type"?',
      },
    ],
    probe: () => Promise.resolve({ kind: 'Failed', reason: 'connection refused', hint: '' }),
  });
  const text =
    'False Broken: orders.yaml:3: spec.typ: unknown field "typ"; did you mean "type"? Until then every command is denied.';
  assert.equal(told['Accepted'], text);
  assert.equal(told['Ready'], text);
});

test('the problem of a policy ends once', async () => {
  const problem = 'spec.acces: unknown field "acces"; did you mean "access"?';
  const policies = shard.policies.map((each) => ({ ...each, accepted: false, problem }));
  const told = await conditionsOf(inCluster, { ...shard, policies }, good);
  assert.equal(
    told['Accepted'],
    `False PolicyNotAccepted: Every command is denied because of payments/team: ${problem}`,
  );
  assert.equal(
    told['Ready'],
    `False PolicyNotAccepted: The target answers, but every command is denied because of payments/team: ${problem}`,
  );
});
