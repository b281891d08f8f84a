import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conditionsFor } from './conditions.ts';
import { reservedInPolicy } from './reserved.ts';
import { policy, shardOf } from './test-resources.ts';

const review = { everyDays: 90, reviewers: [{ kind: 'Group' as const, name: 'security' }] };

test('a policy that counts on reviews to end access is not accepted where none are held', () => {
  const [compiled] = shardOf({ policies: [policy('team', { review: { ...review, onStale: 'Deny' } })] }).policies;
  assert.equal(compiled?.accepted, false);
  assert.match(compiled?.problem ?? '', /spec\.review\.onStale/);
});

test('what is not acted on is said where the policy is accepted', () => {
  const made = policy('team', { review });
  const [compiled] = shardOf({ policies: [made] }).policies;
  assert.equal(compiled?.accepted, true);
  const [told] = conditionsFor([{ on: 'orders-db', policy: compiled }], reservedInPolicy(made));
  assert.match(told?.message ?? '', /In force on orders-db\. Not acted on here: spec\.review \(no reviews/);
  const plain = policy('team', {});
  assert.deepEqual(reservedInPolicy(plain), []);
  assert.doesNotMatch(conditionsFor([{ on: 'orders-db', policy: compiled }])[0]?.message ?? '', /Not acted on/);
});
