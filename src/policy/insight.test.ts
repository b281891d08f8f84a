import assert from 'node:assert/strict';
import test from 'node:test';
import type { AccessGrant } from '../api/grant.ts';
import type { AccessPolicy } from '../api/policy.ts';
import { type InsightInput, insightOf } from './insight.ts';

const nowMs = Date.parse('2026-03-04T10:00:00Z'); // a Wednesday
const localTime = (ms: number) => ({ hour: new Date(ms).getUTCHours(), day: new Date(ms).getUTCDay() });
const grant = (uid: string, daysAgo: number, change: Partial<AccessGrant['spec']> = {}, status?: object): AccessGrant =>
  ({
    kind: 'AccessGrant',
    metadata: {
      uid,
      name: uid,
      namespace: 'p',
      creationTimestamp: new Date(nowMs - daysAgo * 86_400_000).toISOString(),
    },
    spec: { connectionRef: { name: 'db' }, requester: { via: 'Local', username: 'alice' }, ...change },
    status,
  }) as AccessGrant;
const policy = (spec: object = {}): AccessPolicy =>
  ({
    kind: 'AccessPolicy',
    metadata: { name: 'team', namespace: 'p' },
    spec: { accounts: ['reader', 'owner'], rules: [{ name: 'r', preset: 'ReadOnly' }], ...spec },
  }) as unknown as AccessPolicy;
const approved = (daysAgo: number): object => ({
  phase: 'Expired',
  notBefore: new Date(nowMs - daysAgo * 86_400_000).toISOString(),
  expiresAt: new Date(nowMs - daysAgo * 86_400_000 + 1000).toISOString(),
});
const kinds = (change: Partial<InsightInput>): string[] =>
  insightOf({ grant: grant('this', 0), policy: policy(), grants: [], nowMs, localTime, ...change }).risks.map(
    ({ kind }) => kind,
  );

test('history counts what the same person, by any name, had on the same Connection in 90 days', () => {
  const { history } = insightOf({
    grant: grant('this', 0),
    policy: undefined,
    grants: [
      grant('this', 0),
      grant('a', 3, {}, approved(3)),
      grant('b', 10, { requester: { via: 'Local', username: 'ALICE' } }, { phase: 'Denied' }),
      grant('c', 91, {}, approved(91)),
      grant('d', 1, { connectionRef: { name: 'other' } }, approved(1)),
      grant('e', 1, { requester: { via: 'Local', username: 'bob' } }, approved(1)),
      grant(
        'f',
        2,
        { beneficiary: { kind: 'User', name: 'alice' }, requester: { via: 'Local', username: 'robot' } },
        approved(2),
      ),
    ],
    nowMs,
  });
  assert.deepEqual(history, { requested: 3, approved: 2, refused: 1, lastMs: nowMs - 2 * 86_400_000 });
});

test('what is unusual is named, and what is not is not', () => {
  const known = [grant('a', 3, {}, approved(3))];
  assert.deepEqual(kinds({ grants: known }), []);
  assert.deepEqual(kinds({}), ['NewRequester']);
  assert.deepEqual(kinds({ grants: undefined }), [], 'who may not read grants is not told that there are none');
  assert.deepEqual(kinds({ grants: known, grant: grant('t', 0, { account: 'owner' }) }), ['PrivilegedAccount']);
  const anything = { rules: [{ name: 'all', action: 'Allow' }] };
  assert.deepEqual(kinds({ grants: known, policy: policy(anything) }), ['PrivilegedAccount', 'Unbounded']);
  const bounded = {
    rules: [
      { name: 'w', preset: 'ReadWrite' },
      { name: 'u', action: 'Hold', sql: { unbounded: true } },
    ],
  };
  assert.deepEqual(kinds({ grants: known, policy: policy(bounded) }), []);
  const night = grant('t', 0, { notBefore: '2026-03-04T22:00:00Z' });
  assert.deepEqual(kinds({ grants: known, grant: night }), ['OutsideHours']);
  assert.deepEqual(kinds({ grants: known, grant: grant('t', 0, { notBefore: '2026-03-07T10:00:00Z' }) }), [
    'OutsideHours',
  ]);
  assert.deepEqual(kinds({ grants: known, grant: grant('t', 0, { duration: '8h' }) }), ['LongestAllowed']);
  assert.deepEqual(kinds({ grants: known, grant: grant('t', 0, { breakGlass: true }) }), ['BreakGlass']);
});
