// The chart's ValidatingAdmissionPolicies on a real API server without the webhook, each seen to refuse, and the people,
// pods and objects that try to get around them.
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { impersonating } from '../../src/kube/access.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import { applyChart, KUBERNETES_USERS, podClient, podObject, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, startControlPlane } from '../support/cluster/control-plane.ts';

export const API = '/apis/sallyport.dev/v1alpha1';
export const inShop = (plural: string, name?: string): string =>
  `${API}/namespaces/shop/${plural}${name === undefined ? '' : `/${name}`}`;
export const HASH = 'a'.repeat(64);

export const refused = (answer: KubeAnswer<unknown>, message: RegExp): void => {
  assert.equal(answer.kind, 'Failed', `was let through; expected ${message}`);
  if (answer.kind !== 'Failed') return;
  assert.equal(answer.status, 403, answer.message);
  assert.match(answer.message, message);
};
export const allowed = <T>(answer: KubeAnswer<T>): T => {
  if (answer.kind === 'Failed') assert.fail(`${answer.status} ${answer.message}`);
  return answer.value;
};
export const object = (kind: string, name: string, spec: unknown, more: object = {}): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name },
  spec,
  ...more,
});
export const asForm = (metadata: object, more: object): object => ({ metadata, ...more });

export const MANAGED = { 'app.kubernetes.io/managed-by': 'sallyport' };
export const grant = { connectionRef: { name: 'orders' }, duration: '1h' };
export const vote = { targetRef: { kind: 'AccessGrant', name: 'g', uid: 'u' }, specHash: HASH, decision: 'Approve' };
export const lock = (user: string): object => ({ target: { user }, reason: 'left' });
export const stampOf = (user: string, group: string, more: object = {}): object => ({
  via: 'Kubernetes',
  username: user,
  uid: `uid-${user}`,
  groups: [group, 'system:authenticated'],
  specHash: HASH,
  nonce: 'n',
  at: '2026-03-01T09:00:00Z',
  seal: 'k.s',
  ...more,
});
export const bundle = (name: string, sequence: number): object =>
  object('EnforcementBundle', name, {
    connectionUid: 'u',
    shard: 'policy',
    epoch: 1,
    sequence,
    format: 1,
    payloadHash: HASH,
    payload: '{}',
    signatures: [{ keyId: 'k', signature: 's' }],
  });
export const hold = {
  connectionRef: { name: 'orders' },
  grantRef: { name: 'g', uid: 'u' },
  sessionId: 's',
  requester: { username: 'alice' },
  command: 'delete from orders',
  hiddenLiterals: 0,
  commandHash: HASH,
  rules: [],
  reason: 'r',
  requirements: [],
  requestedAt: '2026-03-01T09:00:00Z',
  until: '2026-03-01T09:01:00Z',
};
export const session = {
  connectionRef: { name: 'orders' },
  grantRef: { name: 'g', uid: 'u' },
  username: 'alice',
  account: 'reader',
  client: '10.0.0.1',
  replica: 'sallyport-orders-0',
  startedAt: '2026-03-01T09:00:00Z',
};
export const connection = (name: string, secret = 'orders-reader', more: object = {}): object =>
  object('Connection', name, {
    type: 'PostgreSQL',
    postgresql: { host: 'db.shop.svc' },
    accounts: [{ name: 'reader', secretRef: { name: secret } }],
    ...more,
  });
export const service = (name: string, labels: object, port = 80): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, labels },
  spec: { selector: { app: 'x' }, ports: [{ name: 'a', port }] },
});
export const tokenOf = (client: KubeClient, namespace: string, account: string): Promise<KubeAnswer<unknown>> =>
  client.create(`/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds: 3600 },
  });

/** Begins with the tests of the suite it is called in, and ends with them. What it has is there once they run. */
export function policiesBed() {
  let plane: ControlPlane;
  let admin: KubeClient;
  let alice: KubeClient;
  let dev: KubeClient;
  let operator: KubeClient & { podUid: string };
  let proxy: KubeClient & { podUid: string };
  let foreign: KubeClient & { podUid: string };
  const opened: KubeClient[] = [];
  const as = (user: string, username: string, groups?: string[]): KubeClient => {
    const client = createKubeClient(
      impersonating(plane.access(user), { username, ...(groups === undefined ? {} : { groups }) }),
    );
    opened.push(client);
    return client;
  };

  before(async () => {
    plane = await startControlPlane({
      users: [
        { name: 'alice', groups: ['payments'] },
        { name: 'bob', groups: ['payments'] },
        { name: 'dev', groups: ['developers'] },
        ...KUBERNETES_USERS,
      ],
    });
    admin = plane.clientFor();
    alice = plane.clientFor('alice');
    dev = plane.clientFor('dev');
    await applyChart(plane, ({ kind }) => kind !== 'MutatingWebhookConfiguration' && kind !== 'Deployment');
    const bind = (namespace: string, role: string, group: string): Parameters<ControlPlane['apply']>[0] => ({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: `${group}-${role.replaceAll(':', '-')}`, namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: group }],
    });
    await plane.apply(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'other' } },
      bind('shop', 'sallyport-requester', 'payments'),
      bind('shop', 'sallyport-security', 'payments'),
      bind('shop', 'sallyport-author', 'developers'),
      // What an editor and admin of a namespace have, apart from Secrets.
      bind('shop', 'edit-without-secrets', 'developers'),
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: 'edit-without-secrets' },
        rules: [
          {
            apiGroups: [''],
            resources: ['pods', 'pods/exec', 'pods/attach', 'pods/portforward', 'pods/ephemeralcontainers', 'services'],
            verbs: ['*'],
          },
          { apiGroups: [''], resources: ['serviceaccounts'], verbs: ['*'] },
          { apiGroups: [''], resources: ['serviceaccounts/token'], verbs: ['create'] },
          { apiGroups: ['apps'], resources: ['statefulsets', 'deployments', 'statefulsets/scale'], verbs: ['*'] },
          { apiGroups: ['sallyport.dev'], resources: ['*'], verbs: ['*'] },
        ],
      },
      // What the operator would make for its proxies; here they may try anything.
      ...['shop', 'other'].map((namespace) => bind(namespace, 'edit-without-secrets', 'system:serviceaccounts')),
    );
    operator = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-5d8f-x1',
      serviceAccount: 'sallyport',
    });
    proxy = await podClient(plane, {
      namespace: 'shop',
      name: 'sallyport-orders-0',
      serviceAccount: 'sallyport-orders',
    });
    foreign = await podClient(plane, {
      namespace: 'other',
      name: 'sallyport-orders-0',
      serviceAccount: 'sallyport-orders',
    });
    // Every policy, seen to refuse: before that, nothing below means anything.
    const probes: Record<string, () => Promise<KubeAnswer<unknown>>> = {
      grants: () => admin.create(inShop('accessgrants'), object('AccessGrant', 'p', grant), { dryRun: true }),
      approvals: () => admin.create(inShop('accessapprovals'), object('AccessApproval', 'p', vote), { dryRun: true }),
      locks: () => admin.create(inShop('accesslocks'), object('AccessLock', 'p', lock('bob')), { dryRun: true }),
      bundles: () => admin.create(inShop('enforcementbundles'), bundle('p', 1), { dryRun: true }),
      holds: () => admin.create(inShop('commandholds'), object('CommandHold', 'p', hold), { dryRun: true }),
      replicas: () => admin.create(inShop('proxyreplicas'), object('ProxyReplica', 'p', {}), { dryRun: true }),
      secrets: () => dev.create(inShop('connections'), connection('p'), { dryRun: true }),
      pods: () =>
        admin.create('/api/v1/namespaces/shop/pods', podObject({ name: 'p', serviceAccount: 'sallyport-x' }), {
          dryRun: true,
        }),
      tokens: () => tokenOf(admin, 'shop', 'sallyport-orders'),
      finalizers: () =>
        admin.create(
          inShop('accesslocks'),
          {
            ...object('AccessLock', 'p', { ...lock('bob'), author: stampOf('admin', 'system:masters') }),
            metadata: { name: 'p', finalizers: ['example.com/x'] },
          },
          { dryRun: true },
        ),
      managed: () => admin.create('/api/v1/namespaces/shop/services', service('p', MANAGED), { dryRun: true }),
    };
    for (const [name, probe] of Object.entries(probes)) {
      await until(`policy for ${name}`, probe, (answer) => answer.kind === 'Failed' && answer.status === 403);
    }
  });
  after(async () => {
    for (const client of [...opened, operator, proxy, foreign]) await client?.close();
    await plane?.stop();
  });

  return {
    get plane() {
      return plane;
    },
    get admin() {
      return admin;
    },
    get alice() {
      return alice;
    },
    get dev() {
      return dev;
    },
    get operator() {
      return operator;
    },
    get proxy() {
      return proxy;
    },
    get foreign() {
      return foreign;
    },
    as,
    /** Closed at the end. */
    opened,
  };
}
