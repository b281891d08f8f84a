import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatFileProblem } from './file-problem.ts';
import { createLoader } from './loader.ts';
import { type FileContent, readFileContent } from './read-document.ts';
import { connectionYaml, policyYaml, secretYaml, testFolders } from './test-store.ts';

const told = (content: Pick<FileContent, 'problems'>): string[] => content.problems.map(formatFileProblem);
const policy = policyYaml('orders-team');
const replaced = (from: string | RegExp, to: string): string => {
  const text = policy.replace(from, to);
  assert.notEqual(text, policy);
  return text;
};

test('every kind of broken YAML is told with file, line, column, field and what to write', () => {
  const cases: [name: string, text: string, expected: string][] = [
    [
      'syntax',
      replaced('accounts: [reader]', 'accounts: [reader'),
      'a.yaml:10:3: the indentation does not fit the lines above, or a bracket or quote in them is not closed; indent fields of one object by the same number of spaces',
    ],
    [
      'open quote',
      replaced('name: orders-team', 'name: "orders-team'),
      'a.yaml:4:9: the quote that opens here is not closed; close it, or remove it',
    ],
    ['tab', replaced('  accounts', '\taccounts'), 'a.yaml:9:1: the line is indented with a tab; indent with spaces'],
    [
      'unknown kind',
      replaced('kind: AccessPolicy', 'kind: AccesPolicy'),
      'a.yaml:2:7: kind: unknown kind "AccesPolicy"; did you mean AccessPolicy?',
    ],
    [
      'foreign kind of ours',
      replaced('kind: AccessPolicy', 'kind: Gadget'),
      'a.yaml:2:7: kind: unknown kind "Gadget"; write one of Connection, AccessPolicy, ClusterAccessPolicy, AccessLock',
    ],
    [
      'wrong apiVersion',
      replaced('v1alpha1', 'v1'),
      'a.yaml:1:13: apiVersion: "sallyport.dev/v1" is not served; write apiVersion: sallyport.dev/v1alpha1',
    ],
    [
      'unknown field',
      replaced('accounts:', 'acounts:'),
      'a.yaml:9:3: spec.acounts: unknown field "acounts"; did you mean "accounts"?',
    ],
    [
      'wrong enum',
      replaced('Group', 'Grup'),
      'a.yaml:8:22: spec.subjects[0].kind: "Grup" is none of User, Group, ServiceAccount, Claim; did you mean Group?',
    ],
    [
      'missing field',
      replaced('  accounts: [reader]\n', ''),
      'a.yaml:6:1: spec: missing field "accounts"; add accounts: — Accounts of the Connection that may be used; the first is the default.',
    ],
    [
      'wrong type',
      replaced('[reader]', 'reader'),
      'a.yaml:9:13: spec.accounts: must be a list, not the text "reader"; write a list: [reader]',
    ],
    [
      'bad duration',
      replaced('  accounts', '  maxDuration: 2 hours\n  accounts'),
      'a.yaml:9:16: spec.maxDuration: "2 hours" is not written right; write a duration such as 1h, 90m or 1h30m',
    ],
    [
      'duplicate key',
      replaced('  accounts', '  accounts: [writer]\n  accounts'),
      'a.yaml:10:3: the field is written twice in one object; remove one; if two documents run together, put --- between them',
    ],
    [
      'CEL rule',
      replaced('rules: []', 'rules: [{ name: a, action: Hold }]'),
      'a.yaml:10:11: spec.rules[0]: action Hold needs hold.approvers; hold: Who must consent before the command runs. Needed by action Hold and by presets that hold.',
    ],
    [
      'alias',
      replaced('[reader]', '*accounts'),
      'a.yaml:9:13: the *alias names no &anchor; write the value out, or put it in quotes',
    ],
    [
      'made by request',
      replaced('kind: AccessPolicy', 'kind: AccessGrant'),
      'a.yaml:2:7: kind: an AccessGrant is not made by YAML; ask with: sallyport request CONNECTION',
    ],
    [
      'no kind',
      replaced('kind: AccessPolicy\n', ''),
      'a.yaml:1:1: kind: missing field "kind"; write one of Connection, AccessPolicy, ClusterAccessPolicy, AccessLock',
    ],
    [
      'stamp by hand',
      'apiVersion: sallyport.dev/v1alpha1\nkind: AccessLock\nmetadata: { name: a }\nspec: { target: { user: a }, reason: b, author: { via: Local, username: boss } }\n',
      'a.yaml:4:41: spec.author: is written at admission, never by the author; remove it',
    ],
  ];
  for (const [name, text, expected] of cases) {
    const lines = told(readFileContent('a.yaml', text));
    assert.ok(lines.includes(expected), `${name}:\n${lines.join('\n')}\nexpected:\n${expected}`);
  }
});

test('line numbers count through documents, comments and directives', () => {
  const text = `%YAML 1.2\n---\n# first\n${policy}---\n# second\n${replaced('accounts:', 'acounts:')}`;
  const content = readFileContent('a.yaml', text);
  assert.equal(content.objects.length, 1);
  assert.match(told(content)[0]!, /^a\.yaml:24:3: spec\.acounts/);
});

test('INV-04: a mistake in one document leaves its neighbours in force and is itself kept as broken', () => {
  const content = readFileContent(
    'a.yaml',
    `${connectionYaml('orders-db')}---\n${replaced('[reader]', '"reader')}---\n${policyYaml('other')}`,
  );
  assert.deepEqual(
    content.objects.map(({ metadata }) => metadata.name),
    ['orders-db', 'other'],
  );
  assert.equal(content.broken.length, 1);
  const { problem, ...what } = content.broken[0]!;
  // What it selects can not be trusted when it is no YAML: every Connection of its namespace.
  assert.deepEqual(what, { kind: 'AccessPolicy', namespace: 'payments', name: 'orders-team' });
  assert.match(problem, /^a\.yaml:\d+: /);
});

test('what is for a cluster alone is left out with one sentence; what Sallyport makes is refused', () => {
  const store =
    'apiVersion: sallyport.dev/v1alpha1\nkind: RecordingStore\nmetadata: { name: default }\nspec: { type: Volume, volume: { size: 5Gi } }\n';
  const told = (text: string): string[] => {
    const { objects, broken, problems, unclear } = readFileContent('a.yaml', text);
    assert.deepEqual([objects, broken, unclear], [[], [], false]);
    return problems.map(({ severity, message, hint }) => `${severity}: ${message}; ${hint}`);
  };
  assert.deepEqual(told(store), [
    'Warning: a RecordingStore is for a cluster, and local mode takes no notice of it; leave it out where there is no cluster',
  ]);
  assert.deepEqual(told(store.replace('RecordingStore', 'EnforcementBundle')), [
    'Error: an EnforcementBundle is not made by YAML; Sallyport makes it; leave it out',
  ]);
  // A mistake in one is still told.
  const [wrong] = readFileContent('a.yaml', store.replace('Volume,', 'Volumes,')).problems;
  assert.match(wrong!.message, /Volumes/);
});

test('INV-04: what a broken policy selects is kept only as far as it is right', () => {
  const broken = (text: string): object => {
    const [{ problem: _problem, ...what }] = readFileContent('a.yaml', text).broken as [{ problem: string }];
    return what;
  };
  const named = { kind: 'AccessPolicy', namespace: 'payments', name: 'a' };
  assert.deepEqual(broken(policyYaml('a', '{ names: [orders-db] }', '[{}]')), {
    ...named,
    selector: { names: ['orders-db'] },
  });
  assert.deepEqual(broken(policyYaml('a', '{ nams: [orders-db] }', '[{}]')), named);
  assert.deepEqual(broken(policyYaml('a', '{ names: [] }', '[{}]')), named);
  assert.deepEqual(broken(policyYaml('a').replace('namespace:', 'namepsace:')), {
    kind: 'AccessPolicy',
    name: 'a',
    selector: {},
  });
  assert.deepEqual(broken(policyYaml('a').replace('namespace: payments', 'namespace: 3')), {
    kind: 'AccessPolicy',
    name: 'a',
    selector: {},
  });
  assert.deepEqual(broken(policyYaml('a').replace('kind: AccessPolicy', 'kind: Future')), { ...named, kind: 'Future' });
  const cluster =
    'apiVersion: sallyport.dev/v1alpha1\nkind: ClusterAccessPolicy\nmetadata: { name: g }\nspec: { namespaces: [payments], rules: [{}] }';
  assert.deepEqual(broken(cluster), { kind: 'ClusterAccessPolicy', name: 'g', namespaces: ['payments'] });
  assert.deepEqual(broken(cluster.replace('namespaces: [payments]', 'namespace: payments')), {
    kind: 'ClusterAccessPolicy',
    name: 'g',
  });
});

test('INV-04: a document of which not even the kind can be read may be anything', () => {
  for (const text of [
    '{ kind: AccessPolicy, metadata: { name: x',
    '\tkind: AccessPolicy\n\tname: x',
    '"kind: AccessPolicy',
  ]) {
    const content = readFileContent('a.yaml', text);
    assert.equal(content.unclear, true, text);
    assert.deepEqual(
      content.broken.map(({ namespace, name, selector }) => ({ namespace, name, selector })),
      [{ namespace: undefined, name: undefined, selector: undefined }],
      text,
    );
  }
});

test('two documents that run together are both kept as broken', () => {
  const content = readFileContent('a.yaml', `${policyYaml('a')}${policyYaml('b').replace('payments', 'billing')}`);
  assert.deepEqual(content.objects, []);
  assert.deepEqual(
    content.broken.map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`),
    ['AccessPolicy payments/a', 'AccessPolicy billing/b'],
  );
});

test('other programs’ documents are left alone, broken or not', () => {
  const deployment = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\nspec: {}\n';
  const test = 'apiVersion: sallyport.dev/v1alpha1\nkind: PolicyTest\nmetadata: { name: x }\nspec: {}\n';
  assert.deepEqual(readFileContent('a.yaml', `${deployment}---\n${test}---\n# nothing\n---\n`), {
    objects: [],
    broken: [],
    secrets: [],
    problems: [],
    unclear: false,
  });
  const broken = readFileContent('a.yaml', deployment.replace('{}', '{'));
  assert.deepEqual(broken.broken, []);
  assert.equal(broken.problems.length, 1);
  const values = readFileContent('values.yaml', 'replicas: 3\nimage: x\n');
  assert.deepEqual(values.broken, []);
  assert.equal(values.problems[0]!.severity, 'Warning');
});

test('a List of ours is no way past', () => {
  const content = readFileContent(
    'a.yaml',
    `apiVersion: v1\nkind: List\nitems:\n- apiVersion: sallyport.dev/v1alpha1\n  kind: AccessPolicy\n`,
  );
  assert.equal(content.unclear, true);
  assert.equal(content.broken.length, 1);
});

test('INV-11: alias bombs, deep nesting and giant files cost themselves only', (t) => {
  const bomb = `a0: &a0 [x]\n${Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(9)}]`).join('\n')}\nkind: AccessPolicy\nmetadata: { name: x }\n`;
  const content = readFileContent('a.yaml', bomb);
  assert.match(told(content)[0]!, /aliases|deeply/);
  assert.equal(content.broken.length, 1);
  for (const deep of [
    '['.repeat(20_000),
    `${'{a: '.repeat(20_000)}`,
    Array.from({ length: 3000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
  ]) {
    assert.ok(readFileContent('a.yaml', deep).problems.length > 0);
  }
  const folders = testFolders(t);
  folders.write('big.yaml', `# ${'x'.repeat(1024 * 1024)}\n${policy}`);
  folders.write('utf16.yaml', Buffer.from(policy, 'utf16le').toString('latin1'));
  fs.writeFileSync(path.join(folders.directory, 'latin1.yaml'), Buffer.from([0xff, 0xfe, 0x41]));
  const loaded = createLoader(folders.directory).load();
  assert.match(
    loaded.problems.map(formatFileProblem).join('\n'),
    /big\.yaml:1:1: the file is larger than 1 MiB; split it/,
  );
  assert.match(
    loaded.problems.map(formatFileProblem).join('\n'),
    /latin1\.yaml:1:1: the file is not UTF-8; save it as UTF-8/,
  );
  assert.ok(loaded.unclear.includes('big.yaml') && loaded.unclear.includes('latin1.yaml'));
  assert.ok(loaded.broken.some((broken) => broken.kind === undefined));
});

test('INV-11: no text makes the reader throw, and its problems stand inside it', () => {
  const pieces = [
    'kind: AccessPolicy\n',
    'metadata:\n',
    '  name: a\n',
    '---\n',
    'spec: {',
    '}',
    '"',
    "'",
    '\t',
    '&a ',
    '*a',
    '- ',
    ': ',
    '|\n',
    '# ',
    '\r\n',
    '%YAML',
    '...\n',
    '!!binary ',
    'x',
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 24 }), (parts) => {
      const text = parts.join('');
      const lines = text.split('\n').length;
      for (const problem of readFileContent('a.yaml', text).problems) {
        assert.ok(problem.line >= 1 && problem.line <= lines, `${problem.line} of ${lines}: ${JSON.stringify(text)}`);
        assert.ok(problem.column >= 1);
      }
    }),
    { numRuns: 300 },
  );
});

test('INV-04: cutting a policy file short never loosens it in silence', () => {
  const text = policyYaml('orders-team', '{ names: [orders-db] }', '[{ name: no-ddl, action: Deny }]');
  for (let length = text.indexOf('AccessPolicy'); length < text.length - 1; length++) {
    const content = readFileContent('a.yaml', text.slice(0, length));
    assert.ok(content.broken.length + content.objects.length > 0, `cut at ${length}`);
    // Once the rule has begun, half of it is no rule; before that, what is left is whole in itself.
    if (length > text.indexOf('rules: [{') + 7) assert.equal(content.objects.length, 0, `cut at ${length}`);
    for (const { kind, namespace, selector } of content.broken) {
      assert.ok(
        kind === undefined || namespace === undefined || namespace === 'payments' || length < text.indexOf('\nspec'),
      );
      assert.ok(selector === undefined || selector.names?.[0] === 'orders-db' || length < text.indexOf('subjects'));
    }
  }
});

test('INV-05: nothing of a Secret is in objects, problems or what is kept as broken', () => {
  const texts = [
    secretYaml('s', 'hunter2'),
    secretYaml('s', '"hunter2').replace('stringData', 'stringData: hunter2\nx'),
    secretYaml('s', '[hunter2'),
    secretYaml('s', '@hunter2'),
    secretYaml('s', '"hunter2\\q"'),
    secretYaml('s', 'hunter2\n  password: hunter2'),
    secretYaml('s', '*hunter2'),
    secretYaml('s', '!hunter2 x'),
    secretYaml('s', '{ a: hunter2 }'),
    secretYaml('s', 'x').replace('name: s', 'name: [hunter2]'),
  ];
  for (const text of texts) {
    assert.ok(text.includes('hunter2'));
    assert.ok(!JSON.stringify(readFileContent('a.yaml', text)).includes('hunter2'), text);
  }
});

test('a name taken twice leaves neither in force', (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', policyYaml('same', '{ names: [a] }'));
  folders.write('b/c.yml', policyYaml('same', '{ names: [b] }'));
  const loaded = createLoader(folders.directory).load();
  assert.equal(loaded.objects.size, 0);
  assert.deepEqual(
    loaded.broken.map(({ selector }) => selector),
    [{ names: ['a'] }, { names: ['b'] }],
  );
  assert.match(
    loaded.problems.map(formatFileProblem).join('\n'),
    /a\.yaml:4:9: metadata\.name: the name is taken by b\/c\.yml:4, so neither is in force; give one of them another name/,
  );
});

test('references to nothing are warnings with their place', (t) => {
  const folders = testFolders(t);
  folders.write('a.yaml', connectionYaml('orders-db'));
  folders.write('b.yaml', policyYaml('p', '{ names: [order-db] }'));
  const loaded = createLoader(folders.directory).load();
  assert.equal(loaded.objects.size, 2);
  assert.deepEqual(
    loaded.problems.map((problem) => `${problem.severity} ${formatFileProblem(problem)}`),
    [
      'Warning a.yaml:12:26: spec.accounts[0].secretRef.name: there is no Secret payments/orders-db-reader, so account "reader" can not be used; add the Secret to the directory, or correct the name',
      'Warning b.yaml:7:33: spec.connectionSelector.names[0]: there is no Connection payments/order-db; there are orders-db',
    ],
  );
  folders.write('c.yaml', secretYaml('orders-db-reader'));
  assert.equal(createLoader(folders.directory).load().problems.length, 1);
});

test('the namespace is default where none is written', () => {
  const content = readFileContent('a.yaml', policy.replace('  namespace: payments\n', ''));
  assert.equal(content.objects[0]!.metadata.namespace, 'default');
});

test('links are followed inside the directory, loops end, and links out of it are refused', (t) => {
  const folders = testFolders(t);
  const at = (name: string): string => path.join(folders.directory, name);
  folders.write('real/a.yaml', policyYaml('a'));
  fs.symlinkSync('real/a.yaml', at('hidden-is-not.yaml'));
  fs.rmSync(at('hidden-is-not.yaml'));
  fs.symlinkSync('..', at('real/loop'));
  fs.symlinkSync('self', at('self'));
  fs.writeFileSync(path.join(folders.directory, '..', 'outside.yaml'), policyYaml('outside'));
  fs.symlinkSync('../outside.yaml', at('out.yaml'));
  folders.write('..data/b.yaml', policyYaml('b'));
  fs.symlinkSync('..data/b.yaml', at('b.yaml'));
  const loaded = createLoader(folders.directory).load();
  assert.deepEqual([...loaded.objects.keys()].sort(), ['AccessPolicy/payments/a', 'AccessPolicy/payments/b']);
  assert.match(
    loaded.problems.map(formatFileProblem).join('\n'),
    /out\.yaml:1:1: the link points out of the directory; copy the file into it/,
  );
  assert.ok(loaded.unclear.includes('out.yaml'));
});

test('a certificate file stands in for ca, stays in the directory, and only certificates leave it', (t) => {
  const folders = testFolders(t);
  const tls = (file: string): string => connectionYaml('db', `    tls: { caFile: ${file} }\n`);
  const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
  folders.write('team/a.yaml', tls('ca.pem'));
  folders.write('team/ca.pem', `-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n${pem}\n`);
  const loader = createLoader(folders.directory);
  const spec = loader.load().objects.get('Connection/payments/db')!.spec;
  assert.deepEqual((spec as { postgresql: { tls: object } }).postgresql.tls, { ca: `${pem}\n` });
  assert.equal(loader.changed(), false);
  folders.write('team/ca.pem', pem.replace('AAAA', 'CCCC'));
  assert.equal(loader.changed(), true);
  for (const [file, message] of [
    ['none.pem', /can not be read \(ENOENT\)/],
    ['../../secret.pem', /not in the directory|ENOENT/],
    ['../team/a.yaml', /holds no certificate/],
  ] as const) {
    folders.write('team/a.yaml', tls(file));
    const loaded = loader.load();
    assert.equal(loaded.objects.size, 0);
    assert.match(loaded.broken[0]!.problem, message);
    assert.equal(loaded.broken[0]!.name, 'db');
  }
});

test('the examples are right', () => {
  const loaded = createLoader(path.join(import.meta.dirname, '../../../examples/orders')).load();
  assert.deepEqual(loaded.problems, []);
  assert.deepEqual(loaded.broken, []);
  assert.deepEqual([...loaded.objects.keys()].sort(), [
    'AccessPolicy/payments/orders-owner',
    'AccessPolicy/payments/orders-team',
    'ClusterAccessPolicy//database-guardrails',
    'Connection/payments/orders-db',
  ]);
});
