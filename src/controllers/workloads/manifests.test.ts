import assert from 'node:assert/strict';
import test from 'node:test';
import { isCurrent, type LiveObject, mustBeRemade } from './compare.ts';
import { isOurs, type Manifest } from './manifest.ts';
import { manifestsOf } from './manifests.ts';
import type { PlannedConnection, WorkloadPlan, WorkloadSettings } from './plan.ts';

const settings: WorkloadSettings = {
  image: 'registry.example/sallyport:1',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [],
  trust: ['0123456789abcdef:key'],
  operatorNamespace: 'sallyport-system',
  tunnelRoles: true,
};
const planned = (name: string, port: number): PlannedConnection => ({
  uid: `uid-${name}`,
  name,
  service: `sallyport-${name}`,
  protocol: 'postgresql',
  containerPort: port,
  servicePort: 5432,
  exposure: 'ClusterIP',
  annotations: {},
  sourceRanges: undefined,
  secrets: ['shared', `${name}-writer`],
  targetPort: 5432,
  targetPodSelector: undefined,
  tunnelSubjects: [],
});
const plan = (more: Partial<WorkloadPlan> = {}): WorkloadPlan => ({
  namespace: 'payments',
  name: 'sallyport-shared-g',
  connections: [planned('a', 15_432), planned('b', 15_433)],
  replicas: 1,
  drainSeconds: 30,
  resources: { requests: { cpu: '50m', memory: '96Mi' }, limits: { memory: '512Mi' } },
  records: { storageClassName: undefined, size: '10Gi', accessMode: 'ReadWriteOnce' },
  ...more,
});
const one = (kind: string, from: readonly Manifest[] = manifestsOf(plan(), settings, [])): Manifest =>
  from.find((manifest) => manifest.kind === kind)!;

interface Pod {
  serviceAccountName: string;
  automountServiceAccountToken: boolean;
  securityContext: Record<string, unknown>;
  containers: { securityContext: Record<string, unknown>; args: string[]; volumeMounts: { mountPath: string }[] }[];
  volumes: Record<string, unknown>[];
  [member: string]: unknown;
}
const podOf = (set: Manifest): Pod => (set['spec'] as { template: { spec: Pod } }).template.spec;

test('pods are restricted, rule by rule', () => {
  const pod = podOf(one('StatefulSet'));
  for (const host of ['hostNetwork', 'hostPID', 'hostIPC', 'hostUsers', 'initContainers']) assert.ok(!(host in pod));
  assert.equal(pod.securityContext['runAsNonRoot'], true);
  assert.equal(pod.securityContext['runAsUser'], 65_532);
  assert.deepEqual(pod.securityContext['seccompProfile'], { type: 'RuntimeDefault' });
  assert.equal(pod.securityContext['fsGroupChangePolicy'], 'OnRootMismatch');
  assert.equal(pod.automountServiceAccountToken, false);
  assert.equal(pod.containers.length, 1);
  assert.deepEqual(pod.containers[0]!.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    seccompProfile: { type: 'RuntimeDefault' },
  });
  const kinds = pod.volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== 'name'));
  assert.ok(kinds.every((kind) => ['projected', 'emptyDir', 'secret'].includes(kind)));
});

test('INV-05: Secrets are mounted whole, each once, and never put into the environment or the arguments', () => {
  const pod = podOf(one('StatefulSet'));
  const secrets = pod.volumes.flatMap((volume) => (volume['secret'] as { secretName: string } | undefined) ?? []);
  assert.deepEqual(secrets, [
    { secretName: 'a-writer', defaultMode: 0o440, optional: true },
    { secretName: 'b-writer', defaultMode: 0o440, optional: true },
    { secretName: 'shared', defaultMode: 0o440, optional: true },
  ]);
  const text = JSON.stringify(pod.containers);
  assert.ok(!text.includes('secretKeyRef') && !text.includes('envFrom'));
  assert.deepEqual(pod.containers[0]!.args, [
    'proxy',
    '--trust',
    '0123456789abcdef:key',
    '--operator-namespace',
    'sallyport-system',
  ]);
});

test('no policy and no replica count restarts a pod', () => {
  const template = (set: Manifest): unknown => (set['spec'] as { template: unknown }).template;
  const before = template(one('StatefulSet'));
  const after = manifestsOf(
    plan({
      replicas: 3,
      connections: plan().connections.map((each) => ({ ...each, tunnelSubjects: [{ kind: 'User', name: 'ana' }] })),
    }),
    settings,
    ['uid-a.policy', 'uid-a.grants-0'],
  );
  assert.deepEqual(template(one('StatefulSet', after)), before);
});

test('rights name what they are for; without bundles there is no right to any', () => {
  const rules = (bundles: string[]): { resources: string[]; resourceNames?: string[]; verbs: string[] }[] =>
    one('Role', manifestsOf(plan(), settings, bundles))['rules'] as never;
  assert.equal(
    rules([]).some(({ resources }) => resources.includes('enforcementbundles')),
    false,
  );
  const given = rules(['uid-b.policy', 'uid-a.policy']);
  assert.deepEqual(given.find(({ resources }) => resources.includes('enforcementbundles'))?.resourceNames, [
    'uid-a.policy',
    'uid-b.policy',
  ]);
  for (const { resources, verbs } of given) {
    assert.ok(!resources.includes('secrets') && !resources.includes('*') && !verbs.includes('*'));
    assert.ok(!resources.some((resource) => resource.startsWith('proxyreplicas/')), 'its status is the operator’s');
  }
});

test('rights come before pods; a budget comes with the second replica; order and text are stable', () => {
  const kinds = manifestsOf(plan({ replicas: 2 }), settings, ['x']).map(({ kind }) => kind);
  assert.deepEqual(kinds, [
    'ServiceAccount',
    'Role',
    'RoleBinding',
    'NetworkPolicy',
    'Service',
    'Service',
    'Service',
    'PodDisruptionBudget',
    'StatefulSet',
  ]);
  assert.ok(!manifestsOf(plan(), settings, []).some(({ kind }) => kind === 'PodDisruptionBudget'));
  assert.deepEqual(manifestsOf(plan(), settings, ['b', 'a']), manifestsOf(plan(), settings, ['a', 'b']));
});

test('a target’s NetworkPolicy lets its proxy in and nobody else', () => {
  const connections = [{ ...planned('a', 15_432), targetPodSelector: { app: 'db' }, targetPort: 5433 }];
  const around = manifestsOf(plan({ connections }), settings, []).find(
    ({ metadata }) => metadata.name === 'sallyport-a-target',
  );
  assert.deepEqual(around?.['spec'], {
    podSelector: { matchLabels: { app: 'db' } },
    policyTypes: ['Ingress'],
    ingress: [
      {
        from: [
          {
            podSelector: {
              matchLabels: {
                'app.kubernetes.io/name': 'sallyport-proxy',
                'sallyport.dev/workload': 'sallyport-shared-g',
              },
            },
          },
        ],
        ports: [{ protocol: 'TCP', port: 5433 }],
      },
    ],
  });
});

test('the tunnel keeps its port’s name where clients use 443', () => {
  const connections = [{ ...planned('a', 15_432), servicePort: 443 }];
  const service = manifestsOf(plan({ connections }), settings, []).find(
    ({ metadata }) => metadata.name === 'sallyport-a',
  );
  assert.ok(service !== undefined);
  const { ports } = service['spec'] as { ports: { name: string; port: number }[] };
  assert.deepEqual(
    ports.map(({ name, port }) => `${name} ${port}`),
    ['postgresql 443', 'tunnel 8443'],
  );
});

const live = (manifest: Manifest): LiveObject => {
  const { metadata, ...body } = structuredClone(manifest);
  return { ...body, metadata: { ...metadata, uid: 'u', resourceVersion: '1' } } as unknown as LiveObject;
};

test('what is there is compared by what is wanted', () => {
  const set = one('StatefulSet');
  const there = live(set);
  assert.ok(isCurrent(set, there));
  (there['spec'] as Record<string, unknown>)['filledInByTheServer'] = 1;
  assert.ok(isCurrent(set, there));
  (there['spec'] as Record<string, unknown>)['replicas'] = 0;
  assert.ok(!isCurrent(set, there));
  const fewer = live(set);
  fewer.metadata.ownerReferences = fewer.metadata.ownerReferences!.slice(1);
  assert.ok(!isCurrent(set, fewer));
  // A field that is wanted no more is found by the hash alone.
  const [before] = manifestsOf(plan(), { ...settings, imagePullSecrets: ['pull'] }, []).slice(-1);
  assert.ok(!isCurrent(set, live(before!)));
});

test('a StatefulSet is made anew only for what can not be changed', () => {
  const set = one('StatefulSet');
  const other = (more: Partial<WorkloadPlan>): LiveObject =>
    live(one('StatefulSet', manifestsOf(plan(more), settings, [])));
  assert.ok(!mustBeRemade(set, other({ replicas: 5, drainSeconds: 99 })));
  assert.ok(!mustBeRemade(set, other({ records: { ...plan().records, size: '10240Mi' } })));
  assert.ok(mustBeRemade(set, other({ records: { ...plan().records, size: '20Gi' } })));
  assert.ok(mustBeRemade(set, other({ records: { ...plan().records, storageClassName: 'fast' } })));
});

test('INV-12: only what carries the labels and is owned by a Connection is the operator’s', () => {
  const { metadata } = one('Role');
  assert.ok(isOurs(metadata, 'sallyport-shared-g'));
  assert.ok(!isOurs(metadata, 'sallyport-other'));
  assert.ok(!isOurs({ labels: metadata.labels }, 'sallyport-shared-g'));
  assert.ok(!isOurs({ ownerReferences: metadata.ownerReferences }, 'sallyport-shared-g'));
  const foreign = [{ apiVersion: 'example.dev/v1', kind: 'Connection', name: 'a', uid: 'u' }];
  assert.ok(!isOurs({ labels: metadata.labels, ownerReferences: foreign }, 'sallyport-shared-g'));
});
