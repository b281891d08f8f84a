import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lintPolicy } from './lint.ts';
import { type KeyRule, policy, shardOf } from './test-resources.ts';

const dba = [{ kind: 'Group' as const, name: 'dba' }];
const open: KeyRule = { name: 'all', action: 'Allow' };

const job = { repository_id: '74', environment: 'prod' };
const claims = (wanted: Record<string, string>): Parameters<typeof policy>[1] => ({
  rules: [open],
  subjects: [{ kind: 'Claim', provider: 'ci', claims: wanted }],
});

function warningsOf(parts: Parameters<typeof policy>[1]): string[] {
  const made = policy('team', parts);
  const compiled = shardOf({ policies: [made] }).policies[0];
  return lintPolicy(made, compiled).map(({ path, message }) => `${path}: ${message}`);
}

test('a sound policy has no warnings', () => {
  const rules: KeyRule[] = [
    { name: 'base', preset: 'ReadWrite' },
    { name: 'ddl', preset: 'HoldSchemaAndPrivilegeChanges', hold: { approvers: dba } },
    { name: 'no-drop', action: 'Deny', keys: { verbs: ['DROP'] }, message: 'ask first' },
  ];
  assert.deepEqual(warningsOf({ rules, masking: [{ name: 'm', columns: ['*.a.b'] }], trustedFunctions: ['x.f'] }), []);
  assert.deepEqual(warningsOf(claims(job)), []);
  assert.deepEqual(warningsOf(claims({ project_id: '7', ref: 'main', ref_type: 'branch', ref_protected: 'true' })), []);
});

test('each warning says where', () => {
  const cases: [Parameters<typeof policy>[1], RegExp][] = [
    [
      { rules: [open, { name: 'd', action: 'Deny', keys: { verbs: ['DROP'] } }] },
      /^\/spec\/rules\/1: .*without a message/,
    ],
    [
      { rules: [open, { name: 'h', action: 'Hold', hold: { approvers: [] } }] },
      /^\/spec\/rules\/1\/hold\/approvers: .*nobody may consent/,
    ],
    [
      { rules: [open], masking: [{ name: 'm', columns: ['a.b'] }] },
      /^\/spec\/masking\/0\/columns\/0: "a\.b" names no schema and means \*\.a\.b/,
    ],
    [{ rules: [] }, /^\/spec\/rules: no rule allows anything/],
    [{ rules: [open], review: { everyDays: 90, reviewers: dba } }, /^\/spec\/review: this version holds no reviews/],
    [{ rules: [{ name: 'x', action: 'Allow', keys: {} }] }, /^\/spec\/rules\/0\/keys: .*about every command/],
    [{ rules: [open], subjects: [{ kind: 'Group', name: 'dev-*' }] }, /^\/spec\/subjects\/0\/name: .*no wildcards/],
    [{ rules: [open], subjects: [{ kind: 'Claim', provider: 'ci' }] }, /^\/spec\/subjects\/0: a Claim subject/],
    [claims({ ...job, sub: 'repo:corp/app' }), /^\/spec\/subjects\/0\/claims: .*goes by sub matches nobody/],
    [claims({ repository: 'corp/app', environment: 'prod' }), /no claim is an id that stays/],
    [claims({ repository_owner_id: '7', repository: 'corp/app', environment: 'prod' }), /no claim is an id that stays/],
    [claims({ repository_id: '74' }), /jobs of any branch and any environment fit/],
    [claims({ repository_id: '74', ref: 'refs/heads/main' }), /a branch and a tag may share a name/],
    [claims({ ...job, workflow: 'deploy-*' }), /^\/spec\/subjects\/0\/claims\/workflow: .*no wildcards/],
    [{ rules: [open], trustedFunctions: ['x.f'] }, /^\/spec\/trustedFunctions: .*masks no column/],
    [
      { rules: [open], approval: { steps: [{ name: 's', approvers: [] }] } },
      /^\/spec\/approval\/steps\/0\/approvers: .*nobody/,
    ],
    [
      { rules: [open], approval: { steps: [{ name: 's', count: 2, approvers: [{ kind: 'User', name: 'a' }] }] } },
      /needs 2 approvals and names 1/,
    ],
  ];
  for (const [parts, expected] of cases) {
    const found = warningsOf(parts);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] ?? '', expected);
  }
});

test('rules that another makes pointless are told, and others are not', () => {
  const deny = (name: string, keys?: KeyRule['keys']): KeyRule => ({
    name,
    action: 'Deny',
    message: 'no',
    ...(keys ? { keys } : {}),
  });
  const allow = (name: string, keys?: KeyRule['keys']): KeyRule => ({
    name,
    action: 'Allow',
    ...(keys ? { keys } : {}),
  });
  const shadowed = (...rules: KeyRule[]) =>
    warningsOf({ rules: [...rules, allow('kept', { keys: ['kept'] })] }).filter((each) => /rule "/.test(each));
  assert.match(
    shadowed(deny('d', { keys: ['a*'] }), allow('x', { keys: ['ab'] }))[0] ?? '',
    /"x" can never allow anything: rule "d"/,
  );
  assert.match(shadowed(deny('d', { keys: ['*'] }), deny('e', { keys: ['a', 'b'] }))[0] ?? '', /"e" changes nothing/);
  assert.match(shadowed(allow('x', { keys: ['a'] }), allow('y', { keys: ['a'] }))[0] ?? '', /"y" changes nothing/);
  assert.deepEqual(shadowed(deny('d', { keys: ['a'] }), allow('x', { keys: ['a*'] })), []);
  assert.deepEqual(shadowed(deny('d', { keys: ['a'], verbs: ['PUT'] }), allow('x', { keys: ['a'] })), []);
  assert.deepEqual(shadowed({ ...deny('d', { keys: ['*'] }), exempt: dba }, allow('x', { keys: ['a'] })), []);
  assert.deepEqual(
    shadowed(
      { name: 'h', action: 'Hold', keys: { keys: ['*'] }, hold: { approvers: dba } },
      { name: 'i', action: 'Hold', keys: { keys: ['a'] }, hold: { approvers: dba } },
    ),
    [],
  );
});
