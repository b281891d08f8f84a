// People who may write some objects of a namespace, and try to have Kubernetes' own controllers do for them what the
// admission policies refuse them: pods by a StatefulSet of their own, deletions by the garbage collector, addresses by
// an EndpointSlice, copies of records by a clone. On a real API server, with the chart's own policies and no webhook.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { KubeAnswer } from '../../../src/kube/answer.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import { applyChart, KUBERNETES_USERS, podClient, podObject, RELEASE_NAMESPACE, until } from '../../support/chart.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../../support/cluster/control-plane.ts';

const skip = await skipWithoutCluster();
const SETS = '/apis/apps/v1/namespaces/shop/statefulsets';
const REVISIONS = '/apis/apps/v1/namespaces/shop/controllerrevisions';
const PODS = '/api/v1/namespaces/shop/pods';
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices';
const CLAIMS = '/api/v1/namespaces/shop/persistentvolumeclaims';
const locks = (name = ''): string => `/apis/sallyport.dev/v1alpha1/namespaces/shop/accesslocks${name && `/${name}`}`;

const OURS = { 'app.kubernetes.io/name': 'sallyport-proxy', 'sallyport.dev/workload': 'sallyport-orders' };
const MANAGED = { 'app.kubernetes.io/managed-by': 'sallyport' };

const refused = (answer: KubeAnswer<unknown>, message: RegExp): void => {
  assert.equal(answer.kind, 'Failed', `was let through; expected ${message}`);
  if (answer.kind !== 'Failed') return;
  assert.equal(answer.status, 403, answer.message);
  assert.match(answer.message, message);
};
const allowed = <T>(answer: KubeAnswer<T>): T => {
  if (answer.kind === 'Failed') assert.fail(`${answer.status} ${answer.message}`);
  return answer.value;
};

interface SetParts {
  labels?: object;
  podLabels?: object;
  pod?: object;
  claims?: string[];
}
const set = (metadata: object, { labels = {}, podLabels = {}, pod = {}, claims = [] }: SetParts = {}): object => ({
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { ...metadata, labels },
  spec: {
    serviceName: 'x',
    selector: { matchLabels: { app: 'x' } },
    template: {
      metadata: { labels: { app: 'x', ...podLabels } },
      spec: { containers: [{ name: 'main', image: 'x' }], ...pod },
    },
    volumeClaimTemplates: claims.map((name) => ({
      metadata: { name },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    })),
  },
});
const claimVolume = (claimName: string): object => ({
  volumes: [{ name: 'r', persistentVolumeClaim: { claimName } }],
});

describe('people who may write some objects', { skip }, () => {
  let plane: ControlPlane;
  let admin: KubeClient;
  let dev: KubeClient;
  let controller: KubeClient;
  let operator: KubeClient & { podUid: string };

  before(async () => {
    plane = await startControlPlane({
      users: [
        { name: 'dev', groups: ['developers'] },
        { name: 'other', groups: ['others'] },
        ...KUBERNETES_USERS,
        { name: 'system:serviceaccount:kube-system:endpointslice-controller', groups: ['system:masters'] },
      ],
    });
    admin = plane.clientFor();
    dev = plane.clientFor('dev');
    controller = plane.clientFor('system:serviceaccount:kube-system:statefulset-controller');
    await applyChart(plane, ({ kind }) => kind !== 'MutatingWebhookConfiguration' && kind !== 'Deployment');
    await plane.apply(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
      // Everything in a namespace but the rights of others: what many give to a team.
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: 'team' },
        rules: [
          ['', ['pods', 'services', 'endpoints', 'persistentvolumeclaims', 'configmaps', 'serviceaccounts']],
          ['apps', ['*']],
          ['discovery.k8s.io', ['*']],
          ['snapshot.storage.k8s.io', ['*']],
          ['sallyport.dev', ['connections', 'accesspolicies', 'accessgrants', 'accessapprovals', 'accesslocks']],
        ].map(([group, resources]) => ({ apiGroups: [group], resources, verbs: ['*'] })),
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'team', namespace: 'shop' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'team' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'developers' }],
      },
    );
    operator = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-5d8f-x1',
      serviceAccount: 'sallyport',
    });
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'p', labels: MANAGED }, spec: {} };
    const unstamped = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessLock',
      metadata: { name: 'p' },
      spec: { target: { user: 'x' }, reason: 'r' },
    };
    const biting = (answer: KubeAnswer<unknown>): boolean => answer.kind === 'Failed' && answer.status === 403;
    await until(
      'the policy on what is managed',
      () =>
        admin.create(
          '/api/v1/namespaces/shop/services',
          { ...service, spec: { ports: [{ port: 80 }] } },
          { dryRun: true },
        ),
      biting,
    );
    await until(
      'the policy on pods',
      () => admin.create(PODS, podObject({ name: 'p', serviceAccount: 'sallyport-x' }), { dryRun: true }),
      biting,
    );
    const copy = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'p' },
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        dataSource: { kind: 'PersistentVolumeClaim', name: 'records-sallyport-x' },
      },
    };
    await until('the policy on copies of records', () => dev.create(CLAIMS, copy, { dryRun: true }), biting);
    await until('the policy on stamps', () => admin.create(locks(), unstamped, { dryRun: true }), biting);
  });
  after(async () => {
    await operator?.close();
    await plane?.stop();
  });

  test('INV-05: a StatefulSet of one’s own makes no pod that passes for a proxy or mounts its records', async () => {
    const disguises: [string, object][] = [
      ['the name of a workload', set({ name: 'sallyport-orders' })],
      ['a name whose pods are called like ours', set({ name: 'sallyport' })],
      ['a generated name', set({ generateName: 'sallyport-' })],
      ['labels of a proxy on its pods', set({ name: 'mine' }, { podLabels: OURS })],
      ['the ServiceAccount of a proxy', set({ name: 'mine' }, { pod: { serviceAccountName: 'sallyport-orders' } })],
      ['the same by its old name', set({ name: 'mine' }, { pod: { serviceAccount: 'sallyport-orders' } })],
      ['a proxy’s records', set({ name: 'mine' }, { pod: claimVolume('records-sallyport-orders-0') })],
      ['claims that are called like ours', set({ name: 'orders' }, { claims: ['records-sallyport'] })],
    ];
    for (const [what, body] of disguises) {
      const answer = await dev.create(SETS, body);
      assert.equal(answer.kind, 'Failed', `StatefulSet with ${what} was let through`);
      refused(answer, /Sallyport/);
    }
    allowed(await dev.create(SETS, set({ name: 'mine' }, { claims: ['data'] })));
    refused(
      await dev.patch(`${SETS}/mine`, { spec: { template: { metadata: { labels: OURS } } } }, 'merge'),
      /Sallyport/,
    );
    // Even if one were there already: its controller makes no such pod.
    const pods: [string, Parameters<typeof podObject>[0]][] = [
      ['labels', { name: 'mine-0', labels: OURS }],
      ['account', { name: 'mine-0', serviceAccount: 'sallyport-orders' }],
      ['records', { name: 'mine-0', claim: 'records-sallyport-orders-0' }],
    ];
    // A claim made on the way, with the name that the proxy's will have.
    const early = podObject({ name: 'records' }) as { spec: object };
    const template = { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } };
    const volumes = [{ name: 'sallyport-orders-0', ephemeral: { volumeClaimTemplate: template } }];
    refused(await dev.create(PODS, { ...early, spec: { ...early.spec, volumes } }), /Sallyport/);
    for (const [what, pod] of pods) {
      const answer = await controller.create(PODS, podObject(pod));
      assert.equal(answer.kind, 'Failed', `the StatefulSet controller made a pod of somebody else’s with our ${what}`);
    }
    allowed(
      await controller.create(PODS, podObject({ name: 'sallyport-orders-0', serviceAccount: 'sallyport-orders' })),
    );
  });

  test('INV-05: a revision that the StatefulSet’s controller would start pods from is its own word', async () => {
    const revision = (name: string, labels: object): object => ({
      apiVersion: 'apps/v1',
      kind: 'ControllerRevision',
      metadata: { name, labels },
      data: { spec: { template: { spec: { containers: [{ name: 'proxy', image: 'evil.example.com/x' }] } } } },
      revision: 1,
    });
    refused(await dev.create(REVISIONS, revision('sallyport-orders-6c9f', OURS)), /Sallyport/);
    refused(await dev.create(REVISIONS, revision('innocent', OURS)), /Sallyport/);
    allowed(await controller.create(REVISIONS, revision('sallyport-orders-6c9f', OURS)));
    allowed(await dev.create(REVISIONS, revision('mine', { app: 'x' })));
    refused(await dev.patch(`${REVISIONS}/mine`, { metadata: { labels: OURS } }, 'merge'), /Sallyport/);
    allowed(await controller.patch(`${REVISIONS}/sallyport-orders-6c9f`, { revision: 2 }, 'merge'));
  });

  test('INV-05: nobody puts an address of their own behind a proxy’s Service', async () => {
    const slice = (name: string, service: string): object => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.1.2.3'] }],
      ports: [{ name: 'postgresql', port: 5432 }],
    });
    refused(await dev.create(SLICES, slice('mine', 'sallyport-orders')), /Sallyport/);
    allowed(await dev.create(SLICES, slice('other', 'shop')));
    refused(
      await dev.patch(
        `${SLICES}/other`,
        { metadata: { labels: { 'kubernetes.io/service-name': 'sallyport-orders' } } },
        'merge',
      ),
      /Sallyport/,
    );
    const endpoints = plane.clientFor('system:serviceaccount:kube-system:endpointslice-controller');
    allowed(await endpoints.create(SLICES, slice('sallyport-orders-x1', 'sallyport-orders')));
    refused(
      await dev.patch(`${SLICES}/sallyport-orders-x1`, { endpoints: [{ addresses: ['10.1.2.4'] }] }, 'merge'),
      /Sallyport/,
    );
    refused(
      await dev.create('/api/v1/namespaces/shop/endpoints', {
        apiVersion: 'v1',
        kind: 'Endpoints',
        metadata: { name: 'sallyport-orders' },
        subsets: [{ addresses: [{ ip: '10.1.2.3' }], ports: [{ port: 5432 }] }],
      }),
      /Sallyport/,
    );
  });

  test('INV-07: records are not copied to a claim of one’s own', async () => {
    const claim = (name: string, source?: object): object => ({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...source },
    });
    const from = { kind: 'PersistentVolumeClaim', name: 'records-sallyport-orders-0' };
    refused(await dev.create(CLAIMS, claim('copy', { dataSource: from })), /records/);
    refused(await dev.create(CLAIMS, claim('copy', { dataSourceRef: from })), /records/);
    allowed(await dev.create(CLAIMS, claim('plain')));
    allowed(await dev.create(CLAIMS, claim('clone', { dataSource: { ...from, name: 'plain' } })));
  });

  describe('locks', () => {
    const author = {
      via: 'Kubernetes',
      username: 'admin',
      uid: 'uid-admin',
      groups: ['system:masters', 'system:authenticated'],
      specHash: 'a'.repeat(64),
      nonce: 'n',
      at: '2026-03-01T09:00:00Z',
      seal: 'k.s',
    };
    const lock = async (name: string, target: object): Promise<void> => {
      allowed(
        await admin.create(locks(), {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessLock',
          metadata: { name, labels: { x: 'y' } },
          spec: { target, reason: 'left', author },
        }),
      );
    };

    test('INV-03: who is locked out has neither a bulk deletion nor the garbage collector lift it', async () => {
      await lock('dev', { user: 'dev' });
      await lock('developers', { group: 'Developers' });
      const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'mine', uid: 'a-uid-that-is-no-more' };
      for (const name of ['dev', 'developers']) {
        refused(
          await dev.patch(locks(name), { metadata: { ownerReferences: [owner] } }, 'merge'),
          /lock.*can not be changed/i,
        );
        refused(await dev.delete(locks(name)), /Nobody lifts a lock/);
      }
      const bulk = await dev.delete(`${locks()}?labelSelector=x%3Dy`);
      refused(bulk, /Nobody lifts a lock/);
      for (const name of ['dev', 'developers']) allowed(await admin.get(locks(name)));
      // What somebody else set is theirs to lift.
      allowed(await admin.delete(locks('dev')));
      allowed(await admin.delete(locks('developers')));
    });
  });
});
