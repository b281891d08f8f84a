import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brokenRules, CEL_CHECKS, isImmutable, type SchemaNode } from './cel.ts';
import { KIND_NAMES, KINDS } from './kinds.ts';
import type { CelRule } from './schema.ts';

function rulesOf(schema: SchemaNode): CelRule[] {
  const children = [...Object.values(schema.properties ?? {}), ...(schema.items === undefined ? [] : [schema.items])];
  return [...(schema['x-kubernetes-validations'] ?? []), ...children.flatMap(rulesOf)];
}
const all = KIND_NAMES.flatMap((kind) => [KINDS[kind].spec, KINDS[kind].status]).flatMap((schema) =>
  rulesOf(schema as SchemaNode),
);

test('every CEL rule of a schema has its local counterpart, and every counterpart its rule', () => {
  const texts = new Set(all.map(({ rule }) => rule).filter((rule) => !rule.includes('oldSelf')));
  assert.deepEqual([...texts].sort(), [...CEL_CHECKS.keys()].sort());
  assert.ok(texts.size >= 10);
});

test('every CEL rule says what to write', () => {
  for (const { rule, message } of all) assert.ok(message.length > 10, rule);
});

// What an API server would say of each, worked out by hand from the CEL text.
const examples: [rule: string, good: unknown[], bad: unknown[]][] = [
  [
    "self.kind == 'Claim' ?",
    [
      { kind: 'User', name: 'a' },
      { kind: 'Claim', provider: 'p', claims: {} },
    ],
    [{ kind: 'User' }, { kind: 'Claim', name: 'a' }, { kind: 'Claim', provider: 'p' }],
  ],
  ["self.type != 'PostgreSQL'", [{ type: 'PostgreSQL', postgresql: {} }, { type: 'SSH' }], [{ type: 'PostgreSQL' }]],
  ["self.type != 'Volume'", [{ type: 'Volume', volume: {} }, { type: 'Bucket' }], [{ type: 'Volume' }]],
  ["self.type != 'Slack'", [{ type: 'Slack', slack: {} }, { type: 'Jira' }], [{ type: 'Slack' }]],
  ["self.type != 'Webhook'", [{ type: 'Webhook', webhook: {} }, { type: 'Jira' }], [{ type: 'Webhook' }]],
  ["self.type != 'Jira'", [{ type: 'Jira', jira: {} }, { type: 'Slack' }], [{ type: 'Jira' }]],
  ["self.type != 'ServiceNow'", [{ type: 'ServiceNow', serviceNow: {} }, { type: 'Slack' }], [{ type: 'ServiceNow' }]],
  [
    'has(self.tokenSecretRef)',
    [{ tokenSecretRef: {} }, { webhookSecretRef: {} }],
    [{}, { tokenSecretRef: {}, webhookSecretRef: {} }],
  ],
  ['!has(self.tokenSecretRef)', [{}, { tokenSecretRef: {}, channel: 'C1' }], [{ tokenSecretRef: {} }]],
  [
    'self.audiences.all(',
    [{ audiences: [] }, { audiences: [{ use: 'ID' }, { use: 'Access', clients: ['a'] }] }],
    [{ audiences: [{ use: 'Access', clients: ['a'] }, { use: 'Access' }] }],
  ],
  ['!(has(self.ca)', [{}, { ca: 'x' }, { caFile: 'x' }], [{ ca: 'x', caFile: 'y' }]],
  [
    'has(self.action) != has(self.preset)',
    [{ action: 'Deny' }, { preset: 'ReadOnly' }],
    [{}, { action: 'Deny', preset: 'ReadOnly' }],
  ],
  [
    "!has(self.action) || self.action != 'Hold'",
    [{ action: 'Hold', hold: {} }, { action: 'Deny' }, { preset: 'ReadOnly' }],
    [{ action: 'Hold' }],
  ],
  [
    'has(self.hold) ?',
    [{}, { hold: {}, action: 'Hold' }, { hold: {}, preset: 'HoldSchemaAndPrivilegeChanges' }],
    [{ hold: {} }, { hold: {}, action: 'Deny' }, { hold: {}, preset: 'ReadOnly' }],
  ],
  ['!has(self.preset) || !has(self.sql)', [{ preset: 'ReadOnly' }, { sql: {} }], [{ preset: 'ReadOnly', sql: {} }]],
  ['!has(self.preset) || !has(self.ssh)', [{ preset: 'ReadOnly' }, { ssh: {} }], [{ preset: 'ReadOnly', ssh: {} }]],
  [
    '[has(self.commands), has(self.shell)',
    [
      {},
      { users: ['root'] },
      { commands: ['ls'], users: ['root'] },
      { shell: true },
      { paths: ['/**'], effects: ['Read'] },
    ],
    [
      { commands: ['ls'], shell: true },
      { paths: ['/**'], env: ['A'], forwarding: ['a:1'] },
    ],
  ],
  ['!has(self.effects)', [{}, { effects: ['Read'], paths: ['/**'] }], [{ effects: ['Read'] }]],
  [
    '!has(self.exempt)',
    [{ exempt: [], action: 'Deny' }, { exempt: [], preset: 'ReadOnly' }, { action: 'Allow' }],
    [{ exempt: [], action: 'Allow' }],
  ],
  [
    '!has(self.sourceRanges)',
    [{}, { type: 'NodePort' }, { type: 'LoadBalancer', sourceRanges: [] }],
    [{ sourceRanges: ['10.0.0.0/8'] }, { type: 'NodePort', sourceRanges: [] }],
  ],
  [
    'has(self.columns) != has(self.detectors)',
    [{ columns: [] }, { detectors: [] }],
    [{}, { columns: [], detectors: [] }],
  ],
  [
    '!has(self.rules)',
    [
      {},
      { rules: [] },
      { rules: [{ action: 'Deny' }, { action: 'Hold' }, { preset: 'HoldSchemaAndPrivilegeChanges' }] },
    ],
    [{ rules: [{ action: 'Deny' }, { action: 'Allow' }] }, { rules: [{ preset: 'ReadOnly' }] }, { rules: [{}] }],
  ],
  ['has(self.maxAge)', [{ maxAge: '5m' }, { acr: ['gold'] }, { amr: ['mfa'] }], [{}, { on: ['Request'] }]],
  [
    '!has(self.breakGlass)',
    [{}, { breakGlass: false }, { breakGlass: true, reason: 'INC-1' }],
    [{ breakGlass: true }, { breakGlass: true, reason: '' }],
  ],
  [
    '!has(self.sealed)',
    [{}, { breakGlass: true }, { sealed: {}, clientKey: 'k', reason: 'r' }],
    [
      { sealed: {}, clientKey: 'k' },
      { sealed: {}, clientKey: 'k', reason: '' },
      { sealed: {}, reason: 'r' },
      { sealed: {}, clientKey: 'k', reason: 'r', extends: {} },
      { sealed: {}, clientKey: 'k', reason: 'r', notBefore: 'x' },
      { sealed: {}, clientKey: 'k', reason: 'r', commands: [] },
      { sealed: {}, clientKey: 'k', reason: 'r', breakGlass: true },
    ],
  ],
  [
    '!has(self.beneficiary)',
    [{}, { breakGlass: true }, { beneficiary: { kind: 'User' } }, { beneficiary: { kind: 'User' }, breakGlass: false }],
    [{ beneficiary: { kind: 'Group' } }, { beneficiary: { kind: 'User' }, breakGlass: true }],
  ],
  ["self.type != 'SSH'", [{ type: 'SSH', ssh: {} }, { type: 'PostgreSQL' }], [{ type: 'SSH' }]],
  [
    'has(self.hostKeys)',
    [{ hostKeys: ['k'] }, { hostAuthorities: ['k'] }, { hostKeys: ['k'], hostAuthorities: ['k'] }],
    [{}],
  ],
  ['has(self.secretRef) != has', [{ secretRef: {} }, { certificate: {} }], [{}, { secretRef: {}, certificate: {} }]],
  [
    "self.type == 'SSH' ||",
    [
      { type: 'SSH', accounts: [{ certificate: {} }] },
      { type: 'PostgreSQL', accounts: [{ secretRef: {} }] },
    ],
    [{ type: 'PostgreSQL', accounts: [{ secretRef: {} }, { certificate: {} }] }],
  ],
  [
    '[has(self.user)',
    [{ user: 'a' }, { everything: true }, { group: 'g', everything: false }],
    [{}, { everything: false }, { user: 'a', connection: 'c' }],
  ],
];

test('each local counterpart judges as its CEL text does', () => {
  assert.equal(examples.length, CEL_CHECKS.size);
  for (const [start, good, bad] of examples) {
    const found = [...CEL_CHECKS].filter(([rule]) => rule.startsWith(start));
    assert.equal(found.length, 1, start);
    for (const value of good) assert.equal(found[0]![1](value), true, `${start} ${JSON.stringify(value)}`);
    for (const value of bad) assert.equal(found[0]![1](value), false, `${start} ${JSON.stringify(value)}`);
  }
});

test('counterparts bear any value', () => {
  for (const [rule, check] of CEL_CHECKS) {
    for (const value of [null, undefined, 1, 'x', [], [null], { rules: [null] }, { rules: 3 }]) {
      assert.equal(typeof check(value), 'boolean', rule);
    }
  }
});

test('a rule without a counterpart is no rule that passes', () => {
  const schema: SchemaNode = { 'x-kubernetes-validations': [{ rule: 'self.size() > 3', message: 'more than three' }] };
  assert.throws(() => brokenRules(schema, {}), /no local counterpart/);
});

test('what was asked for, decided or held can not change', () => {
  assert.deepEqual(
    KIND_NAMES.filter((kind) => isImmutable(KINDS[kind].spec as SchemaNode)),
    ['AccessGrant', 'AccessApproval', 'CommandHold', 'AccessSession'],
  );
});
