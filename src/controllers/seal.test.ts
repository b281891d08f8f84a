import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import test from 'node:test';
import { specHash } from '../api/canonical.ts';
import type { Stamp } from '../api/schema.ts';
import { signingKeyFromPem } from '../policy/bundle-signing.ts';
import { createSealer } from './seal.ts';

const key = () =>
  signingKeyFromPem(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
const sealer = createSealer(key());
const spec = { connectionRef: { name: 'orders-db' }, reason: 'INC-1' };
const bare: Stamp = {
  via: 'Local',
  username: 'alice',
  groups: ['dev'],
  specHash: specHash(spec),
  nonce: 'n1',
  at: '2026-01-01T00:00:00.500Z',
};
const stamp: Stamp = { ...bare, seal: sealer.sealStamp(bare) };
const created = '2026-01-01T00:00:00Z';

test('a stamp of the operator’s own is good, and says who and when', () => {
  const check = sealer.checkStamp(stamp, spec, created);
  assert.deepEqual(check, {
    kind: 'Good',
    atMs: Date.parse('2026-01-01T00:00:00.500Z'),
    nonce: 'n1',
    principal: { username: 'alice', groups: ['dev'], aliases: [] },
  });
});

test('INV-08: no field of a stamp can be changed, moved to another spec, or taken from another key', () => {
  const changes: Partial<Stamp>[] = [
    { username: 'bob' },
    { groups: ['dev', 'dba'] },
    { uid: 'u1' },
    { aliases: ['carol'] },
    { nonce: 'n2' },
    { at: '2026-01-01T00:00:01Z' },
    { via: 'Kubernetes' },
    { specHash: specHash({}) },
    { seal: 'x.y' },
    { seal: '' },
    { seal: `${stamp.seal}.` },
  ];
  for (const change of changes) {
    assert.equal(sealer.checkStamp({ ...stamp, ...change }, spec, created).kind, 'Bad', JSON.stringify(change));
  }
  assert.equal(sealer.checkStamp(stamp, { ...spec, reason: 'INC-2' }, created).kind, 'Bad');
  assert.equal(sealer.checkStamp(undefined, spec, created).kind, 'Bad');
  assert.equal(sealer.checkStamp(stamp, spec, '2026-01-01T00:01:00Z').kind, 'Bad');
  assert.equal(createSealer(key()).checkStamp(stamp, spec, created).kind, 'Bad');
});

test('a sealed fact is good for its purpose, object and value alone', () => {
  const seal = sealer.sealFacts('AccessGrant', 'uid-1', { phase: 'Active' });
  assert.ok(sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Active' }, seal));
  assert.ok(!sealer.checkFacts('AccessGrant', 'uid-2', { phase: 'Active' }, seal));
  assert.ok(!sealer.checkFacts('CommandHold', 'uid-1', { phase: 'Active' }, seal));
  assert.ok(!sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Revoked' }, seal));
  assert.ok(!sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Active' }, undefined));
});

test('INV-08: what was found good before makes nothing else good', () => {
  const seal = sealer.sealFacts('AccessGrant', 'uid-1', { phase: 'Active' });
  const other = sealer.sealFacts('AccessGrant', 'uid-1', { phase: 'Revoked' });
  for (let round = 0; round < 3; round += 1) {
    assert.ok(sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Active' }, seal));
    assert.ok(!sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Expired' }, seal));
    assert.ok(!sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Active' }, other));
    assert.ok(!sealer.checkFacts('AccessGrant', 'uid-1', { phase: 'Active' }, `${seal}A`));
  }
});
