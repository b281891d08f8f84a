import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { explain, explanationText } from './explain.ts';
import { explainPreset, presetNames } from './presets.ts';
import { keyRules } from './test-protocol.ts';
import { bob, clusterPolicy, command, policy, sessionOf } from './test-resources.ts';
import { denialDetail } from './wording.ts';

const dba = [{ kind: 'Group' as const, name: 'dba' }];
const policies = [
  policy('team', {
    subjects: [{ kind: 'Group', name: 'orders-dev' }, ...dba],
    rules: [
      { name: 'reads', action: 'Allow', keys: { actions: ['Read'] } },
      { name: 'writes', action: 'Allow', keys: { actions: ['Write'], keys: ['team/*'] } },
      { name: 'no-drop', action: 'Deny', keys: { verbs: ['DROP'] }, exempt: dba },
      { name: 'second-look', action: 'Hold', keys: { keys: ['team/prod'] }, hold: { approvers: dba } },
    ],
    masking: [{ name: 'email', columns: ['*.*.email'] }],
  }),
];
const clusterPolicies = [clusterPolicy('trial', { enforcement: 'Warn', rules: [{ name: 'quiet', action: 'Deny' }] })];

test('an explanation names every rule, and the field that did not fit', () => {
  const session = sessionOf({ policies, clusterPolicies });
  assert.equal(
    explanationText(explain(session, command('MOVE a b'), keyRules)),
    [
      'MOVE on a, b: denied (NoRuleAllows), with 1 warning',
      '  Sallyport refused MOVE on a, b: no rule allows Write on b',
      '  Policy payments/team has no Allow rule for Write on b; ask its authors for one, or request access under another policy.',
      '',
      'What it does',
      '  Read on a',
      '  Write on b',
      '',
      'Rules, in the order in which they count',
      '  Deny         payments/team "no-drop"      no match  verbs is DROP',
      '  Deny (Warn)  trial "quiet"                matched   it is about every command',
      '  Hold         payments/team "second-look"  no match  keys is team/prod',
      '  Allow        payments/team "reads"        matched   permits Read on a; not Write on b: actions is Read',
      '  Allow        payments/team "writes"       no match  not Read on a: actions is Write, keys is team/*; not Write on b: keys is team/*',
      '',
      'Masks in force',
      '  payments/team "email"  *.*.email',
      '',
    ].join('\n'),
  );
});

test('a hold tells whom it needs, and exemptions are listed', () => {
  const text = explanationText(
    explain(sessionOf({ policies }, { principal: bob }), command('PUT team/prod'), keyRules),
  );
  assert.match(text, /^PUT on team\.prod: held by payments\/team "second-look"\n {2}needs 1 of dba/);
  assert.match(text, /Exempt from\n {2}payments\/team "no-drop"/);
});

test('the JSON form is plain data', () => {
  const explanation = explain(sessionOf({ policies }), command('PUT team/a'), keyRules);
  assert.deepEqual(JSON.parse(JSON.stringify(explanation)), explanation);
});

test('a preset is printed as rules that mean the same', () => {
  assert.deepEqual(presetNames(keyRules), ['ReadOnly', 'ReadWrite', 'HoldSchemaAndPrivilegeChanges']);
  for (const name of presetNames(keyRules)) {
    const printed = parse(explainPreset(keyRules, name) ?? '') as { rules: { action: string; keys: unknown }[] };
    assert.deepEqual(
      printed.rules.map(({ action, keys }) => ({ action, keys })),
      keyRules.presets[name]?.map(({ action, matcher }) => ({ action, keys: matcher })),
    );
  }
  assert.equal(explainPreset(keyRules, 'toString'), undefined);
});

test('a denial’s detail says policy, rule, id and what reached the target', () => {
  const { decision } = explain(sessionOf({ policies }), command('DROP a'));
  assert.equal(decision.kind, 'Deny');
  assert.equal(
    denialDetail(decision, { denial: 'd-51c0', target: 'the database' }),
    'Policy payments/team, rule "no-drop" (denial d-51c0). Nothing reached the database.',
  );
});
