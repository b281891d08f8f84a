import assert from 'node:assert/strict';
import test from 'node:test';
import type { Connection } from '../../api/connection.ts';
import type { ProxyReplica, ProxyReplicaSpec } from '../../api/replica.ts';
import { certificateNames, endpointOf, externalNames } from './names.ts';
import { type ProgrammedView, programmedOf, reachedOf } from './programmed.ts';

const meta = (name: string) => ({
  name,
  namespace: 'payments',
  uid: `uid-${name}`,
  resourceVersion: '1',
  generation: 1,
  creationTimestamp: '',
});
const connection = {
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'Connection',
  metadata: meta('orders'),
  spec: {},
} as unknown as Connection;
const published = new Map([
  ['policy', { epoch: 2, sequence: 5 }],
  ['grants-0', { epoch: 1, sequence: 9 }],
]);
const said = (more: object = {}): NonNullable<ProxyReplicaSpec['connections']>[number] => ({
  uid: 'uid-orders',
  listening: true,
  applied: [
    { shard: 'policy', epoch: 2, sequence: 5 },
    { shard: 'grants-0', epoch: 2, sequence: 1 },
  ],
  ...more,
});
const replica = (spec: ProxyReplicaSpec = {}): ProxyReplica => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'ProxyReplica',
  metadata: meta('sallyport-orders-0'),
  spec: { podUid: 'p', recordsWritable: true, connections: [said()], ...spec },
  status: { certificateFor: 'good' },
});
const view = (more: Partial<ProgrammedView> = {}): ProgrammedView => ({
  connection,
  problem: undefined,
  workload: 'sallyport-orders',
  replicas: [replica()],
  readyPods: 1,
  published,
  certificateFor: () => 'good',
  ...more,
});

test('a Connection is programmed only if every proxy says so of every shard', () => {
  assert.deepEqual(programmedOf(view()), {
    ok: true,
    reason: 'Programmed',
    message: '1 proxy enforces the newest policy.',
  });
  const cases: [Partial<ProgrammedView>, string, RegExp][] = [
    [{ problem: { reason: 'NameTaken', message: 'There is …' } }, 'NameTaken', /There is/],
    [{ replicas: [] }, 'Starting', /being made/],
    [{ published: new Map() }, 'NotPublished', /not written/],
    [{ replicas: [replica(), undefined] }, 'ProxyStarting', /sallyport-orders-1 .*kubectl -n payments describe pod/],
    [{ replicas: [replica({ recordsWritable: false })] }, 'RecordsNotWritable', /no command/],
    [{ certificateFor: () => 'other' }, 'NoCertificate', /no certificate/],
    [{ certificateFor: () => undefined }, 'NoCertificate', /no certificate/],
    [{ replicas: [replica({ connections: [] })] }, 'ProxyBehind', /does not serve/],
    [{ replicas: [replica({ connections: [said({ listening: false })] })] }, 'NotListening', /no listener/],
    [{ replicas: [replica({ connections: [said({ applied: [] })] })] }, 'ProxyBehind', /newest policy/],
    [{ readyPods: 0 }, 'ProxyNotReady', /0 of 1 proxies is ready.*kubectl -n payments get pods/],
  ];
  for (const [more, reason, message] of cases) {
    const told = programmedOf(view(more));
    assert.equal(told.ok, false, reason);
    assert.equal(told.reason, reason);
    assert.match(told.message, message);
  }
});

test('a proxy that lags behind with a grant only does so in passing; what is worse is told first', () => {
  const newer = new Map([...published, ['grants-0', { epoch: 9, sequence: 9 }]]);
  const lag = programmedOf(view({ published: newer }));
  assert.deepEqual([lag.ok, lag.reason, lag.passing], [false, 'ProxyBehind', true]);
  assert.match(lag.message, /newest grants-0/);
  assert.equal(programmedOf(view({ published: newer, readyPods: 0 })).reason, 'ProxyNotReady');
  const old = new Map([...newer, ['policy', { epoch: 9, sequence: 9 }]]);
  assert.equal(programmedOf(view({ published: old })).passing, undefined);
});

test('an older epoch is behind whatever its sequence, a newer one is not', () => {
  const at = (epoch: number, sequence: number) =>
    programmedOf(
      view({
        published: new Map([['policy', { epoch: 2, sequence: 5 }]]),
        replicas: [replica({ connections: [said({ applied: [{ shard: 'policy', epoch, sequence }] })] })],
      }),
    ).ok;
  assert.deepEqual([at(1, 99), at(2, 4), at(2, 5), at(3, 1)], [false, false, true, true]);
});

test('one proxy that can not reach the target is what is told', () => {
  const at = '2026-01-01T00:00:00Z';
  const up = replica({ connections: [said({ target: { reachable: true, message: 'PostgreSQL 18', at } })] });
  const down = replica({
    connections: [said({ target: { reachable: false, message: 'refused', hint: 'look', at } })],
  });
  assert.equal(reachedOf(connection, [replica()]), undefined);
  assert.deepEqual(reachedOf(connection, [up, undefined]), { kind: 'Reachable', version: 'PostgreSQL 18' });
  assert.deepEqual(reachedOf(connection, [up, down]), { kind: 'Failed', reason: 'refused', hint: 'look' });
});

const service = { service: 'sallyport-orders', servicePort: 5432, exposure: 'ClusterIP' as const };

test('a certificate names the Services and what load balancers were given, and nothing odd', () => {
  const given = { loadBalancer: { ingress: [{ hostname: 'LB.Example.' }, { ip: '192.0.2.7' }, { hostname: 'a b' }] } };
  assert.deepEqual(externalNames(given), ['lb.example', '192.0.2.7']);
  const planned = [{ ...service, uid: 'u' }] as never;
  assert.deepEqual(
    certificateNames('payments', planned, () => externalNames(given)),
    [
      '192.0.2.7',
      'lb.example',
      'localhost',
      'sallyport-orders',
      'sallyport-orders.payments',
      'sallyport-orders.payments.svc',
      'sallyport-orders.payments.svc.cluster.local',
    ],
  );
  assert.deepEqual(endpointOf('payments', service, given), { host: 'sallyport-orders.payments.svc', port: 5432 });
  assert.deepEqual(endpointOf('payments', { ...service, exposure: 'LoadBalancer' }, given), {
    host: 'lb.example',
    port: 5432,
  });
});

test('the names of the largest group fit into a certificate that fits into the object', () => {
  const many = Array.from({ length: 64 }, (_, index) => ({
    ...service,
    service: `sallyport-${'x'.repeat(26)}-${String(index).padStart(8, '0')}`,
  })) as never;
  const names = certificateNames('n'.repeat(63), many, () => []);
  const bytes = names.reduce((sum, name) => sum + name.length + 4, 0);
  assert.ok(((bytes + 1000) * 4) / 3 < 32_768, `${bytes}`);
});
