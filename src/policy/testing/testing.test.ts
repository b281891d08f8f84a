import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyCommands, keyRules } from '../test-protocol.ts';
import { connection, type KeyRule, policy } from '../test-resources.ts';
import { type ReadyCase, readPolicyTest } from './format.ts';
import { jsonReport, junitReport, tableReport } from './report.ts';
import { createTestRunner, refMeans } from './run.ts';

const rules: KeyRule[] = [
  { name: 'base', preset: 'ReadWrite' },
  { name: 'no-drop', action: 'Deny', keys: { verbs: ['DROP'] }, message: 'ask first' },
  { name: 'look-twice', action: 'Hold', keys: { keys: ['prod'] }, hold: { approvers: [] } },
];
const run = createTestRunner({
  connections: [connection()],
  policies: [
    policy('team', { rules, masking: [{ name: 'm', columns: ['*.*.email'] }] }),
    policy('trial', {
      subjects: [{ kind: 'Group', name: 'nobody' }],
      enforcement: 'Warn',
      rules: [{ name: 'quiet', action: 'Deny', keys: { keys: ['w'] } }],
    }),
  ],
  clusterPolicies: [],
  broken: [],
  protocolFor: () => ({
    rules: keyRules,
    classify(text, { schema }) {
      const commands = keyCommands(text);
      return commands === undefined || schema === 'poison'
        ? { kind: 'NotUnderstood', reason: 'it is no command' }
        : { kind: 'Commands', commands };
    },
    masked: (commands) => ({
      kind: 'Columns',
      columns: commands.some(({ text }) => text.includes('c')) ? ['c.email'] : [],
    }),
  }),
});

function only(one: Record<string, unknown>): ReadyCase {
  const read = readPolicyTest({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'PolicyTest',
    spec: { defaults: { user: 'alice', groups: ['orders-dev'], connection: 'payments/orders-db' }, cases: [one] },
  });
  assert.equal(read.kind, 'Cases', JSON.stringify(read));
  return read.cases[0]!;
}
const outcome = (one: Record<string, unknown>, schema?: unknown) => run(only(one), schema);

test('cases pass when decision, rule, code, warnings and masks are as expected', () => {
  for (const one of [
    { statement: 'GET a', expect: 'Allow', rule: 'team/base' },
    { statement: 'GET a', expect: 'Allow', rule: 'payments/team/base.reads', warnings: [] },
    { statement: 'DROP a', expect: 'Deny', rule: 'no-drop', code: 'RuleDenied' },
    { statement: 'GET a; DROP a', expect: 'Deny' },
    { statement: 'GRANT a', expect: 'Deny', code: 'NoRuleAllows' },
    { statement: '?', expect: 'Deny', code: 'NotUnderstood' },
    { statement: 'PUT prod', expect: 'Hold', rule: 'team/look-twice' },
    { statements: ['GET a', 'PUT b'], expect: 'Allow' },
    { statement: 'GET w', expect: 'Allow', warnings: ['trial/quiet'] },
    { statement: 'GET c', expect: 'Allow', masked: ['email'] },
    { statement: 'GET a', expect: 'Allow', masked: [] },
    { user: 'eve', groups: [], expect: 'NoAccess' },
    { account: 'writer', expect: 'NoAccess' },
  ])
    assert.equal(outcome(one).outcome, 'Passed', `${JSON.stringify(one)}: ${outcome(one).why}`);
});

test('cases fail when anything is not, and say what and why', () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { statement: 'DROP a', expect: 'Allow' },
      /^expected Allow, got denied by payments\/team "no-drop"\nDROP a: denied/,
    ],
    [{ statement: 'GET a', expect: 'Deny' }, /^expected Deny, got allowed by payments\/team "base\.reads"/],
    [
      { statement: 'GET a', expect: 'Allow', rule: 'team/writes' },
      /^expected rule team\/writes, got payments\/team\/base\.reads/,
    ],
    [{ statement: 'GRANT a', expect: 'Deny', rule: 'no-drop' }, /^expected rule no-drop, got no rule/],
    [{ statement: 'GRANT a', expect: 'Deny', code: 'RuleDenied' }, /^expected code RuleDenied, got NoRuleAllows/],
    [{ statements: ['GET a', 'DROP b', 'GET c'], expect: 'Allow' }, /^expected Allow, got denied/],
    [{ statement: 'GET w', expect: 'Allow', warnings: [] }, /^unexpected warning of payments\/trial\/quiet/],
    [{ statement: 'GET a', expect: 'Allow', warnings: ['quiet'] }, /^expected a warning of quiet/],
    [{ statement: 'GET c', expect: 'Allow', masked: [] }, /^c\.email masked too/],
    [{ statement: 'GET a', expect: 'Allow', masked: ['c.email'] }, /^expected c\.email masked, and it is not/],
    [{ statement: 'GET a', expect: 'NoAccess' }, /^expected NoAccess, got access/],
    // Not being let in at all is no proof of a Deny rule.
    [
      { statement: 'DROP a', user: 'eve', groups: [], expect: 'Deny' },
      /^expected Deny, got NoAccess\nNo policy gives eve access/,
    ],
  ];
  for (const [one, why] of cases) {
    const result = outcome(one);
    assert.equal(result.outcome, 'Failed', JSON.stringify(one));
    assert.match(result.why, why);
  }
  assert.equal(outcome({ statements: ['GET a', 'DROP b'], expect: 'Allow' }).text, 'DROP b');
});

test('the schema reaches the classifier untouched', () => {
  assert.equal(outcome({ statement: 'GET a', expect: 'Deny', code: 'NotUnderstood' }, 'poison').outcome, 'Passed');
});

test('a Connection that does not exist is an error of the case', () => {
  const result = outcome({ statement: 'GET a', connection: 'payments/other', expect: 'Allow' });
  assert.equal(result.outcome, 'Error');
  assert.equal(result.why, 'there is no Connection payments/other; there are payments/orders-db');
});

test('files that say less than a test needs are refused, with the place', () => {
  const problemsOf = (spec: unknown): string[] => {
    const read = readPolicyTest({ apiVersion: 'sallyport.dev/v1alpha1', kind: 'PolicyTest', spec });
    return read.kind === 'Bad' ? read.problems.map(({ path, message }) => `${path}: ${message}`) : [];
  };
  const base = { user: 'a', connection: 'n/c', statement: 'GET a', expect: 'Allow' };
  assert.deepEqual(problemsOf({ cases: [base] }), []);
  const cases: [unknown, RegExp][] = [
    [{}, /cases/],
    [{ cases: [] }, /cases/],
    [{ cases: [{ ...base, expect: 'Maybe' }] }, /\/spec\/cases\/0\/expect/],
    [{ cases: [{ ...base, expected: 'Allow' }] }, /expected/],
    [{ cases: [{ ...base, statements: ['GET b'] }] }, /\/spec\/cases\/0: give exactly one of statement and statements/],
    [{ cases: [{ ...base, statement: undefined }] }, /\/spec\/cases\/0/],
    [{ cases: [{ ...base, connection: 'c' }] }, /\/spec\/cases\/0\/connection: "c" is no Connection/],
    [{ cases: [{ ...base, connection: 'a/b/c' }] }, /is no Connection/],
    [{ cases: [{ connection: 'n/c', statement: 'GET a', expect: 'Allow' }] }, /missing field "user"/],
    [{ cases: [{ ...base, code: 'RuleDenied' }] }, /only a denial has a code/],
    [{ cases: [{ ...base, expect: 'Deny', masked: ['a'] }] }, /has no result/],
    [{ cases: [{ ...base, expect: 'NoAccess', rule: 'x' }] }, /NoAccess never comes to one/],
    [
      {
        cases: [
          { ...base, name: 'x' },
          { ...base, name: 'x' },
        ],
      },
      /two cases are called "x"/,
    ],
  ];
  for (const [spec, expected] of cases) assert.match(problemsOf(JSON.parse(JSON.stringify(spec))).join('\n'), expected);
});

test('a rule is meant by its name, with its policy, or by the rule that brought a preset', () => {
  const ref = { policy: 'payments/team', rule: 'base.reads' };
  for (const name of ['base', 'base.reads', 'team/base', 'payments/team/base.reads'])
    assert.equal(refMeans(ref, name), true, name);
  for (const name of ['bas', 'reads', 'other/base', 'shop/team/base', 'team/base.r'])
    assert.equal(refMeans(ref, name), false, name);
});

test('a report says what differs where the decision is as expected', () => {
  const results = [
    { name: 'mask', statement: 'GET c', expect: 'Allow', masked: ['c.phone'] },
    { name: 'rule', statement: 'GET a', expect: 'Allow', rule: 'team/writes' },
    { name: 'elsewhere', statement: 'GET a', connection: 'payments/other', expect: 'Allow' },
  ].map((one) => ({ ...outcome(one), line: 1 }));
  const files = [{ file: 'a.test.yaml', suite: undefined, results }];
  const told = [
    'expected c.phone masked, and it is not; c.email masked too',
    'expected rule team/writes, got payments/team/base.reads',
    'there is no Connection payments/other; there are payments/orders-db',
  ];
  const rows = tableReport(files).split('\n').slice(1, 4);
  const xml = junitReport(files);
  told.forEach((text, index) => {
    assert.ok(rows[index]!.endsWith(`  ${text}`), rows[index]);
    assert.ok(xml.includes(` message="${text}">`), xml);
  });
  const json = JSON.parse(jsonReport(files)) as { files: { cases: { misses: string[] }[] }[] };
  assert.deepEqual(
    json.files[0]!.cases.map(({ misses }) => misses.join('; ')),
    told,
  );
});

test('reports: a table, JSON, and XML that is well-formed whatever the names are', () => {
  const files = [
    {
      file: 'a.test.yaml',
      suite: undefined,
      results: [
        { ...outcome({ name: 'fine', statement: 'GET a', expect: 'Allow' }), line: 3 },
        { ...outcome({ name: 'bad <&"\u0001\ud800>', statement: 'DROP a', expect: 'Allow' }), line: 7 },
      ],
    },
  ];
  const text = tableReport(files);
  assert.match(text, /^a\.test\.yaml\n {2}pass {2}fine/);
  assert.match(text, /a\.test\.yaml:7: bad/);
  assert.match(text, /1 passed, 1 failed\n$/);
  const json = JSON.parse(jsonReport(files)) as {
    failed: number;
    files: { cases: { line: number; by: string[] }[] }[];
  };
  assert.equal(json.failed, 1);
  assert.deepEqual(json.files[0]?.cases[1]?.by, ['payments/team/no-drop']);
  const xml = junitReport(files);
  assert.match(xml, /<testsuite name="a\.test\.yaml" tests="2" failures="1" errors="0">/);
  assert.match(xml, /name="bad &lt;&amp;&quot;\ufffd\ufffd&gt;" file="a\.test\.yaml" line="7">/);
  assert.match(
    xml,
    /<failure message="expected Allow, got denied by payments\/team &quot;no-drop&quot;">expected Allow, got denied by payments\/team &quot;no-drop&quot;/,
  );
});
