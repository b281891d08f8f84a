import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BundleGrant, CompiledPolicy } from '../policy/bundle.ts';
import { cutFor, type StandingFacts, successorOf, timeLeft } from './standing.ts';

const grant: BundleGrant = {
  name: 'orders-db-7fk2p',
  uid: 'g',
  specHash: '',
  principal: { username: 'alice', groups: ['payments'], aliases: [] },
  via: 'Local',
  account: 'reader',
  policy: 'payments/team',
  commandHashes: [],
  notBeforeMs: 0,
  expiresAtMs: Date.parse('2026-03-01T15:04:00Z'),
  ticketUntilExpiry: false,
};
const policy: CompiledPolicy = {
  kind: 'AccessPolicy',
  name: 'payments/team',
  uid: 'p',
  generation: 1,
  accepted: true,
  subjects: [{ kind: 'Group', name: 'payments' }],
  accounts: ['reader'],
  rules: [],
  masks: [],
  trustedFunctions: [],
  session: { ticketUntilExpiry: false },
};
const good: StandingFacts = {
  sessionId: 's',
  connection: { name: 'orders-db' },
  grant,
  principal: grant.principal,
  policies: [policy],
  end: undefined,
  listed: true,
  remainingMs: 60_000,
  lock: undefined,
  proofVoid: undefined,
  endedTrust: undefined,
  ageMs: 0,
  idleMs: 0,
  proofAgeMs: 0,
  proofLeftMs: undefined,
  limits: { maxDurationMs: 1_000, idleTimeoutMs: 1_000, reauthenticateMs: 1_000 },
  prefix: 'sallyport',
};

const reasons: Partial<StandingFacts>[] = [
  { policies: undefined },
  { policies: [] },
  { policies: [{ ...policy, subjects: [{ kind: 'User', name: 'bob' }] }] },
  { policies: [{ ...policy, accounts: ['writer'] }] },
  { policies: [{ ...policy, kind: 'ClusterAccessPolicy' }] },
  { end: { phase: 'Revoked', by: 'x' } },
  { end: { phase: 'Expired' } },
  { end: { phase: 'Deleted' } },
  { end: { phase: 'Denied' } },
  { listed: false },
  { remainingMs: 0 },
  { remainingMs: -1e12 },
  { lock: { name: 'l', target: {}, reason: 'r' } },
  { proofVoid: 'Ticket' },
  { endedTrust: 'its provider is gone' },
  { ageMs: 1_000 },
  { idleMs: 1_000 },
  { proofAgeMs: 1_000 },
  { proofLeftMs: 0 },
];

test('INV-03: any one reason ends a session, whatever else is true; none of them does not', () => {
  assert.equal(cutFor(good), undefined);
  assert.equal(
    cutFor({ ...good, policies: [{ ...policy, accepted: false, subjects: [] }] }),
    undefined,
    'denied by decide',
  );
  fc.assert(
    fc.property(fc.subarray(reasons, { minLength: 1 }), (some) => {
      const cut = cutFor(Object.assign({}, good, ...some) as StandingFacts);
      assert.ok(cut !== undefined && cut.message !== '');
    }),
    { numRuns: 200 },
  );
});

test('messages say what ended, when and by whom, and what to do next', () => {
  assert.deepEqual(cutFor({ ...good, remainingMs: 0 }), {
    code: 'Expired',
    message: 'grant orders-db-7fk2p expired at 15:04:00Z',
    hint: 'sallyport request orders-db --for 1h',
  });
  assert.equal(
    cutFor({ ...good, end: { phase: 'Revoked', by: 'lead' } })?.message,
    'grant orders-db-7fk2p was revoked by lead',
  );
  assert.equal(cutFor({ ...good, idleMs: 1_000, prefix: 'kubectl access' })?.hint, 'kubectl access connect orders-db');
});

test('what time alone will end is known beforehand', () => {
  assert.equal(timeLeft({ ...good, limits: {} }), 60_000);
  assert.equal(timeLeft({ ...good, ageMs: 400 }), 600);
  assert.equal(timeLeft({ ...good, proofAgeMs: 999 }), 1);
  assert.equal(timeLeft({ ...good, remainingMs: -5 }), -5);
});

test('only a grant for the same person, account and policy continues another', () => {
  const next: BundleGrant = { ...grant, uid: 'n', name: 'n', extends: 'g' };
  const follows = (change: Partial<BundleGrant>, inForce = true): boolean =>
    successorOf(grant, [{ ...next, ...change }], () => inForce) !== undefined;
  assert.ok(follows({}));
  assert.ok(!follows({}, false));
  assert.ok(!follows({ extends: 'x' }));
  assert.ok(!follows({ account: 'writer' }));
  assert.ok(!follows({ policy: 'payments/other' }));
  assert.ok(!follows({ principal: { ...grant.principal, username: 'bob' } }));
  assert.ok(!follows({ principal: { ...grant.principal, uid: 'other' } }));
});
