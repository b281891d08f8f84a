import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, decideAll, decideNotUnderstood } from './decide.ts';
import { bob, clusterPolicy, command, policy, sessionOf } from './test-resources.ts';

const open = { name: 'all', action: 'Allow' as const };
const reads = { name: 'reads', action: 'Allow' as const, keys: { actions: ['Read' as const] } };
const noDrop = {
  name: 'no-drop',
  action: 'Deny' as const,
  keys: { verbs: ['DROP'] },
  message: 'ask the platform team',
};
const holdWrites = {
  name: 'writes',
  action: 'Hold' as const,
  keys: { actions: ['Write' as const] },
  hold: { approvers: [{ kind: 'Group' as const, name: 'dba' }], count: 2, timeout: '90s' },
};

test('what no rule matches is denied, naming the effects that no rule covers', () => {
  const session = sessionOf({ policies: [policy('team', { rules: [reads] })] });
  const decision = decide(session, command('MOVE a b'));
  assert.equal(decision.kind, 'Deny');
  assert.equal(decision.code, 'NoRuleAllows');
  assert.equal(decision.message, 'Sallyport refused MOVE on a, b: no rule allows Write on b');
  assert.match(decision.hint ?? '', /^Policy payments\/team has no Allow rule for Write on b;/);
  assert.equal(decide(session, command('GET a')).kind, 'Allow');
});

test('effects of one command may be permitted by different rules, and each is named', () => {
  const writes = { name: 'writes', action: 'Allow' as const, keys: { actions: ['Write' as const], keys: ['team/*'] } };
  const session = sessionOf({ policies: [policy('team', { rules: [reads, writes] })] });
  assert.deepEqual(decide(session, command('MOVE a team/b')), {
    kind: 'Allow',
    by: [
      { policy: 'payments/team', rule: 'reads' },
      { policy: 'payments/team', rule: 'writes' },
    ],
    warnings: [],
  });
  assert.equal(decide(session, command('MOVE a other/b')).kind, 'Deny');
});

test('a Deny says which policy and rule, with the rule’s message', () => {
  const session = sessionOf({ policies: [policy('team', { rules: [open, noDrop] })] });
  assert.deepEqual(decide(session, command('DROP orders')), {
    kind: 'Deny',
    code: 'RuleDenied',
    by: { policy: 'payments/team', rule: 'no-drop' },
    message: 'Sallyport refused DROP orders: ask the platform team',
    warnings: [],
  });
});

test('a Hold brings its approvers, count and timeout, and permits nothing by itself', () => {
  const held = sessionOf({ policies: [policy('team', { rules: [open, holdWrites] })] });
  assert.deepEqual(decide(held, command('PUT a')), {
    kind: 'Hold',
    reason: 'PUT on a needs consent',
    requirements: [
      {
        by: { policy: 'payments/team', rule: 'writes' },
        count: 2,
        approvers: [{ kind: 'Group', name: 'dba' }],
        timeoutMs: 90_000,
      },
    ],
    warnings: [],
  });
  const notAllowed = sessionOf({ policies: [policy('team', { rules: [reads, holdWrites] })] });
  assert.equal(decide(notAllowed, command('PUT a')).kind, 'Deny');
});

test('denies and holds of other policies and of guardrails apply, their allows do not', () => {
  const session = sessionOf({
    policies: [
      policy('team', { rules: [reads] }),
      policy('owners', { subjects: [{ kind: 'Group', name: 'dba' }], rules: [open, noDrop] }),
    ],
    clusterPolicies: [
      clusterPolicy('guard', { rules: [{ name: 'no-secrets', action: 'Deny', keys: { keys: ['secret/*'] } }] }),
    ],
  });
  assert.equal(decide(session, command('PUT a')).kind, 'Deny');
  const secret = decide(session, command('GET secret/a'));
  assert.equal(secret.kind === 'Deny' && secret.by?.policy, 'guard');
});

test('an exempt subject is spared that rule alone', () => {
  const exempted = { ...noDrop, exempt: [{ kind: 'Group' as const, name: 'dba' }] };
  const policies = [
    policy('team', {
      subjects: [
        { kind: 'Group', name: 'orders-dev' },
        { kind: 'Group', name: 'dba' },
      ],
      rules: [open, exempted],
    }),
  ];
  assert.equal(decide(sessionOf({ policies }, { principal: bob }), command('DROP a')).kind, 'Allow');
  assert.equal(decide(sessionOf({ policies }), command('DROP a')).kind, 'Deny');
});

test('Warn stops nothing, is told, and permits nothing that no Allow permits', () => {
  const session = sessionOf({
    policies: [
      policy('team', { rules: [reads] }),
      policy('trial', { enforcement: 'Warn', rules: [{ name: 'no-a', action: 'Deny', keys: { keys: ['a'] } }] }),
    ],
  });
  assert.deepEqual(decide(session, command('GET a')), {
    kind: 'Allow',
    by: [{ policy: 'payments/team', rule: 'reads' }],
    warnings: [{ policy: 'payments/trial', rule: 'no-a' }],
  });
  const put = decide(session, command('PUT a'));
  assert.equal(put.kind, 'Deny');
  assert.equal(put.warnings.length, 1);
});

test('a text of several commands is judged whole', () => {
  const session = sessionOf({
    policies: [policy('team', { rules: [open, noDrop, holdWrites] })],
  });
  const denied = decideAll(session, [command('PUT a'), command('DROP b'), command('GET c')]);
  assert.equal(denied.kind === 'Deny' && denied.by?.rule, 'no-drop');
  const held = decideAll(session, [command('PUT a'), command('GET c'), command('PUT b')]);
  assert.equal(held.kind, 'Hold');
  assert.equal(held.requirements.length, 1);
  assert.equal(held.reason, 'PUT on a needs consent; PUT on b needs consent');
  assert.equal(decideAll(session, [command('GET a'), command('GET b')]).kind, 'Allow');
  assert.equal(decideAll(session, []).kind, 'Allow');
});

test('INV-02: what is not understood is denied unless nothing at all is to be judged', () => {
  const judged = sessionOf({ policies: [policy('team', { rules: [open, noDrop] })] });
  const refused = decideNotUnderstood(judged, 'it is not valid SQL');
  assert.equal(refused.kind === 'Deny' && refused.code, 'NotUnderstood');
  const clear = sessionOf({ policies: [policy('team', { rules: [open] })] });
  assert.deepEqual(clear.transparent, { policy: 'payments/team', rule: 'all' });
  assert.equal(decideNotUnderstood(clear, 'it is not valid SQL').kind, 'Allow');
});

test('INV-02: a Warn rule, a mask or a second rule ends transparency', () => {
  const warn = policy('trial', { enforcement: 'Warn', rules: [noDrop] });
  const mask = policy('masks', { masking: [{ name: 'email', columns: ['*.*.email'] }] });
  for (const policies of [
    [policy('team', { rules: [open] }), warn],
    [policy('team', { rules: [open] }), mask],
    [policy('team', { rules: [open, reads] })],
    [policy('team', { rules: [reads] })],
  ]) {
    assert.equal(sessionOf({ policies }).transparent, undefined);
  }
});

test('INV-02: a command without any known effect is denied even under an unconditional Allow', () => {
  const session = sessionOf({ policies: [policy('team', { rules: [open] })] });
  const decision = decide(session, { ...command('GET a'), effects: [] });
  assert.equal(decision.kind === 'Deny' && decision.code, 'NotUnderstood');
});

test('a matcher that throws restricts and does not permit', () => {
  const session = sessionOf({ policies: [policy('team', { rules: [reads, noDrop] })] });
  const boom = {
    restricts: () => {
      throw new Error('boom');
    },
    permits: () => {
      throw new Error('boom');
    },
  };
  const rules = session.allows.map((rule) => ({ ...rule, prepared: boom }));
  assert.equal(decide({ ...session, allows: rules }, command('GET a')).kind, 'Deny');
  const denies = session.denies.map((rule) => ({ ...rule, prepared: boom }));
  assert.equal(decide({ ...session, denies }, command('GET a')).kind, 'Deny');
});

test('names from clients are harmless in messages', () => {
  const session = sessionOf({ policies: [policy('team', { rules: [reads] })] });
  const decision = decide(session, {
    ...command('PUT a'),
    effects: [{ action: 'Write', object: ['a\u001b[31m\u202e'] }],
  });
  assert.equal(decision.kind, 'Deny');
  assert.match(decision.message, /a\\u\{1b\}\[31m\\u\{202e\}/);
});

test('a command seen before is decided as at first, and anew under another policy', () => {
  const commands = Array.from({ length: 300 }, (_, index) => command(`GET k${index}`));
  const open1 = sessionOf({ policies: [policy('team', { rules: [reads] })] });
  for (const cmd of [...commands, ...commands]) assert.equal(decide(open1, cmd).kind, 'Allow');
  assert.equal(decide(open1, commands[299]!), decide(open1, commands[299]!));
  const shut = sessionOf({ policies: [policy('team', { rules: [noDrop] })] });
  for (const cmd of commands) assert.equal(decide(shut, cmd).kind, 'Deny');
});
