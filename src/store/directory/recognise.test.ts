import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BrokenResource, readFileContent } from './read-document.ts';
import { policyYaml } from './test-store.ts';

const HEAD = 'apiVersion: sallyport.dev/v1alpha1\n';
/** No YAML whatever stands before it. */
const BREAK = 'spec:\n  rules: [{ name: "a }]\n';

/** Namespaces that the text denies; `*` where it is every one. */
function denied(text: string): string[] {
  const { broken, objects } = readFileContent('a.yaml', text);
  assert.deepEqual(objects, [], text);
  return [...new Set(broken.map(reach))].sort();
}
const reach = ({ kind, namespace }: BrokenResource): string =>
  kind === undefined || kind === 'ClusterAccessPolicy' || namespace === undefined ? '*' : namespace;

test('INV-12: a text that is no YAML denies its own namespace only, where kind and namespace are plain', () => {
  const cases: [text: string, denied: string[]][] = [
    ['kind: AccessPolicy\nmetadata:\n  name: a\n  namespace: payments\n', ['payments']],
    ['kind: AccessPolicy # one\nmetadata: # two\n  namespace: "payments"\n', ['payments']],
    ['kind: AccessPolicy\nmetadata: { name: a, namespace: payments } # it\n', ['payments']],
    [
      '"kind": "AccessPolicy"\n"metadata": {"name": "a", "labels": {"namespace": "x"}, "namespace": "payments"}\n',
      ['payments'],
    ],
    ['kind: AccessPolicy\r\nmetadata:\r\n  namespace: payments\r\n', ['payments']],
    ['kind: AccessPolicy\nmetadata:\n\tname: a\n\tnamespace: payments\n', ['payments']],
    ['kind: AccessPolicy\nmetadata:\n  labels:\n    namespace: x\n  namespace: payments\n', ['payments']],
    ['kind: AccessLock\nmetadata: { name: a, namespace: payments }\n', ['payments']],
    ['# kind: ClusterAccessPolicy\nkind: AccessPolicy\nmetadata: { name: a, namespace: payments }\n', ['payments']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(denied(`${HEAD}${text}${BREAK}`), expected, text);
  assert.deepEqual(
    denied(`${HEAD}${cases[0]![0]}${BREAK}---\n${HEAD}${cases[0]![0].replace('payments', 'billing')}${BREAK}`),
    ['billing', 'payments'],
  );
});

test('INV-04: where it can not be told for certain, everything is denied', () => {
  const plain = 'kind: AccessPolicy\nmetadata: { name: a, namespace: payments }\n';
  const block = 'kind: AccessPolicy\nmetadata:\n  name: a\n  namespace: payments\n';
  const cases: string[] = [
    // The kind.
    plain.replace('AccessPolicy', 'ClusterAccessPolicy'),
    plain.replace('AccessPolicy', 'ClusterAccesPolicy'),
    plain.replace('AccessPolicy', '|\n  ClusterAccessPolicy'),
    plain.replace('AccessPolicy', 'AccessPolicy\n  Guard'),
    plain.replace('AccessPolicy', '&a AccessPolicy'),
    plain.replace('AccessPolicy', '*a'),
    plain.replace('AccessPolicy', '!!str AccessPolicy'),
    plain.replace('AccessPolicy', '"AccessPolicy\\u0020"'),
    plain.replace('AccessPolicy', ''),
    plain.replace('kind: ', 'kind:'),
    plain.replace('kind:', '? kind\n:'),
    plain.replace('kind:', '  kind:'),
    plain.replace('kind:', '\uFEFFkind:'),
    plain.replace('kind:', '# kind:'),
    `${plain}kind: ClusterAccessPolicy\n`,
    `${plain}Kind: GuardRail\n`,
    `${plain}"ki\\u006ed": GuardRail\n`,
    `${plain}<<: *base\n`,
    `${plain}...\nmetadata: { name: b }\n`,
    `${plain}# one\rkind: Guardrail\n`,
    `--- |\n${plain}`,
    `--- &a\n${plain}`,
    `"\n${plain}`,
    `  spec: {}\n${plain}`,
    `${plain}metadata: { name: g }\n`,
    `${plain}description: instead of the ClusterAccessPolicy\n`,
    // The namespace.
    block.replace('  namespace: payments\n', ''),
    block.replace('payments', 'payments\n    team'),
    block.replace('payments', '|\n    payments'),
    block.replace('payments', '*ns'),
    block.replace('payments', 'null'),
    block.replace('payments', '3'),
    block.replace('payments', 'Payments'),
    block.replace('  namespace', 'namespace'),
    block.replace('  namespace', '    namespace'),
    block.replace('  namespace', ' \tnamespace'),
    block.replace('namespace', 'Namespace'),
    block.replace('namespace', 'namepsace'),
    block.replace('  namespace', '  <<: *other\n  namespace'),
    block.replace('  namespace', '  namespace: billing\n  namespace'),
    block.replace('metadata:', 'metadata: &m'),
    plain.replace('payments }', 'payments'),
    plain.replace('payments }', 'payments, namespace: billing }'),
    plain.replace('namespace: payments', '<<: *m, namespace: payments'),
    plain.replace('namespace: payments', 'labels: { namespace: payments }'),
    plain.replace(' }', '\n}'),
  ];
  for (const text of cases) assert.ok(denied(`${HEAD}${text}${BREAK}`).includes('*'), text);
});

/** What a slip, or somebody who means it, puts into a text. */
const NOISE = [
  '"',
  "'",
  '{',
  '[',
  '\t',
  '\n',
  ' ',
  ':',
  '&a ',
  '*a',
  '|',
  '#',
  '- ',
  '!x ',
  '\r',
  '\uFEFF',
  'kind: x',
  '\n...\n',
];
const slip = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.integer({ min: 0, max: 3 }),
  insert: fc.constantFrom('', ...NOISE),
});
const withSlip = (text: string, { at, remove, insert }: { at: number; remove: number; insert: string }): string => {
  const place = Math.floor(at * text.length);
  return `${text.slice(0, place)}${insert}${text.slice(place + remove)}`;
};

test('INV-04: no slip in a guardrail over every namespace leaves one of them without it', () => {
  const guard = `${HEAD}kind: ClusterAccessPolicy\nmetadata:\n  name: g\nspec:\n  rules:\n    - name: no-ddl\n      action: Deny\n      message: "Not here: kind: AccessPolicy"\n      sql: { effects: [Define] }\n`;
  fc.assert(
    fc.property(slip, (one) => {
      const text = withSlip(guard, one);
      // Where the slip makes it another document, or only a comment, nobody could know; documents of its own are told.
      if (/^---/m.test(text.slice(1)) || /^#/m.test(text)) return;
      const { broken, objects } = readFileContent('a.yaml', text);
      assert.ok(
        objects.some(({ kind }) => kind === 'ClusterAccessPolicy') || broken.some((item) => reach(item) === '*'),
        JSON.stringify(text),
      );
    }),
    { numRuns: 400 },
  );
});

test('INV-04: no slip in a policy leaves its namespace without it', () => {
  const policy = policyYaml('orders-team', '{}', '[{ name: no-ddl, action: Deny }]');
  const start = policy.indexOf('spec:');
  fc.assert(
    fc.property(slip, (one) => {
      const place = start + Math.floor(one.at * (policy.length - start));
      const text = `${policy.slice(0, place)}${one.insert}${policy.slice(place + one.remove)}`;
      if (/^---/m.test(text)) return;
      const { broken, objects } = readFileContent('a.yaml', text);
      assert.ok(
        objects.length > 0 || broken.some((item) => ['*', 'payments'].includes(reach(item))),
        JSON.stringify(text),
      );
    }),
    { numRuns: 400 },
  );
});
