import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { specHash } from '../../api/canonical.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Resource } from '../../api/resource.ts';
import { systemClock } from '../../system/clock.ts';
import { systemFiles } from '../../system/files.ts';
import type { Actor, KindName, NewObject, StoreResult, WatchEvent } from '../resource-store.ts';
import { type DirectoryStore, openDirectoryStore } from './store.ts';
import { connectionYaml, policyYaml, secretYaml, testFolders, testStore } from './test-store.ts';

const alice: Actor = {
  kind: 'Person',
  principal: { username: 'alice@corp.example', uid: 'u1', groups: ['payments'], aliases: ['a'] },
};
const operator: Actor = { kind: 'Operator' };
const proxy: Actor = { kind: 'Proxy', replica: 'p' };
const newObject = (kind: KindName, name: string, spec: unknown, metadata: object = {}): NewObject => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind,
  metadata: { name, namespace: 'payments', ...metadata },
  spec,
});
const grantOf = (name = 'orders-db-', spec: object = {}): NewObject =>
  newObject('AccessGrant', name, { connectionRef: { name: 'orders-db' }, reason: 'INC-1', ...spec });
const hold = newObject('CommandHold', 'h-1', {
  connectionRef: { name: 'orders-db' },
  grantRef: { name: 'g', uid: 'u' },
  sessionId: 's',
  requester: { username: 'alice@corp.example' },
  command: 'delete from orders',
  hiddenLiterals: 0,
  commandHash: 'a'.repeat(64),
  rules: [],
  reason: 'r',
  requirements: [],
  requestedAt: '2026-01-01T00:00:00Z',
  until: '2026-01-01T00:01:00Z',
});
function ok<T>(result: StoreResult<T>): T {
  assert.equal(result.kind, 'Ok', JSON.stringify(result));
  return (result as { value: T }).value;
}
async function names(store: DirectoryStore, kind: KindName): Promise<string[]> {
  return (await store.list(kind)).items.map((item) => item.metadata.name);
}
const settle = (): Promise<void> => sleep(0);

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

test('watchers see each change once and in order, from where they ask', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('a'));
  const { store } = testStore(t, folders);
  const seen: string[] = [];
  const record = (event: WatchEvent): void => {
    seen.push(`${event.type} ${event.object.metadata.name} ${event.object.metadata.resourceVersion}`);
  };
  const { resourceVersion } = await store.list('AccessPolicy');
  const fail = (): void => assert.fail('gone');
  const stop = store.watch('AccessPolicy', resourceVersion, record, fail);
  folders.write('b.yaml', `${policyYaml('b')}---\n${connectionYaml('c')}`);
  store.reload();
  folders.write('a.yaml', policyYaml('a', '{ names: [x] }'));
  store.reload();
  folders.remove('b.yaml');
  store.reload();
  await settle();
  assert.deepEqual(
    seen.map((line) => line.slice(0, -2)),
    ['Added b', 'Modified a', 'Deleted b'],
  );
  const versions = seen.map((line) => Number(line.split(' ')[2]));
  assert.deepEqual(
    versions,
    [...versions].sort((a, b) => a - b),
  );
  // A watcher that comes late is given what it missed.
  const late: string[] = [];
  store.watch(
    'AccessPolicy',
    resourceVersion,
    (event) => late.push(`${event.type} ${event.object.metadata.name}`),
    fail,
  );
  await settle();
  assert.deepEqual(late, ['Added b', 'Modified a', 'Deleted b']);
  stop();
  folders.write('a.yaml', policyYaml('a'));
  store.reload();
  await settle();
  assert.equal(seen.length, 3);
});

test('a watcher from before a restart, or from the future, lists again', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('a'));
  const opened = testStore(t, folders).store;
  ok(await opened.create(alice, grantOf()));
  opened.close();
  const { store } = testStore(t, folders);
  for (const from of ['0', '1', '999']) {
    let gone = 0;
    store.watch(
      'AccessPolicy',
      from,
      () => assert.fail('event'),
      () => gone++,
    );
    await settle();
    assert.equal(gone, 1, from);
  }
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

test('INV-08: who asked is stamped from the actor, sealed, and can not be written by the author', async (t) => {
  const folders = testFolders(t);
  const { store, clock } = testStore(t, folders);
  const grant = ok(await store.create<AccessGrant>(alice, grantOf()));
  assert.match(grant.metadata.name, /^orders-db-[a-z0-9]{5}$/);
  const { requester } = grant.spec;
  assert.deepEqual(requester, {
    via: 'Local',
    username: 'alice@corp.example',
    uid: 'u1',
    groups: ['payments'],
    aliases: ['a'],
    specHash: specHash({ connectionRef: { name: 'orders-db' }, reason: 'INC-1' }),
    nonce: requester!.nonce,
    at: new Date(clock.now()).toISOString(),
    seal: `sealed:${requester!.nonce}`,
  });
  assert.ok(requester!.nonce!.length >= 20);
  const forged = { via: 'Local', username: 'bob' };
  for (const field of ['requester', 'approver', 'author']) {
    const result: StoreResult<Resource> = await store.create(alice, grantOf('x', { [field]: forged }));
    assert.deepEqual(result, {
      kind: 'Invalid',
      problems: [`spec.${field}: is written at admission, never by the author; leave it out`],
    });
  }
  const lock = ok(await store.create(alice, newObject('AccessLock', 'l', { target: { user: 'bob' }, reason: 'r' })));
  assert.equal((lock.spec as { author: { username: string } }).author.username, 'alice@corp.example');
});

test('INV-08: each kind is made by those it names and nobody else', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', connectionYaml('c'));
  const { store } = testStore(t, folders);
  const approval = newObject('AccessApproval', 'a-', {
    targetRef: { kind: 'AccessGrant', name: 'g', uid: 'u' },
    specHash: 'a'.repeat(64),
    decision: 'Approve',
  });
  const lock = newObject('AccessLock', 'l-', { target: { everything: true }, reason: 'r' });
  const policy = newObject('AccessPolicy', 'p', {});
  const made = async (actor: Actor): Promise<string[]> => {
    const allowed: string[] = [];
    for (const object of [grantOf(), approval, lock, { ...hold, metadata: { ...hold.metadata, name: 'h-' } }, policy]) {
      const result = await store.create(actor, object);
      if (result.kind === 'Ok') allowed.push(object.kind);
      else assert.equal(result.kind, 'Forbidden', JSON.stringify(result));
    }
    return allowed;
  };
  assert.deepEqual(await made(alice), ['AccessGrant', 'AccessApproval', 'AccessLock']);
  assert.deepEqual(await made(operator), ['AccessLock', 'CommandHold']);
  assert.deepEqual(await made(proxy), ['CommandHold']);
});

test('INV-08: status is the operator’s, with optimistic concurrency', async (t) => {
  const folders = testFolders(t);
  const { store } = testStore(t, folders);
  const grant = ok(await store.create(alice, grantOf('g')));
  const key = { kind: 'AccessGrant', namespace: 'payments', name: 'g' } as const;
  const version = grant.metadata.resourceVersion;
  for (const actor of [alice, proxy]) {
    assert.equal((await store.applyStatus(actor, key, version, { phase: 'Active' })).kind, 'Forbidden');
  }
  const result = await store.applyStatus(operator, key, version, { phase: 'Activ' });
  assert.deepEqual(result, {
    kind: 'Invalid',
    problems: ['status.phase: "Activ" is none of Pending, Active, Denied, Expired, Revoked; did you mean Active?'],
  });
  const updated = ok(await store.applyStatus(operator, key, version, { phase: 'Pending' }));
  assert.equal((await store.applyStatus(operator, key, version, { phase: 'Active' })).kind, 'Conflict');
  assert.equal(updated.metadata.generation, 1);
  // What changes nothing is no change.
  const same = ok(await store.applyStatus(operator, key, updated.metadata.resourceVersion, { phase: 'Pending' }));
  assert.equal(same.metadata.resourceVersion, updated.metadata.resourceVersion);
  assert.equal((await store.applyStatus(operator, { ...key, name: 'none' }, '1', {})).kind, 'NotFound');
  const held = ok(await store.create(proxy, hold));
  ok(
    await store.applyStatus(
      proxy,
      { kind: 'CommandHold', namespace: 'payments', name: 'h-1' },
      held.metadata.resourceVersion,
      { phase: 'Withdrawn' },
    ),
  );
});

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

test('deleting: the operator what it made, people locks that are not on themselves, nobody files', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('p'));
  const { store } = testStore(t, folders);
  const grant = ok(await store.create(alice, grantOf('g')));
  const remove = (actor: Actor, kind: KindName, name: string, uid?: string): Promise<StoreResult<undefined>> =>
    store.delete(actor, { kind, namespace: 'payments', name }, uid);
  for (const [name, target] of [
    ['me', { user: 'alice@corp.example' }],
    ['alias', { user: 'a' }],
    ['us', { group: 'payments' }],
    ['bob', { user: 'bob' }],
  ] as const) {
    ok(await store.create(operator, newObject('AccessLock', name, { target, reason: 'r' })));
  }
  for (const name of ['me', 'alias', 'us']) assert.equal((await remove(alice, 'AccessLock', name)).kind, 'Forbidden');
  ok(await remove(alice, 'AccessLock', 'bob'));
  assert.equal((await remove(alice, 'AccessGrant', 'g')).kind, 'Forbidden');
  assert.equal((await remove(operator, 'AccessGrant', 'g', 'another')).kind, 'Conflict');
  ok(await remove(operator, 'AccessGrant', 'g', grant.metadata.uid));
  assert.equal((await remove(operator, 'AccessGrant', 'g')).kind, 'NotFound');
  assert.deepEqual(await remove(operator, 'AccessPolicy', 'p'), {
    kind: 'Forbidden',
    message: 'AccessPolicy p is declared in a.yaml; remove it there.',
  });
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

test('INV-05: credentials are read anew, and appear nowhere else', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', `${connectionYaml('db')}---\n${secretYaml('db-reader', 'hunter2')}`);
  const { store } = testStore(t, folders);
  const read = () => store.credentials.read({ namespace: 'payments', name: 'db' }, 'db-reader');
  assert.deepEqual(await read(), {
    kind: 'Password',
    username: 'svc',
    password: 'hunter2',
    hosts: ['a.internal', 'b.internal:5432'],
  });
  folders.write('a.yaml', `${connectionYaml('db')}---\n${secretYaml('db-reader', 'hunter3')}`);
  assert.partialDeepStrictEqual(await read(), { password: 'hunter3' });
  store.reload();
  const everything = JSON.stringify([await store.list('Connection'), store.problems(), store.broken()]);
  for (const file of fs.readdirSync(folders.stateFolder)) {
    assert.ok(!/hunter/.test(fs.readFileSync(path.join(folders.stateFolder, file), 'utf8') + everything), file);
  }
});

test('INV-05: a Secret with ssh-privatekey is a key; what is wrong with it is said without its value', async (t) => {
  const folders = testFolders(t);
  const secret = (extra: string): string =>
    `apiVersion: v1\nkind: Secret\nmetadata: {name: k, namespace: payments}\nstringData:\n  username: deploy\n  sallyport-hosts: web1\n${extra}`;
  const { store } = testStore(t, folders);
  const read = () => store.credentials.read({ namespace: 'payments', name: 'web1' }, 'k');
  folders.write('a.yaml', secret('  ssh-privatekey: |\n    hunter2\n'));
  assert.deepEqual(await read(), { kind: 'Key', username: 'deploy', privateKey: 'hunter2\n', hosts: ['web1'] });
  for (const [extra, why] of [
    ['  ssh-privatekey: hunter2\n  password: hunter3\n', /\(a\.yaml\) has both password and ssh-privatekey/],
    ['  ssh-privatekey: " "\n', /has an empty ssh-privatekey/],
    ['', /has no key "password"; .*ssh-privatekey/],
  ] as const) {
    folders.write('a.yaml', secret(extra));
    await assert.rejects(read(), (error: Error) => why.test(error.message) && !error.message.includes('hunter'));
  }
});

test('INV-05: a Secret is found again wherever it moves, and reading it touches no other file', async (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', connectionYaml('db'));
  const others = Array.from({ length: 5 }, (_, index) => `# ${index}\n${secretYaml(`other-${index}`)}`).join('---\n');
  folders.write('secrets.yaml', `${others}---\n# Secret db-reader\n${secretYaml('db-reader', 'one')}`);
  const { store } = testStore(t, folders);
  const changed: string[][] = [];
  store.onSecretsChanged((secrets) => changed.push([...secrets].sort()));
  const read = async (): Promise<string | undefined> => {
    const credential = await store.credentials.read({ namespace: 'payments', name: 'db' }, 'db-reader');
    return credential.kind === 'Password' ? credential.password : undefined;
  };
  assert.equal(await read(), 'one');
  const opened: string[] = [];
  const { readFileSync } = fs;
  const mocked = t.mock.method(fs, 'readFileSync', (file: string) => {
    opened.push(path.basename(file));
    return readFileSync(file);
  });
  assert.equal(await read(), 'one');
  mocked.mock.restore();
  assert.deepEqual(opened, ['secrets.yaml']);
  // The same lines hold another Secret now.
  folders.write('secrets.yaml', `${secretYaml('db-reader', 'two')}---\n${others}`);
  assert.equal(await read(), 'two');
  folders.write('secrets.yaml', others);
  folders.write('new.yaml', secretYaml('db-reader', 'three'));
  assert.equal(await read(), 'three');
  store.reload();
  assert.ok(changed.flat().includes('payments/db-reader'));
  changed.length = 0;
  folders.write('b.yaml', policyYaml('p'));
  store.reload();
  assert.deepEqual(changed, []);
  folders.write('new.yaml', secretYaml('db-reader', 'four'));
  store.reload();
  assert.deepEqual(changed, [['payments/db-reader']]);
  // A twin in another file is seen once the directory is looked at.
  folders.write('twin.yaml', secretYaml('db-reader', 'five'));
  store.reload();
  await assert.rejects(read(), /is written twice, in new\.yaml and twin\.yaml/);
  folders.remove('twin.yaml');
  folders.remove('new.yaml');
  await assert.rejects(read(), /is not in the directory/);
});

test('INV-05: a doubtful Secret is refused in words that hold no secret', async (t) => {
  const folders = testFolders(t);
  const base = 'apiVersion: v1\nkind: Secret\nmetadata: { name: s, namespace: payments }\n';
  const encoded = (text: string): string => Buffer.from(text).toString('base64');
  const cases: [string, RegExp][] = [
    ['# nothing', /is not in the directory/],
    [`${base}stringData: { username: u, sallyport-hosts: h }`, /has no key "password"/],
    [`${base}stringData: { username: u, password: 1234567, sallyport-hosts: h }`, /password that is no text/],
    [`${base}data: { username: dQ==, password: hunter2, sallyport-hosts: aA== }`, /password in data that is no base64/],
    [
      `${base}data: { username: dQ==, password: ${Buffer.from([0xff, 0xfe]).toString('base64')}, sallyport-hosts: aA== }`,
      /not UTF-8/,
    ],
    [`${base}stringData: { username: u, password: "hunter2 }`, /may be in a document that is no YAML/],
    [`${base}stringData: { username: u, password: hunter2, sallyport-hosts: h }\n---\n${base}`, /written twice/],
  ];
  const { store } = testStore(t, folders);
  for (const [text, message] of cases) {
    folders.write('s.yaml', text);
    await assert.rejects(store.credentials.read({ namespace: 'payments', name: 'db' }, 's'), (error: Error) => {
      assert.match(error.message, message);
      assert.ok(!/hunter2|1234567/.test(error.message));
      return true;
    });
  }
  folders.write(
    's.yaml',
    `${base}data: { username: ${encoded('u')}, password: ${encoded('old')}, sallyport-hosts: '' }\nstringData: { password: new }`,
  );
  assert.deepEqual(await store.credentials.read({ namespace: 'payments', name: 'db' }, 's'), {
    kind: 'Password',
    username: 'u',
    password: 'new',
    hosts: [],
  });
  // INV-12: a namespace reaches its own Secrets only.
  await assert.rejects(store.credentials.read({ namespace: 'billing', name: 'db' }, 's'), /is not in the directory/);
});

test('changes of files arrive by themselves, by watch and by the slow look', async (t) => {
  for (const pollMs of [600_000, 50]) {
    const folders = testFolders(t);
    folders.write('sub/a.yaml', policyYaml('a'));
    const store = openDirectoryStore({
      directory: folders.directory,
      stateFolder: folders.stateFolder,
      clock: systemClock,
      random: { bytes: (length) => Buffer.from(crypto.getRandomValues(new Uint8Array(length))) },
      files: systemFiles,
      seal: () => 's',
      debounceMs: pollMs === 50 ? 600_000 : 10,
      pollMs,
    });
    t.after(() => store.close());
    const { resourceVersion } = await store.list('AccessPolicy');
    const seen: string[] = [];
    store.watch(
      'AccessPolicy',
      resourceVersion,
      (event) => seen.push(`${event.type} ${event.object.metadata.name}`),
      () => {},
    );
    const until = async (expected: string): Promise<void> => {
      for (let waited = 0; !seen.includes(expected); waited += 10) {
        assert.ok(waited < 20_000, `${expected} of ${seen.join(', ')}`);
        await sleep(10);
      }
    };
    folders.write('sub/a.yaml', policyYaml('a', '{ names: [x] }'));
    await until('Modified a');
    folders.write('new/folder/b.yaml', policyYaml('b'));
    await until('Added b');
    folders.remove('new');
    await until('Deleted b');
    store.close();
  }
});
