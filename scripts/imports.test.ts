import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkFile, readModule } from './imports.ts';

const messages = (file: string, source: string): string[] =>
  checkFile(file, source).map(({ line, message }) => `${line}: ${message}`);

test('an import against the direction of the layers is found with its line', () => {
  const found = messages(
    'src/policy/bad.ts',
    `// import { x } from '../gateway/no.ts'\nimport type { A } from '../api/resource.ts';\nimport {\n  b,\n} from '../gateway/gateway.ts';\nconst text = "import { y } from '../cli/main.ts'";\nexport const z = [b, text] as unknown as A;\n`,
  );
  assert.deepEqual(found, ['3: policy must not import gateway (src/gateway/gateway.ts); it may import system, api']);
});

test('dynamic, bare and re-exporting imports count as imports', () => {
  for (const statement of [
    "const g = await import('../gateway/gateway.ts'); export const h = g;",
    "import '../gateway/gateway.ts'; export const h = 1;",
    "export { g } from '../gateway/gateway.ts'; export const h = 1;",
    "export type * from '../gateway/gateway.ts'; export const h = 1;",
  ]) {
    assert.equal(messages('src/api/bad.ts', statement).length, 1, statement);
  }
});

test('protocols do not import one another, and may share what lies beside them', () => {
  assert.deepEqual(messages('src/protocols/mysql/a.ts', "import { b } from '../postgres/b.ts'; export const c = b;"), [
    '1: protocol mysql must not import protocol postgres (src/protocols/postgres/b.ts)',
  ]);
  assert.deepEqual(
    messages('src/protocols/mysql/a.ts', "import type { b } from '../protocol.ts'; export const c = 1 as b;"),
    [],
  );
  assert.deepEqual(
    messages('src/protocols/registry.ts', "import { b } from './postgres/b.ts'; export const c = b;"),
    [],
  );
});

test('the data plane does not load the Kubernetes client', () => {
  for (const folder of ['gateway', 'protocols']) {
    const found = messages(
      `src/${folder}/a.ts`,
      "import { KubeConfig } from '@kubernetes/client-node'; export const k = KubeConfig;",
    );
    assert.deepEqual(found, [
      `1: ${folder} must not import @kubernetes/client-node: the data plane is handed a BundleFeed`,
    ]);
  }
});

test('default exports and barrels are found, own exports beside re-exports are not', () => {
  assert.deepEqual(messages('src/api/a.ts', '\nexport default 1;\n'), ['2: default export; name it']);
  assert.deepEqual(messages('src/api/a.ts', 'const a = 1;\nexport { a as default };\n'), [
    '2: default export; name it',
  ]);
  assert.equal(readModule("// all\nexport * from './a.ts';\nexport { b } from './b.ts';\n").barrel, true);
  assert.equal(readModule("export { b } from './b.ts';\nexport const c = 1;\n").barrel, false);
});

test('only tests reach out of src, and nothing imports a test', () => {
  const source = "import { s } from '../../test/support/x.ts'; export const t = s;";
  assert.deepEqual(messages('src/api/a.test.ts', source), []);
  assert.deepEqual(messages('src/api/a.ts', source), ['1: imports test/support/x.ts, which is not in src']);
  assert.deepEqual(messages('src/api/a.ts', "import { b } from './b.test.ts'; export const c = b;"), [
    '1: imports the test src/api/b.test.ts',
  ]);
});

test('a folder nobody has placed is refused', () => {
  assert.match(messages('src/helpers/a.ts', 'export const a = 1;')[0]!, /src\/helpers is no known folder/);
});

test('quotes in regular expressions, templates and comments do not hide what follows', () => {
  const source = [
    'const quote = /[\'"`/]/g;',
    "const nested = `a ${'`' + `b ${quote}`} '`;",
    '/* \' */ // "',
    "import { b } from '../cli/main.ts';",
    'export const c = [quote, nested, b, 4 / 2];',
  ].join('\n');
  assert.deepEqual(
    checkFile('src/api/a.ts', source).map(({ line }) => line),
    [4],
  );
});

test('controllers may name the types of the protocol seam and load nothing of it', () => {
  const from = "from '../../protocols/protocol.ts'; export const a = 1;";
  assert.deepEqual(messages('src/controllers/grants/a.ts', `import type { Protocol } ${from}`), []);
  assert.equal(messages('src/controllers/grants/a.ts', `import { DialError } ${from}`).length, 1);
  assert.equal(messages('src/policy/x/a.ts', `import type { Protocol } ${from}`).length, 1);
});
