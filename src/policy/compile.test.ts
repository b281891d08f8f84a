import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completeColumnPattern } from './compile-rules.ts';
import { conditionsFor } from './conditions.ts';
import { decide } from './decide.ts';
import { sessionLimits } from './prepare-session.ts';
import {
  alice,
  clusterPolicy,
  command,
  connection,
  type KeyRule,
  policy,
  sessionOf,
  shardOf,
} from './test-resources.ts';

const open: KeyRule = { name: 'all', action: 'Allow' };
const dba = [{ kind: 'Group' as const, name: 'dba' }];

function problemOf(parts: Parameters<typeof policy>[1]): string | undefined {
  const [compiled] = shardOf({ policies: [policy('team', parts)] }).policies;
  assert.equal(compiled?.accepted, compiled?.problem === undefined);
  return compiled?.problem;
}

test('defaults are filled in', () => {
  const [compiled] = shardOf({
    policies: [
      policy('team', {
        rules: [{ name: 'h', action: 'Hold', hold: { approvers: [{ kind: 'ServiceAccount', name: 'bot' }] } }],
        masking: [
          { name: 'm', columns: ['customers.email', 'iban'] },
          { name: 'd', detectors: ['Card'] },
        ],
      }),
    ],
  }).policies;
  assert.deepEqual(compiled?.rules, [
    {
      ref: { policy: 'payments/team', rule: 'h' },
      action: 'Hold',
      enforce: true,
      exempt: [],
      hold: {
        count: 1,
        approvers: [{ kind: 'ServiceAccount', name: 'bot', namespace: 'payments' }],
        timeoutMs: 60_000,
      },
    },
  ]);
  assert.deepEqual(compiled?.masks[0], {
    ref: { policy: 'payments/team', rule: 'm' },
    columns: ['*.customers.email', '*.*.iban'],
    detectors: [],
    with: 'Redact',
    predicates: 'Deny',
    exempt: [],
  });
  assert.equal(compiled?.session.ticketUntilExpiry, false);
});

test('presets become ordinary rules, named after the rule that brought them', () => {
  const [compiled] = shardOf({
    policies: [
      policy('team', {
        rules: [
          { name: 'base', preset: 'ReadWrite' },
          { name: 'ddl', preset: 'HoldSchemaAndPrivilegeChanges', hold: { approvers: dba }, exempt: dba },
        ],
      }),
    ],
  }).policies;
  assert.equal(compiled?.accepted, true);
  assert.deepEqual(
    compiled?.rules.map(({ ref, action }) => [ref.rule, action]),
    [
      ['base.reads', 'Allow'],
      ['base.writes', 'Allow'],
      ['ddl.changes', 'Hold'],
    ],
  );
  assert.deepEqual(compiled?.rules[2]?.exempt, dba);
  assert.deepEqual(compiled?.rules[2]?.matcher, { member: 'keys', value: { actions: ['Define', 'Grant'] } });
});

test('a policy with a problem is not accepted, and the problem says what to write', () => {
  const cases: [Parameters<typeof policy>[1], RegExp][] = [
    [
      { accounts: ['reader', 'admin'] },
      /names "admin", which Connection orders-db has not; write one of reader, writer/,
    ],
    [{ rules: [open, open] }, /two entries named "all"/],
    [{ rules: [{ name: 'x' }] }, /give one of action/],
    [{ rules: [{ name: 'x', action: 'Deny', preset: 'ReadOnly' }] }, /not both/],
    [{ rules: [{ name: 'x', action: 'Hold' }] }, /write hold\.approvers/],
    [{ rules: [{ name: 'x', preset: 'HoldSchemaAndPrivilegeChanges' }] }, /write hold\.approvers/],
    [{ rules: [{ name: 'x', action: 'Deny', hold: { approvers: dba } }] }, /write action: Hold, or remove hold/],
    [{ rules: [{ name: 'x', preset: 'ReadOnly', hold: { approvers: dba } }] }, /holds nothing/],
    [{ rules: [{ ...open, exempt: dba }] }, /exempt belongs to Deny and Hold/],
    [{ rules: [{ name: 'x', preset: 'ReadOnly', exempt: dba }] }, /only allows/],
    [{ rules: [{ name: 'x', preset: 'ReadOnly', keys: {} }] }, /remove keys/],
    [{ rules: [{ name: 'x', action: 'Deny', keys: { verbs: ['DRPO'] } }] }, /there is no verb "DRPO"/],
    [{ rules: [{ name: 'x', action: 'Deny', sql: {} } as KeyRule] }, /sql does not fit this Connection/],
    [
      { rules: [{ name: 'x', action: 'Hold', hold: { approvers: dba, timeout: '0s' } }] },
      /hold\.timeout: 0s is out of bounds; write 1s to 24h/,
    ],
    [{ maxDuration: '1000h' }, /spec\.maxDuration: 1000h is out of bounds; write 1m to 720h/],
    [{ maxDuration: 'soon' }, /"soon" is no duration/],
    [{ session: { idleTimeout: '0s' } }, /spec\.session\.idleTimeout/],
    [{ access: 'Standing', approval: { steps: [{ name: 's', approvers: dba }] } }, /access Standing/],
    [{ masking: [{ name: 'm', columns: ['a.b.c.d'] }] }, /"a\.b\.c\.d" names no column/],
    [{ masking: [{ name: 'm', columns: ['a..c'] }] }, /names no column/],
    [{ masking: [{ name: 'm' }] }, /give one of columns and detectors/],
  ];
  for (const [parts, expected] of cases) assert.match(problemOf(parts) ?? 'accepted', expected);
  assert.equal(problemOf({ rules: [open] }), undefined);
});

test('every problem of a policy is told at once', () => {
  const problem = problemOf({ accounts: ['admin'], rules: [open, { name: 'x' }] }) ?? '';
  assert.equal(problem.split('; ').length >= 2, true);
  assert.match(problem, /admin/);
  assert.match(problem, /rule "x"/);
});

test('a Hold that nobody can approve is legal', () => {
  assert.equal(problemOf({ rules: [{ name: 'x', action: 'Hold', hold: { approvers: [] } }] }), undefined);
});

test('a policy that is no policy at all is not accepted, and nothing throws', () => {
  const bad = policy('team');
  (bad as { spec: unknown }).spec = { rules: 'all' };
  const [compiled] = shardOf({ policies: [bad] }).policies;
  assert.equal(compiled?.accepted, false);
  (bad as { spec: unknown }).spec = null;
  assert.equal(shardOf({ policies: [bad] }).policies[0]?.accepted, false);
});

test('a guardrail only tightens', () => {
  for (const rules of [
    [open],
    [{ name: 'x', preset: 'ReadOnly' }],
    [{ name: 'x', preset: 'ReadWrite' }],
  ] as KeyRule[][]) {
    const [compiled] = shardOf({ clusterPolicies: [clusterPolicy('guard', { rules })] }).policies;
    assert.match(compiled?.problem ?? 'accepted', /only tightens/);
  }
  const ddl: KeyRule = { name: 'ddl', preset: 'HoldSchemaAndPrivilegeChanges', hold: { approvers: dba } };
  assert.equal(shardOf({ clusterPolicies: [clusterPolicy('guard', { rules: [ddl] })] }).policies[0]?.accepted, true);
});

test('a guardrail’s exempt ServiceAccount needs its namespace', () => {
  const rule: KeyRule = { name: 'x', action: 'Deny', exempt: [{ kind: 'ServiceAccount', name: 'bot' }] };
  const [compiled] = shardOf({ clusterPolicies: [clusterPolicy('guard', { rules: [rule] })] }).policies;
  assert.match(compiled?.problem ?? 'accepted', /without its namespace/);
});

test('selectors: names, labels, all; INV-12: never another namespace', () => {
  const db = connection('orders-db', { tier: 'gold', toString: 'x' });
  const names = (policies: ReturnType<typeof policy>[]) =>
    shardOf({ connection: db, policies }).policies.map((p) => p.name);
  assert.deepEqual(
    names([
      policy('all'),
      policy('named', { connectionSelector: { names: ['orders-db'] } }),
      policy('labelled', { connectionSelector: { matchLabels: { tier: 'gold' } } }),
      policy('both', { connectionSelector: { names: ['orders-db'], matchLabels: { tier: 'lead' } } }),
      policy('inherited', { connectionSelector: { matchLabels: { constructor: 'x' } } }),
      policy('elsewhere', {}, 'shop'),
      policy('named-elsewhere', { connectionSelector: { names: ['orders-db'] } }, 'shop'),
    ]),
    ['payments/all', 'payments/labelled', 'payments/named'],
  );
  const guards = shardOf({
    connection: db,
    clusterPolicies: [
      clusterPolicy('everywhere'),
      clusterPolicy('here', { namespaces: ['payments'] }),
      clusterPolicy('there', { namespaces: ['shop'] }),
      clusterPolicy('nowhere', { namespaces: [] }),
    ],
  });
  assert.deepEqual(
    guards.policies.map((p) => p.name),
    ['everywhere', 'here'],
  );
});

test('INV-04: what the store could not read denies what it may select', () => {
  const denied = (item: Parameters<typeof shardOf>[0]['broken']) =>
    decide(sessionOf({ policies: [policy('team', { rules: [open] })], broken: item ?? [] }), command('GET a')).kind;
  const problem = 'team.yaml:3: bad indentation';
  assert.equal(denied([{ kind: 'AccessPolicy', namespace: 'payments', name: 'x', problem }]), 'Deny');
  assert.equal(denied([{ kind: 'AccessPolicy', namespace: 'payments', name: 'team', problem }]), 'Deny');
  assert.equal(denied([{ kind: 'ClusterAccessPolicy', name: 'x', problem }]), 'Deny');
  assert.equal(denied([{ kind: 'Connection', namespace: 'payments', name: 'orders-db', problem }]), 'Deny');
  assert.equal(denied([{ namespace: 'payments', problem }]), 'Deny');
  assert.equal(denied([{ problem }]), 'Deny');
  assert.equal(denied([{ kind: 'AccessLock', namespace: 'payments', name: 'x', problem }]), 'Deny');
  // What certainly selects something else, or can restrict nothing, denies nothing here.
  assert.equal(denied([{ kind: 'AccessPolicy', namespace: 'shop', name: 'x', problem }]), 'Allow');
  assert.equal(denied([{ kind: 'Connection', namespace: 'payments', name: 'other-db', problem }]), 'Allow');
  assert.equal(
    denied([{ kind: 'AccessPolicy', namespace: 'payments', name: 'x', problem, selector: { names: ['other-db'] } }]),
    'Allow',
  );
  assert.equal(denied([{ kind: 'ClusterAccessPolicy', name: 'x', problem, namespaces: ['shop'] }]), 'Allow');
  assert.equal(denied([{ kind: 'Secret', namespace: 'payments', name: 'x', problem }]), 'Allow');
});

test('a broken policy is told by its problem, once', () => {
  const shard = shardOf({
    policies: [policy('team', { rules: [open] })],
    broken: [{ kind: 'AccessPolicy', namespace: 'payments', name: 'team', problem: 'team.yaml:3: bad' }],
  });
  assert.equal(shard.policies.length, 1);
  assert.equal(shard.policies[0]?.problem, 'team.yaml:3: bad');
  const decision = decide(
    sessionOf({
      policies: [policy('team', { rules: [open] })],
      broken: [{ kind: 'AccessPolicy', namespace: 'payments', name: 'team', problem: 'team.yaml:3: bad' }],
    }),
    command('GET a'),
  );
  assert.equal(decision.kind === 'Deny' && decision.code, 'PolicyNotAccepted');
  assert.match(decision.kind === 'Deny' ? (decision.hint ?? '') : '', /team\.yaml:3: bad/);
});

test('a session ends up denied when its policy no longer fits', () => {
  const policies = [policy('team', { rules: [open] })];
  assert.equal(sessionOf({ policies }).broken.length, 0);
  assert.match(sessionOf({ policies }, { policy: 'payments/gone' }).broken[0]?.problem ?? '', /no longer selects/);
  const stranger = { username: 'eve', groups: [], aliases: [alice.username] };
  assert.match(sessionOf({ policies }, { principal: stranger }).broken[0]?.problem ?? '', /no longer names eve/);
  assert.match(sessionOf({ policies }, { account: 'writer' }).broken[0]?.problem ?? '', /no longer offers/);
  const guard = clusterPolicy('guard', {});
  assert.match(
    sessionOf({ policies, clusterPolicies: [guard] }, { policy: 'guard' }).broken[0]?.problem ?? '',
    /no longer selects/,
  );
});

test('conditions tell whether a policy is in force, and on what', () => {
  const compile = (parts: Parameters<typeof policy>[1]) => [
    { on: 'orders-db', policy: shardOf({ policies: [policy('team', parts)] }).policies[0]! },
  ];
  assert.deepEqual(conditionsFor(compile({ rules: [open] })), [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: 'In force on orders-db.' },
  ]);
  const again = compile({ rules: [open], session: { reauthenticate: '15m' } });
  assert.match(
    conditionsFor(again)[0]!.message,
    /only tokens of an IdentityProvider renew a session; who has none is ended after 15m and connects again\./,
  );
  const strong = compile({ rules: [open], session: { reauthenticate: '15m', stepUp: { acr: ['gold'] } } });
  assert.match(conditionsFor(strong)[0]!.message, /session\.stepUp: .* tickets open no session\./);
  const [bad] = conditionsFor(compile({ rules: [{ name: 'x' }] }));
  assert.equal(bad?.status, 'False');
  assert.match(bad?.message ?? '', /^Every command is denied on orders-db: rule "x": give one of action/);
  assert.equal(conditionsFor([])[0]?.reason, 'SelectsNothing');
});

test('INV-06: a function is trusted only where every policy with column masks in force trusts it', () => {
  const masked = (name: string, trustedFunctions: string[]) =>
    policy(name, {
      rules: name === 'team' ? [open] : [],
      masking: [{ name: 'm', columns: ['*.*.email'] }],
      trustedFunctions,
    });
  const trusted = (...policies: ReturnType<typeof policy>[]) => sessionOf({ policies }).trustedFunctions;
  assert.deepEqual(trusted(masked('team', ['app.*', 'x.f'])), ['app.*', 'x.f']);
  assert.deepEqual(trusted(masked('team', ['app.*', 'x.f']), masked('other', ['app.fmt'])), ['app.fmt']);
  assert.deepEqual(trusted(masked('team', ['app.*']), masked('other', [])), []);
  // One that masks nothing has no say.
  assert.deepEqual(trusted(masked('team', ['app.f']), policy('free', { trustedFunctions: ['*.*'] })), ['app.f']);
});

test('session limits are the policy’s own, tightened by guardrails only', () => {
  const shard = shardOf({
    policies: [
      policy('team', { session: { idleTimeout: '30m', ticketUntilExpiry: true } }),
      policy('other', { session: { idleTimeout: '1m' } }),
    ],
    clusterPolicies: [clusterPolicy('guard', { session: { maxDuration: '2h', idleTimeout: '1h' } })],
  });
  assert.deepEqual(sessionLimits(shard, 'payments/team'), {
    idleTimeoutMs: 1_800_000,
    maxDurationMs: 7_200_000,
    ticketUntilExpiry: true,
  });
  const strict = shardOf({
    policies: [policy('team', { session: { ticketUntilExpiry: true } })],
    clusterPolicies: [clusterPolicy('guard', { session: { ticketUntilExpiry: false } })],
  });
  assert.equal(sessionLimits(strict, 'payments/team').ticketUntilExpiry, false);
});

test('column patterns are completed, and quoted dots are no separators', () => {
  assert.equal(completeColumnPattern('a.b.c'), 'a.b.c');
  assert.equal(completeColumnPattern('*'), '*.*.*');
  assert.equal(completeColumnPattern('"a.b".c'), '*."a.b".c');
  assert.equal(completeColumnPattern('"a.b'), undefined);
  assert.equal(completeColumnPattern('.a'), undefined);
});

test('a message keeps its lines and nothing else that is not text', () => {
  const message = 'first\u0000\u001b[2J\n second\u202e\n';
  const rules: KeyRule[] = [
    { name: 'd', action: 'Deny', message },
    { name: 'p', preset: 'ReadOnly', message },
  ];
  const [compiled] = shardOf({ policies: [policy('team', { rules })] }).policies;
  for (const rule of compiled?.rules ?? []) assert.equal(rule.message, 'first\\u{0}\\u{1b}[2J\n second\\u{202e}');
});

test('approvers of a guardrail’s Hold are named in full', () => {
  const rule: KeyRule = { name: 'x', action: 'Hold', hold: { approvers: [{ kind: 'ServiceAccount', name: 'bot' }] } };
  const [compiled] = shardOf({ clusterPolicies: [clusterPolicy('guard', { rules: [rule] })] }).policies;
  assert.match(compiled?.problem ?? 'accepted', /hold\.approvers names a ServiceAccount without its namespace/);
});
