import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AccessApprovalSpec } from '../api/grant.ts';
import { type ActObject, type ActToken, actNonce, actOf, checkAct, provenName, stampIdentity, stemOf } from './acts.ts';

const NOW = Date.parse('2026-03-01T09:00:00Z');
const SALT = 'AAAAAAAAAAAAAAAAAAAAAA';
const spec: AccessApprovalSpec = {
  targetRef: { kind: 'AccessGrant', name: 'orders-db-7fk2p', uid: 'u1' },
  specHash: 'a'.repeat(64),
  decision: 'Approve',
  reason: 'fine',
};
const vote = (changes: Partial<AccessApprovalSpec> = {}, namespace = 'payments', cluster = 'k1', salt = SALT) => {
  const changed = { ...spec, ...changes };
  const nonce = actNonce(actOf(cluster, { kind: 'AccessApproval', metadata: { namespace }, spec: changed }, salt));
  const object: ActObject = {
    kind: 'AccessApproval',
    metadata: { name: provenName(changed.targetRef.name, nonce), namespace },
    spec: changed,
  };
  return { object, nonce };
};
const token = (nonce: string, changes: Partial<ActToken> = {}): ActToken => ({
  principal: {
    username: 'idp:boss',
    uid: 'https://idp.example u-boss',
    groups: ['idp:dba'],
    aliases: ['boss@corp.example'],
  },
  iatMs: NOW - 1_000,
  nonce,
  ...changes,
});
const check = (object: ActObject, held: ActToken | undefined, proof = `${SALT}.a.b.c`) =>
  checkAct(object, proof, {
    clusters: ['k1', 'k0'],
    nowMs: NOW,
    verify: (text) => Promise.resolve(text === 'a.b.c' ? held : undefined),
  });

test('a proof is good for the act it was made for', async () => {
  const { object, nonce } = vote();
  const verdict = await check(object, token(nonce));
  assert.equal(verdict.kind, 'Proven');
  const earlier = vote({}, 'payments', 'k0');
  assert.equal((await check(earlier.object, token(earlier.nonce))).kind, 'Proven');
});

test('INV-08: a proof of one act proves no other', async () => {
  const { nonce } = vote();
  const others = [
    vote({ decision: 'Deny' }),
    vote({ reason: 'other' }),
    vote({ specHash: 'b'.repeat(64) }),
    vote({ targetRef: { ...spec.targetRef, uid: 'u2' } }),
    vote({ targetRef: { ...spec.targetRef, name: 'orders-db-x' } }),
    vote({ targetRef: { ...spec.targetRef, kind: 'CommandHold' } }),
    vote({ targetRef: { ...spec.targetRef, item: 'x' } }),
    vote({}, 'other'),
    vote({}, 'payments', 'k9'),
    vote({}, 'payments', 'k1', 'BAAAAAAAAAAAAAAAAAAAAA'),
  ];
  for (const other of others) {
    assert.notEqual(other.nonce, nonce);
    assert.equal((await check(other.object, token(nonce))).kind, 'Refused');
  }
});

test('a proof that is old, without nonce, unverified or of another form is refused', async () => {
  const { object, nonce } = vote();
  const { nonce: _nonce, ...without } = token(nonce);
  assert.equal((await check(object, token(nonce, { iatMs: NOW - 120_001 }))).kind, 'Refused');
  assert.equal((await check(object, without)).kind, 'Refused');
  assert.equal((await check(object, undefined)).kind, 'Refused');
  for (const proof of ['', 'a.b.c', '.a.b.c', `${SALT}`, `${SALT}=.a.b.c`, `${SALT}.`]) {
    assert.equal((await check(object, token(nonce), proof)).kind, 'Refused', proof);
  }
});

test('the same proof a second time is a name that is taken', async () => {
  const { object, nonce } = vote();
  const renamed = { ...object, metadata: { ...object.metadata, name: 'another' } };
  assert.equal((await check(renamed, token(nonce))).kind, 'Refused');
});

test('a request is bound to all of its spec', async () => {
  const grant = { connectionRef: { name: 'orders-db' }, duration: '1h', reason: 'INC-1' };
  const made = (changes: object): { object: ActObject; nonce: string } => {
    const changed = { ...grant, ...changes };
    const nonce = actNonce(
      actOf('k1', { kind: 'AccessGrant', metadata: { namespace: 'payments' }, spec: changed }, SALT),
    );
    return {
      object: {
        kind: 'AccessGrant',
        metadata: { name: provenName('orders-db', nonce), namespace: 'payments' },
        spec: changed,
      },
      nonce,
    };
  };
  const { object, nonce } = made({});
  assert.equal((await check(object, token(nonce))).kind, 'Proven');
  assert.equal((await check(made({ duration: '8h' }).object, token(nonce))).kind, 'Refused');
  assert.equal((await check(made({ account: 'owner' }).object, token(nonce))).kind, 'Refused');
  assert.equal(stemOf('Pipeline', object), 'job');
});

test('names are names', () => {
  fc.assert(
    fc.property(fc.string(), (id) => {
      const name = provenName('a'.repeat(250), id);
      assert.match(name, /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
      assert.ok(name.length <= 253);
    }),
    { numRuns: 50 },
  );
});

test('a stamp says how somebody logged in only where the token does', () => {
  assert.equal(stampIdentity(token('n')).auth, undefined);
  assert.deepEqual(stampIdentity(token('n', { authTimeMs: NOW, acr: 'gold', amr: ['otp'] })).auth, {
    at: '2026-03-01T09:00:00.000Z',
    acr: 'gold',
    amr: ['otp'],
  });
});
