// IdentityProviders on a real API server under the chart's own rights: the operator fetches, publishes and says how it
// stands; a proxy reads that one object by its name and nothing beside; people read where to log in and write nothing.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { IdentityProvider } from '../../src/api/identity-provider.ts';
import { type ObjectPublisher, openObjectPublisher } from '../../src/controllers/bundles/object-publisher.ts';
import { type Operator, startOperator } from '../../src/controllers/operator.ts';
import { createSealer } from '../../src/controllers/seal.ts';
import { openBundleStore } from '../../src/gateway/bundle-store.ts';
import { NO_METRICS } from '../../src/gateway/observer.ts';
import type { FeedEvent } from '../../src/gateway/ports.ts';
import { verifyToken } from '../../src/identity/oidc/verify-token.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { EVERY_CONNECTION, type IdentityShard, type ShardEnvelope } from '../../src/policy/bundle.ts';
import { signingKeyFromPem, signShard, trustedKeyOf, verifyShard } from '../../src/policy/bundle-signing.ts';
import { createKubeFeed, type KubeFeed } from '../../src/proxy/feed.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { applyChart, KUBERNETES_USERS, podClient, RELEASE_NAMESPACE, until } from '../support/chart.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { type Idp, startIdp } from '../support/idp.ts';

const skip = await skipWithoutCluster();
const PROVIDERS = '/apis/sallyport.dev/v1alpha1/identityproviders';
const BUNDLES = `/apis/sallyport.dev/v1alpha1/namespaces/${RELEASE_NAMESPACE}/enforcementbundles`;
const sources = { clock: systemClock, random: systemRandom, log: () => undefined };
const key = signingKeyFromPem(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
);
const trusted = [trustedKeyOf(key)];

describe('identity providers in a cluster', { skip }, () => {
  let plane: ControlPlane;
  let idp: Idp;
  let operatorClient: KubeClient;
  let proxy: KubeClient;
  let publisher: ObjectPublisher;
  let operator: Operator;
  let feed: KubeFeed | undefined;
  let epoch = 0;

  const start = async (): Promise<void> => {
    epoch += 1;
    publisher = await openObjectPublisher({
      ...sources,
      client: operatorClient,
      operatorNamespace: RELEASE_NAMESPACE,
      placeOf: () => undefined,
      trusted,
      onStored: () => undefined,
      onLost: (uid) => operator.republish(uid),
      onFenced: () => assert.fail('nobody else leads'),
    });
    operator = await startOperator({
      ...sources,
      store: openKubeStore({ client: operatorClient, ...sources }),
      definitions: [],
      sealer: createSealer(key),
      records: { write: () => Promise.resolve() },
      key,
      epoch,
      publisher,
      storedIdentity: { read: () => publisher.read(EVERY_CONNECTION, 'identity') },
      trusted,
      commonHeartbeat: true,
      broken: () => [],
      endpoint: () => undefined,
      caBundle: '',
      probe: () => Promise.resolve({ kind: 'Failed', reason: 'No probe here.', hint: '' }),
      prefix: 'kubectl access',
    });
  };
  const stop = async (): Promise<void> => {
    await operator.stop();
    await publisher.stop();
  };
  const spec = (change: object = {}): object => ({
    issuer: idp.issuer,
    caBundle: idp.ca,
    audiences: [{ audience: idp.audience, use: 'Access', clients: ['cli'] }],
    claims: { username: 'preferred_username', groups: 'groups' },
    ...change,
  });
  const object = (name: string, change: object = {}) => ({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'IdentityProvider',
    metadata: { name },
    spec: spec(change),
  });
  const ready = async (name: string): Promise<string> => {
    const answer = await plane.clientFor().get<IdentityProvider>(`${PROVIDERS}/${name}`);
    if (answer.kind === 'Failed') return answer.message;
    const found = answer.value.status?.conditions?.find(({ type }) => type === 'Ready');
    return found === undefined ? 'unknown' : `${found.status} ${found.reason}`;
  };
  const published = async (client: KubeClient): Promise<IdentityShard['providers']> => {
    const answer = await client.get<{ spec: ShardEnvelope }>(`${BUNDLES}/identity`);
    if (answer.kind === 'Failed') return [];
    const verdict = verifyShard(trusted, answer.value.spec);
    assert.equal(verdict.kind, 'Good');
    return verdict.kind === 'Good' ? (verdict.payload as IdentityShard).providers : [];
  };

  before(async () => {
    idp = await startIdp({ algorithm: 'ES256' });
    plane = await startControlPlane({ users: [{ name: 'alice', groups: ['payments'] }, ...KUBERNETES_USERS] });
    await applyChart(
      plane,
      ({ kind, metadata }) => kind !== 'Deployment' && !metadata.name.startsWith('sallyport-webhook'),
    );
    await plane.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
    operatorClient = await podClient(plane, {
      namespace: RELEASE_NAMESPACE,
      name: 'sallyport-a',
      serviceAccount: 'sallyport',
    });
    proxy = await podClient(plane, { namespace: 'shop', name: 'orders-0', serviceAccount: 'orders' });
    await start();
  });
  after(async () => {
    await feed?.stop();
    await stop();
    await Promise.all([operatorClient.close(), proxy.close()]);
    await idp.stop();
    await plane.stop();
  });

  test('the API server refuses what the schema does', async () => {
    const admin = plane.clientFor();
    const refused = async (change: object, message: RegExp): Promise<void> => {
      const answer = await admin.create(PROVIDERS, object('bad', change), { fieldValidation: 'Strict' });
      if (answer.kind === 'Ok') assert.fail(`${JSON.stringify(change)} was let through`);
      assert.match(answer.message, message);
    };
    await refused({ audiences: [{ audience: 'a', use: 'Access' }] }, /an audience of use Access needs clients/);
    await refused({ issuer: 'http://id.example' }, /spec\.issuer/);
    await refused({ algorithms: ['HS256'] }, /spec\.algorithms/);
    await refused({ secret: 'x' }, /unknown field "spec\.secret"/);
  });

  test('INV-12: the operator fetches and publishes; a proxy reads that object and no other; people only look', async () => {
    const made = await plane.clientFor().create(PROVIDERS, object('corp'), { fieldValidation: 'Strict' });
    assert.equal(made.kind, 'Ok', JSON.stringify(made));
    await until(
      'the provider',
      () => ready('corp'),
      (value) => value === 'True Ready',
    );
    const providers = await until(
      'the shard',
      () => published(proxy),
      (value) => value.length === 1,
    );
    const verdict = await verifyToken(await idp.tokenFor('alice'), { providers, uses: ['Access'], nowMs: Date.now() });
    assert.equal(verdict.kind, 'Good', JSON.stringify(verdict));
    const forbidden = async (answer: Promise<{ kind: string; status?: number }>, what: string): Promise<void> => {
      const { kind, status } = await answer;
      assert.deepEqual([kind, status], ['Failed', 403], what);
    };
    await forbidden(proxy.get(`${BUNDLES}/other`), 'another bundle');
    await forbidden(proxy.list(BUNDLES), 'all bundles');
    await forbidden(proxy.delete(`${BUNDLES}/identity`), 'deleting it');
    const alice = plane.clientFor('alice');
    assert.equal((await alice.get(`${PROVIDERS}/corp`)).kind, 'Ok', 'where to log in is for everybody');
    await forbidden(
      alice.patch(`${PROVIDERS}/corp`, { spec: { issuer: 'https://evil.example' } }, 'merge'),
      'changing it',
    );
    await forbidden(alice.create(PROVIDERS, object('hers')), 'making one');
    // A cluster administrator may do anything by RBAC; the status is the operator's word all the same.
    // Its policy bites some seconds after it was made.
    const forge = () => plane.clientFor().patch(`${PROVIDERS}/corp/status`, { status: { keys: 99 } }, 'merge');
    await until('the policy for statuses', forge, (answer) => answer.kind === 'Failed' && answer.status === 403);
  });

  test('INV-10: rotated keys reach a proxy by its feed, and no policy is any newer for it', async () => {
    feed = createKubeFeed({ ...sources, client: proxy, namespace: 'shop', operatorNamespace: RELEASE_NAMESPACE });
    const listeners = new Set<(event: FeedEvent) => void>();
    const store = openBundleStore({
      feed: {
        subscribe(listener) {
          listeners.add(listener);
          return () => void listeners.delete(listener);
        },
      },
      trustedKeys: () => trusted,
      serves: () => true,
      clock: systemClock,
      log: () => undefined,
      metrics: NO_METRICS,
      heartbeatMs: 300_000,
      onChange: () => undefined,
    });
    const tell = (event: FeedEvent): void => listeners.forEach((listener) => listener(event));
    const policy = {
      connection: { uid: 'c1', name: 'orders', namespace: 'shop', generation: 1, spec: {} },
      policies: [],
    };
    const envelope = signShard(key, { connectionUid: 'c1', shard: 'policy', epoch: 1, sequence: 1, payload: policy });
    tell({ kind: 'Shard', envelope });
    feed.subscribe(tell);
    const providersSeen = () => store.connection('c1')?.view?.identity?.providers ?? [];
    await until(
      'the first shard',
      () => Promise.resolve(providersSeen().length),
      (count) => count === 1,
    );
    const { generation } = store.connection('c1')!.view!;
    await idp.rotate({ dropOld: true });
    const fresh = await idp.tokenFor('alice');
    // As a new CA would: where the keys come from changes, so they are fetched at once.
    const patched = await plane.clientFor().patch(`${PROVIDERS}/corp`, { spec: { caBundle: `${idp.ca}\n` } }, 'merge');
    assert.equal(patched.kind, 'Ok');
    const good = async (): Promise<string> =>
      (await verifyToken(fresh, { providers: providersSeen(), uses: ['Access'], nowMs: Date.now() })).kind;
    await until('the new key', good, (kind) => kind === 'Good');
    assert.equal(store.connection('c1')?.view?.generation, generation);
    store.stop();
  });

  test('INV-04: with the issuer away a new leader believes what the one before signed; a deleted shard comes back', async () => {
    const token = await idp.tokenFor('alice');
    await stop();
    await idp.stop();
    await start();
    const providers = await until(
      'the shard',
      () => published(proxy),
      (value) => value.length === 1,
    );
    assert.equal((await verifyToken(token, { providers, uses: ['Access'], nowMs: Date.now() })).kind, 'Good');
    await until(
      'the condition',
      () => ready('corp'),
      (value) => value === 'True LastKeys',
    );
    const removed = await plane.clientFor().delete(`${BUNDLES}/identity`);
    // The chart's policies may keep even an administrator from it; where they do not, it is restored.
    if (removed.kind === 'Ok')
      await until(
        'the restored shard',
        () => published(proxy),
        (value) => value.length === 1,
      );
    const gone = await plane.clientFor().delete(`${PROVIDERS}/corp`);
    assert.equal(gone.kind, 'Ok');
    await until(
      'the end of it',
      () => published(proxy),
      (value) => value.length === 0,
    );
    assert.equal((await proxy.get(`${BUNDLES}/identity`)).kind, 'Ok', 'it says that nobody is trusted');
  });
});
