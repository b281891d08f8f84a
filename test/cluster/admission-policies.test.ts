// The chart's ValidatingAdmissionPolicies on a real API server, against people who try to get around them. The webhook is
// not there: what these policies refuse, they refuse by themselves.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { impersonating } from '../../src/kube/access.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import { applyChart, KUBERNETES_USERS, podClient, podObject, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';

const skip = await skipWithoutCluster();
const API = '/apis/sallyport.dev/v1alpha1';
const inShop = (plural: string, name?: string): string =>
  `${API}/namespaces/shop/${plural}${name === undefined ? '' : `/${name}`}`;
const HASH = 'a'.repeat(64);

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
const object = (kind: string, name: string, spec: unknown, more: object = {}): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name },
  spec,
  ...more,
});
const asForm = (metadata: object, more: object): object => ({ metadata, ...more });

describe('admission policies', { skip }, () => {
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

  const MANAGED = { 'app.kubernetes.io/managed-by': 'sallyport' };
  const grant = { connectionRef: { name: 'orders' }, duration: '1h' };
  const vote = { targetRef: { kind: 'AccessGrant', name: 'g', uid: 'u' }, specHash: HASH, decision: 'Approve' };
  const lock = (user: string): object => ({ target: { user }, reason: 'left' });
  const stampOf = (user: string, group: string, more: object = {}): object => ({
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
  const bundle = (name: string, sequence: number): object =>
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
  const hold = {
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
  const session = {
    connectionRef: { name: 'orders' },
    grantRef: { name: 'g', uid: 'u' },
    username: 'alice',
    account: 'reader',
    client: '10.0.0.1',
    replica: 'sallyport-orders-0',
    startedAt: '2026-03-01T09:00:00Z',
  };
  const connection = (name: string, secret = 'orders-reader', more: object = {}): object =>
    object('Connection', name, {
      type: 'PostgreSQL',
      postgresql: { host: 'db.shop.svc' },
      accounts: [{ name: 'reader', secretRef: { name: secret } }],
      ...more,
    });
  const service = (name: string, labels: object, port = 80): object => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, labels },
    spec: { selector: { app: 'x' }, ports: [{ name: 'a', port }] },
  });
  const tokenOf = (client: KubeClient, namespace: string, account: string): Promise<KubeAnswer<unknown>> =>
    client.create(`/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 3600 },
    });

  test('INV-08: without the webhook nothing unstamped gets in, by any door', async () => {
    const made = object('AccessGrant', 'g1', grant);
    for (const client of [alice, admin, operator]) {
      refused(await client.create(inShop('accessgrants'), made), /without a stamp of who made it|is forbidden: User/);
    }
    refused(
      await alice.create(inShop('accessgrants'), { ...made, metadata: { generateName: 'g-' } }),
      /webhook of Sallyport did not see it, so nothing was made/,
    );
    refused(await alice.create(inShop('accessgrants'), made, { dryRun: true }), /without a stamp/);
    refused(await admin.patch(inShop('accessgrants', 'g1'), made, 'apply', { fieldManager: 'x' }), /without a stamp/);
    refused(await alice.create(inShop('accessapprovals'), object('AccessApproval', 'a1', vote)), /A vote without/);
    refused(await alice.create(inShop('accesslocks'), object('AccessLock', 'l1', lock('bob'))), /A lock without/);
  });

  test('INV-08: a stamp names who sent it and nobody else', async () => {
    const own = stampOf('alice', 'payments');
    const lies: [object, RegExp][] = [
      [stampOf('bob', 'payments'), /names somebody else/],
      [{ ...own, username: 'Alice' }, /names somebody else/],
      [{ ...own, uid: 'uid-bob' }, /names somebody else/],
      [{ ...own, uid: undefined }, /names somebody else/],
      [{ ...own, groups: ['payments', 'dba', 'system:authenticated'] }, /names somebody else/],
      [{ ...own, groups: undefined }, /names somebody else/],
      [{ ...own, aliases: ['root'] }, /names somebody else/],
      [{ ...own, proof: 'token' }, /is a token, which is never stored/],
      [{ ...own, via: 'Portal' }, /via must be Kubernetes/],
      [{ ...own, via: 'Local' }, /via must be Kubernetes/],
      [{ ...own, seal: undefined }, /has no seal/],
      [{ ...own, nonce: undefined }, /has no seal/],
    ];
    for (const [requester, message] of lies) {
      refused(
        await alice.create(inShop('accessgrants'), object('AccessGrant', 'g2', { ...grant, requester })),
        message,
      );
    }
    refused(
      await alice.create(
        inShop('accessapprovals'),
        object('AccessApproval', 'a2', { ...vote, approver: stampOf('bob', 'payments') }),
      ),
      /spec\.approver names somebody else/,
    );
    refused(
      await admin.create(inShop('accesslocks'), object('AccessLock', 'l2', { ...lock('bob'), author: own })),
      /spec\.author names somebody else/,
    );
    // Impersonation: the request is the impersonated person's, so a stamp of the person behind is a lie.
    const bobByAdmin = as('admin', 'bob', ['payments', 'system:authenticated']);
    refused(
      await bobByAdmin.create(
        inShop('accessgrants'),
        object('AccessGrant', 'g2', { ...grant, requester: stampOf('admin', 'system:masters') }),
      ),
      /names somebody else/,
    );
    // The user's own, well formed: it gets in, and its bad seal is for the controller to see.
    allowed(await alice.create(inShop('accessgrants'), object('AccessGrant', 'g-own', { ...grant, requester: own })));
  });

  test('INV-08: a request can not be changed, nor take its status along', async () => {
    const requester = stampOf('alice', 'payments');
    const made = allowed(
      await alice.create<{ status?: object }>(
        inShop('accessgrants'),
        object('AccessGrant', 'g3', { ...grant, requester }, { status: { phase: 'Active' } }),
      ),
    );
    assert.equal(made.status, undefined);
    const changed = await admin.patch(
      inShop('accessgrants', 'g3'),
      { spec: { requester: { username: 'bob' } } },
      'merge',
    );
    assert.equal(changed.kind === 'Failed' ? changed.status : 0, 422);
    const ssa = allowed(
      await admin.patch<{ status?: object }>(
        inShop('accessgrants', 'g3'),
        object('AccessGrant', 'g3', { ...grant, requester }, { status: { phase: 'Active' } }),
        'apply',
        { fieldManager: 'x', force: true },
      ),
    );
    assert.equal(ssa.status, undefined);
  });

  test('INV-03: nobody makes a request that can not be deleted, or makes it so later', async () => {
    const requester = stampOf('alice', 'payments');
    const held = object('AccessGrant', 'g4', { ...grant, requester });
    const finalizers = ['example.com/never'];
    refused(
      await alice.create(inShop('accessgrants'), { ...held, metadata: { name: 'g4', finalizers } }),
      /Finalizers are refused here/,
    );
    allowed(await alice.create(inShop('accessgrants'), held));
    refused(await admin.patch(inShop('accessgrants', 'g4'), { metadata: { finalizers } }, 'merge'), /Finalizers are/);
    allowed(await admin.patch(inShop('accessgrants', 'g4'), { metadata: { labels: { a: 'b' } } }, 'merge'));
    allowed(await admin.delete(inShop('accessgrants', 'g4'), { propagationPolicy: 'Foreground' }));
    // The garbage collector takes its own mark off; here nobody else does.
    const collector = plane.clientFor('system:serviceaccount:kube-system:generic-garbage-collector');
    allowed(await collector.patch(inShop('accessgrants', 'g4'), { metadata: { finalizers: null } }, 'merge'));
    const gone = await admin.get(inShop('accessgrants', 'g4'));
    assert.ok(gone.kind === 'Failed' && gone.status === 404);
  });

  test('INV-03: a lock is not changed, and nobody lifts the one that shuts them out', async () => {
    const author = stampOf('alice', 'payments');
    const make = async (name: string, target: object): Promise<void> => {
      allowed(await alice.create(inShop('accesslocks'), object('AccessLock', name, { target, reason: 'r', author })));
    };
    await make('of-bob', { user: 'bob' });
    await make('of-alice', { user: 'ALICE' });
    await make('of-payments', { group: 'payments' });
    refused(
      await admin.patch(inShop('accesslocks', 'of-bob'), { spec: { target: { user: 'carol' } } }, 'merge'),
      /A lock can not be changed/,
    );
    refused(await alice.delete(inShop('accesslocks', 'of-alice')), /Nobody lifts a lock/);
    refused(await alice.delete(inShop('accesslocks', 'of-payments')), /Nobody lifts a lock/);
    const bob = plane.clientFor('bob');
    refused(await bob.delete(inShop('accesslocks', 'of-bob')), /Nobody lifts a lock/);
    allowed(await bob.delete(inShop('accesslocks', 'of-alice')));
    allowed(await alice.delete(inShop('accesslocks', 'of-bob')));
    allowed(await admin.delete(inShop('accesslocks', 'of-payments')));
  });

  test('only the operator, in its own pod, writes status and bundles', async () => {
    const active = asForm({}, { status: { phase: 'Active' } });
    const path = `${inShop('accessgrants', 'g-own')}/status`;
    const impostors: [string, KubeClient][] = [
      ['cluster admin', admin],
      ['proxy', proxy],
      [
        'impersonated operator',
        as('admin', `system:serviceaccount:${RELEASE_NAMESPACE}:sallyport`, ['system:masters']),
      ],
      ['operator of another namespace', as('admin', 'system:serviceaccount:shop:sallyport', ['system:masters'])],
    ];
    for (const [who, client] of impostors) {
      const answer = await client.patch(path, active, 'merge');
      assert.equal(answer.kind, 'Failed', who);
      refused(answer, /Only Sallyport's operator writes this/);
      refused(await client.create(inShop('enforcementbundles'), bundle('b1', 1)), /Only Sallyport's operator/);
    }
    allowed(await operator.patch(path, active, 'merge'));
    allowed(await operator.create(inShop('enforcementbundles'), bundle('b1', 1)));
    allowed(await operator.patch(inShop('enforcementbundles', 'b1'), { spec: { sequence: 2 } }, 'merge'));
    refused(
      await admin.patch(inShop('enforcementbundles', 'b1'), { metadata: { labels: { a: 'b' } } }, 'merge'),
      /Only Sallyport's operator/,
    );
    for (const [who, client] of [['cluster-admin', admin], ...impostors] as const) {
      const answer = await client.delete(inShop('enforcementbundles', 'b1'));
      assert.equal(answer.kind, 'Failed', who);
      refused(answer, /Only Sallyport's operator deletes this/);
    }
    const kubernetes = ['generic-garbage-collector', 'namespace-controller'].map((name) =>
      as('admin', `system:serviceaccount:kube-system:${name}`, ['system:masters']),
    );
    for (const client of kubernetes) allowed(await client.delete(inShop('enforcementbundles', 'b1'), { dryRun: true }));
    // What a Connection leaves behind on request: its owner is taken out, and nothing else is changed.
    const [garbage, namespaces] = kubernetes;
    const unowned = { metadata: { ownerReferences: null } };
    const owned = { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' }] } };
    allowed(await operator.patch(inShop('enforcementbundles', 'b1'), owned, 'merge'));
    refused(await namespaces!.patch(inShop('enforcementbundles', 'b1'), unowned, 'merge'), /Only Sallyport's operator/);
    const more = { ...unowned, spec: { sequence: 3 } };
    refused(await garbage!.patch(inShop('enforcementbundles', 'b1'), more, 'merge'), /Only Sallyport's operator/);
    allowed(await garbage!.patch(inShop('enforcementbundles', 'b1'), unowned, 'merge'));
    allowed(await operator.delete(inShop('enforcementbundles', 'b1')));
  });

  test('INV-12: holds and sessions are told by a proxy of the namespace, from its own pod', async () => {
    const made = object('CommandHold', 'h1', hold);
    refused(await admin.create(inShop('commandholds'), made), /are told by the proxies that have them/);
    refused(await dev.create(inShop('commandholds'), made), /are told by the proxies/);
    // Editors may impersonate ServiceAccounts of their namespace; a pod they can not be.
    const worn = as('dev', 'system:serviceaccount:shop:sallyport-orders');
    refused(await worn.create(inShop('commandholds'), made), /are told by the proxies/);
    const forged = createKubeClient({
      ...plane.access('dev'),
      headers: async () => ({
        ...(await plane.access('dev').headers()),
        'impersonate-user': 'system:serviceaccount:shop:sallyport-orders',
        'impersonate-extra-authentication.kubernetes.io%2fpod-name': 'sallyport-orders-0',
      }),
    });
    opened.push(forged);
    refused(await forged.create(inShop('commandholds'), made), /cannot impersonate resource "userextras/);
    const other = await foreign.create(inShop('commandholds'), made);
    assert.equal(other.kind, 'Failed');
    const told = (kind: string, name: string, spec: object, replica?: string): object =>
      object(kind, name, spec, {
        metadata: { name, ...(replica === undefined ? {} : { labels: { 'sallyport.dev/replica': replica } }) },
      });
    for (const replica of [undefined, 'sallyport-vault-0', 'sallyport-orders-1'])
      refused(
        await proxy.create(inShop('commandholds'), told('CommandHold', 'h1', hold, replica)),
        /must name the proxy/,
      );
    allowed(await proxy.create(inShop('commandholds'), told('CommandHold', 'h1', hold, 'sallyport-orders-0')));
    allowed(await operator.create(inShop('commandholds'), told('CommandHold', 'h2', hold, 'sallyport-orders-x-0')));
    refused(
      await proxy.patch(`${inShop('commandholds', 'h2')}/status`, { status: { phase: 'Withdrawn' } }, 'merge'),
      /only proxies of that workload go on/,
    );
    refused(
      await proxy.patch(
        inShop('commandholds', 'h1'),
        { metadata: { labels: { 'sallyport.dev/replica': 'x' } } },
        'merge',
      ),
      /only proxies of that workload go on/,
    );

    const status = `${inShop('commandholds', 'h1')}/status`;
    const phase = (value: string): object => ({ status: { phase: value } });
    refused(await proxy.patch(status, phase('Approved'), 'merge'), /A proxy does not decide/);
    refused(await admin.patch(status, phase('Approved'), 'merge'), /are told by the proxies/);
    allowed(await proxy.patch(status, phase('Waiting'), 'merge'));
    allowed(await operator.patch(status, phase('Approved'), 'merge'));
    allowed(await proxy.patch(status, { status: { usedAt: '2026-03-01T09:00:30Z' } }, 'merge'));
    allowed(await proxy.patch(status, phase('Withdrawn'), 'merge'));

    refused(
      await dev.create(inShop('accesssessions'), object('AccessSession', 's1', session)),
      /are told by the proxies/,
    );
    const elsewhere = { ...session, replica: 'sallyport-vault-0' };
    for (const [spec, replica] of [
      [elsewhere, 'sallyport-orders-0'],
      [elsewhere, 'sallyport-vault-0'],
      [session, 'sallyport-vault-0'],
    ] as const) {
      const lie = await proxy.create(inShop('accesssessions'), told('AccessSession', 's1', spec, replica));
      refused(lie, /must name the proxy/);
    }
    allowed(await proxy.create(inShop('accesssessions'), told('AccessSession', 's1', session, 'sallyport-orders-0')));
    allowed(await alice.delete(inShop('accesssessions', 's1')));
  });

  test('a ProxyReplica is the word of the one pod of its name', async () => {
    const path = inShop('proxyreplicas', 'sallyport-orders-0');
    refused(
      await proxy.create(inShop('proxyreplicas'), object('ProxyReplica', 'sallyport-orders-0', {})),
      /made by the operator/,
    );
    const name = (value: string): object => object('ProxyReplica', value, {});
    allowed(await operator.create(inShop('proxyreplicas'), name('sallyport-orders-0')));
    allowed(await operator.create(inShop('proxyreplicas'), name('sallyport-orders-1')));
    const spec = { spec: { version: '1', podUid: proxy.podUid } };
    for (const client of [admin, dev, as('dev', 'system:serviceaccount:shop:sallyport-orders')]) {
      refused(await client.patch(path, spec, 'merge'), /written by the pod of its name/);
    }
    refused(
      await proxy.patch(inShop('proxyreplicas', 'sallyport-orders-1'), spec, 'merge'),
      /written by the pod of its name/,
    );
    refused(await proxy.patch(path, { spec: { podUid: 'another' } }, 'merge'), /not the uid of the pod/);
    for (const metadata of [
      { labels: { a: 'b' } },
      { finalizers: ['a.example.com/x'] },
      { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] },
    ]) {
      refused(
        await proxy.patch(path, { metadata }, 'merge'),
        /not its labels, owners or finalizers|Finalizers are refused here/,
      );
    }
    allowed(await proxy.patch(path, spec, 'merge'));
    refused(
      await proxy.patch(`${path}/status`, { status: { certificate: 'mine' } }, 'merge'),
      /Only Sallyport's operator/,
    );
    allowed(await operator.patch(`${path}/status`, { status: { certificate: 'yours' } }, 'merge'));
  });

  test('INV-05: who may not read a Secret has no proxy use it', async () => {
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
