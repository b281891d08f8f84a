import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LockEntry } from '../policy/bundle.ts';
import { lockHolding } from './locks.ts';

const alice = { username: 'oidc:alice@corp.example', uid: 'U1', groups: ['dev'], aliases: ['alice'] };
const holds = (target: LockEntry['target'], more: Partial<LockEntry> = {}, atLogin: string[] = []): boolean =>
  lockHolding([{ name: 'l', target, reason: 'r', ...more }], alice, atLogin, 1_000) !== undefined;

test('INV-03: a lock reaches its people by any name, and their groups of now or of login', () => {
  for (const user of ['oidc:alice@corp.example', 'ALICE', 'u1', 'alice@corp.example', 'ａｌｉｃｅ'])
    assert.ok(holds({ user }), user);
  for (const user of ['bob', 'alic', 'alice2', '']) assert.ok(!holds({ user }), user);
  assert.ok(holds({ group: 'DEV' }));
  assert.ok(!holds({ group: 'dba' }));
  assert.ok(holds({ group: 'dba' }, {}, ['dba']), 'had it at login');
  assert.ok(holds({ everything: true }) && holds({ connection: true }));
  assert.ok(holds({}), 'a lock of a kind that is not known here locks');
});

test('a lock with an end holds until then', () => {
  assert.ok(holds({ everything: true }, { untilMs: 1_001 }));
  assert.ok(!holds({ everything: true }, { untilMs: 1_000 }));
});
