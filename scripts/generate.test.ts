import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { KINDS } from '../src/api/kinds.ts';
import { rows } from './generators/api-reference.ts';
import { crdFiles, crdOf, structural } from './generators/crds.ts';

test('generated files are those of the source', () => {
  const script = path.join(import.meta.dirname, 'generate.ts');
  execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' });
});

test('every kind has a CRD whose YAML reads back', async () => {
  const files = crdFiles();
  assert.deepEqual(
    files.map((file) => file.path).sort(),
    Object.values(KINDS)
      .map(({ plural }) => `crds/sallyport.dev_${plural}.yaml`)
      .sort(),
  );
  for (const [index, definition] of Object.values(KINDS).entries()) {
    assert.deepEqual(parse(await files[index]!.render()), JSON.parse(JSON.stringify(crdOf(definition))));
  }
});

/** What the API server refuses in a structural schema, or in bounds that CEL's cost is reckoned from. */
function complain(node: Record<string, unknown>, at: string, found: string[]): string[] {
  const { type } = node;
  if (typeof type !== 'string') found.push(`${at}: no type`);
  for (const keyword of ['$ref', 'oneOf', 'anyOf', 'allOf', 'patternProperties', 'const', 'default']) {
    if (keyword in node) found.push(`${at}: ${keyword}`);
  }
  if (node['additionalProperties'] === false) found.push(`${at}: additionalProperties false`);
  if (type === 'string' && !('maxLength' in node) && !('enum' in node)) found.push(`${at}: unbounded`);
  if (type === 'array' && !('maxItems' in node)) found.push(`${at}: unbounded`);
  const inner = node['items'] ?? node['additionalProperties'];
  if (inner !== undefined) complain(inner as Record<string, unknown>, `${at}[]`, found);
  for (const [name, child] of Object.entries((node['properties'] ?? {}) as Record<string, Record<string, unknown>>)) {
    complain(child, `${at}.${name}`, found);
  }
  const keys = (node['x-kubernetes-list-map-keys'] ?? []) as string[];
  const required = ((inner as { required?: string[] } | undefined)?.required ?? []) as string[];
  for (const key of keys) if (!required.includes(key)) found.push(`${at}: key ${key} may be missing`);
  return found;
}

test('the schemas are structural, without defaults, and bounded', () => {
  for (const definition of Object.values(KINDS)) {
    const schema = structural(definition.spec as never, 'spec');
    assert.deepEqual(complain(schema, definition.kind, []), []);
    assert.deepEqual(complain(structural(definition.status as never, 'status'), definition.kind, []), []);
  }
});

test('the fields that CRDs name by path exist', () => {
  for (const definition of Object.values(KINDS)) {
    const { properties } = structuredClone(
      crdOf(definition)['spec'] as {
        versions: { schema: { openAPIV3Schema: { properties: Record<string, unknown> } } }[];
      },
    ).versions[0]!.schema.openAPIV3Schema;
    for (const jsonPath of [...definition.selectableFields, ...definition.columns.map((column) => column.jsonPath)]) {
      if (jsonPath.startsWith('.metadata.')) continue;
      let node: unknown = { properties };
      for (const part of jsonPath
        .replace(/\[\?.*$/, '')
        .split('.')
        .slice(1)) {
        node = (node as { properties?: Record<string, unknown> }).properties?.[part];
        assert.ok(node !== undefined, `${definition.kind} ${jsonPath}`);
      }
    }
    assert.equal(definition.columns.at(-1)!.name, 'Age');
  }
});

test('what a CRD can not say is refused with its path', () => {
  assert.throws(
    () => structural({ type: 'object', properties: { a: { type: 'string' } } }, 'x.spec'),
    /x\.spec\.a: a string needs maxLength/,
  );
  assert.throws(() => structural({ type: 'object', oneOf: [] } as never, 'x'), /x: a structural schema has no oneOf/);
  assert.throws(() => rows({ properties: { a: { type: 'string' } } }, 'spec'), /spec\.a has no description/);
});
