import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EligibilityInput, eligiblePolicy, maxDurationOf } from './eligibility.ts';
import { alice, bob, connection, policy, shardOf } from './test-resources.ts';

const HOUR = 3_600_000;
type Request = Partial<EligibilityInput['request']>;

function ask(
  policies: ReturnType<typeof policy>[],
  request: Request = {},
  broken: Parameters<typeof shardOf>[0]['broken'] = [],
) {
  return eligiblePolicy({ shard: shardOf({ policies, broken }), policies, request: { principal: alice, ...request } });
}

function refusal(...args: Parameters<typeof ask>) {
  const answer = ask(...args);
  assert.equal(answer.kind, 'NotEligible');
  return answer;
}

test('the only policy that fits is chosen, with its first account and default duration', () => {
  const answer = ask([
    policy('team', { accounts: ['writer', 'reader'] }),
    policy('dba', { subjects: [{ kind: 'Group', name: 'dba' }] }),
  ]);
  assert.equal(answer.kind, 'Eligible');
  assert.equal(answer.compiled.name, 'payments/team');
  assert.equal(answer.account, 'writer');
  assert.equal(answer.access, 'Grant');
  assert.equal(answer.durationMs, HOUR);
  assert.equal(answer.maxDurationMs, 8 * HOUR);
});

test('the default duration is never longer than the policy allows', () => {
  const answer = ask([policy('team', { maxDuration: '20m', access: 'Standing' })]);
  assert.equal(answer.kind === 'Eligible' && answer.durationMs, 20 * 60_000);
  assert.equal(answer.kind === 'Eligible' && answer.access, 'Standing');
});

test('several policies are an error that lists them, and a name settles it', () => {
  const both = [policy('b-team', { accounts: ['writer'] }), policy('a-team')];
  const answer = refusal(both);
  assert.equal(answer.reason, 'SeveralPolicies');
  assert.deepEqual(answer.candidates, ['a-team', 'b-team']);
  assert.match(answer.hint, /a-team \(Grant, accounts reader\); b-team \(Grant, accounts writer\)/);
  const named = ask(both, { policyRef: 'b-team' });
  assert.equal(named.kind === 'Eligible' && named.account, 'writer');
  const byAccount = ask(both, { account: 'writer' });
  assert.equal(byAccount.kind === 'Eligible' && byAccount.compiled.name, 'payments/b-team');
});

test('no policy: each one says why it did not fit', () => {
  const answer = refusal(
    [
      policy('dba', { subjects: [{ kind: 'Group', name: 'dba' }] }),
      policy('team'),
      policy('bad', { rules: [{ name: 'x' }] }),
      policy('elsewhere', { connectionSelector: { names: ['other-db'] } }),
    ],
    { account: 'writer' },
  );
  assert.equal(answer.message, 'No policy gives alice@corp.example access to payments/orders-db as account writer');
  assert.match(answer.hint, /dba: it is for group dba, and alice@corp\.example is none of them/);
  assert.match(answer.hint, /team: it has no account writer, only reader/);
  assert.match(answer.hint, /bad: it is not accepted: rule "x"/);
  assert.doesNotMatch(answer.hint, /elsewhere/);
});

test('a policy asked for by name says why not', () => {
  const policies = [policy('team'), policy('elsewhere', { connectionSelector: { names: ['other-db'] } })];
  assert.match(refusal(policies, { policyRef: 'elsewhere' }).hint, /does not select Connection orders-db/);
  assert.match(refusal(policies, { policyRef: 'nope' }).hint, /There is no AccessPolicy nope in namespace payments/);
  assert.match(refusal([]).hint, /No AccessPolicy in namespace payments selects it/);
});

test('INV-12: a policy of another namespace is never eligible', () => {
  const foreign = policy('team', {}, 'shop');
  assert.equal(refusal([foreign]).reason, 'NoPolicy');
  assert.equal(refusal([foreign], { policyRef: 'team' }).reason, 'NoPolicy');
  // Nor is it told that there is one.
  assert.match(refusal([foreign], { policyRef: 'team' }).hint, /^There is no AccessPolicy team in namespace payments/);
  // Even where the shard holds one of the same name.
  const shard = shardOf({ policies: [policy('team', { subjects: [{ kind: 'Group', name: 'dba' }] })] });
  assert.equal(eligiblePolicy({ shard, policies: [foreign], request: { principal: alice } }).kind, 'NotEligible');
});

test('too long is an error that says the longest', () => {
  const answer = refusal([policy('team', { maxDuration: '2h' })], { durationMs: 3 * HOUR });
  assert.equal(answer.reason, 'DurationTooLong');
  assert.equal(answer.maxDurationMs, 2 * HOUR);
  assert.equal(answer.message, 'Policy payments/team allows at most 2h, and 3h was asked for');
  for (const durationMs of [0, -1, Number.NaN])
    assert.equal(refusal([policy('team')], { durationMs }).reason, 'DurationTooShort');
});

test('break-glass is for those whom the policy names', () => {
  const glass = policy('team', {
    maxDuration: '8h',
    breakGlass: { subjects: [{ kind: 'User', name: 'alice@corp.example' }], reviewers: [], maxDuration: '30m' },
    subjects: [
      { kind: 'Group', name: 'orders-dev' },
      { kind: 'Group', name: 'dba' },
    ],
  });
  const answer = ask([glass], { breakGlass: true });
  assert.equal(answer.kind === 'Eligible' && answer.maxDurationMs, 1_800_000);
  assert.equal(answer.kind === 'Eligible' && answer.durationMs, 1_800_000);
  assert.match(refusal([glass], { breakGlass: true, principal: bob }).hint, /break-glass is for user alice/);
  assert.match(refusal([policy('team')], { breakGlass: true }).hint, /it has no break-glass/);
});

test('another policy that is not in order is told beforehand', () => {
  const answer = ask([policy('team')], {}, [
    { kind: 'ClusterAccessPolicy', name: 'guard', problem: 'guard.yaml:2: bad' },
  ]);
  assert.equal(answer.kind, 'Eligible');
  assert.match(answer.warnings[0] ?? '', /guard is not in order.*guard\.yaml:2/);
});

test('no grant is longer than 30 days, and an unreadable length is the default at most', () => {
  assert.equal(maxDurationOf(policy('team', { maxDuration: '99999h' })), 720 * HOUR);
  assert.equal(maxDurationOf(policy('team', { maxDuration: '??' })), 8 * HOUR);
});

test('an account that the Connection has not makes a policy not accepted', () => {
  const db = connection();
  const team = policy('team', { accounts: ['owner'] });
  const answer = eligiblePolicy({
    shard: shardOf({ connection: db, policies: [team] }),
    policies: [team],
    request: { principal: alice },
  });
  assert.match(answer.kind === 'NotEligible' ? answer.hint : '', /not accepted: spec\.accounts names "owner"/);
});
