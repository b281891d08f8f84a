// The chart's ValidatingAdmissionPolicies about Secrets, pods, tokens and what the operator makes, against people who try
// to get around them. The webhook is not there: what these policies refuse, they refuse by themselves.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { podObject, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import { allowed, connection, inShop, MANAGED, policiesBed, refused, service, tokenOf } from './policies-bed.ts';

const skip = await skipWithoutCluster();

describe('admission policies about pods', { skip }, () => {
  const bed = policiesBed();

  test('INV-05: who may not read a Secret has no proxy use it', async () => {
    const { plane, admin, dev } = bed;
    refused(
      await dev.create(inShop('connections'), connection('c1')),
      /You may not read Secret orders-reader in shop.*kubectl create role NAME -n shop .*--resource-name=orders-reader/,
    );
    await plane.apply(
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name: 'reads-reader', namespace: 'shop' },
        rules: [{ apiGroups: [''], resources: ['secrets'], resourceNames: ['orders-reader'], verbs: ['get'] }],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'reads-reader', namespace: 'shop' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reads-reader' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'dev' }],
      },
    );
    await until(
      'the Role',
      () => dev.create(inShop('connections'), connection('c1'), { dryRun: true }),
      (answer) => answer.kind === 'Ok',
    );
    allowed(await dev.create(inShop('connections'), connection('c1')));
    refused(
      await dev.create(inShop('connections'), connection('c2', 'orders-owner')),
      /may not read Secret orders-owner/,
    );
    const path = inShop('connections', 'c1');
    const owner = { spec: { accounts: [{ name: 'reader', secretRef: { name: 'orders-owner' } }] } };
    refused(await dev.patch(path, owner, 'merge'), /may not read Secret orders-owner/);
    // As many accounts as there can be, and any of them counts.
    const many = (last: string): object =>
      connection('c16', '', {
        accounts: Array.from({ length: 16 }, (_, index) => ({
          name: `account-${index}`,
          secretRef: { name: index === 15 ? last : 'orders-reader' },
        })),
      });
    refused(await dev.create(inShop('connections'), many('orders-owner')), /may not read Secret orders-owner/);
    allowed(await dev.create(inShop('connections'), many('orders-reader')));
    allowed(await admin.patch(inShop('connections', 'c16'), many('orders-owner'), 'merge'));
    // An admin's Connection, whose Secret dev may not read: metadata and limits are free, its target is not.
    allowed(await admin.create(inShop('connections'), connection('c3', 'orders-owner')));
    const theirs = inShop('connections', 'c3');
    allowed(await dev.patch(theirs, { metadata: { labels: { team: 'shop' } } }, 'merge'));
    allowed(await dev.patch(theirs, { spec: { limits: { sessions: 3 } } }, 'merge'));
    refused(await dev.patch(theirs, { spec: { postgresql: { host: 'evil.example.com' } } }, 'merge'), /orders-owner/);
    refused(
      await dev.patch(theirs, { spec: { postgresql: { tls: { mode: 'InsecureDisable' } } } }, 'merge'),
      /orders-owner/,
    );
    refused(await dev.patch(theirs, { spec: { proxy: { group: 'mine' } } }, 'merge'), /orders-owner/);
    refused(
      await dev.patch(theirs, connection('c3', 'orders-owner', { postgresql: { host: 'evil.example.com' } }), 'apply', {
        fieldManager: 'x',
        force: true,
      }),
      /orders-owner/,
    );
  });

  test('INV-05: nobody gets into a proxy’s pod, starts one, changes one or mounts its records', async () => {
    const { admin, dev } = bed;
    const pods = '/api/v1/namespaces/shop/pods';
    for (const client of [dev, admin]) {
      for (const what of ['exec?command=sh&stdout=true', 'attach?stdout=true', 'portforward?ports=8081']) {
        refused(
          await client.create(`${pods}/sallyport-orders-0/${what}`, undefined),
          /Nobody gets into the pods of Sallyport/,
        );
      }
      refused(
        await client.patch(
          `${pods}/sallyport-orders-0/ephemeralcontainers`,
          { spec: { ephemeralContainers: [{ name: 'd', image: 'x' }] } },
          'merge',
        ),
        /Nobody gets into the pods/,
      );
      const started: Parameters<typeof podObject>[0][] = [
        { name: 'mine', serviceAccount: 'sallyport-orders' },
        { name: 'mine', serviceAccount: 'sallyport-orders', deprecatedField: true },
        { name: 'sallyport-orders-7', serviceAccount: 'sallyport-orders' },
        { name: 'mine', labels: { 'sallyport.dev/workload': 'sallyport-orders' } },
        { name: 'mine', labels: MANAGED },
        { name: 'mine', claim: 'records-sallyport-orders-0' },
      ];
      for (const pod of started) refused(await client.create(pods, podObject(pod)), /made by its StatefulSet only/);
      const path = `${pods}/sallyport-orders-0`;
      refused(
        await client.patch(
          path,
          [{ op: 'replace', path: '/spec/containers/0/image', value: 'evil.example.com/x' }],
          'json',
        ),
        /made by its StatefulSet only/,
      );
      for (const patch of [
        { metadata: { labels: { app: 'x' } } },
        { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] } },
      ]) {
        refused(await client.patch(path, patch, 'merge'), /made by its StatefulSet only/);
      }
      refused(
        await client.patch(`${pods}/sallyport-orders-0`, { spec: { activeDeadlineSeconds: 1 } }, 'merge'),
        /made by its StatefulSet only/,
      );
    }
    allowed(await dev.patch(`${pods}/sallyport-orders-0`, { metadata: { annotations: { note: 'x' } } }, 'merge'));
    // A pod of their own neither is harmed by all this nor can become one of ours.
    allowed(await dev.create(pods, podObject({ name: 'plain' })));
    refused(
      await dev.patch(
        `${pods}/plain`,
        { metadata: { labels: { 'sallyport.dev/workload': 'sallyport-orders' } } },
        'merge',
      ),
      /made by its StatefulSet/,
    );
    const exec = await dev.create(`${pods}/plain/exec?command=sh&stdout=true`, undefined);
    assert.ok(exec.kind === 'Failed' && exec.status !== 403, 'other pods are none of our business');
  });

  test('INV-05: tokens of a proxy’s ServiceAccount are for its pod', async () => {
    const { plane, admin, dev, operator } = bed;
    for (const client of [dev, admin, operator]) {
      const answer = await tokenOf(client, 'shop', 'sallyport-orders');
      refused(answer, /issued to their pods by kubelet only|is forbidden: User/);
    }
    refused(await tokenOf(admin, RELEASE_NAMESPACE, 'sallyport'), /issued to their pods/);
    const legacy = (account: string): object => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: `token-of-${account}`, annotations: { 'kubernetes.io/service-account.name': account } },
      type: 'kubernetes.io/service-account-token',
    });
    refused(await admin.create('/api/v1/namespaces/shop/secrets', legacy('sallyport-orders')), /issued to their pods/);
    refused(
      await admin.create(`/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets`, legacy('sallyport')),
      /issued to their pods/,
    );
    allowed(await admin.create('/api/v1/namespaces/shop/secrets', legacy('builder')));
    refused(
      await admin.patch(
        '/api/v1/namespaces/shop/secrets/token-of-builder',
        { metadata: { annotations: { 'kubernetes.io/service-account.name': 'sallyport-orders' } } },
        'merge',
      ),
      /issued to their pods/,
    );
    await plane.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'builder', namespace: 'shop' } });
    allowed(await tokenOf(dev, 'shop', 'builder'));
  });

  test('what the operator makes is changed by the operator', async () => {
    const { plane, admin, dev, operator } = bed;
    const services = '/api/v1/namespaces/shop/services';
    refused(await dev.create(services, service('sallyport-orders', MANAGED)), /belongs to Sallyport's operator/);
    allowed(await operator.create(services, service('sallyport-orders', MANAGED)));
    const path = `${services}/sallyport-orders`;
    for (const client of [dev, admin]) {
      for (const patch of [
        { spec: { selector: { app: 'mine' } } },
        { metadata: { labels: { 'app.kubernetes.io/managed-by': null } } },
        { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] } },
      ]) {
        refused(await client.patch(path, patch, 'merge'), /belongs to Sallyport's operator/);
      }
    }
    // A load balancer's controller leaves its marks.
    allowed(
      await admin.patch(path, { metadata: { annotations: { a: 'b' }, finalizers: ['example.com/lb'] } }, 'merge'),
    );
    allowed(await admin.patch(path, { metadata: { finalizers: null } }, 'merge'));
    allowed(
      await operator.patch(path, service('sallyport-orders', MANAGED), 'apply', {
        fieldManager: 'sallyport',
        force: true,
      }),
    );

    const set = (name: string, labels: object, account?: string): object => ({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name, labels },
      spec: {
        serviceName: name,
        selector: { matchLabels: { app: 'x' } },
        template: {
          metadata: { labels: { app: 'x' } },
          spec: {
            ...(account === undefined ? {} : { serviceAccountName: account }),
            containers: [{ name: 'main', image: 'x' }],
          },
        },
      },
    });
    const sets = '/apis/apps/v1/namespaces/shop/statefulsets';
    refused(await dev.create(sets, set('mine', {}, 'sallyport-orders')), /belongs to Sallyport's operator/);
    allowed(await dev.create(sets, set('mine', {})));
    refused(
      await dev.patch(
        `${sets}/mine`,
        { spec: { template: { spec: { serviceAccountName: 'sallyport-orders' } } } },
        'merge',
      ),
      /belongs to Sallyport's operator/,
    );
    allowed(await operator.create(sets, set('sallyport-orders', MANAGED, 'sallyport-orders')));
    refused(
      await dev.patch(`${sets}/sallyport-orders/scale`, { spec: { replicas: 0 } }, 'merge'),
      /spec\.proxy\.replicas/,
    );
    refused(
      await admin.patch(`${sets}/sallyport-orders`, { spec: { replicas: 0 } }, 'merge'),
      /belongs to Sallyport's/,
    );
    allowed(await dev.delete(path));
    allowed(await dev.patch(`${sets}/mine/scale`, { spec: { replicas: 2 } }, 'merge'));

    const orphan = plane.clientFor('system:serviceaccount:kube-system:generic-garbage-collector');
    const owners = { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] } };
    allowed(await orphan.patch(`${sets}/sallyport-orders`, owners, 'merge'));
    refused(await orphan.patch(`${sets}/sallyport-orders`, { spec: { replicas: 3 } }, 'merge'), /belongs to/);
  });
});
