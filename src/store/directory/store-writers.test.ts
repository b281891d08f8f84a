// Who may make, change and delete what.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { specHash } from '../../api/canonical.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { Resource } from '../../api/resource.ts';
import type { Actor, KindName, StoreResult } from '../resource-store.ts';
import {
  alice,
  connectionYaml,
  grantOf,
  hold,
  newObject,
  ok,
  operator,
  policyYaml,
  proxy,
  testFolders,
  testStore,
} from './test-store.ts';

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
