// CustomResourceDefinitions from the schemas. Kubernetes wants structural schemas: every node typed, unions as optional
// members, maps as `additionalProperties`. What TypeBox has beyond that is translated here or refused with its path.
import { stringify } from 'yaml';
import type { SchemaNode } from '../../src/api/cel.ts';
import { KINDS, type KindDefinition } from '../../src/api/kinds.ts';
import { API_GROUP, API_VERSION } from '../../src/api/schema.ts';
import type { Generated } from './generated.ts';

type Json = Record<string, unknown>;

export function crdFiles(): Generated[] {
  return Object.values(KINDS).map((definition) => ({
    path: `crds/${API_GROUP}_${definition.plural}.yaml`,
    render: () =>
      `# Made by npm run generate from src/api. Do not edit.\n${stringify(crdOf(definition), { lineWidth: 0, aliasDuplicateObjects: false })}`,
  }));
}

export function crdOf(definition: KindDefinition): Json {
  const { kind, plural, singular, shortNames, categories, scope } = definition;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular,
        shortNames: [...shortNames],
        categories: [...categories],
      },
      scope,
      versions: [
        {
          name: API_VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: definition.columns.map(({ name, type, jsonPath, description, priority }) => ({
            name,
            type,
            jsonPath,
            description,
            ...(priority === undefined ? {} : { priority }),
          })),
          ...(definition.selectableFields.length > 0
            ? { selectableFields: definition.selectableFields.map((jsonPath) => ({ jsonPath })) }
            : {}),
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: definition.description,
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: structural(definition.spec as SchemaNode, `${kind}.spec`),
                status: structural(definition.status as SchemaNode, `${kind}.status`),
              },
            },
          },
        },
      ],
    },
  };
}

const COPIED = [
  'description',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'maxProperties',
  'pattern',
  'format',
] as const;
const KNOWN = new Set<string>([
  ...COPIED,
  'type',
  'properties',
  'required',
  'items',
  'additionalProperties',
  'enum',
  'x-kubernetes-validations',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
]);

/** Throws with the path where a node is unbounded (CEL's cost would be), undescribed or not structural. */
export function structural(node: SchemaNode, path: string): Json {
  const fail = (message: string): never => {
    throw new Error(`${path}: ${message}`);
  };
  for (const keyword of Object.keys(node)) if (!KNOWN.has(keyword)) fail(`a structural schema has no ${keyword}`);
  const type = node.type ?? (node.enum?.every((value) => typeof value === 'string') ? 'string' : fail('no type'));
  const result: Json = { type };
  for (const keyword of COPIED) if (node[keyword] !== undefined) result[keyword] = node[keyword];
  if (node.enum !== undefined) result['enum'] = [...node.enum];
  if (type === 'string' && node.enum === undefined && node.maxLength === undefined) fail('a string needs maxLength');
  if (type === 'array') {
    if (node.maxItems === undefined) fail('a list needs maxItems');
    if (node.items === undefined) fail('a list needs items');
    result['items'] = structural(node.items!, `${path}[]`);
    const keys = node['x-kubernetes-list-map-keys'];
    for (const key of keys ?? [])
      if (!node.items!.required?.includes(key)) fail(`the list key ${key} must be required`);
  }
  if (type === 'object') {
    const additional = node.additionalProperties;
    if (node.properties !== undefined) {
      // `additionalProperties: false` is not structural: unknown fields are pruned, and `--validate=strict` refuses them.
      if (typeof additional === 'object') fail('either properties or additionalProperties');
      result['properties'] = Object.fromEntries(
        Object.entries(node.properties).map(([name, child]) => [name, structural(child, `${path}.${name}`)]),
      );
      if ((node.required?.length ?? 0) > 0) result['required'] = [...node.required!];
    } else if (typeof additional === 'object') {
      if (node.maxProperties === undefined) fail('a map needs maxProperties');
      result['additionalProperties'] = structural(additional, `${path}.*`);
    } else {
      fail('an object needs properties');
    }
  }
  if (node['x-kubernetes-list-type'] !== undefined) result['x-kubernetes-list-type'] = node['x-kubernetes-list-type'];
  if (node['x-kubernetes-list-map-keys'] !== undefined) {
    result['x-kubernetes-list-map-keys'] = [...node['x-kubernetes-list-map-keys']];
  }
  if (node['x-kubernetes-validations'] !== undefined) {
    result['x-kubernetes-validations'] = node['x-kubernetes-validations'].map((rule) => ({ ...rule }));
  }
  return result;
}
