// What files that are broken, gone or in the way do to the objects that they declare.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Resource } from '../../api/resource.ts';
import { systemFiles } from '../../system/files.ts';
import {
  alice,
  connectionYaml,
  grantOf,
  names,
  newObject,
  ok,
  operator,
  policyYaml,
  testFolders,
  testStore,
} from './test-store.ts';

test('a status of a directory object lasts over changes of its file and restarts', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  const opened = testStore(t, folders).store;
  const key = { kind: 'AccessPolicy', namespace: 'payments', name: 'p' } as const;
  const { metadata } = (await opened.get(key))!;
  ok(await opened.applyStatus(operator, key, metadata.resourceVersion, { connections: 3 }));
  folders.write('a.yaml', policyYaml('p', '{ names: [x] }'));
  opened.reload();
  opened.close();
  const { store } = testStore(t, folders);
  assert.deepEqual((await store.get<AccessPolicy>(key))!.status, { connections: 3 });
});

test('INV-04: a broken file keeps its objects as they were, as broken, over restarts too', async (t) => {
  const folders = testFolders(t);
  const good = policyYaml('p', '{ names: [orders-db] }');
  folders.write('a.yaml', good);
  folders.write('other.yaml', policyYaml('q'));
  let { store } = testStore(t, folders);
  let told = 0;
  store.onFilesChanged(() => told++);
  folders.write('a.yaml', good.replace('[orders-db]', '[billing-db]').replace('Group', 'Grup'));
  store.reload();
  assert.equal(told, 1);
  const check = async (): Promise<void> => {
    assert.deepEqual(await names(store, 'AccessPolicy'), ['p', 'q']);
    // Neither what it selected nor what it would select is let through.
    assert.deepEqual(
      store.broken().map(({ problem: _problem, ...what }) => what),
      [
        { kind: 'AccessPolicy', namespace: 'payments', name: 'p', selector: { names: ['billing-db'] } },
        { kind: 'AccessPolicy', namespace: 'payments', name: 'p', selector: { names: ['orders-db'] } },
      ],
    );
    assert.match(store.broken()[1]!.problem, /^a\.yaml:8: spec\.subjects\[0\]\.kind: "Grup" is none of/);
    assert.equal(store.problems().length, 1);
  };
  await check();
  store.close();
  ({ store } = testStore(t, folders));
  await check();
  folders.write('a.yaml', good);
  store.reload();
  assert.deepEqual([store.broken(), store.problems().filter(({ severity }) => severity === 'Error')], [[], []]);
});

test('INV-04: a file that can no longer be read keeps what it declared, as broken', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', `${policyYaml('p', '{ names: [a] }')}---\n${connectionYaml('c')}`);
  folders.write('b.yaml', policyYaml('q'));
  const { store } = testStore(t, folders);
  fs.writeFileSync(path.join(folders.directory, 'a.yaml'), Buffer.from([0xff, 0xff]));
  store.reload();
  assert.deepEqual(await names(store, 'AccessPolicy'), ['p', 'q']);
  assert.deepEqual(await names(store, 'Connection'), ['c']);
  // The file itself might hold anything by now, so everything is denied.
  assert.deepEqual(
    store.broken().map(({ kind, name }) => `${kind} ${name}`),
    ['undefined undefined', 'AccessPolicy p', 'Connection c'],
  );
  fs.rmSync(path.join(folders.directory, 'a.yaml'));
  store.reload();
  assert.deepEqual(await names(store, 'AccessPolicy'), ['q']);
  assert.deepEqual(store.broken(), []);
});

test('INV-04: a directory that is gone deletes nothing and denies everything', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  const { store } = testStore(t, folders);
  fs.renameSync(folders.directory, `${folders.directory}.away`);
  store.reload();
  assert.deepEqual(await names(store, 'AccessPolicy'), ['p']);
  assert.ok(
    store
      .broken()
      .some(({ kind, namespace, selector }) => kind === undefined && namespace === undefined && selector === undefined),
  );
  fs.renameSync(`${folders.directory}.away`, folders.directory);
  store.reload();
  assert.deepEqual(store.broken(), []);
});

test('INV-04: when the state folder takes nothing more, what the files say now is not half in force', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  let full = false;
  const files = {
    ...systemFiles,
    writeSync: (fd: number, bytes: Uint8Array, offset: number, length: number, position?: number | null): number => {
      if (full) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      return systemFiles.writeSync(fd, bytes, offset, length, position);
    },
  };
  const { store, clock } = testStore(t, folders, { files });
  full = true;
  folders.write('b.yaml', policyYaml('q'));
  store.reload();
  assert.deepEqual(await names(store, 'AccessPolicy'), ['p']);
  assert.deepEqual(
    store.broken().map(({ kind }) => kind),
    [undefined],
  );
  assert.match(store.broken()[0]!.problem, /state folder can not be written \(ENOSPC\); check space/);
  await assert.rejects(store.create(alice, grantOf()), /no space left/);
  assert.deepEqual(await names(store, 'AccessGrant'), []);
  full = false;
  clock.advance(1000);
  assert.deepEqual(await names(store, 'AccessPolicy'), ['p', 'q']);
  assert.deepEqual(store.broken(), []);
});

test('a file can not take the name of what was made through the store', async (t) => {
  const folders = testFolders(t);
  const { store } = testStore(t, folders);
  ok(await store.create(operator, newObject('AccessLock', 'l', { target: { user: 'bob' }, reason: 'r' })));
  folders.write(
    'a.yaml',
    'apiVersion: sallyport.dev/v1alpha1\nkind: AccessLock\nmetadata: { name: l, namespace: payments }\nspec: { target: { user: eve }, reason: s }\n',
  );
  store.reload();
  const lock = await store.get<Resource<'AccessLock', { target: { user: string } }>>({
    kind: 'AccessLock',
    namespace: 'payments',
    name: 'l',
  });
  assert.equal(lock!.spec.target.user, 'bob');
  assert.equal(store.broken()[0]!.kind, 'AccessLock');
  assert.match(store.problems()[0]!.message, /exists already, made through the command line/);
});
