// Notifiers and tickets on a real API server: the controllers and the webhook with the operator's own ServiceAccount and
// rights, the chart's policies beside them. Only the way to the receivers is the test's: they are on loopback, which the
// operator's dial guard refuses.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { specHash } from '../../src/api/canonical.ts';
import type { AccessApproval, AccessGrant } from '../../src/api/grant.ts';
import type { AnyNotifier } from '../../src/api/notifier.ts';
import { clusterNotifierServices } from '../../src/cli/cluster/notifiers.ts';
import { type Admission, startAdmission } from '../../src/controllers/admission/start.ts';
import { type Operator, startOperator } from '../../src/controllers/operator.ts';
import { authorityOf, makeAuthorityKeys } from '../../src/controllers/pki/authority.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import { postgresDefinition } from '../../src/protocols/postgres/definition.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { applyChart, KUBERNETES_USERS, podClient, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { type NotifyServers, startNotifyServers } from '../support/notify-scene.ts';

const skip = await skipWithoutCluster();
const sources = { clock: systemClock, random: systemRandom };
const key = signingKeyFromPem(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
);
const sealer = createSealer(key);
const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sallyport';
const api = (plural: string, name = '', namespace: string | undefined = 'shop'): string =>
  `/apis/sallyport.dev/v1alpha1/${namespace === '' ? '' : `namespaces/${namespace}/`}${plural}${name && `/${name}`}`;
const ok = <T>(answer: KubeAnswer<T>): T => {
  if (answer.kind === 'Failed') assert.fail(`${answer.status} ${answer.message}`);
  return answer.value;
};
const object = (kind: string, name: string, namespace: string | undefined, spec: object) => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  spec,
});
const secret = (name: string, namespace: string, stringData: Record<string, string>) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name, namespace },
  stringData,
});

describe('notifiers in a cluster', { skip }, () => {
  let plane: ControlPlane;
  let admin: KubeClient;
  let rights: KubeClient;
  let admission: Admission;
  let servers: NotifyServers;
  let operator: Operator | undefined;

  const start = async (epoch: number): Promise<Operator> =>
    startOperator({
      store: openKubeStore({ client: rights, ...sources }),
      definitions: [postgresDefinition],
      sealer,
      records: { write: () => Promise.resolve() },
      ...sources,
      log: () => undefined,
      key,
      epoch,
      publisher: { publish: () => undefined, withdraw: () => undefined },
      broken: () => [],
      endpoint: () => undefined,
      caBundle: '',
      probe: () => Promise.resolve({ kind: 'Failed', reason: 'none', hint: '' }),
      prefix: 'kubectl access',
      notifiers: {
        ...clusterNotifierServices({
          client: rights,
          namespace: RELEASE_NAMESPACE,
          key: key.privateKey,
          apiServer: undefined,
          env: {},
          clock: systemClock,
          count: () => undefined,
        }),
        dial: () => (to) =>
          new Promise((resolve, reject) => {
            const socket = connect(to.port, '127.0.0.1');
            socket.once('connect', () => resolve(socket));
            socket.once('error', reject);
          }),
      },
    });

  before(async () => {
    servers = await startNotifyServers();
    plane = await startControlPlane({
      users: [
        { name: 'alice', groups: ['payments'] },
        { name: 'ticket:snow', groups: ['payments'] },
        ...KUBERNETES_USERS,
      ],
    });
    admin = plane.clientFor();
    await applyChart(plane, ({ kind, metadata }) => kind !== 'Deployment' && metadata.name !== 'sallyport-webhook', [
      'notifiers.secrets={snow,slack}',
    ]);
    await plane.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
    await plane.apply(
      ...['requester', 'approver'].map((role) => ({
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: role, namespace: 'shop' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: `sallyport-${role}` },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'payments' }],
      })),
    );
    const { slack, serviceNow, open, certificates } = servers;
    const snow = { username: serviceNow.username, password: serviceNow.password, 'sallyport-hosts': 'localhost' };
    await plane.apply(
      secret('snow', RELEASE_NAMESPACE, snow),
      secret('slack', RELEASE_NAMESPACE, { token: slack.token, 'sallyport-hosts': 'localhost' }),
      secret('unnamed', RELEASE_NAMESPACE, { token: slack.token, 'sallyport-hosts': 'localhost' }),
      secret('slack', 'shop', { token: slack.token, 'sallyport-hosts': 'localhost' }),
      object('ClusterNotifier', 'snow', undefined, {
        type: 'ServiceNow',
        serviceNow: {
          url: serviceNow.url,
          secretRef: { name: 'snow' },
          accounts: [{ username: 'alice', account: '1'.repeat(32) }],
        },
        caBundle: certificates.ca,
      }),
      ...['slack', 'unnamed'].map((name) =>
        object('ClusterNotifier', name, undefined, {
          type: 'Slack',
          slack: { tokenSecretRef: { name }, channel: slack.channel, apiUrl: `${slack.url}/api` },
          caBundle: certificates.ca,
        }),
      ),
      object('Notifier', 'own', 'shop', {
        type: 'Slack',
        slack: { tokenSecretRef: { name: 'slack' }, channel: slack.channel, apiUrl: `${slack.url}/api` },
      }),
      object('Notifier', 'team', 'shop', {
        type: 'Webhook',
        webhook: { url: `${open.url}/team` },
        caBundle: certificates.ca,
      }),
      object('Connection', 'orders', 'shop', {
        type: 'PostgreSQL',
        postgresql: { host: 'db.example' },
        accounts: [{ name: 'reader', secretRef: { name: 'orders' } }],
      }),
      object('AccessPolicy', 'changes', 'shop', {
        connectionSelector: {},
        subjects: [{ kind: 'Group', name: 'payments' }],
        accounts: ['reader'],
        ticket: { notifier: { name: 'snow' }, pattern: '^CHG[0-9]{7}$', states: ['-1'], autoApprove: true },
        approval: { steps: [{ name: 'lead', approvers: [{ kind: 'User', name: 'ticket:snow' }] }] },
        rules: [{ name: 'all', action: 'Allow' }],
      }),
    );
    rights = await podClient(plane, { namespace: RELEASE_NAMESPACE, name: 'sallyport-a', serviceAccount: 'sallyport' });
    admission = await startAdmission({
      client: rights,
      namespace: RELEASE_NAMESPACE,
      authority: await authorityOf(await makeAuthorityKeys('Sallyport CA', sources), sources),
      sealer,
      protocols: [postgresDefinition.rules],
      ...sources,
      log: () => undefined,
      port: 0,
      host: '127.0.0.1',
    });
    await plane.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'sallyport-webhook', namespace: RELEASE_NAMESPACE },
      spec: { type: 'ExternalName', externalName: 'localhost' },
    });
    ok(
      await admin.patch(
        CONFIGURATION,
        [0, 1].map((index) => ({
          op: 'add',
          path: `/webhooks/${index}/clientConfig/service/port`,
          value: admission.port,
        })),
        'json',
      ),
    );
    await until(
      'the webhook',
      async () => admission.ready(),
      (ready) => ready.ok,
    );
    await until(
      'a stamp',
      () => plane.clientFor('alice').create(api('accessgrants'), request('probe', 'CHG0000000'), { dryRun: true }),
      ({ kind }) => kind === 'Ok',
    );
    operator = await start(1);
  });
  after(async () => {
    await operator?.stop();
    await admission?.stop();
    await rights?.close();
    await plane?.stop();
    await servers?.stop();
  });

  const request = (name: string, ticket: string): object =>
    object('AccessGrant', name, 'shop', { connectionRef: { name: 'orders' }, duration: '1h', ticket });
  const ask = async (name: string, ticket: string): Promise<AccessGrant> =>
    ok(await plane.clientFor('alice').create<AccessGrant>(api('accessgrants'), request(name, ticket)));
  const change = (number: string, account: string): void =>
    void servers.serviceNow.changes.set(number, {
      number,
      state: '-1',
      stateName: 'Implement',
      approval: 'approved',
      approvers: [{ account, state: 'approved', userName: 'carl', email: 'carl@corp.example', name: 'Carl' }],
      workNotes: [],
    });
  const inPhase = (name: string, phase: string): Promise<AccessGrant> =>
    until(
      `${name} to be ${phase}`,
      async () => ok(await admin.get<AccessGrant>(api('accessgrants', name))),
      ({ status }) => status?.phase === phase,
    );
  const ready = (kind: 'notifiers' | 'clusternotifiers', name: string, want: (message: string) => boolean) =>
    until(
      `the condition of ${name}`,
      async () => {
        const { status } = ok(await admin.get<AnyNotifier>(api(kind, name, kind === 'notifiers' ? 'shop' : '')));
        return status?.conditions?.find(({ type }) => type === 'Ready')?.message ?? '';
      },
      want,
    );

  test('INV-08: an approved change is a vote that the API server lets the operator alone cast, once over a kill', async () => {
    change('CHG0000001', '2'.repeat(32));
    servers.serviceNow.fail(/sysapproval_approver/, { kind: 'Slow', ms: 500 });
    const grant = await ask('g1', 'CHG0000001');
    await operator?.stop();
    operator = await start(2);
    await inPhase('g1', 'Active');
    const votes = ok(await admin.list<AccessApproval>(api('accessapprovals'))).items.filter(
      ({ spec }) => spec.targetRef.uid === grant.metadata.uid,
    );
    assert.deepEqual(
      votes.map(({ spec }) => `${spec.approver!.via} ${spec.approver!.username} ${spec.decision}`).sort(),
      ['Ticket ticket-check:snow Approve', 'Ticket ticket:snow Approve'],
    );
    // The same vote by somebody else, with the operator's own stamp on it, and by a person of that very name.
    change('CHG0000002', '1'.repeat(32));
    const own = await ask('g2', 'CHG0000002');
    const spec = {
      targetRef: { kind: 'AccessGrant', name: 'g2', uid: own.metadata.uid },
      specHash: specHash(own.spec),
      decision: 'Approve',
    };
    for (const client of [admin, plane.clientFor('alice')]) {
      const approver = votes.find(({ spec: each }) => each.approver?.username === 'ticket:snow')!.spec.approver;
      const copied = await client.create(
        api('accessapprovals'),
        object('AccessApproval', 'forged', 'shop', { ...spec, approver }),
      );
      assert.equal(copied.kind, 'Failed');
    }
    const person = await plane
      .clientFor('ticket:snow')
      .create<AccessApproval>(api('accessapprovals'), object('AccessApproval', 'person', 'shop', spec));
    const seen = await until(
      'the verdict',
      async () => ok(await admin.get<AccessApproval>(api('accessapprovals', ok(person).metadata.name))),
      ({ status }) => status?.conditions?.[0] !== undefined,
    );
    assert.equal(seen.status?.conditions?.[0]?.status, 'False');
    assert.equal(ok(await admin.get<AccessGrant>(api('accessgrants', 'g2'))).status?.phase, 'Pending');
  });

  test('INV-12: a namespace’s notifier has no Secret, and the operator reads none that is not named to it', async () => {
    assert.match(await ready('notifiers', 'own', (text) => text !== ''), /In a cluster a Notifier has no Secret/);
    assert.match(
      await ready('clusternotifiers', 'unnamed', (text) => text.includes('may not read')),
      /may not read Secret sallyport-system\/unnamed: name it in the chart’s value notifiers\.secrets/,
    );
    for (const path of [
      '/api/v1/namespaces/shop/secrets/slack',
      '/api/v1/namespaces/sallyport-system/secrets/unnamed',
    ]) {
      const answer = await rights.get(path);
      assert.ok(answer.kind === 'Failed' && answer.status === 403);
    }
    await ready('clusternotifiers', 'slack', (text) => text === 'The last message was taken.');
    await ready('notifiers', 'team', (text) => text === 'The last message was taken.');
    assert.ok(servers.slack.messages.some(({ text }) => text.includes('g1')));
    assert.ok(servers.open.calls.some(({ body }) => body.includes('"g1"')));
    assert.ok(servers.serviceNow.changes.get('CHG0000001')!.workNotes.some((note) => note.includes('has access')));
  });
});
