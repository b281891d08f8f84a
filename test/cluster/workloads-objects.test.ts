// Workloads on a real API server: what is made is accepted, steady state writes nothing, groups come and go, nothing of
// anybody else's is touched, and a proxy's account may do what its Role says and no more.
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import test, { after, before, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, ConnectionSpec } from '../../src/api/connection.ts';
import type { ProxyReplica } from '../../src/api/replica.ts';
import type { RecordingStore } from '../../src/api/store.ts';
import { tokenAccess } from '../../src/kube/access.ts';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import { certificateRequest } from '../../src/proxy/csr.ts';
import { checkCertificate, rawPublicKey } from '../../src/recording/signer.ts';
import {
  type ControlPlane,
  type KubernetesObject,
  skipWithoutCluster,
  startControlPlane,
} from '../support/cluster/control-plane.ts';
import { startWorkloadBed, type WorkloadBed } from './workloads-bed.ts';

const skip = await skipWithoutCluster();
const API = '/apis/sallyport.dev/v1alpha1';

interface Any {
  kind: string;
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    generation: number;
    labels: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences: { uid: string; kind: string; controller?: boolean }[];
    deletionTimestamp?: string;
  };
  spec: unknown;
  rules?: { resources: string[]; resourceNames?: string[]; verbs: string[] }[];
  subjects?: { kind: string; name: string }[];
}

/** What stands at `path` (`spec.ports.0.port`) in an object of any kind. */
const at = (object: unknown, path: string): unknown =>
  path.split('.').reduce<unknown>((value, member) => (value as Record<string, unknown> | undefined)?.[member], object);

let plane: ControlPlane;
let admin: KubeClient;

before(async () => {
  if (skip !== false) return;
  plane = await startControlPlane({ crds: true });
  admin = plane.clientFor();
});
after(async () => plane?.stop());

let count = 0;
/** A namespace of the test's own. */
async function namespaceFor(t: TestContext): Promise<string> {
  count += 1;
  const name = `w${count}`;
  await plane.apply({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
  });
  t.diagnostic(`namespace ${name}`);
  return name;
}

async function bedFor(
  t: TestContext,
  options: Partial<Parameters<typeof startWorkloadBed>[0]> = {},
): Promise<WorkloadBed> {
  const bed = await startWorkloadBed({ client: plane.clientFor(), ...options });
  t.after(() => bed.stop());
  await bed.settled();
  return bed;
}

const spec = (more: Partial<ConnectionSpec> = {}): ConnectionSpec => ({
  type: 'PostgreSQL',
  postgresql: { host: 'db.example' },
  accounts: [{ name: 'reader', secretRef: { name: 'orders-reader' } }],
  ...more,
});
const connect = async (namespace: string, name: string, more: Partial<ConnectionSpec> = {}): Promise<Connection> => {
  await plane.apply({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'Connection',
    metadata: { name, namespace },
    spec: spec(more),
  });
  return get<Connection>(`${API}/namespaces/${namespace}/connections/${name}`);
};
const get = async <T>(path: string): Promise<T> => {
  const answer = await admin.get<T>(path);
  assert.equal(answer.kind, 'Ok', `${path}: ${answer.kind === 'Failed' ? answer.message : ''}`);
  return (answer as { value: T }).value;
};
const isGone = async (path: string): Promise<boolean> => {
  const answer = await admin.get(path);
  return answer.kind === 'Failed' && answer.status === 404;
};

const PATHS = {
  StatefulSet: '/apis/apps/v1',
  Service: '/api/v1',
  ServiceAccount: '/api/v1',
  Role: '/apis/rbac.authorization.k8s.io/v1',
  RoleBinding: '/apis/rbac.authorization.k8s.io/v1',
  NetworkPolicy: '/apis/networking.k8s.io/v1',
  PodDisruptionBudget: '/apis/policy/v1',
} as const;
const PLURALS = {
  StatefulSet: 'statefulsets',
  Service: 'services',
  ServiceAccount: 'serviceaccounts',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  NetworkPolicy: 'networkpolicies',
  PodDisruptionBudget: 'poddisruptionbudgets',
} as const;
const pathOf = (kind: keyof typeof PATHS, namespace: string, name?: string): string =>
  `${PATHS[kind]}/namespaces/${namespace}/${PLURALS[kind]}${name === undefined ? '' : `/${name}`}`;

/** `Kind/name` of everything that carries the operator's label, with what it is. */
async function made(namespace: string): Promise<Map<string, Any>> {
  const found = new Map<string, Any>();
  for (const kind of Object.keys(PATHS) as (keyof typeof PATHS)[]) {
    const answer = await admin.list<Any>(pathOf(kind, namespace), {
      labelSelector: 'app.kubernetes.io/managed-by=sallyport',
    });
    assert.equal(answer.kind, 'Ok');
    if (answer.kind === 'Ok')
      for (const item of answer.value.items) found.set(`${kind}/${item.metadata.name}`, { ...item, kind });
  }
  const replicas = await admin.list<Any>(`${API}/namespaces/${namespace}/proxyreplicas`);
  if (replicas.kind === 'Ok')
    for (const item of replicas.value.items) found.set(`ProxyReplica/${item.metadata.name}`, item);
  return found;
}
const versions = (objects: Map<string, Any>): string[] =>
  [...objects].map(([key, { metadata }]) => `${key} ${metadata.uid} ${metadata.resourceVersion}`).sort();

test('everything is accepted, owned, and written once', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const connection = await connect(namespace, 'orders-db', {
    proxy: { replicas: 2, drainTimeout: '2m', resources: { requests: { cpu: '0.5', memory: '1024Mi' } } },
    exposure: { type: 'LoadBalancer', port: 6432 },
    networkPolicy: { targetPodSelector: { app: 'postgres' } },
  });
  const bed = await bedFor(t, {
    policies: () => [
      {
        kind: 'AccessPolicy',
        name: `${namespace}/team`,
        uid: 'u',
        generation: 1,
        accepted: true,
        subjects: [
          { kind: 'Group', name: 'payments' },
          { kind: 'ServiceAccount', name: 'batch' },
          { kind: 'ServiceAccount', name: 'not a name' },
        ],
        accounts: ['reader'],
        rules: [],
        masks: [],
        trustedFunctions: [],
        session: { ticketUntilExpiry: false },
      },
    ],
  });
  const objects = await made(namespace);
  assert.deepEqual([...objects.keys()].sort(), [
    'NetworkPolicy/sallyport-orders-db',
    'NetworkPolicy/sallyport-orders-db-target',
    'PodDisruptionBudget/sallyport-orders-db',
    'ProxyReplica/sallyport-orders-db-0',
    'ProxyReplica/sallyport-orders-db-1',
    'Role/sallyport-orders-db',
    'Role/sallyport-orders-db-tunnel',
    'RoleBinding/sallyport-orders-db',
    'RoleBinding/sallyport-orders-db-tunnel',
    'Service/sallyport-orders-db',
    'Service/sallyport-orders-db-pods',
    'ServiceAccount/sallyport-orders-db',
    'StatefulSet/sallyport-orders-db',
  ]);
  // Kubernetes' garbage collector goes by these, so the last Connection takes everything with it.
  for (const [key, { metadata }] of objects) {
    assert.deepEqual(
      metadata.ownerReferences.map(({ uid, kind, controller }) => ({ uid, kind, controller })),
      [{ uid: connection.metadata.uid, kind: 'Connection', controller: undefined }],
      key,
    );
    assert.equal(metadata.labels['sallyport.dev/workload'], 'sallyport-orders-db', key);
  }
  assert.deepEqual(
    objects.get('RoleBinding/sallyport-orders-db-tunnel')!.subjects!.map(({ kind, name }) => `${kind} ${name}`),
    ['Group payments', 'ServiceAccount batch'],
  );
  const set = objects.get('StatefulSet/sallyport-orders-db')!;
  assert.equal(at(set, 'spec.template.spec.terminationGracePeriodSeconds'), 135);
  assert.equal(at(set, 'spec.template.spec.containers.0.resources.requests.cpu'), '500m');
  assert.equal(at(set, 'spec.template.spec.containers.0.resources.limits.memory'), '1Gi');
  assert.equal(bed.workloads.writes, 11, 'one write an object');
  assert.deepEqual(bed.problems, []);

  await bed.stop();
  const again = await bedFor(t, { policies: () => [] });
  const later = await made(namespace);
  // Nobody is named any more: the way through the API server closes, everything else stays as it was.
  assert.deepEqual(
    versions(objects).filter((line) => !line.includes('-tunnel ')),
    versions(later),
  );
  assert.equal(again.workloads.writes, 2);
  await again.stop();
  const third = await bedFor(t);
  assert.equal(third.workloads.writes, 0);
  assert.deepEqual(versions(await made(namespace)), versions(later));
});

test('the port of the Service is the one asked for; the target is closed on its own, or its protocol’s', {
  skip,
}, async (t) => {
  const namespace = await namespaceFor(t);
  const ask = { exposure: { port: 6432 }, networkPolicy: { targetPodSelector: { app: 'target' } } };
  const certificate = [{ name: 'deploy', certificate: { users: ['deploy'] } }];
  const ssh = { type: 'SSH', accounts: certificate } as const;
  const hostKeys = [`ssh-ed25519 ${Buffer.alloc(51, 'k').toString('base64')}`];
  await connect(namespace, 'pg', ask);
  await connect(namespace, 'pg-other', { ...ask, postgresql: { host: 'db.example', port: 5433 } });
  await connect(namespace, 'web', { ...ask, ...ssh, ssh: { host: 'web.example', hostKeys } });
  await connect(namespace, 'web-other', { ...ask, ...ssh, ssh: { host: 'web.example', port: 2222, hostKeys } });
  await connect(namespace, 'web-own', {
    networkPolicy: ask.networkPolicy,
    ...ssh,
    ssh: { host: 'web.example', hostKeys },
  });
  await bedFor(t);
  const portsOf = async (name: string): Promise<unknown[]> => [
    at(await get<Any>(pathOf('Service', namespace, `sallyport-${name}`)), 'spec.ports.0.port'),
    at(await get<Any>(pathOf('NetworkPolicy', namespace, `sallyport-${name}-target`)), 'spec.ingress.0.ports.0.port'),
  ];
  assert.deepEqual(await portsOf('pg'), [6432, 5432]);
  assert.deepEqual(await portsOf('pg-other'), [6432, 5433]);
  assert.deepEqual(await portsOf('web'), [6432, 22]);
  assert.deepEqual(await portsOf('web-other'), [6432, 2222]);
  assert.deepEqual(await portsOf('web-own'), [22, 22]);
});

test('the pods meet the restricted Pod Security Standard', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  await connect(namespace, 'orders-db');
  await bedFor(t);
  const set = await get<Any>(pathOf('StatefulSet', namespace, 'sallyport-orders-db'));
  const { metadata, spec: pod } = at(set, 'spec.template') as { metadata: object; spec: { volumes: object[] } };
  const post = (body: object): ReturnType<KubeClient['create']> =>
    admin.create(`/api/v1/namespaces/${namespace}/pods`, body, { dryRun: true });
  const wanted = { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, name: 'sallyport-orders-db-0' } };
  // The volume of the claim is what the StatefulSet's controller adds.
  const volumes = [...pod.volumes, { name: 'records', persistentVolumeClaim: { claimName: 'records-x' } }];
  const answer = await post({ ...wanted, spec: { ...pod, volumes } });
  assert.equal(answer.kind, 'Ok', answer.kind === 'Failed' ? answer.message : '');
  const loose = await post({ ...wanted, spec: { ...pod, volumes, hostNetwork: true } });
  assert.equal(loose.kind === 'Failed' && loose.status, 403, 'the namespace enforces it');
});

test('what somebody changed or deleted is put right', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  await connect(namespace, 'orders-db');
  const bed = await bedFor(t);
  const role = pathOf('Role', namespace, 'sallyport-orders-db');
  const before = await get<Any>(role);
  await admin.patch(role, { rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }] }, 'merge');
  await admin.delete(pathOf('Service', namespace, 'sallyport-orders-db'));
  await admin.delete(`${API}/namespaces/${namespace}/proxyreplicas/sallyport-orders-db-0`);
  await bed.settled();
  assert.deepEqual((await get<Any>(role)).rules, before.rules);
  await get(pathOf('Service', namespace, 'sallyport-orders-db'));
  await get(`${API}/namespaces/${namespace}/proxyreplicas/sallyport-orders-db-0`);
});

test('a group shares pods; ports stay, Services keep their address, the last one out closes', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const proxy = { group: 'g' };
  const a = await connect(namespace, 'a', { proxy });
  const b = await connect(namespace, 'b', { proxy });
  const bed = await bedFor(t);
  const set = pathOf('StatefulSet', namespace, 'sallyport-shared-g');
  const ports = async (): Promise<Record<string, number>> =>
    JSON.parse((await get<Any>(set)).metadata.annotations!['sallyport.dev/ports']!) as Record<string, number>;
  const first = await ports();
  assert.deepEqual(Object.keys(first).sort(), [a.metadata.uid, b.metadata.uid].sort());
  const services = await made(namespace);
  assert.deepEqual([...services.keys()].filter((key) => key.startsWith('Service/')).sort(), [
    'Service/sallyport-a',
    'Service/sallyport-b',
    'Service/sallyport-shared-g-pods',
  ]);
  const replica = `${API}/namespaces/${namespace}/proxyreplicas/sallyport-shared-g-0`;
  assert.deepEqual((await get<ProxyReplica>(replica)).status?.connections?.map(({ name }) => name).sort(), ['a', 'b']);
  const role = await get<Any>(pathOf('Role', namespace, 'sallyport-shared-g'));
  const allowed = role.rules!.find(({ resources }) => resources.includes('enforcementbundles'))!.resourceNames;
  assert.deepEqual(
    allowed,
    [a, b].flatMap(({ metadata }) => [`${metadata.uid}.overlay`, `${metadata.uid}.policy`]).sort(),
  );

  // One more comes, the older ones stay where they are.
  const c = await connect(namespace, 'c', { proxy });
  await bed.settled();
  const more = await ports();
  assert.equal(more[a.metadata.uid], first[a.metadata.uid]);
  assert.equal(more[b.metadata.uid], first[b.metadata.uid]);
  assert.equal(new Set(Object.values(more)).size, 3);

  // a leaves the group: its Service is taken along, with its cluster address.
  const address = at(services.get('Service/sallyport-a'), 'spec.clusterIP');
  await connect(namespace, 'a', { proxy: { replicas: 1 } });
  await bed.settled();
  const moved = await get<Any>(pathOf('Service', namespace, 'sallyport-a'));
  assert.equal(at(moved, 'spec.clusterIP'), address);
  assert.equal(moved.metadata.labels['sallyport.dev/workload'], 'sallyport-a');
  assert.equal((at(moved, 'spec.selector') as Record<string, string>)['sallyport.dev/workload'], 'sallyport-a');
  await get(pathOf('StatefulSet', namespace, 'sallyport-a'));
  assert.deepEqual(Object.keys(await ports()).sort(), [b.metadata.uid, c.metadata.uid].sort());
  assert.deepEqual(
    (await get<Any>(set)).metadata.ownerReferences.map(({ uid }) => uid).sort(),
    [b.metadata.uid, c.metadata.uid].sort(),
  );

  for (const name of ['b', 'c']) await admin.delete(`${API}/namespaces/${namespace}/connections/${name}`);
  await bed.settled();
  assert.ok(await isGone(set));
  assert.deepEqual(
    [...(await made(namespace)).keys()].filter((key) => key.includes('shared-g') || /sallyport-[bc]$/.test(key)),
    [],
  );
  assert.deepEqual(bed.problems, []);
});

test('INV-12: an object of somebody else’s is left alone, and a condition says so', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const foreign = (kind: 'Service' | 'ServiceAccount', name: string, labels: object): KubernetesObject => ({
    apiVersion: 'v1',
    kind,
    metadata: { name, namespace, labels, annotations: { mine: 'yes' } },
    ...(kind === 'Service' ? { spec: { ports: [{ port: 80 }], selector: { app: 'mine' } } } : {}),
  });
  await plane.apply(foreign('Service', 'sallyport-a', {}));
  // Labels alone, as anybody may write them, do not make it the operator's.
  await plane.apply(
    foreign('ServiceAccount', 'sallyport-b', {
      'app.kubernetes.io/managed-by': 'sallyport',
      'app.kubernetes.io/name': 'sallyport-proxy',
      'sallyport.dev/workload': 'sallyport-b',
    }),
  );
  const before = await Promise.all([
    get<Any>(pathOf('Service', namespace, 'sallyport-a')),
    get<Any>(pathOf('ServiceAccount', namespace, 'sallyport-b')),
  ]);
  const a = await connect(namespace, 'a');
  const b = await connect(namespace, 'b');
  const bed = await bedFor(t);
  for (const [connection, kind] of [
    [a, 'Service'],
    [b, 'ServiceAccount'],
  ] as const) {
    const told = bed.workloads.proxies.programmed(connection);
    assert.equal(told.reason, 'NameTaken');
    assert.match(told.message, new RegExp(`There is a ${kind} ${namespace}/sallyport-`));
  }
  assert.equal(bed.workloads.endpoint(a.metadata.uid), undefined, 'nobody is sent to a foreign Service');
  assert.ok(await isGone(pathOf('StatefulSet', namespace, 'sallyport-b')), 'no pods under a foreign account');
  for (const name of ['a', 'b']) await admin.delete(`${API}/namespaces/${namespace}/connections/${name}`);
  await bed.settled();
  const left = await Promise.all([
    get<Any>(pathOf('Service', namespace, 'sallyport-a')),
    get<Any>(pathOf('ServiceAccount', namespace, 'sallyport-b')),
  ]);
  assert.deepEqual(
    left.map(({ metadata }) => metadata.resourceVersion),
    before.map(({ metadata }) => metadata.resourceVersion),
  );
});

test('another RecordingStore makes the StatefulSet anew around its pods', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const store = `fast-${namespace}`;
  const connection = await connect(namespace, 'orders-db');
  const bed = await bedFor(t);
  const path = pathOf('StatefulSet', namespace, 'sallyport-orders-db');
  const before = await get<Any>(path);
  await connect(namespace, 'orders-db', { recording: { storeRef: { name: store } } });
  await bed.settled();
  assert.equal(bed.workloads.proxies.programmed(connection).reason, 'NoRecordingStore');
  assert.equal((await get<Any>(path)).metadata.uid, before.metadata.uid, 'what runs is left alone');

  const object: Omit<RecordingStore, 'metadata'> = {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'RecordingStore',
    spec: { type: 'Volume', volume: { storageClassName: 'fast', size: '20Gi' } },
  };
  await plane.apply({ ...object, metadata: { name: store } });
  // The garbage collector would take the orphans' owner references off and then let the StatefulSet go.
  const end = performance.now() + 20_000;
  for (;;) {
    const answer = await admin.get<Any>(path);
    if (answer.kind === 'Ok' && answer.value.metadata.uid !== before.metadata.uid) break;
    if (answer.kind === 'Ok' && answer.value.metadata.deletionTimestamp !== undefined) {
      assert.deepEqual((answer.value.metadata as unknown as { finalizers: string[] }).finalizers, ['orphan']);
      await admin.patch(path, { metadata: { finalizers: null } }, 'merge');
    }
    assert.ok(performance.now() < end, 'it is not made anew');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await bed.settled();
  const after = await get<Any>(path);
  assert.deepEqual(at(after, 'spec.volumeClaimTemplates.0.spec.resources'), { requests: { storage: '20Gi' } });
  assert.equal(at(after, 'spec.volumeClaimTemplates.0.spec.storageClassName'), 'fast');
  assert.equal(after.metadata.annotations!['sallyport.dev/ports'], before.metadata.annotations!['sallyport.dev/ports']);
});

test('a replica is certified, is in step by its own word only, and its certificate follows the names', {
  skip,
}, async (t) => {
  const namespace = await namespaceFor(t);
  const connection = await connect(namespace, 'orders-db', { exposure: { type: 'LoadBalancer' } });
  const { uid } = connection.metadata;
  const bed = await bedFor(t);
  const path = `${API}/namespaces/${namespace}/proxyreplicas/sallyport-orders-db-0`;
  const programmed = (): string => bed.workloads.proxies.programmed(connection).reason;
  assert.equal(programmed(), 'ProxyStarting');
  const tlsKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const recordKey = generateKeyPairSync('ed25519');
  const csr = certificateRequest(tlsKey.privateKey, 'system:masters');
  const say = async (more: object): Promise<void> => {
    const answer = await admin.patch(path, { spec: more }, 'merge', { fieldManager: 'proxy' });
    assert.equal(answer.kind, 'Ok', answer.kind === 'Failed' ? answer.message : '');
    await bed.settled();
  };
  await say({ podUid: 'pod-1', csr, recordKey: rawPublicKey(recordKey.publicKey), recordsWritable: true });
  const replica = await get<ProxyReplica>(path);
  const certificate = new X509Certificate(replica.status!.certificate!);
  assert.ok(certificate.checkPrivateKey(tlsKey.privateKey));
  assert.ok(certificate.verify(new X509Certificate(bed.caPem).publicKey));
  assert.ok(!certificate.subject.includes('masters'), 'the names are the operator’s');
  assert.equal(certificate.checkHost(`sallyport-orders-db.${namespace}.svc`) !== undefined, true);
  assert.equal(certificate.checkHost('sallyport-orders-db.other.svc'), undefined);
  const verdict = checkCertificate(JSON.parse(replica.status!.recordCertificate!) as never, [bed.trusted]);
  assert.equal(verdict.kind, 'Good');
  assert.deepEqual(replica.status!.connections, [
    { uid, name: 'orders-db', port: 15_432, bundles: [`${uid}.overlay`, `${uid}.policy`] },
  ]);

  const applied = [
    { shard: 'policy', epoch: 1, sequence: 1 },
    { shard: 'overlay', epoch: 1, sequence: 2 },
  ];
  await say({ connections: [{ uid, listening: true, applied: applied.slice(1) }] });
  assert.equal(programmed(), 'ProxyBehind');
  await say({ connections: [{ uid, listening: true, applied }] });
  assert.equal(programmed(), 'ProxyNotReady', 'Kubernetes has its say too');
  const set = pathOf('StatefulSet', namespace, 'sallyport-orders-db');
  await admin.patch(`${set}/status`, { status: { replicas: 1, readyReplicas: 1 } }, 'merge');
  bed.looked.length = 0;
  await bed.settled();
  assert.equal(programmed(), 'Programmed');

  // A grant that is on its way is no reason to call the Connection out of order, unless it does not arrive.
  const { observedGeneration = 1 } = connection.status ?? {};
  const condition = { type: 'Programmed', status: 'True', reason: 'Programmed', message: 'Yes.' };
  await admin.patch(
    `/apis/sallyport.dev/v1alpha1/namespaces/${namespace}/connections/orders-db/status`,
    { status: { observedGeneration, conditions: [{ ...condition, lastTransitionTime: '2026-03-01T09:00:00Z' }] } },
    'merge',
  );
  await bed.settled();
  const seen = (): Connection =>
    bed.cache.get<Connection>({ kind: 'Connection', namespace, name: 'orders-db' }) ?? connection;
  const now = (): string => bed.workloads.proxies.programmed(seen()).reason;
  const marks = applied.map(({ shard, ...mark }) => [shard, mark] as const);
  bed.bundles.set(uid, new Map([...marks, ['grants-0', { epoch: 1, sequence: 1 }]]));
  bed.workloads.bundlesStored(uid);
  assert.equal(now(), 'Programmed');
  bed.looked.length = 0;
  for (const end = performance.now() + 30_000; bed.looked.length === 0 && performance.now() < end; ) await sleep(100);
  assert.equal(now(), 'ProxyBehind');
  bed.bundles.set(uid, new Map([['policy', { epoch: 2, sequence: 1 }]]));
  bed.workloads.bundlesStored(uid);
  await bed.settled();
  assert.equal(programmed(), 'ProxyBehind');
  assert.ok(bed.looked.includes(`${namespace}/orders-db`));

  // A load balancer is given: the certificate names it, and clients are sent there.
  const before = (await get<ProxyReplica>(path)).status!;
  assert.deepEqual(bed.workloads.endpoint(uid), { host: `sallyport-orders-db.${namespace}.svc`, port: 5432 });
  const service = pathOf('Service', namespace, 'sallyport-orders-db');
  await admin.patch(
    `${service}/status`,
    { status: { loadBalancer: { ingress: [{ ip: '192.0.2.7', ipMode: 'VIP' }] } } },
    'merge',
  );
  await bed.settled();
  const later = (await get<ProxyReplica>(path)).status!;
  assert.notEqual(later.certificateFor, before.certificateFor);
  assert.equal(new X509Certificate(later.certificate!).checkIP('192.0.2.7'), '192.0.2.7');
  assert.equal(later.recordCertificate, before.recordCertificate, 'the record key is vouched for already');
  assert.deepEqual(bed.workloads.endpoint(uid), { host: '192.0.2.7', port: 5432 });

  const wrongKey = certificateRequest(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, 'x');
  const forged = Buffer.from(wrongKey.replace(/-----.*-----|\s/g, ''), 'base64');
  forged[forged.length - 3]! ^= 1;
  await say({
    csr: `-----BEGIN CERTIFICATE REQUEST-----\n${forged.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`,
  });
  const refused = (await get<ProxyReplica>(path)).status!;
  assert.equal(refused.certificate, undefined);
  assert.equal(refused.conditions?.find(({ type }) => type === 'Certified')?.status, 'False');
});

test('INV-12: a proxy’s account reads the bundles of its own workload and nothing else', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const a = await connect(namespace, 'a');
  const b = await connect(namespace, 'b');
  await bedFor(t);
  const token = await admin.create<{ status: { token: string } }>(
    `/api/v1/namespaces/${namespace}/serviceaccounts/sallyport-a/token`,
    { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} },
  );
  assert.equal(token.kind, 'Ok');
  if (token.kind !== 'Ok') return;
  const proxy = createKubeClient(tokenAccess(plane.server, token.value.status.token, plane.ca));
  t.after(() => proxy.close());
  const status = async (answer: Promise<{ kind: string; status?: number }>): Promise<number> =>
    (await answer).status ?? 200;
  const own = `${API}/namespaces/${namespace}`;
  const replica = `${own}/proxyreplicas`;
  // There is no such object, and it may know that.
  assert.equal(await status(proxy.get(`${own}/enforcementbundles/${a.metadata.uid}.policy`)), 404);
  const byName = { fieldSelector: `metadata.name=${a.metadata.uid}.policy` };
  assert.equal(await status(proxy.list(`${own}/enforcementbundles`, byName)), 200);
  assert.equal(await status(proxy.get(`${replica}/sallyport-a-0`)), 200);
  assert.equal(await status(proxy.patch(`${replica}/sallyport-a-0`, { spec: { podUid: 'p' } }, 'merge')), 200);
  assert.equal(await status(proxy.list(`${own}/accessgrants`)), 200);

  assert.equal(await status(proxy.get(`${own}/enforcementbundles/${b.metadata.uid}.policy`)), 403);
  assert.equal(await status(proxy.list(`${own}/enforcementbundles`)), 403);
  assert.equal(await status(proxy.patch(`${replica}/sallyport-b-0`, { spec: { podUid: 'p' } }, 'merge')), 403);
  assert.equal(await status(proxy.patch(`${replica}/sallyport-a-0/status`, { status: {} }, 'merge')), 403);
  assert.equal(await status(proxy.delete(`${replica}/sallyport-a-0`)), 403);
  assert.equal(await status(proxy.list(`/api/v1/namespaces/${namespace}/secrets`)), 403);
  assert.equal(await status(proxy.list(`${API}/namespaces/default/accessgrants`)), 403);
});

test('a target that is never dialled gets no proxy', { skip }, async (t) => {
  const namespace = await namespaceFor(t);
  const bad = await connect(namespace, 'bad', { postgresql: { host: '169.254.169.254' } });
  const bed = await bedFor(t);
  assert.equal(bed.workloads.proxies.programmed(bad).reason, 'TargetForbidden');
  assert.deepEqual([...(await made(namespace)).keys()], []);
  const good = await connect(namespace, 'bad');
  await bed.settled();
  assert.ok((await made(namespace)).has('StatefulSet/sallyport-bad'));
  // And what runs is taken away once its target is forbidden.
  await connect(namespace, 'bad', { postgresql: { host: 'kubernetes.default.svc' } });
  await bed.settled();
  assert.equal(bed.workloads.proxies.programmed(good).reason, 'TargetForbidden');
  assert.deepEqual([...(await made(namespace)).keys()], []);
});
