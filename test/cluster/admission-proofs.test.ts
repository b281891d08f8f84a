// What the approval page and pipelines make, on a real API server: the webhook with the operator's own rights, the chart's
// policies beside it, the portal's ServiceAccount in its pod, and everybody who would like to be it. INV-08, INV-12.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { Agent, fetch } from 'undici';
import { specHash } from '../../src/api/canonical.ts';
import type { AccessGrant } from '../../src/api/grant.ts';
import { createClusterWorld } from '../../src/cli/cluster/portal-cluster.ts';
import { createSignal, followSignals } from '../../src/controllers/identity-providers/signal.ts';
import { publishTrust } from '../../src/controllers/pki/trust.ts';
import { encryptProof, proofKeyOf, publishedProofKey } from '../../src/identity/proof-encryption.ts';
import { impersonating } from '../../src/kube/access.ts';
import { createKubeClient } from '../../src/kube/client.ts';
import { signingKeyFromPem, trustedKeyOf } from '../../src/policy/bundle-signing.ts';
import type { NewObject } from '../../src/store/resource-store.ts';
import { CI, CORP, GITHUB_JOB, token } from '../hostile/identity/scene.ts';
import { RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { skipWithoutCluster } from '../support/cluster/control-plane.ts';
import {
  act,
  api,
  type Carried,
  CONFIGURATION,
  carry,
  key,
  PLURALS,
  PORTAL,
  pipeline,
  proofsBed,
  request,
  sealer,
  seconds,
  sources,
  trusted,
  vote,
} from './proofs-bed.ts';

const skip = await skipWithoutCluster();

describe('proofs at admission', { skip }, () => {
  const bed = proofsBed();

  test('INV-04: without the issuers’ keys no proof is taken, and with them the same one is', async () => {
    const { portal, create, made, refused, publish } = bed;
    const one = await act(request());
    refused(await create(portal, one), /keys are not known yet/, 503);
    await publish(1, trusted());
    const stored = await until(
      'the keys',
      () => create(portal, one),
      ({ kind }) => kind === 'Ok',
    );
    const { requester } = made(stored).spec;
    assert.deepEqual(
      { ...requester, nonce: '', at: '', seal: '', specHash: '', auth: { ...requester!.auth, at: '' } },
      {
        via: 'Portal',
        username: 'corp:alice',
        uid: `${CORP} u-alice`,
        groups: ['corp:payments', 'corp:dba'],
        aliases: ['alice', 'alice@corp.example'],
        auth: { acr: 'mfa', at: '' },
        nonce: '',
        at: '',
        seal: '',
        specHash: '',
      },
    );
    const { spec, metadata } = made(stored);
    assert.equal(sealer.checkStamp(spec.requester, spec, metadata.creationTimestamp).kind, 'Good');
    assert.ok(!JSON.stringify(made(stored)).includes('eyJ'));
  });

  test('INV-08: an act on the page is stamped as whoever logged in for it, once', async () => {
    const { portal, create, made, refused } = bed;
    const one = await act(vote(), { sub: 'u-boss', preferred_username: 'boss' });
    assert.equal(made(await create(portal, one)).spec.approver?.username, 'corp:boss');
    refused(await create(portal, one), /This was done already/, 409);
    const inClear = await act(vote(), {}, { clear: true });
    assert.equal(made(await create(portal, inClear)).spec.approver?.via, 'Portal');
  });

  test('INV-08: the portal’s process, with its own rights, sees what there is and makes what people prove', async () => {
    const { portal, operator, logged, refused } = bed;
    const world = createClusterWorld({
      client: portal,
      namespace: RELEASE_NAMESPACE,
      ...sources,
      log: (_level, message, details) => void logged.push(`${message} ${JSON.stringify(details)}`),
    });
    try {
      const trustedKeys = [trustedKeyOf(key)];
      const proofKey = publishedProofKey(proofKeyOf(key));
      await publishTrust({ client: operator, namespace: RELEASE_NAMESPACE, trusted: trustedKeys, proofKey });
      await until(
        'its first look',
        () => Promise.resolve(world.trouble()),
        (trouble) => trouble === undefined,
      );
      await until('the providers', world.providers, (found) => found.length === 2);
      assert.equal(await world.cluster(), key.keyId);
      const told = new Promise<void>((resolve) => void world.onChange(resolve));
      // In clear: encrypting is the world’s part.
      const { body, bare } = await act(request({ reason: 'by the portal' }), {}, { clear: true });
      const object = { ...body, metadata: { ...body.metadata, namespace: bare.namespace } } as NewObject;
      const result = await world.create(object);
      assert.equal(result.kind, 'Made', JSON.stringify([result, logged.slice(-3)]));
      await told;
      assert.equal((await world.create(object)).kind, 'Exists');
      const altered = { ...object, spec: { ...(object.spec as object), reason: 'other' } };
      const refusal = await world.create({ ...altered, metadata: { ...object.metadata, name: 'orders-1' } });
      assert.match(refusal.kind === 'Refused' ? refusal.message : '', /proves another act/, JSON.stringify(refusal));
      const grants = await until(
        'the grant in its view',
        () => world.list<AccessGrant>('AccessGrant'),
        (found) => found.some(({ spec }) => spec.reason === 'by the portal'),
      );
      assert.ok(grants.every(({ kind }) => kind === 'AccessGrant'));
      for (const kind of ['Connection', 'AccessPolicy', 'AccessApproval', 'CommandHold'] as const)
        await world.list(kind);
      assert.deepEqual(await world.sessions(), []);
    } finally {
      await world.stop();
    }
    // It reads and creates, and nothing else.
    for (const kept of [
      await portal.delete(api('accessgrants', 'shop', 'x')),
      await portal.list('/api/v1/secrets'),
      await portal.patch(api('accessgrants', 'shop', 'x/status'), { status: {} }, 'merge'),
      await portal.list('/apis/sallyport.dev/v1alpha1/clusteraccesspolicies'),
    ])
      refused(kept, /forbidden|cannot/);
  });

  test('INV-08: the page can neither alter what was decided nor say who decided', async () => {
    const { portal, create, made, refused } = bed;
    const one = await act(vote());
    const altered = async (change: object, message: RegExp, status = 403): Promise<void> => {
      const body = { ...one.body, spec: { ...one.body.spec, ...change } };
      refused(await create(portal, { ...one, body }), message, status);
    };
    for (const change of [
      { decision: 'Deny' },
      { reason: 'other' },
      { specHash: 'b'.repeat(64) },
      { targetRef: { kind: 'AccessGrant', name: 'orders-7fk2p', uid: 'another' } },
      { targetRef: { kind: 'CommandHold', name: 'orders-7fk2p', uid: 'uid-of-it' } },
    ]) {
      await altered(change, /proves another act/);
    }
    const { proof } = one;
    for (const approver of [
      { via: 'Portal', proof, username: 'corp:boss' },
      { via: 'Portal', proof, groups: ['dba'] },
      { via: 'Portal', proof: [proof] },
    ]) {
      await altered({ approver }, /nothing is said of who made this/, 422);
    }
    await altered({ approver: { via: 'Pipeline', proof } }, /decides nothing/);
    await altered({ approver: { via: 'Portal' } }, /never by the author/, 422);
    await altered({ approver: { via: 'Kubernetes', proof } }, /never by the author/, 422);
    await altered({ approver: { via: 'Ticket', proof } }, /never by the author/, 422);
    await altered({ approver: { via: 'Local', username: 'boss', proof } }, /never by the author/, 422);
    refused(await create(portal, { ...one, bare: { ...one.bare, namespace: 'other' } }), /proves another act/);
    const renamed = { ...one, body: { ...one.body, metadata: { name: 'orders-7fk2p-0000000000000000' } } };
    refused(await create(portal, renamed), /not named after its proof/);
    const generated = {
      ...one,
      body: { ...one.body, metadata: { generateName: 'x-' } },
    };
    refused(await create(portal, generated), /named after/, 422);
    const owned = {
      ...one,
      body: {
        ...one.body,
        metadata: {
          ...one.body.metadata,
          ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'gone', uid: 'gone' }],
        },
      },
    };
    refused(await create(portal, owned), /has no owner/, 422);
    made(await create(portal, one));
  });

  test('INV-08: a login that is old, of another installation, kind or issuer proves nothing', async () => {
    const { portal, logged, create, refused } = bed;
    refused(await create(portal, await act(vote(), {}, { age: 150 })), /older than two minutes/);
    refused(await create(portal, await act(vote(), {}, { cluster: 'ffffffffffffffff' })), /proves another act/);
    refused(await create(portal, await act(vote(), { aud: 'wiki' })), /Nobody vouches/);
    refused(await create(portal, await act(vote(), { aud: 'sallyport', azp: 'cli' })), /Nobody vouches/);
    refused(await create(portal, await act(vote(), { iss: CI })), /The key of the proof is not known here/, 503);
    refused(await create(portal, await act(vote(), { aud: 'marked' })), /Nobody vouches/);
    assert.ok(
      logged.some((line) => /login of another client/.test(line)),
      logged.join('\n'),
    );
    refused(await create(portal, await act(vote(), { exp: seconds() - 60, iat: seconds() - 100 })), /Nobody vouches/);
    refused(await create(portal, await act(vote(), { preferred_username: '\u202eecila' })), /Nobody vouches/);
    const forged = await act(vote());
    const stranger = await encryptProof(
      'AAAAAAAAAAAAAAAAAAAAAA.a.b.c',
      publishedProofKey(
        proofKeyOf(
          signingKeyFromPem(
            generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
          ),
        ),
      ),
    );
    const spec = { ...forged.body.spec, approver: { via: 'Portal', proof: stranger } };
    refused(await create(portal, { ...forged, body: { ...forged.body, spec } }), /not encrypted for this operator/);
    // The cause is in the operator's log; the token nowhere.
    assert.ok(
      logged.some((line) => /\(Audience\)/.test(line)),
      logged.join('\n'),
    );
    assert.ok(logged.some((line) => /\(ForbiddenName\)/.test(line)));
    assert.ok(!logged.some((line) => line.includes(forged.idToken.slice(0, 40))));
  });

  test('INV-08: nobody but the page’s own pod brings a proof', async () => {
    const { plane, operator, opened, create, refused } = bed;
    const alice = plane.clientFor('alice');
    const admin = plane.clientFor();
    const worn = createKubeClient(impersonating(plane.access(), { username: PORTAL, groups: ['system:masters'] }));
    opened.push(worn);
    for (const client of [alice, admin]) {
      refused(await create(client, await act(vote())), /Only the approval page/);
      refused(await create(client, await pipeline(request())), /Only the approval page/);
    }
    // Whoever may impersonate the page passes the webhook and not the policy: there is no pod behind it.
    refused(await create(worn, await act(vote())), /via must be Kubernetes/);
    refused(await create(worn, await pipeline(request())), /via must be Kubernetes/);
    refused(await create(operator, await act(vote())), /Only the approval page|is forbidden/);
    const lock = {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessLock',
      metadata: { name: 'l' },
      spec: { target: { user: 'bob' }, reason: 'r', author: { via: 'Portal', proof: (await act(vote())).proof } },
    };
    refused(await admin.create(api('accesslocks'), lock), /never by the author/, 422);
  });

  test('a pipeline’s token makes one grant, with what it proved, in whichever namespace', async () => {
    const { portal, create, made, refused } = bed;
    const one = await pipeline(request());
    const { requester } = made(await create(portal, one)).spec;
    assert.equal(requester?.via, 'Pipeline');
    assert.equal(requester?.uid, `${CI} 74`);
    assert.equal(requester?.workload?.provider, 'ci');
    assert.equal(requester?.workload?.claims['ref'], GITHUB_JOB.ref);
    assert.deepEqual(requester?.aliases, ['repo:corp/app:ref:refs/heads/main', 'bob']);
    refused(await create(portal, one), /made its grant already/, 409);
    const longer = await pipeline(request({ duration: '2h' }), {}, one.workload);
    refused(await create(portal, longer), /made its grant already/, 409);
    refused(
      await create(portal, await pipeline(request({}, 'other'), {}, one.workload)),
      /made its grant already/,
      409,
    );
    const two = await pipeline(request());
    made(await create(portal, two));
    const fork = await pipeline(request(), { event_name: 'pull_request_target' });
    assert.equal(made(await create(portal, fork)).spec.requester?.workload?.claims['ref'], undefined);
  });

  test('INV-08: one token at two replicas in two namespaces at once makes one grant', async () => {
    const { portal, create, replica } = bed;
    // The API server asks one replica; the other is asked here, as it would ask it.
    const second = await replica();
    const direct = new Agent({ connect: { rejectUnauthorized: false } });
    const review = async ({ bare, body }: Carried, uid: string): Promise<{ allowed: boolean; status?: object }> => {
      const kind = { group: 'sallyport.dev', version: 'v1alpha1', kind: bare.kind };
      const resource = { group: 'sallyport.dev', version: 'v1alpha1', resource: PLURALS[bare.kind] };
      const userInfo = { username: PORTAL };
      const asked = { uid, kind, resource, namespace: bare.namespace, operation: 'CREATE', userInfo, object: body };
      const answer = await fetch(`https://127.0.0.1:${second.port}/stamp`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request: asked }),
        dispatcher: direct,
      });
      return ((await answer.json()) as { response: { allowed: boolean } }).response;
    };
    try {
      await until(
        'the keys',
        async () => review(await pipeline(request()), randomUUID()),
        ({ allowed }) => allowed,
      );
      for (let round = 0; round < 5; round += 1) {
        const here = await pipeline(request());
        const there = await pipeline(request({}, 'other'), {}, here.workload);
        const [one, other] = await Promise.all([create(portal, here), review(there, randomUUID())]);
        assert.equal([one.kind === 'Ok', other.allowed].filter(Boolean).length, 1, JSON.stringify([one, other]));
      }
    } finally {
      await direct.close();
      await second.stop();
    }
  });

  test('INV-08: what a proof made and somebody deleted it does not make again; a dry run uses no proof', async () => {
    const { plane, portal, operator, create, made, refused } = bed;
    const admin = plane.clientFor();
    for (const one of [await act(request()), await pipeline(request())]) {
      made(await create(portal, one, { dryRun: true }));
      const { metadata } = made(await create(portal, one));
      const gone = await admin.delete(api('accessgrants', 'shop', metadata.name));
      assert.equal(gone.kind, 'Ok', JSON.stringify(gone));
      refused(await create(portal, one), /already/, 409);
      refused(await create(portal, one, { dryRun: true }), /already/, 409);
    }
    const kept = await operator.list<{ spec: object }>(
      `/apis/coordination.k8s.io/v1/namespaces/${RELEASE_NAMESPACE}/leases`,
    );
    assert.ok(kept.kind === 'Ok' && kept.value.items.length > 2);
    assert.ok(!JSON.stringify(kept.value).includes('eyJ'));
  });

  test('INV-11: that an issuer may have a new key reaches the replica that leads, from whom the chart lets', async () => {
    const { plane, portal, operator, refused } = bed;
    const heard: string[] = [];
    const common = { namespace: RELEASE_NAMESPACE, ...sources, log: () => undefined };
    const following = followSignals({ client: operator, ...common, onUnknownKey: (name) => void heard.push(name) });
    try {
      const lease = `/apis/coordination.k8s.io/v1/namespaces/${RELEASE_NAMESPACE}/leases/sallyport-unknown-keys`;
      await until(
        'the Lease',
        () => operator.get(lease),
        ({ kind }) => kind === 'Ok',
      );
      await following.listening;
      const began = performance.now();
      // A replica that does not lead, and the approval page.
      createSignal({ client: operator, ...common })('corp');
      await until(
        'the first',
        async () => heard.length,
        (count) => count === 1,
      );
      const page = createSignal({ client: portal, ...common });
      for (let count = 0; count < 20; count += 1) page('ci');
      await until(
        'the second',
        async () => heard.length,
        (count) => count >= 2,
      );
      assert.deepEqual(heard, ['corp', 'ci']);
      assert.ok(performance.now() - began < 10_000);
      refused(
        await plane.clientFor('alice').patch(lease, { metadata: { annotations: { a: 'b' } } }, 'merge'),
        /forbidden/,
      );
    } finally {
      await following.stop();
    }
  });

  test('INV-08: a pipeline decides nothing, and gives up only by its own token', async () => {
    const { portal, create, made, refused } = bed;
    refused(await create(portal, await pipeline(vote())), /decides nothing/);
    const gaveUp = made(await create(portal, await pipeline(vote({ decision: 'Withdraw' }))));
    assert.equal(gaveUp.spec.approver?.uid, `${CI} 74`);
    refused(await create(portal, await pipeline(request(), { aud: 'sallyport' })), /Nobody vouches/);
    const person = token({ claims: { iat: seconds() - 1, exp: seconds() + 300 } });
    refused(await create(portal, await pipeline(request(), {}, person)), /Nobody vouches/);
  });

  test('the operator’s own vote for a ticket comes sealed, from its own pod, and nobody else’s does', async () => {
    const { plane, portal, operator, opened, create, made, refused } = bed;
    const bare = vote({ reason: 'CHG-1 is approved' });
    const unsealed = {
      via: 'Ticket' as const,
      username: 'ticket:jira',
      specHash: specHash(bare.spec),
      nonce: 'n-1',
      at: new Date().toISOString(),
    };
    const own = { ...unsealed, seal: sealer.sealStamp(unsealed) };
    await plane.apply({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'operator-votes', namespace: 'shop' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'sallyport-approver' },
      subjects: [{ kind: 'ServiceAccount', name: 'sallyport', namespace: RELEASE_NAMESPACE }],
    });
    const admin = plane.clientFor();
    const worn = createKubeClient(
      impersonating(plane.access(), {
        username: `system:serviceaccount:${RELEASE_NAMESPACE}:sallyport`,
        groups: ['system:masters'],
      }),
    );
    opened.push(worn);
    for (const client of [admin, plane.clientFor('alice'), portal]) {
      refused(await create(client, carry(bare, 't-1', own)), /never by the author/, 422);
    }
    refused(await create(worn, carry(bare, 't-1', own)), /via must be Kubernetes/);
    for (const wrong of [
      { ...own, username: 'ticket:other' },
      { ...own, seal: 's' },
      { ...own, via: 'Portal' },
    ]) {
      refused(await create(operator, carry(bare, 't-1', wrong)), /never by the author/, 422);
    }
    refused(await create(operator, carry(vote({ reason: 'other' }), 't-1', own)), /never by the author/, 422);
    const named = { ...unsealed, username: 'boss' };
    const asBoss = { ...named, seal: sealer.sealStamp(named) };
    refused(await create(operator, carry(bare, 't-1', asBoss)), /via must be Kubernetes/);
    const stored = await until(
      'the right to vote',
      () => create(operator, carry(bare, 't-1', own)),
      (answer) => answer.kind === 'Ok' || answer.status !== 403,
    );
    assert.deepEqual(made(stored).spec.approver, own);
  });

  test('INV-08: with a webhook that lies, or none, the policies still let nobody name others', async () => {
    const { plane, portal, create, refused } = bed;
    const admin = plane.clientFor();
    const stamp = {
      via: 'Portal',
      username: 'corp:boss',
      uid: `${CORP} u-boss`,
      specHash: 'a'.repeat(64),
      nonce: 'n',
      at: new Date().toISOString(),
      seal: 's',
    };
    const configuration = await admin.get<{ webhooks: { name: string }[] }>(CONFIGURATION);
    assert.ok(configuration.kind === 'Ok');
    await admin.delete(CONFIGURATION);
    const body = (more: object, name = 'forged'): Carried => carry(vote(), name, { ...stamp, ...more });
    const alice = plane.clientFor('alice');
    await until(
      'the webhook to be gone',
      () => create(portal, body({ seal: undefined }), { dryRun: true }),
      (answer) => answer.kind === 'Failed' && /has no seal/.test(answer.message),
    );
    for (const client of [alice, admin]) {
      for (const via of ['Portal', 'Pipeline', 'Local', 'Ticket']) {
        refused(await create(client, body({ via })), /via must be Kubernetes/);
      }
      refused(await create(client, body({ via: 'Kubernetes' })), /names somebody else/);
    }
    const me = { via: 'Kubernetes', username: 'alice', uid: 'uid-alice', groups: ['payments', 'system:authenticated'] };
    for (const more of [
      { kubernetes: 'boss' },
      { workload: { provider: 'ci', claims: {} } },
      { auth: { acr: 'mfa' } },
    ]) {
      refused(await create(alice, body({ ...me, ...more })), /names somebody else/);
    }
    for (const more of [{ username: 'system:admin' }, { username: PORTAL }, { uid: undefined }, { uid: '' }]) {
      refused(await create(portal, body(more)), /nobody whom a token could have proven/);
    }
    refused(await create(portal, body({ proof: 'x' })), /is a token, which is never stored/);
    const lock = carry(vote(), 'l', undefined).body;
    const locked = { ...lock, kind: 'AccessLock', spec: { target: { user: 'bob' }, reason: 'r', author: stamp } };
    refused(await admin.create(api('accesslocks'), locked), /via must be Kubernetes/);
  });
});
