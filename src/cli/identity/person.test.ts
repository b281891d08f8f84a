import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AccessGrant } from '../../api/grant.ts';
import type { Stamp } from '../../api/schema.ts';
import { isTheirs } from './person.ts';

const grant = (requester: Partial<Stamp>, more: object = {}): AccessGrant =>
  ({
    spec: { connectionRef: { name: 'c' }, requester: { via: 'Kubernetes', username: 'x', ...requester }, ...more },
  }) as AccessGrant;
const who = { uid: 'https://id u-1', username: 'corp:alice', groups: [], kubernetes: 'alice@corp.example' };
const person = { who, provider: 'corp' };

test('a grant is theirs by uid, or by the cluster’s name where the provider maps it; never by a name that only looks alike', () => {
  assert.ok(isTheirs(grant({ uid: 'https://id u-1' }), person));
  assert.ok(isTheirs(grant({ username: 'alice@corp.example' }), person));
  assert.ok(isTheirs(grant({ via: 'Local', username: 'alice@corp.example' }), person));
  assert.ok(!isTheirs(grant({ uid: 'https://id u-2', username: 'corp:alice' }), person));
  assert.ok(!isTheirs(grant({ username: 'corp:alice' }), person));
  assert.ok(!isTheirs(grant({ username: 'Alice@corp.example' }), person));
  assert.ok(!isTheirs(grant({ via: 'Portal', username: 'alice@corp.example' }), person));
  const { kubernetes: _none, ...unmapped } = who;
  assert.ok(!isTheirs(grant({ username: 'alice@corp.example' }), { who: unmapped, provider: 'corp' }));
});

test('what a delegator asked for is the beneficiary’s, under their own provider', () => {
  const robot = { uid: 'https://id u-1', username: 'robot' };
  const given = (beneficiary: object): AccessGrant => grant(robot, { beneficiary: { kind: 'User', ...beneficiary } });
  assert.ok(isTheirs(given({ name: 'corp:alice', provider: 'corp' }), person));
  assert.ok(!isTheirs(given({ name: 'corp:alice', provider: 'other' }), person));
  assert.ok(!isTheirs(given({ name: 'corp:bob', provider: 'corp' }), person), 'not the delegator’s own');
});
