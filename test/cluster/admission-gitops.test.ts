// What GitOps tools apply again and again stays what it is: every example and the chart, client-side and server-side, three
// times on a real API server; no apply changes anything after the first and no diff shows anything.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { KINDS } from '../../src/api/kinds.ts';
import type { WorkloadPlan } from '../../src/controllers/workloads/plan.ts';
import { proxyRules } from '../../src/controllers/workloads/rbac.ts';
import type { KindName } from '../../src/store/resource-store.ts';
import { KUBERNETES_USERS, podClient, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import {
  type ControlPlane,
  type KubernetesObject,
  skipWithoutCluster,
  startControlPlane,
} from '../support/cluster/control-plane.ts';
import { applyThrice, EXAMPLES, exampleObjects, prepareExamples } from '../support/gitops.ts';
import { HELM_VERSIONS, helm } from '../support/helm.ts';

const skip = await skipWithoutCluster();
const ROOT = path.resolve(import.meta.dirname, '../..');

describe('GitOps', { skip }, () => {
  let plane: ControlPlane;
  before(async () => {
    plane = await startControlPlane({ crds: true, users: [...KUBERNETES_USERS] });
    await prepareExamples(plane);
  });
  after(async () => {
    await plane?.stop();
  });

  for (const folder of EXAMPLES) {
    test(`examples/${folder}: applied three times, client-side and server-side, nothing differs`, async () => {
      const objects = exampleObjects(folder).filter(({ kind }) => kind !== 'Namespace');
      assert.ok(objects.length > 0);
      await applyThrice(plane, objects, []);
      // What the operator writes beside: status, which nobody's repository has.
      for (const { kind, metadata } of objects.filter(({ apiVersion }) => apiVersion.startsWith('sallyport.dev/'))) {
        const { plural } = KINDS[kind as KindName];
        const namespace = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
        const answer = await plane.clientFor().patch(
          `/apis/sallyport.dev/v1alpha1${namespace}/${plural}/${metadata.name}/status`,
          {
            status: {
              conditions: [
                {
                  type: 'Accepted',
                  status: 'True',
                  reason: 'Valid',
                  message: 'In force.',
                  lastTransitionTime: '2026-03-01T09:00:00Z',
                },
              ],
            },
          },
          'merge',
        );
        assert.equal(answer.kind, 'Ok', JSON.stringify(answer));
      }
      await applyThrice(plane, objects, []);
      await plane.kubectl(['delete', '-f', '-'], {
        input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
      });
      await applyThrice(plane, objects, ['--server-side', '--field-manager=gitops']);
    });
  }

  test('the kustomization of examples/gitops/billing holds all its files', async () => {
    const { stdout } = await plane.kubectl(['kustomize', path.join(ROOT, 'examples/gitops/billing')]);
    assert.equal(parseAllDocuments(stdout).length, exampleObjects('gitops/billing').length);
  });

  for (const version of HELM_VERSIONS) {
    test(`Helm ${version} installs, upgrades and uninstalls; CRDs stay`, async () => {
      const kubeconfig = plane.kubeconfig();
      // Those of the examples are not Helm's. The next Helm takes over what this one keeps.
      if (version === HELM_VERSIONS[0]) await plane.kubectl(['delete', 'crd', '--all', '--timeout=60s']);
      const release = ['sallyport', 'charts/sallyport', '-n', RELEASE_NAMESPACE];
      const { stdout } = await helm(version, ['install', ...release, '--create-namespace'], { kubeconfig });
      assert.match(stdout, /kubectl -n sallyport-system rollout status deployment\/sallyport/);
      const configuration = 'mutatingwebhookconfiguration/sallyport';
      await plane.kubectl([
        'patch',
        configuration,
        '--type=json',
        '-p',
        JSON.stringify([
          { op: 'add', path: '/webhooks/0/clientConfig/caBundle', value: Buffer.from(plane.ca).toString('base64') },
        ]),
      ]);
      await helm(version, ['upgrade', ...release, '--set', 'operator.replicas=3'], { kubeconfig });
      const { stdout: bundle } = await plane.kubectl([
        'get',
        configuration,
        '-o',
        'jsonpath={.webhooks[0].clientConfig.caBundle}',
      ]);
      assert.equal(Buffer.from(bundle, 'base64').toString(), plane.ca, 'an upgrade took away whom to trust');
      await helm(version, ['uninstall', 'sallyport', '-n', RELEASE_NAMESPACE], { kubeconfig });
      const { stdout: crds } = await plane.kubectl(['get', 'crd', '-o', 'name']);
      assert.equal(crds.match(/sallyport\.dev/g)?.length, fs.readdirSync(path.join(ROOT, 'crds')).length);
      // And again over what was kept.
      await helm(version, ['install', ...release], { kubeconfig });
      await helm(version, ['uninstall', 'sallyport', '-n', RELEASE_NAMESPACE], { kubeconfig });
    });
  }

  test('manifests/install.yaml: applied three times, client-side and server-side, nothing differs', async () => {
    const objects = parseAllDocuments(fs.readFileSync(path.join(ROOT, 'manifests/install.yaml'), 'utf8')).map(
      (document) => document.toJS() as KubernetesObject,
    );
    await plane.kubectl([
      'apply',
      '--server-side',
      '--force-conflicts',
      '-f',
      path.join(ROOT, 'manifests/install.yaml'),
    ]);
    await applyThrice(plane, objects, ['--server-side', '--force-conflicts']);
    await applyThrice(plane, objects, []);
  });

  for (const values of fs.readdirSync(path.join(ROOT, 'charts/sallyport/ci'))) {
    test(`the API server takes every object of the chart with ci/${values}`, async () => {
      const release = ['sallyport', 'charts/sallyport', '-n', RELEASE_NAMESPACE];
      const { stdout } = await helm('4', ['template', ...release, '-f', `charts/sallyport/ci/${values}`]);
      const objects = parseAllDocuments(stdout)
        .map((document) => document.toJS() as KubernetesObject | null)
        // Monitoring's kinds are another project's, and not here.
        .filter((object) => object !== null && !object.apiVersion.startsWith('monitoring.'));
      assert.ok(objects.length > 20);
      await plane.kubectl(['apply', '--server-side', '--dry-run=server', '--force-conflicts', '-f', '-'], {
        input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
      });
    });
  }

  test('the operator has the rights it needs: to hand a proxy its Role, to keep its Secret, its Lease and its webhook', async () => {
    const operator = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-b',
      serviceAccount: 'sallyport',
    });
    const plan = {
      namespace: 'payments',
      name: 'sallyport-orders-db',
      replicas: 2,
      connections: [],
    } as unknown as WorkloadPlan;
    const role = (name: string, rules: unknown): object => ({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name, labels: { 'app.kubernetes.io/managed-by': 'sallyport' } },
      rules,
    });
    const roles = '/apis/rbac.authorization.k8s.io/v1/namespaces/payments/roles';
    const tunnel = [
      {
        apiGroups: [''],
        resources: ['services/proxy'],
        resourceNames: ['https:sallyport-orders-db:tunnel'],
        verbs: ['get', 'create'],
      },
    ];
    for (const [name, rules] of [
      ['proxy', proxyRules(plan, ['u.policy'])],
      ['tunnel', tunnel],
    ] as const) {
      const made = await until(
        'the Role',
        () => operator.create(roles, role(name, rules)),
        ({ kind }) => kind === 'Ok',
      );
      assert.equal(made.kind, 'Ok');
    }
    // Nothing beyond it.
    const secrets = [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }];
    const refused = await operator.create(roles, role('more', secrets));
    assert.ok(
      refused.kind === 'Failed' &&
        refused.status === 403 &&
        /attempting to grant RBAC permissions/.test(refused.message),
    );
    for (const path of [
      '/api/v1/namespaces/payments/secrets',
      '/api/v1/namespaces/payments/secrets/orders-db-reader',
      `/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets`,
    ]) {
      const answer = await operator.get(path);
      assert.ok(answer.kind === 'Failed' && answer.status === 403, path);
    }
    const own = `/api/v1/namespaces/${RELEASE_NAMESPACE}/secrets`;
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'sallyport-keys' }, data: {} };
    assert.equal((await operator.create(own, secret)).kind, 'Ok');
    assert.equal((await operator.get(`${own}/sallyport-keys`)).kind, 'Ok');
    const lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'sallyport', resourceVersion: '' },
      spec: { holderIdentity: 'x' },
    };
    const leases = `/apis/coordination.k8s.io/v1/namespaces/${RELEASE_NAMESPACE}/leases`;
    const held = await operator.create<typeof lease>(leases, lease);
    assert.ok(held.kind === 'Ok');
    const renewed = await operator.replace(`${leases}/sallyport`, { ...held.value, spec: { holderIdentity: 'y' } });
    assert.equal(renewed.kind, 'Ok');
    const webhook = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
    assert.equal((await operator.list(webhook, { fieldSelector: 'metadata.name=sallyport' })).kind, 'Ok');
    const others = await operator.list(webhook);
    assert.ok(others.kind === 'Failed' && others.status === 403);
    await operator.close();
  });
});
