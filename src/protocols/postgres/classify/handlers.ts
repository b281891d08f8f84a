// What the handlers of statements share.
import { qualified } from './calls.ts';
import { childScope, type Scope } from './scope.ts';
import { OBJECT_NAMES, PARTS_OF_RELATIONS, RELATION_OBJECTS } from './tags.ts';
import { type Fields, nameParts, text } from './tree.ts';
import { type Walk, walkFields } from './walk.ts';

/** Judges one kind of statement and returns its tag. */
export type Handler = (walk: Walk, fields: Fields, scope: Scope) => string;

export function inner(walk: Walk, node: unknown, scope: Scope): void {
  walk.found.inner.push(walk.statement(walk, node, childScope(scope)));
}

export function defines(walk: Walk, target: unknown): void {
  const [schema, name] = qualified(nameParts(target));
  walk.found.relation('Define', schema, name);
}

/** A new relation, given by its RangeVar. */
export function creates(walk: Walk, target: Fields): void {
  const [schema, name] = qualified(nameParts(target));
  walk.found.creates(schema, name, text(target, 'relpersistence') === 't');
}

/** A non-relation: its name is for messages; no table pattern is about it. */
export function definesObject(walk: Walk, kind: string, name: unknown): void {
  walk.found.effect('Define', kind, ...nameParts(name));
}

export const define =
  (tag: string, kind: string, name: (fields: Fields) => unknown, ...more: ('Grant' | 'Execute')[]): Handler =>
  (walk, fields, scope) => {
    definesObject(walk, kind, name(fields));
    for (const action of more) walk.found.effect(action, kind, ...nameParts(name(fields)));
    walkFields(walk, withoutNames(fields), scope);
    return tag;
  };

/** Fields that hold names of what is defined, not expressions. */
export function withoutNames(fields: Fields): Fields {
  const rest: Record<string, unknown> = {};
  for (const key in fields) {
    if (!/name$|names$|^(objects?|func|roles?|grantees?|owner|newowner|user)$/.test(key)) rest[key] = fields[key];
  }
  return rest;
}

export const maintenance =
  (tag: (fields: Fields) => string, relations: (fields: Fields) => readonly unknown[]): Handler =>
  (walk, fields) => {
    const targets = relations(fields);
    for (const target of targets) {
      const [schema, name] = qualified(nameParts(target));
      walk.found.relation('Write', schema, name);
    }
    if (targets.length === 0) walk.found.relation('Write', undefined, '*');
    return tag(fields);
  };

export const aboutObject =
  (tag: string, action: 'Define' | 'Grant'): Handler =>
  (walk, fields) => {
    const type = text(fields, 'objtype') ?? '';
    const parts = nameParts(fields.object);
    if (RELATION_OBJECTS.has(type)) {
      const [schema, name] = qualified(parts);
      walk.found.relation(action, schema, name);
    } else if (PARTS_OF_RELATIONS.has(type)) {
      const [schema, name] = qualified(parts.slice(0, -1));
      walk.found.relation(action, schema, name);
    } else walk.found.effect(action, OBJECT_NAMES[type]?.toLowerCase() ?? '*', ...parts);
    return tag;
  };

export const one = (field: string) => (fields: Fields) => fields[field];
