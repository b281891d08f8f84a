import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findKind, KIND_NAMES } from './kinds.ts';
import { editDistance, nearest } from './nearest.ts';
import { fieldOf, nearestKind, type Problem, shown, validate, validateSpec, validateStatus } from './validate.ts';

const policy = (spec: object = {}, metadata: object = {}): Record<string, unknown> => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessPolicy',
  metadata: { name: 'orders-team', ...metadata },
  spec: {
    connectionSelector: {},
    subjects: [{ kind: 'Group', name: 'payments' }],
    accounts: ['reader'],
    ...spec,
  },
});
const only = (problems: Problem[]): string => {
  assert.equal(problems.length, 1, JSON.stringify(problems));
  const [problem] = problems;
  return `${fieldOf(problem!.path)}: ${problem!.message}; ${problem!.hint}`;
};

test('a right object has no problems', () => {
  assert.deepEqual(
    validate('AccessPolicy', policy({ rules: [{ name: 'read', action: 'Allow', sql: { effects: ['Read'] } }] })),
    [],
  );
});

test('two entries of one name in a list that is a map are refused, as an API server would', () => {
  const rule = { name: 'a', action: 'Deny' };
  assert.equal(
    only(validate('AccessPolicy', policy({ rules: [rule, { ...rule, name: 'b' }, rule] }))),
    'spec.rules[2].name: "a" is the name of spec.rules[0] already; give each entry its own name',
  );
  assert.equal(
    only(validate('AccessPolicy', policy({ masking: [1, 2].map(() => ({ name: 'm', detectors: ['Card'] })) }))),
    'spec.masking[1].name: "m" is the name of spec.masking[0] already; give each entry its own name',
  );
  const step = { name: 'lead', approvers: [{ kind: 'Group', name: 'leads' }] };
  assert.equal(
    only(validate('AccessPolicy', policy({ approval: { steps: [step, step] } }))),
    'spec.approval.steps[1].name: "lead" is the name of spec.approval.steps[0] already; give each entry its own name',
  );
  const account = { name: 'reader', secretRef: { name: 's' } };
  assert.equal(
    only(
      validateSpec('Connection', {
        type: 'PostgreSQL',
        postgresql: { host: 'db' },
        accounts: [account, { ...account, secretRef: { name: 't' } }],
      }),
    ),
    'spec.accounts[1].name: "reader" is the name of spec.accounts[0] already; give each entry its own name',
  );
  const condition = {
    type: 'Ready',
    status: 'True',
    reason: 'Ready',
    message: '',
    lastTransitionTime: '2026-03-01T09:00:00Z',
  };
  assert.match(only(validateStatus('AccessPolicy', { conditions: [condition, condition] })), /conditions\[1\]\.type/);
});

test('a key that is none is told once, in words', () => {
  const told = (ssh: object): string[] =>
    validate('Connection', {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name: 'web1', namespace: 'fleet' },
      spec: { type: 'SSH', ssh: { host: 'web1', ...ssh }, accounts: [{ name: 'a', secretRef: { name: 'a' } }] },
    }).map(({ path, message, hint }) => `${path}: ${message}; ${hint}`);
  const words =
    'write a public key as `ssh-keyscan HOST` prints it behind the name, or as a .pub file has it: ssh-ed25519 AAAA…';
  for (const key of ['nonsense', '', 'web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5']) {
    assert.deepEqual(told({ hostKeys: [key] }), [`/spec/ssh/hostKeys/0: "${key}" is not written right; ${words}`]);
  }
  assert.match(told({})[0]!, /^\/spec\/ssh: give hostKeys or hostAuthorities: .*; hostKeys: Public keys of the/);
});

test('each mistake is told with its field and what to write instead', () => {
  const cases: [object, string][] = [
    [policy({ access: 'grant' }), 'spec.access: "grant" is none of Grant, Standing; did you mean Grant?'],
    [
      policy({ access: 'Whatever' }),
      'spec.access: "Whatever" is none of Grant, Standing; write one of Grant, Standing',
    ],
    [policy({ acces: 'Grant' }), 'spec.acces: unknown field "acces"; did you mean "access"?'],
    [
      policy({ maxDuration: '1 hour' }),
      'spec.maxDuration: "1 hour" is not written right; write a duration such as 1h, 90m or 1h30m',
    ],
    [policy({ accounts: [7] }), 'spec.accounts[0]: must be a text, not the number 7; put it in quotes: "7"'],
    [policy({ accounts: 'reader' }), 'spec.accounts: must be a list, not the text "reader"; write a list: [reader]'],
    [policy({ accounts: null }), 'spec.accounts: must be a list, not empty; write a value, or remove the line'],
    [policy({ subjects: [] }), 'spec.subjects: must not be empty; Who gets this policy’s allows.'],
    [
      policy({ subjects: [{ kind: 'Group' }] }),
      'spec.subjects[0]: a User, Group or ServiceAccount needs name; a Claim needs provider and claims; see docs/reference/api.md',
    ],
    [
      policy({ rules: [{ name: 'x', action: 'Hold' }] }),
      'spec.rules[0]: action Hold needs hold.approvers; hold: Who must consent before the command runs. Needed by action Hold and by presets that hold.',
    ],
    [
      policy({ rules: [{ action: 'Deny' }] }),
      'spec.rules[0]: missing field "name"; add name: — Named in every decision it makes; unique in the policy.',
    ],
    [
      policy({ review: { everyDays: 0, reviewers: [] } }),
      'spec.review.everyDays: 0 is out of bounds; write a number from 1 to 3650',
    ],
    [
      policy({}, { name: 'Orders Team' }),
      'metadata.name: "Orders Team" is not written right; use small letters, digits, - and ., as in orders-db',
    ],
    [
      policy({}, { labels: { 'a b': 'c' } }),
      'metadata.labels.a b: "a b" is no name of a label; use letters, digits, -, _ and ., at most 63, with an optional domain before a slash: example.com/team',
    ],
    [
      { ...policy(), apiVersion: 'sallyport.dev/v1' },
      'apiVersion: "sallyport.dev/v1" is not served; write apiVersion: sallyport.dev/v1alpha1',
    ],
    [{ ...policy(), sepc: {} }, 'sepc: unknown field "sepc"; did you mean "spec"?'],
  ];
  for (const [object, expected] of cases) {
    assert.equal(only(validate('AccessPolicy', object)).replace('the number 0 is', '0 is'), expected);
  }
});

test('INV-12: a cluster kind has no namespace, and a policy can not name one for another', () => {
  const object = {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'ClusterAccessPolicy',
    metadata: { name: 'a', namespace: 'b' },
    spec: {},
  };
  assert.match(only(validate('ClusterAccessPolicy', object)), /belongs to no namespace; .*spec\.namespaces/);
  assert.match(only(validate('AccessPolicy', policy({ namespaces: ['other'] }))), /unknown field "namespaces"/);
});

test('a ClusterAccessPolicy that allows is refused', () => {
  const object = {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'ClusterAccessPolicy',
    metadata: { name: 'a' },
    spec: { rules: [{ name: 'x', action: 'Allow' }] },
  };
  assert.match(only(validate('ClusterAccessPolicy', object)), /only tightens/);
});

test('INV-11: any value is judged without throwing, in bounded words', () => {
  fc.assert(
    fc.property(fc.constantFrom(...KIND_NAMES), fc.jsonValue(), fc.jsonValue(), (kind, spec, metadata) => {
      const object = { apiVersion: 'sallyport.dev/v1alpha1', kind, metadata, spec };
      const problems = [...validate(kind, object), ...validate(kind, spec), ...validateStatus(kind, spec)];
      assert.ok(problems.length > 0);
      assert.ok(problems.length <= 150);
    }),
    { numRuns: 200 },
  );
});

test('an own field named __proto__ is an unknown field, not a way around the schema', () => {
  const spec: unknown = JSON.parse(
    '{"connectionSelector":{},"subjects":[{"kind":"User","name":"a"}],"accounts":["r"],"__proto__":{"a":1}}',
  );
  assert.match(only(validate('AccessPolicy', { ...policy(), spec })), /unknown field "__proto__"/);
});

test('shown values carry no control characters and are cut', () => {
  assert.equal(shown('a\u001b[31m\u202eb'), '"a\\u001b[31m\\u202eb"');
  assert.ok(shown('x'.repeat(1000)).length < 70);
});

test('the nearest word is the one that was meant, or none', () => {
  assert.equal(nearest('conectionSelector', ['connectionSelector', 'subjects']), 'connectionSelector');
  assert.equal(nearest('zzz', ['connectionSelector', 'subjects']), undefined);
  assert.equal(nearestKind('AccesPolicy'), 'AccessPolicy');
  assert.equal(nearestKind('Deployment'), undefined);
  assert.equal(editDistance('ab', 'ba'), 1);
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      assert.equal(editDistance(a, b), editDistance(b, a));
      assert.equal(editDistance(a, b) === 0, a.toLowerCase() === b.toLowerCase());
    }),
    { numRuns: 200 },
  );
});

test('kinds are found as people type them', () => {
  for (const word of ['conn', 'Connections', 'connection']) assert.equal(findKind(word)?.kind, 'Connection');
  assert.equal(findKind('pods'), undefined);
  const names = KIND_NAMES.flatMap((kind) => [
    findKind(kind)!.plural,
    findKind(kind)!.singular,
    ...findKind(kind)!.shortNames,
  ]);
  assert.equal(new Set(names).size, names.length);
});
