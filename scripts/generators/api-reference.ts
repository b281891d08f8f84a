// docs/reference/api.md: every kind and every field, from the schemas.
import type { SchemaNode } from '../../src/api/cel.ts';
import { KINDS, type KindDefinition } from '../../src/api/kinds.ts';
import { API_GROUP_VERSION } from '../../src/api/schema.ts';
import type { Generated } from './generated.ts';

export const apiReference: Generated = {
  path: 'docs/reference/api.md',
  render: () => {
    const kinds = Object.values<KindDefinition>(KINDS).filter(({ internal }) => internal !== true);
    return [
      '<!-- Made by npm run generate from src/api. Do not edit. -->',
      '',
      '# Resources',
      '',
      `Every kind of \`${API_GROUP_VERSION}\` and its fields. Durations are written as \`1h30m\`, moments as \`2026-03-01T09:00:00Z\`.`,
      'Unknown fields are errors. A status is written by Sallyport; nobody else may.',
      '',
      '| kind | short | scope | |',
      '| --- | --- | --- | --- |',
      ...kinds.map(
        ({ kind, shortNames, scope, description }) =>
          `| [${kind}](#${kind.toLowerCase()}) | ${shortNames.map((name) => `\`${name}\``).join(', ')} | ${scope} | ${cell(description)} |`,
      ),
      '',
      ...kinds.flatMap(kindSection),
    ].join('\n');
  },
};

function kindSection(definition: KindDefinition): string[] {
  return [
    `## ${definition.kind}`,
    '',
    definition.description,
    '',
    ...table('spec', definition.spec as SchemaNode),
    ...table('status', definition.status as SchemaNode),
  ];
}

function table(name: string, schema: SchemaNode): string[] {
  return [
    `### ${name}`,
    '',
    '| field | type | |',
    '| --- | --- | --- |',
    ...rows(schema, name),
    '',
    ...rules(schema, name),
  ];
}

/** Throws with its path where a field has no description. */
export function rows(schema: SchemaNode, path: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, child]) => {
    const at = `${path}.${name}`;
    if (child.description === undefined) throw new Error(`${at} has no description`);
    const required = schema.required?.includes(name) === true ? ' **Required.**' : '';
    const row = `| \`${at.slice(at.indexOf('.') + 1)}\` | ${typeOf(child)} | ${cell(child.description)}${required}${bounds(child)} |`;
    const inner = child.type === 'array' ? child.items : child;
    const below = inner?.properties === undefined ? [] : rows(inner, child.type === 'array' ? `${at}[]` : at);
    return [row, ...below];
  });
}

function typeOf(schema: SchemaNode): string {
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema.type === 'array') return `list of ${schema.items === undefined ? 'anything' : typeOf(schema.items)}`;
  if (typeof schema.additionalProperties === 'object') return `map of text to ${typeOf(schema.additionalProperties)}`;
  if (schema.format === 'date-time') return 'moment';
  if (schema.pattern?.includes('h|m|s') === true) return 'duration';
  return (
    { string: 'text', integer: 'number', boolean: 'true or false', object: 'object' }[schema.type ?? ''] ?? 'value'
  );
}

function bounds(schema: SchemaNode): string {
  const { minimum, maximum, maxItems } = schema;
  if (minimum !== undefined && maximum !== undefined) return ` ${minimum} to ${maximum}.`;
  return maxItems === undefined ? '' : ` At most ${maxItems}.`;
}

function rules(schema: SchemaNode, name: string): string[] {
  const found: string[] = [];
  const visit = (node: SchemaNode, path: string): void => {
    for (const rule of node['x-kubernetes-validations'] ?? []) found.push(`- \`${path}\`: ${rule.message}`);
    for (const [field, child] of Object.entries(node.properties ?? {})) visit(child, `${path}.${field}`);
    if (node.items !== undefined) visit(node.items, `${path}[]`);
  };
  visit(schema, name);
  // A Subject's own rule is the same wherever one stands.
  const unique = found.filter(
    (line, index) => found.findIndex((other) => other.split(': ')[1] === line.split(': ')[1]) === index,
  );
  return unique.length === 0 ? [] : ['Beyond the types:', '', ...unique, ''];
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}
