import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AccessGrant } from '../../api/grant.ts';
import type { Resource } from '../../api/resource.ts';
import type { KindName, StoreResult } from '../resource-store.ts';
import type { DirectoryStore } from './store.ts';
import {
  alice,
  grantOf,
  hold,
  names,
  newObject,
  ok,
  operator,
  policyYaml,
  proxy,
  testFolders,
  testStore,
} from './test-store.ts';

test('objects of the directory keep uid and generation over restarts; a new one of the name is another', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  const open = (): DirectoryStore => testStore(t, folders).store;
  const key = { kind: 'AccessPolicy', namespace: 'payments', name: 'p' } as const;
  let store = open();
  const first = (await store.get(key))!.metadata;
  assert.equal(first.generation, 1);
  store.close();
  store = open();
  assert.deepEqual((await store.get(key))!.metadata, first);

  folders.write('a.yaml', policyYaml('p', '{ names: [x] }'));
  store.reload();
  const second = (await store.get(key))!.metadata;
  assert.deepEqual([second.uid, second.generation], [first.uid, 2]);
  assert.ok(Number(second.resourceVersion) > Number(first.resourceVersion));
  folders.write('a.yaml', policyYaml('p', '{ names: [x] }').replace('name: p', 'name: p\n  labels: { a: b }'));
  store.reload();
  assert.equal((await store.get(key))!.metadata.generation, 2);
  folders.remove('a.yaml');
  folders.write('moved/b.yaml', policyYaml('p'));
  store.reload();
  assert.equal((await store.get(key))!.metadata.uid, first.uid);

  folders.remove('moved/b.yaml');
  store.reload();
  assert.equal(await store.get(key), undefined);
  store.close();
  folders.write('a.yaml', policyYaml('p'));
  store = open();
  const again = (await store.get(key))!.metadata;
  assert.notEqual(again.uid, first.uid);
  assert.ok(Number(again.resourceVersion) > Number(second.resourceVersion));
});

test('nobody can change what everybody is handed', async (t) => {
  const folders = testFolders(t);
  const { store } = testStore(t, folders);
  const spec = { connectionRef: { name: 'orders-db' } };
  const grant = ok(await store.create<AccessGrant>(alice, newObject('AccessGrant', 'g', spec)));
  spec.connectionRef.name = 'other';
  assert.equal(
    (await store.get<AccessGrant>({ kind: 'AccessGrant', namespace: 'payments', name: 'g' }))!.spec.connectionRef.name,
    'orders-db',
  );
  assert.throws(() => {
    grant.spec.connectionRef.name = 'other';
  }, TypeError);
});

test('names: taken, generated, not written right; objects too large', async (t) => {
  const folders = testFolders(t);
  const { store } = testStore(t, folders);
  ok(await store.create(alice, grantOf('g')));
  assert.equal((await store.create(alice, grantOf('g'))).kind, 'AlreadyExists');
  assert.equal((await store.create(alice, grantOf('Not a name'))).kind, 'Invalid');
  assert.equal((await store.create(alice, grantOf('../../etc'))).kind, 'Invalid');
  const annotations = { a: 'x'.repeat(300_000) };
  assert.equal(
    (await store.create(alice, newObject('AccessGrant', 'big', { connectionRef: { name: 'c' } }, { annotations })))
      .kind,
    'Invalid',
  );
  assert.equal((await store.create(alice, { ...grantOf('k'), kind: 'toString' as KindName })).kind, 'Invalid');
});

test('what is over for 7 days is forgotten, with what hangs on it; nothing else is', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  const { store, clock } = testStore(t, folders);
  const day = 24 * 3_600_000;
  const over = ok(await store.create(alice, grantOf('over')));
  ok(await store.create(alice, grantOf('pending')));
  const active = ok(await store.create(alice, grantOf('active')));
  ok(await store.create(proxy, hold));
  const approve = (name: string, target: Resource): Promise<StoreResult<Resource>> =>
    store.create(
      alice,
      newObject('AccessApproval', name, {
        targetRef: { kind: 'AccessGrant', name: target.metadata.name, uid: target.metadata.uid },
        specHash: 'a'.repeat(64),
        decision: 'Approve',
      }),
    );
  ok(await approve('a-over', over));
  ok(await approve('a-active', active));
  const key = (name: string) => ({ kind: 'AccessGrant', namespace: 'payments', name }) as const;
  ok(
    await store.applyStatus(operator, key('over'), over.metadata.resourceVersion, {
      phase: 'Expired',
      finishedAt: new Date(clock.now() + day).toISOString(),
    }),
  );
  ok(await store.applyStatus(operator, key('active'), active.metadata.resourceVersion, { phase: 'Active' }));
  clock.advance(7.5 * day);
  assert.deepEqual(await names(store, 'AccessGrant'), ['active', 'over', 'pending']);
  assert.deepEqual(await names(store, 'CommandHold'), []);
  clock.advance(day);
  assert.deepEqual(await names(store, 'AccessGrant'), ['active', 'pending']);
  assert.deepEqual(await names(store, 'AccessApproval'), ['a-active']);
  assert.deepEqual(await names(store, 'AccessPolicy'), ['p']);
});

test('one process owns a state folder', (t) => {
  const folders = testFolders(t);
  const { store } = testStore(t, folders);
  assert.throws(() => testStore(t, folders), /is in use by process/);
  store.close();
  testStore(t, folders);
});
