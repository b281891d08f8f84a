// Judges objects by their schema and its CEL rules, and says of each problem what to write instead.
// Guarantees: an object without problems has exactly the shape of its TypeScript type; unknown fields are problems.
// Does not look at other objects (references, duplicates) nor at what an object was before (immutability): stores do.
import Type from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { canonicalJson } from './canonical.ts';
import { brokenRules, type SchemaNode } from './cel.ts';
import { KIND_NAMES, KINDS, type Kind } from './kinds.ts';
import { isLabelKey, isLabelValue, ObjectMetaSchema } from './metadata.ts';
import { nearest } from './nearest.ts';
import { API_GROUP_VERSION, PUBLIC_KEY_PATTERN, TARGET_USER_PATTERN } from './schema.ts';

export interface Problem {
  /** JSON pointer: `/spec/rules/0/action`; empty for the object itself. */
  path: string;
  /** What is wrong. */
  message: string;
  /** What to write instead. */
  hint: string;
  /** Whether `path` names a field that is there but should not be; its key is what to point at. */
  unknownField?: true;
}

/** More would help nobody, and a hostile file must not make megabytes of them. */
const MOST_PROBLEMS = 50;

const LENGTHS: ReadonlySet<string> = new Set(['minLength', 'maxLength']);

const compiled = new Map<Type.TSchema, Validator>();
function validatorOf(schema: Type.TSchema): Validator {
  let validator = compiled.get(schema);
  if (validator === undefined) {
    validator = Compile(schema) as Validator;
    compiled.set(schema, validator);
  }
  return validator;
}

/** Problems of a whole object: apiVersion, kind, metadata and spec. Its status is not looked at. */
export function validate(kind: Kind, object: unknown): Problem[] {
  if (!isObject(object))
    return [{ path: '', message: `must be an object, not ${nameOf(object)}`, hint: exampleOf(kind) }];
  const problems: Problem[] = [];
  if (object['apiVersion'] !== API_GROUP_VERSION) {
    problems.push({
      path: '/apiVersion',
      message:
        object['apiVersion'] === undefined
          ? 'missing field "apiVersion"'
          : `${shown(object['apiVersion'])} is not served`,
      hint: `write apiVersion: ${API_GROUP_VERSION}`,
    });
  }
  if (object['kind'] !== kind) {
    problems.push({ path: '/kind', message: `must be ${kind}`, hint: `write kind: ${kind}` });
  }
  for (const member of Object.keys(object)) {
    if (!['apiVersion', 'kind', 'metadata', 'spec', 'status'].includes(member)) {
      problems.push(unknownField('', member, ['apiVersion', 'kind', 'metadata', 'spec']));
    }
  }
  problems.push(...validateMetadata(kind, object['metadata']));
  if (object['spec'] === undefined) {
    problems.push({ path: '', message: 'missing field "spec"', hint: exampleOf(kind) });
  } else {
    problems.push(...validateSpec(kind, object['spec']));
  }
  return problems.slice(0, MOST_PROBLEMS);
}

export function validateSpec(kind: Kind, spec: unknown): Problem[] {
  return validateValue(KINDS[kind].spec, spec, '/spec');
}

export function validateStatus(kind: Kind, status: unknown): Problem[] {
  return validateValue(KINDS[kind].status, status, '/status');
}

export function validateMetadata(kind: Kind, metadata: unknown): Problem[] {
  if (metadata === undefined) {
    return [{ path: '', message: 'missing field "metadata"', hint: 'write metadata: with a name: below it' }];
  }
  const problems = validateValue(ObjectMetaSchema, metadata, '/metadata');
  if (!isObject(metadata)) return problems;
  if (KINDS[kind].scope === 'Cluster' && metadata['namespace'] !== undefined) {
    problems.push({
      path: '/metadata/namespace',
      message: `a ${kind} belongs to no namespace`,
      hint:
        kind === 'ClusterAccessPolicy'
          ? 'remove it; to cover some namespaces only, list them in spec.namespaces'
          : 'remove it',
    });
  }
  for (const member of ['labels', 'annotations'] as const) {
    const map = metadata[member];
    if (!isObject(map)) continue;
    for (const [key, value] of Object.entries(map)) {
      const path = `/metadata/${member}/${escapePointer(key)}`;
      if (!isLabelKey(key)) {
        problems.push({
          path,
          message: `${shown(key)} is no name of a ${member === 'labels' ? 'label' : 'annotation'}`,
          hint: 'use letters, digits, -, _ and ., at most 63, with an optional domain before a slash: example.com/team',
        });
      } else if (member === 'labels' && typeof value === 'string' && !isLabelValue(value)) {
        problems.push({
          path,
          message: `${shown(value)} is no value of a label`,
          hint: 'use letters, digits, -, _ and ., at most 63, beginning and ending with a letter or digit',
        });
      }
    }
  }
  return problems;
}

/** Problems of `value` by `schema` and the rules in it; paths begin with `prefix`. */
export function validateValue(schema: Type.TSchema, value: unknown, prefix = ''): Problem[] {
  const node = schema as SchemaNode;
  const validator = validatorOf(schema);
  let problems: Problem[] = [];
  if (!validator.Check(value)) {
    const errors = [...validator.Errors(value)];
    // What is not written right is told once: its length is the least of it.
    const miswritten = new Set(errors.filter(({ keyword }) => keyword === 'pattern').map((each) => each.instancePath));
    for (const error of errors) {
      if (LENGTHS.has(error.keyword) && miswritten.has(error.instancePath)) continue;
      problems.push(...explain(node, value, error, prefix));
      if (problems.length >= MOST_PROBLEMS) break;
    }
    // A schema that refuses without telling why must still refuse.
    if (problems.length === 0) {
      problems.push({
        path: prefix,
        message: 'does not have the shape it must have',
        hint: 'see docs/reference/api.md',
      });
    }
  }
  problems = problems.filter((problem) => !isMisspelt(problem, problems));
  for (const { path, rule } of brokenRules(node, value)) {
    // One complaint a place: a missing or misspelt field is told by the schema already.
    if (problems.some((problem) => problem.path === prefix + path || problem.path.startsWith(`${prefix}${path}/`)))
      continue;
    problems.push({ path: prefix + path, message: rule.message, hint: hintOfRule(node, path, rule.fieldPath) });
  }
  problems.push(...repeatedEntries(node, value, prefix));
  return problems.slice(0, MOST_PROBLEMS);
}

/** Entries that have their key from one before them, in every list that an API server keeps as a map. */
function repeatedEntries(schema: SchemaNode, value: unknown, path: string): Problem[] {
  if (Array.isArray(value)) {
    const { items } = schema;
    if (items === undefined) return [];
    const below = value.flatMap((item, index) => repeatedEntries(items, item, `${path}/${index}`));
    const keys = schema['x-kubernetes-list-map-keys'];
    if (schema['x-kubernetes-list-type'] !== 'map' || keys === undefined) return below;
    const first = new Map<string, number>();
    value.forEach((item: unknown, index) => {
      // Without its key an entry is told of already.
      if (!isObject(item) || keys.some((key) => item[key] === undefined)) return;
      const key = canonicalJson(keys.map((each) => item[each]));
      const earlier = first.get(key);
      if (earlier === undefined) {
        first.set(key, index);
        return;
      }
      below.push({
        path: `${path}/${index}/${keys[0]}`,
        message: `${keys.map((each) => shown(item[each])).join(', ')} is the ${keys.join(', ')} of ${fieldOf(`${path}/${earlier}`)} already`,
        hint: `give each entry its own ${keys.join(', ')}`,
      });
    });
    return below;
  }
  if (!isObject(value)) return [];
  return Object.entries(schema.properties ?? {}).flatMap(([name, child]) =>
    Object.hasOwn(value, name) ? repeatedEntries(child, value[name], `${path}/${escapePointer(name)}`) : [],
  );
}

/** A field that is missing because it is written under another name: the wrong name says it all. */
function isMisspelt(missing: Problem, problems: readonly Problem[]): boolean {
  const field = /^missing field "(.*)"$/.exec(missing.message)?.[1];
  return problems.some(
    ({ unknownField, path, hint }) =>
      field !== undefined &&
      unknownField === true &&
      path.slice(0, path.lastIndexOf('/')) === missing.path &&
      hint === `did you mean "${field}"?`,
  );
}

function hintOfRule(node: SchemaNode, path: string, fieldPath: string | undefined): string {
  const field = fieldPath?.slice(1);
  const description = field === undefined ? undefined : schemaAt(node, [...segments(path), field])?.description;
  return description === undefined ? 'see docs/reference/api.md' : `${field}: ${description}`;
}

function explain(root: SchemaNode, value: unknown, error: TLocalizedValidationError, prefix: string): Problem[] {
  const path = prefix + error.instancePath;
  const at = segments(error.instancePath);
  const node = schemaAt(root, at) ?? {};
  const given = valueAt(value, at);
  switch (error.keyword) {
    case 'boolean':
      return []; // the twin of additionalProperties
    case 'additionalProperties':
      return error.params.additionalProperties.map((name) =>
        unknownField(path, name, Object.keys(node.properties ?? {})),
      );
    case 'required':
      return error.params.requiredProperties.map((name) => ({
        path,
        message: `missing field "${name}"`,
        hint: hintOfMissing(name, node.properties?.[name]),
      }));
    case 'enum': {
      const values = error.params.allowedValues.map(String);
      const close = typeof given === 'string' ? nearest(given, values) : undefined;
      return [
        {
          path,
          message: `${shown(given)} is none of ${values.join(', ')}`,
          hint: close === undefined ? `write one of ${values.join(', ')}` : `did you mean ${close}?`,
        },
      ];
    }
    case 'type':
      return [
        { path, message: `must be ${nameOfType(node.type)}, not ${nameOf(given)}`, hint: hintOfType(node, given) },
      ];
    case 'pattern':
      return [{ path, message: `${shown(given)} is not written right`, hint: hintOfPattern(error.params.pattern) }];
    case 'format':
      return [{ path, message: `${shown(given)} is no moment in time`, hint: 'write it as 2026-03-01T09:00:00Z' }];
    case 'minLength':
    case 'maxLength':
      return [
        { path, message: lengthMessage(error.keyword, error.params.limit, 'characters'), hint: hintOfBound(node) },
      ];
    case 'minItems':
    case 'maxItems':
      return [{ path, message: lengthMessage(error.keyword, error.params.limit, 'entries'), hint: hintOfBound(node) }];
    case 'maxProperties':
      return [{ path, message: `must have at most ${error.params.limit} entries`, hint: hintOfBound(node) }];
    case 'minimum':
    case 'maximum':
      return [
        {
          path,
          message: `${shown(given)} is out of bounds`,
          hint: `write a number from ${node.minimum ?? 'any'} to ${node.maximum ?? 'any'}`,
        },
      ];
    default:
      return [{ path, message: error.message, hint: hintOfBound(node) }];
  }
}

function unknownField(path: string, name: string, known: readonly string[]): Problem {
  const close = nearest(name, known);
  return {
    path: `${path}/${escapePointer(name)}`,
    message: `unknown field ${shown(name)}`,
    hint: close === undefined ? `fields here are ${known.join(', ')}` : `did you mean "${close}"?`,
    unknownField: true,
  };
}

function hintOfMissing(name: string, schema: SchemaNode | undefined): string {
  const values = schema?.enum?.join(', ');
  const what = schema?.description;
  return `add ${name}:${values === undefined ? '' : ` (${values})`}${what === undefined ? '' : ` — ${what}`}`;
}

const PATTERN_HINTS: Readonly<Record<string, string>> = {
  '^([0-9]{1,5}(h|m|s))+$': 'write a duration such as 1h, 90m or 1h30m',
  '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$': 'use small letters, digits, - and ., as in orders-db',
  '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$': 'use small letters, digits and -, as in no-ddl',
  '^[0-9a-f]{64}$': 'write a SHA-256 as 64 hex digits',
  [PUBLIC_KEY_PATTERN]:
    'write a public key as `ssh-keyscan HOST` prints it behind the name, or as a .pub file has it: ssh-ed25519 AAAA…',
  [TARGET_USER_PATTERN]: 'write a user of the target in letters, digits, _, ., @ and -, as in deploy',
  '^[A-Za-z0-9_-]{43}$': 'write a raw Ed25519 public key in base64url, 43 characters',
};
function hintOfPattern(pattern: string | RegExp): string {
  const text = String(pattern);
  return PATTERN_HINTS[text] ?? `it must match ${text}`;
}

function hintOfBound(node: SchemaNode): string {
  return node.description ?? 'see docs/reference/api.md';
}

function hintOfType(node: SchemaNode, given: unknown): string {
  if (given === null) return 'write a value, or remove the line';
  if (node.type === 'string' && (typeof given === 'number' || typeof given === 'boolean')) {
    return `put it in quotes: "${String(given)}"`;
  }
  if (node.type === 'boolean') return 'write true or false, without quotes';
  if (node.type === 'integer') return 'write a whole number, without quotes';
  if (node.type === 'array') {
    return isObject(given)
      ? 'begin each entry with "- "'
      : `write a list: [${typeof given === 'string' ? given.slice(0, 40) : '…'}]`;
  }
  if (node.type === 'object' && node.properties !== undefined) {
    return `write fields below it: ${Object.keys(node.properties).slice(0, 8).join(', ')}`;
  }
  return node.description ?? 'see docs/reference/api.md';
}

function lengthMessage(keyword: string, limit: number, unit: string): string {
  if (keyword.startsWith('min')) return limit === 1 ? 'must not be empty' : `must have at least ${limit} ${unit}`;
  return `must have at most ${limit} ${unit}`;
}

function nameOfType(type: string | undefined): string {
  const names: Record<string, string> = {
    string: 'a text',
    boolean: 'true or false',
    integer: 'a whole number',
    number: 'a number',
    array: 'a list',
    object: 'an object with fields',
  };
  return names[type ?? ''] ?? 'something else';
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return `the text ${shown(value)}`;
  if (typeof value === 'object') return 'an object';
  return `${typeof value === 'number' ? 'the number' : 'the value'} ${String(value)}`;
}

/** A value as a message may show it: quoted, control characters escaped, cut to a readable length. */
export function shown(value: unknown): string {
  if (typeof value === 'string') {
    const text = value.length > 60 ? `${value.slice(0, 57)}…` : value;
    return JSON.stringify(text).replace(/[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
      return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
    });
  }
  return nameOf(value);
}

function exampleOf(kind: Kind): string {
  const required = (KINDS[kind].spec as SchemaNode).required ?? [];
  return `write apiVersion, kind, metadata.name and spec${required.length > 0 ? ` with ${required.join(', ')}` : ''}`;
}

export function segments(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

export function escapePointer(part: string): string {
  return part.replaceAll('~', '~0').replaceAll('/', '~1');
}

/** `/spec/rules/0/action` as people write it: `spec.rules[0].action`. */
export function fieldOf(pointer: string): string {
  return segments(pointer)
    .map((part, index) => (/^[0-9]+$/.test(part) ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join('');
}

function schemaAt(root: SchemaNode, at: readonly string[]): SchemaNode | undefined {
  let node: SchemaNode | undefined = root;
  for (const part of at) {
    if (node === undefined) return undefined;
    if (node.properties !== undefined && Object.hasOwn(node.properties, part)) node = node.properties[part];
    else if (node.items !== undefined) node = node.items;
    else node = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined;
  }
  return node;
}

function valueAt(root: unknown, at: readonly string[]): unknown {
  let value = root;
  for (const part of at) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The kind that a misspelt one was probably meant to be. */
export function nearestKind(text: string): Kind | undefined {
  return nearest(text, KIND_NAMES) as Kind | undefined;
}
