import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { Connection, ConnectionSpec } from '../../api/connection.ts';
import type { RecordingStore } from '../../api/store.ts';
import { assignPorts, FIRST_PORT, type GatheredWorkload, MOST_CONNECTIONS, planWorkload } from './plan.ts';
import { largerQuantity, quantityOf, sameQuantity } from './quantity.ts';
import { connectionService } from './services.ts';
import { forbiddenTarget } from './targets.ts';

let age = 0;
const connection = (name: string, more: Partial<ConnectionSpec> = {}): Connection => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'Connection',
  metadata: {
    name,
    namespace: 'payments',
    uid: `uid-${name}`,
    resourceVersion: '1',
    generation: 1,
    creationTimestamp: new Date(Date.UTC(2026, 0, 1) + (age += 1000)).toISOString(),
  },
  spec: {
    type: 'PostgreSQL',
    postgresql: { host: 'db.example' },
    accounts: [{ name: 'reader', secretRef: { name: `${name}-reader` } }],
    proxy: { group: 'g' },
    ...more,
  },
});
const gather = (connections: Connection[], more: Partial<GatheredWorkload> = {}): GatheredWorkload => ({
  namespace: 'payments',
  name: 'sallyport-shared-g',
  connections,
  describe: () => ({ protocol: 'postgresql', port: 5432 }),
  subjects: () => [],
  ports: new Map(),
  store: () => undefined,
  settings: {
    image: 'image',
    imagePullPolicy: 'IfNotPresent',
    imagePullSecrets: [],
    trust: [],
    operatorNamespace: 'sallyport-system',
    tunnelRoles: true,
  },
  ...more,
});

test('who shares a proxy gets the most that any of them asks for', () => {
  const proxy = { group: 'g' };
  const { plan, refused } = planWorkload(
    gather([
      connection('a', { proxy: { ...proxy, replicas: 2, drainTimeout: '1m' } }),
      connection('b', { proxy: { ...proxy, drainTimeout: '10s', resources: { requests: { memory: '2Gi' } } } }),
      connection('c', { proxy: { ...proxy, resources: { requests: { memory: '512Mi', cpu: '2' } } } }),
    ]),
  );
  assert.equal(refused.size, 0);
  assert.equal(plan?.replicas, 2);
  assert.equal(plan?.drainSeconds, 60);
  // The limit that is ours makes room for what is asked for.
  assert.deepEqual(plan?.resources, { requests: { cpu: '2', memory: '2Gi' }, limits: { memory: '2Gi' } });
});

test('a limit below what is asked for by default lowers that', () => {
  const { plan } = planWorkload(
    gather([connection('a', { proxy: { group: 'g', resources: { limits: { memory: '64Mi', cpu: '20m' } } } })]),
  );
  assert.deepEqual(plan?.resources, {
    requests: { cpu: '20m', memory: '64Mi' },
    limits: { memory: '64Mi', cpu: '20m' },
  });
});

test('what can not be served is left out with its reason and takes nothing from the others', () => {
  const good = connection('good');
  const { plan, refused } = planWorkload(
    gather([
      good,
      connection('metadata', { postgresql: { host: '169.254.169.254' } }),
      connection('wide', { networkPolicy: { targetPodSelector: {} } }),
      connection('elsewhere', { recording: { storeRef: { name: 'other' } } }),
      connection('lone', { proxy: {} }),
    ]),
  );
  assert.deepEqual(
    plan?.connections.map(({ name }) => name),
    ['good'],
  );
  assert.deepEqual(Object.fromEntries([...refused].map(([uid, { reason }]) => [uid, reason])), {
    'uid-metadata': 'TargetForbidden',
    'uid-wide': 'SelectorTooWide',
    'uid-elsewhere': 'GroupConflict',
    'uid-lone': 'NameClash',
  });
  assert.deepEqual(planWorkload(gather([])), { plan: undefined, refused: new Map(), keep: false });
});

test('a group is bounded; the older ones stay', () => {
  const many = Array.from({ length: MOST_CONNECTIONS + 2 }, (_, index) => connection(`c${index}`));
  const { plan, refused } = planWorkload(gather(many.toReversed()));
  assert.equal(plan?.connections.length, MOST_CONNECTIONS);
  assert.deepEqual([...refused.keys()].sort(), [`uid-c${MOST_CONNECTIONS}`, `uid-c${MOST_CONNECTIONS + 1}`]);
});

test('records go where the store says; without one that is named nothing starts and nothing stops', () => {
  const named = connection('a', { recording: { storeRef: { name: 'fast' } } });
  const missing = planWorkload(gather([named]));
  assert.equal(missing.plan, undefined);
  assert.equal(missing.keep, true);
  assert.equal(missing.refused.get('uid-a')?.reason, 'NoRecordingStore');
  const store = { spec: { type: 'Volume', volume: { storageClassName: 'fast', size: '1Ti' } } } as RecordingStore;
  const found = planWorkload(gather([named], { store: (name) => (name === 'fast' ? store : undefined) }));
  assert.deepEqual(found.plan?.records, { storageClassName: 'fast', size: '1Ti', accessMode: 'ReadWriteOnce' });
  assert.equal(planWorkload(gather([connection('b')])).plan?.records.size, '10Gi');
});

test('the tunnel is for people and accounts that RBAC can name, each once', () => {
  const { plan } = planWorkload(
    gather([connection('a')], {
      subjects: () => [
        { kind: 'User', name: 'ana' },
        { kind: 'User', name: 'ana' },
        { kind: 'ServiceAccount', name: 'batch', namespace: 'jobs' },
        { kind: 'ServiceAccount', name: 'homeless' },
        { kind: 'ServiceAccount', name: 'A:B', namespace: 'jobs' },
        { kind: 'Claim', provider: 'ci', claims: { repo: 'x' } },
      ],
    }),
  );
  assert.deepEqual(plan?.connections[0]?.tunnelSubjects, [
    { kind: 'ServiceAccount', name: 'batch', namespace: 'jobs' },
    { kind: 'User', name: 'ana' },
  ]);
});

test('a port once given stays while others come and go, and no two are one', () => {
  const uid = fc.stringMatching(/^[a-f]{1,2}$/);
  fc.assert(
    fc.property(fc.array(fc.uniqueArray(uid, { maxLength: 12 }), { maxLength: 8 }), (rounds) => {
      let known: ReadonlyMap<string, number> = new Map();
      for (const uids of rounds) {
        const next = assignPorts(uids, known);
        assert.deepEqual([...next.keys()].sort(), uids.toSorted());
        assert.equal(new Set(next.values()).size, uids.length);
        for (const [each, port] of next) {
          assert.ok(port >= FIRST_PORT);
          if (known.has(each)) assert.equal(port, known.get(each));
        }
        assert.deepEqual(next, assignPorts(uids.toReversed(), known), 'the order of asking does not count');
        known = next;
      }
    }),
  );
});

test('ports that somebody wrote into the annotation do no harm', () => {
  const ports = assignPorts(
    ['a', 'b', 'c'],
    new Map([
      ['a', 22],
      ['b', FIRST_PORT],
      ['c', FIRST_PORT],
    ]),
  );
  assert.equal(new Set(ports.values()).size, 3);
  assert.ok([...ports.values()].every((port) => port >= FIRST_PORT));
});

test('quantities are compared by what they mean', () => {
  for (const [a, b] of [
    ['1024Mi', '1Gi'],
    ['0.5', '500m'],
    ['1e3', '1k'],
    ['2', '2000m'],
  ] as const)
    assert.ok(sameQuantity(a, b), `${a} ${b}`);
  assert.ok(!sameQuantity('1G', '1Gi'));
  assert.equal(largerQuantity('900Mi', '1Gi'), '1Gi');
  assert.equal(quantityOf('much'), undefined);
  assert.equal(largerQuantity('1', 'much'), 'much', 'the API server gets to refuse it');
});

test('INV-12: hosts that are never dialled are refused by their spelling', () => {
  const namespaces = { own: 'payments', operator: 'sallyport-system' };
  for (const host of [
    'localhost',
    'LOCALHOST.',
    'x.localhost',
    '127.0.0.1',
    '127.1',
    '0x7f000001',
    '2130706433',
    '0.0.0.0',
    '::1',
    '[::1]',
    '::ffff:127.0.0.1',
    '::',
    '169.254.169.254',
    'fe80::1',
    'fd00:ec2::254',
    'metadata.google.internal',
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local.',
    'db.other.svc',
    'db.other.svc.cluster.local',
    'sallyport-webhook.sallyport-system.svc',
  ])
    assert.equal(forbiddenTarget(host, namespaces)?.reason, 'TargetForbidden', host);
  for (const host of ['db.example', 'orders', 'db.payments.svc', '10.1.2.3', '192.0.2.1', '2001:db8::1', 'db.payments'])
    assert.equal(forbiddenTarget(host, namespaces), undefined, host);
});

test('what is asked of a Service is carried to it, but for what is Sallyport’s own', () => {
  const { plan } = planWorkload(
    gather([
      connection('a', {
        exposure: {
          type: 'LoadBalancer',
          annotations: {
            'service.beta.kubernetes.io/aws-load-balancer-scheme': 'internal',
            'sallyport.dev/applied-hash': 'forged',
            'kubectl.kubernetes.io/last-applied-configuration': '{}',
          },
          sourceRanges: ['10.0.0.0/8', '192.0.2.0/24'],
        },
      }),
      connection('b'),
    ]),
  );
  const [a, b] = plan!.connections.map((each) => connectionService(plan!, each));
  assert.deepEqual(a!.metadata.annotations, { 'service.beta.kubernetes.io/aws-load-balancer-scheme': 'internal' });
  const spec = a!['spec'] as { type: string; loadBalancerSourceRanges: string[] };
  assert.deepEqual([spec.type, spec.loadBalancerSourceRanges], ['LoadBalancer', ['10.0.0.0/8', '192.0.2.0/24']]);
  assert.equal(b!.metadata.annotations, undefined);
  assert.ok(!('loadBalancerSourceRanges' in (b!['spec'] as object)));
});
