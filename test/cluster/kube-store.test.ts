// The ResourceStore over a real API server with the real CRDs.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { API_GROUP_VERSION } from '../../src/api/group.ts';
import type { Resource } from '../../src/api/resource.ts';
import { KubeFailedError } from '../../src/kube/answer.ts';
import { kindPath, openKubeStore } from '../../src/store/kube/store.ts';
import type { NewObject, ResourceStore, StoreResult, WatchEvent } from '../../src/store/resource-store.ts';
import { type ControlPlane, skipWithoutCluster, startControlPlane } from '../support/cluster/control-plane.ts';
import { until } from '../support/cluster/until.ts';

const skip = await skipWithoutCluster();
const OPERATOR = { kind: 'Operator' } as const;
let plane: ControlPlane;
let store: ResourceStore;

const grant = (name: string, spec: Record<string, unknown> = {}): NewObject => ({
  apiVersion: API_GROUP_VERSION,
  kind: 'AccessGrant',
  metadata: { name, namespace: 'default', labels: { team: 'payments' } },
  spec: { connectionRef: { name: 'orders-db' }, duration: '1h', reason: 'INC-1234', ...spec },
});
const ok = (result: StoreResult<Resource>): Resource => {
  assert.ok(result.kind === 'Ok', JSON.stringify(result));
  return result.value;
};

before(async () => {
  if (skip !== false) return;
  plane = await startControlPlane({ crds: true, users: [{ name: 'alice' }] });
  store = openKubeStore({ client: plane.clientFor() });
});
after(() => plane?.stop());

test('an object is made, read, listed and deleted', { skip }, async () => {
  const made = ok(await store.create(OPERATOR, grant('one')));
  assert.equal(made.metadata.generation, 1);
  assert.equal(made.kind, 'AccessGrant');
  assert.ok(!('managedFields' in made.metadata));
  assert.deepEqual(await store.get({ kind: 'AccessGrant', namespace: 'default', name: 'one' }), made);
  assert.deepEqual((await store.list('AccessGrant')).items, [made]);
  assert.deepEqual((await store.list('AccessGrant', 'kube-system')).items, []);
  assert.equal(
    (await store.delete(OPERATOR, { kind: 'AccessGrant', namespace: 'default', name: 'one' }, 'other')).kind,
    'Conflict',
  );
  assert.equal(
    (await store.delete(OPERATOR, { kind: 'AccessGrant', namespace: 'default', name: 'one' }, made.metadata.uid)).kind,
    'Ok',
  );
  assert.equal(
    (await store.delete(OPERATOR, { kind: 'AccessGrant', namespace: 'default', name: 'one' })).kind,
    'NotFound',
  );
  assert.equal(await store.get({ kind: 'AccessGrant', namespace: 'default', name: 'one' }), undefined);
});

test('a name that ends in a dash is completed, a taken one is told', { skip }, async () => {
  const made = ok(await store.create(OPERATOR, grant('orders-db-')));
  assert.match(made.metadata.name, /^orders-db-[a-z0-9]{5}$/);
  assert.equal((await store.create(OPERATOR, grant(made.metadata.name))).kind, 'AlreadyExists');
});

test('what the schema refuses comes with its fields, unknown fields included', { skip }, async () => {
  const wrong = await store.create(OPERATOR, grant('wrong', { duration: 'soon' }));
  assert.equal(wrong.kind, 'Invalid');
  assert.ok(
    wrong.kind === 'Invalid' && wrong.problems.some((problem) => problem.startsWith('spec.duration: ')),
    JSON.stringify(wrong),
  );
  const unknown = await store.create(OPERATOR, grant('wrong', { raeson: 'x' }));
  assert.ok(
    unknown.kind === 'Invalid' && unknown.problems.some((problem) => problem === 'spec.raeson: unknown field'),
    JSON.stringify(unknown),
  );
});

test('a status is written over the version it was decided on only, and alone', { skip }, async () => {
  const made = ok(await store.create(OPERATOR, grant('status')));
  const key = { kind: 'AccessGrant', namespace: 'default', name: 'status' } as const;
  const written = ok(
    await store.applyStatus(OPERATOR, key, made.metadata.resourceVersion, { phase: 'Pending', message: 'waits' }),
  );
  assert.deepEqual(written.status, { phase: 'Pending', message: 'waits' });
  assert.deepEqual(written.spec, made.spec);
  const late = await store.applyStatus(OPERATOR, key, made.metadata.resourceVersion, { phase: 'Active' });
  assert.equal(late.kind, 'Conflict');
  const replaced = ok(await store.applyStatus(OPERATOR, key, written.metadata.resourceVersion, { phase: 'Denied' }));
  assert.deepEqual(replaced.status, { phase: 'Denied' }, 'what the new status leaves out is gone');
  const same = ok(await store.applyStatus(OPERATOR, key, replaced.metadata.resourceVersion, { phase: 'Denied' }));
  assert.equal(same.metadata.resourceVersion, replaced.metadata.resourceVersion, 'nothing changes, nothing is written');
  const wrong = await store.applyStatus(OPERATOR, key, replaced.metadata.resourceVersion, { phase: 'Nonsense' });
  assert.ok(
    wrong.kind === 'Invalid' && wrong.problems.some((problem) => problem.includes('status.phase')),
    JSON.stringify(wrong),
  );
  assert.equal(
    (await store.applyStatus(OPERATOR, { ...key, name: 'nobody' }, '1', { phase: 'Denied' })).kind,
    'NotFound',
  );
});

test('fields that this program does not know survive a status', { skip }, async () => {
  const client = plane.clientFor();
  const made = ok(await store.create(OPERATOR, grant('foreign')));
  const path = kindPath('AccessGrant', { namespace: 'default', name: 'foreign' });
  const annotated = await client.patch<Resource>(path, { metadata: { finalizers: ['example.com/later'] } }, 'merge');
  assert.equal(annotated.kind, 'Ok');
  const version = annotated.kind === 'Ok' ? annotated.value.metadata.resourceVersion : '';
  const key = { kind: 'AccessGrant', namespace: 'default', name: 'foreign' } as const;
  const written = ok(await store.applyStatus(OPERATOR, key, version, { phase: 'Denied' }));
  assert.deepEqual((written.metadata as { finalizers?: string[] }).finalizers, ['example.com/later']);
  assert.equal(written.metadata.uid, made.metadata.uid);
});

test('who may not is told so, and a read that is refused throws', { skip }, async () => {
  const alice = openKubeStore({ client: plane.clientFor('alice') });
  const refused = await alice.create(OPERATOR, grant('alice'));
  assert.ok(refused.kind === 'Forbidden' && refused.message.includes('alice'), JSON.stringify(refused));
  await assert.rejects(alice.list('AccessGrant'), KubeFailedError);
});

test('a watch tells what came after a list, and goes on when the API server restarts', { skip }, async () => {
  const { resourceVersion } = await store.list('AccessLock');
  const seen: string[] = [];
  let gone = 0;
  const stop = store.watch(
    'AccessLock',
    resourceVersion,
    ({ type, object }: WatchEvent) => seen.push(`${type} ${object.metadata.name}`),
    () => gone++,
  );
  const lock = (name: string): NewObject => ({
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessLock',
    metadata: { name, namespace: 'default' },
    spec: { target: { everything: true }, reason: 'drill' },
  });
  ok(await store.create(OPERATOR, lock('first')));
  await until(() => seen.includes('Added first'));
  await plane.killApiServer();
  await plane.startApiServer();
  ok(await store.create(OPERATOR, lock('second')));
  await store.delete(OPERATOR, { kind: 'AccessLock', namespace: 'default', name: 'first' });
  await until(() => seen.includes('Deleted first') || gone > 0);
  if (gone === 0) assert.deepEqual(seen, ['Added first', 'Added second', 'Deleted first']);
  stop();
});

test('a watch from before a compaction says that it must be listed anew', { skip }, async () => {
  const { resourceVersion } = await store.list('AccessGrant');
  for (let index = 0; index < 5; index++) ok(await store.create(OPERATOR, grant('compacted-')));
  await plane.compact();
  await plane.killApiServer();
  await plane.startApiServer();
  let gone = 0;
  const stop = store.watch(
    'AccessGrant',
    resourceVersion,
    () => undefined,
    () => gone++,
  );
  await until(() => gone === 1);
  stop();
});
