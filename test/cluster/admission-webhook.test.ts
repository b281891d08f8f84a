// The stamping webhook behind a real API server, run with the operator's own ServiceAccount and rights.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { AccessGrantSpec } from '../../src/api/grant.ts';
import type { Resource } from '../../src/api/resource.ts';
import { type Admission, startAdmission } from '../../src/controllers/admission/start.ts';
import { type Authority, authorityOf, makeAuthorityKeys } from '../../src/controllers/pki/authority.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { impersonating } from '../../src/kube/access.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import { signingKeyFromPem } from '../../src/policy/bundle-signing.ts';
import { postgresDefinition } from '../../src/protocols/postgres/definition.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { applyChart, KUBERNETES_USERS, podClient, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';

const skip = await skipWithoutCluster();
const GRANTS = '/apis/sallyport.dev/v1alpha1/namespaces/shop/accessgrants';
const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sallyport';
const sources = { clock: systemClock, random: systemRandom };
const sealer = createSealer(
  signingKeyFromPem(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()),
);
type Grant = Resource<'AccessGrant', AccessGrantSpec>;

const grant = (name: string, spec: object = {}): object => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessGrant',
  metadata: name.endsWith('-') ? { generateName: name } : { name },
  spec: { connectionRef: { name: 'orders' }, duration: '1h', reason: 'INC-1', ...spec },
});
const made = (answer: KubeAnswer<Grant>): Grant => {
  if (answer.kind === 'Failed') assert.fail(`${answer.status} ${answer.message}`);
  return answer.value;
};
const whoOf = ({ spec, metadata }: Grant): string => {
  const check = sealer.checkStamp(spec.requester, spec, metadata.creationTimestamp);
  return check.kind === 'Good' ? check.principal.username : check.message;
};

describe('stamping webhook', { skip }, () => {
  let plane: ControlPlane;
  let alice: KubeClient;
  let operator: KubeClient;
  let authority: Authority;
  let admission: Admission;
  const opened: KubeClient[] = [];
  const serve = (own: Authority, port = 0): Promise<Admission> =>
    startAdmission({
      client: operator,
      namespace: RELEASE_NAMESPACE,
      authority: own,
      sealer,
      protocols: [postgresDefinition.rules],
      ...sources,
      log: () => undefined,
      port,
      host: '127.0.0.1',
    });
  const bundle = async (): Promise<string> => {
    const answer = await plane.clientFor().get<{ webhooks: { clientConfig: { caBundle?: string } }[] }>(CONFIGURATION);
    if (answer.kind === 'Failed') return '';
    return Buffer.from(answer.value.webhooks[0]!.clientConfig.caBundle ?? '', 'base64').toString();
  };
  /** There are no Services without a node: the name leads to this process. */
  const leadTo = async (port: number): Promise<void> => {
    await plane.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'sallyport-webhook', namespace: RELEASE_NAMESPACE },
      spec: { type: 'ExternalName', externalName: 'localhost' },
    });
    const answer = await plane.clientFor().patch(
      CONFIGURATION,
      [0, 1].map((index) => ({ op: 'add', path: `/webhooks/${index}/clientConfig/service/port`, value: port })),
      'json',
    );
    assert.equal(answer.kind, 'Ok');
  };
  const tryGrant = (): Promise<KubeAnswer<Grant>> => alice.create<Grant>(GRANTS, grant('probe'), { dryRun: true });

  before(async () => {
    plane = await startControlPlane({ users: [{ name: 'alice', groups: ['payments'] }, ...KUBERNETES_USERS] });
    alice = plane.clientFor('alice');
    await applyChart(plane, ({ kind, metadata }) => kind !== 'Deployment' && metadata.name !== 'sallyport-webhook');
    await applyChart(plane, ({ kind }) => kind === 'MutatingWebhookConfiguration');
    await plane.apply(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'requester', namespace: 'shop' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'sallyport-requester' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'payments' }],
      },
    );
    operator = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-a',
      serviceAccount: 'sallyport',
    });
    opened.push(operator);
    authority = await authorityOf(await makeAuthorityKeys('Sallyport CA', sources), sources);
    admission = await serve(authority);
    await leadTo(admission.port);
    await until(
      'readiness',
      async () => admission.ready(),
      ({ ok }) => ok,
    );
    await until('the webhook', tryGrant, ({ kind }) => kind === 'Ok');
  });
  after(async () => {
    await admission?.stop();
    for (const client of opened) await client.close();
    await plane?.stop();
  });

  test('a guardrail that could not be in force is refused with its reason, and stored where nobody answers', async () => {
    const GUARDRAILS = '/apis/sallyport.dev/v1alpha1/clusteraccesspolicies';
    const admin = plane.clientFor();
    const guardrail = (name: string, column: string): object => ({
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'ClusterAccessPolicy',
      metadata: { name },
      spec: { connectionSelector: {}, masking: [{ name: 'cards', columns: [column] }] },
    });
    const good = await admin.create(GUARDRAILS, guardrail('good', 'public.cards.number'));
    assert.equal(good.kind, 'Ok', JSON.stringify(good));
    const bad = await admin.create(GUARDRAILS, guardrail('bad', 'a.b.c.d.e'));
    assert.ok(bad.kind === 'Failed');
    assert.equal(bad.status, 422);
    assert.match(bad.message, /guardrail\.sallyport\.dev.*cards.*Nothing was changed/);
    await leadTo(1);
    const stored = await admin.create(GUARDRAILS, guardrail('bad', 'a.b.c.d.e'));
    assert.equal(stored.kind, 'Ok', 'GitOps does not wait for the operator');
    await leadTo(admission.port);
    await until('the webhook', tryGrant, ({ kind }) => kind === 'Ok');
  });

  test('INV-08: the request is stamped with whom the API server authenticated, under a seal that holds', async () => {
    const one = made(await alice.create<Grant>(GRANTS, grant('g1')));
    assert.equal(whoOf(one), 'alice');
    assert.deepEqual(one.spec.requester?.groups, ['payments', 'system:authenticated']);
    assert.equal(one.spec.requester?.uid, 'uid-alice');
    const two = made(await alice.create<Grant>(GRANTS, grant('g-')));
    assert.equal(whoOf(two), 'alice');
    assert.notEqual(one.spec.requester?.nonce, two.spec.requester?.nonce);
    const { stdout } = await plane.kubectl(['create', '-n', 'shop', '-f', '-', '-o', 'name'], {
      user: 'alice',
      input: JSON.stringify(grant('by-kubectl-')),
    });
    assert.match(stdout, /accessgrant\.sallyport\.dev\/by-kubectl-/);
    const worn = createKubeClient(
      impersonating(plane.access(), { username: 'bob', groups: ['payments', 'system:authenticated'] }),
    );
    opened.push(worn);
    const bobs = made(await worn.create<Grant>(GRANTS, grant('g-')));
    assert.equal(whoOf(bobs), 'bob');
    assert.equal(bobs.spec.requester?.uid, undefined);
  });

  test('INV-08: a stamp of one’s own making is refused', async () => {
    const theirs = made(await alice.create<Grant>(GRANTS, grant('g2')));
    for (const requester of [theirs.spec.requester, { via: 'Kubernetes', username: 'alice' }]) {
      const answer = await alice.create<Grant>(GRANTS, grant('g3', { requester }));
      assert.ok(answer.kind === 'Failed' && answer.status === 422);
      assert.match(answer.message, /spec\.requester: is written at admission.*Nothing was made/);
    }
  });

  test('what can never work is told at once, with its field', async () => {
    const answer = await alice.create<Grant>(GRANTS, grant('g4', { clientKey: 'A'.repeat(43) }));
    assert.ok(answer.kind === 'Failed' && answer.status === 422);
    assert.match(answer.message, /spec\.clientKey: is no Ed25519 public key/);
  });

  test('a dry run is answered like the real thing and leaves nothing', async () => {
    const answer = made(await alice.create<Grant>(GRANTS, grant('g5'), { dryRun: true }));
    assert.equal(answer.spec.requester?.username, 'alice');
    const after = await alice.get(`${GRANTS}/g5`);
    assert.ok(after.kind === 'Failed' && after.status === 404);
  });

  test('applying the chart again, either way, leaves whom to trust alone', async () => {
    const before = await bundle();
    assert.ok(before.includes('BEGIN CERTIFICATE'));
    await applyChart(plane, ({ kind }) => kind === 'MutatingWebhookConfiguration');
    await leadTo(admission.port);
    assert.equal(await bundle(), before);
    made(await alice.create<Grant>(GRANTS, grant('g-')));
  });

  test('INV-10: whom to trust is put back when somebody takes it away or makes the configuration anew', async () => {
    const admin = plane.clientFor();
    const before = await bundle();
    await admin.patch(CONFIGURATION, [{ op: 'remove', path: '/webhooks/0/clientConfig/caBundle' }], 'json');
    await until('the bundle', bundle, (text) => text === before);
    await admin.delete(CONFIGURATION);
    await until(
      'the complaint',
      async () => admission.ready(),
      ({ ok, reasons }) => !ok && /is not there/.test(reasons[0]!),
    );
    // Without the webhook nothing gets in.
    const answer = await until('the refusal', tryGrant, ({ kind }) => kind === 'Failed');
    assert.match(answer.kind === 'Failed' ? answer.message : '', /without a stamp/);
    await applyChart(plane, ({ kind }) => kind === 'MutatingWebhookConfiguration');
    await leadTo(admission.port);
    await until('the bundle', bundle, (text) => text === before);
    await until('the webhook', tryGrant, ({ kind }) => kind === 'Ok');
  });

  test('INV-10: while the authority is rotated both are trusted, and no request is refused', async () => {
    const next = await authorityOf(await makeAuthorityKeys('Sallyport CA', sources), sources);
    let refusals = 0;
    let asked = 0;
    let going = true;
    const asking = (async () => {
      while (going) {
        asked += 1;
        const answer = await tryGrant();
        if (answer.kind === 'Failed') refusals += 1;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    const second = await serve(next);
    await until(
      'readiness',
      async () => second.ready(),
      ({ ok }) => ok,
    );
    const both = await bundle();
    assert.equal(both.match(/BEGIN CERTIFICATE/g)?.length, 2);
    // What kubelet does with a ready pod, and then with the one before it.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await leadTo(second.port);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.ok(admission.ready().ok, 'the earlier one does not quarrel');
    await admission.stop();
    admission = second;
    await new Promise((resolve) => setTimeout(resolve, 500));
    going = false;
    await asking;
    assert.equal(refusals, 0, `${refusals} of ${asked} refused`);
    assert.ok(asked > 10);
  });

  test('with no operator requests are refused, and Connections and policies go on', async () => {
    await admission.stop();
    const answer = await alice.create<Grant>(GRANTS, grant('g6'));
    assert.ok(answer.kind === 'Failed' && answer.status >= 500, JSON.stringify(answer));
    assert.match(answer.message, /stamp\.sallyport\.dev/);
    const policy = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: 'team' },
      spec: { connectionSelector: {}, subjects: [{ kind: 'Group', name: 'payments' }], accounts: ['reader'] },
    };
    const stored = await plane
      .clientFor()
      .create('/apis/sallyport.dev/v1alpha1/namespaces/shop/accesspolicies', policy);
    assert.equal(stored.kind, 'Ok', JSON.stringify(stored));
  });
});
