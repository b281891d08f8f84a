// Schemas, functions, publications and the rest that is not one relation.
import { qualified } from './calls.ts';
import { definesObject, type Handler, inner } from './handlers.ts';
import { childScope, type Scope } from './scope.ts';
import { OBJECT_NAMES } from './tags.ts';
import { as, type Fields, flag, list, nameParts, struct, text, unwrap } from './tree.ts';
import { type Walk, walkAll, walkNode } from './walk.ts';

export const createSchema: Handler = (walk, fields, scope) => {
  const name = text(fields, 'schemaname') ?? '*';
  walk.found.effect('Define', name);
  if (fields.authrole !== undefined) walk.found.effect('Grant', name);
  for (const each of list(fields, 'schemaElts')) inner(walk, each, scope);
  return 'CREATE SCHEMA';
};

export const createFunction: Handler = (walk, fields, scope) => {
  const procedure = flag(fields, 'is_procedure');
  definesObject(walk, procedure ? 'procedure' : 'function', fields.funcname);
  escalations(walk, list(fields, 'options'), procedure ? 'procedure' : 'function', fields.funcname);
  walkAll(
    walk,
    list(fields, 'options').filter((option) => as(option, 'DefElem')?.defname !== 'as'),
    scope,
  );
  walkNode(walk, struct(fields, 'returnType'), scope);
  for (const parameter of list(fields, 'parameters')) {
    const each = as(parameter, 'FunctionParameter');
    walkNode(walk, each?.argType, scope);
    walkNode(walk, each?.defexpr, scope);
  }
  body(walk, fields.sql_body, scope);
  return procedure ? 'CREATE PROCEDURE' : 'CREATE FUNCTION';
};

/** A BEGIN ATOMIC or RETURN body: statements that will run later, with whatever rights the function then has. */
function body(walk: Walk, value: unknown, scope: Scope): void {
  if (value === undefined) return;
  const node = unwrap(value);
  if (node?.kind === 'List') for (const each of list(node.fields, 'items')) body(walk, each, scope);
  else if (node?.kind === 'ReturnStmt') walkNode(walk, node.fields.returnval, scope);
  else inner(walk, value, scope);
}

/** SECURITY DEFINER, and settings that a function brings along. */
function escalations(walk: Walk, options: readonly unknown[], kind: string, name: unknown): void {
  for (const option of options) {
    const element = as(option, 'DefElem');
    if (text(element, 'defname') === 'security') walk.found.effect('Grant', kind, ...nameParts(name));
    const setting = as(element?.arg, 'VariableSetStmt');
    if (setting) walk.found.effect('Grant', kind, ...nameParts(name));
  }
}

export const alterFunction: Handler = (walk, fields) => {
  const type = OBJECT_NAMES[text(fields, 'objtype') ?? 'OBJECT_FUNCTION'] ?? 'FUNCTION';
  const name = struct(fields, 'func');
  definesObject(walk, type.toLowerCase(), name);
  escalations(walk, list(fields, 'actions'), type.toLowerCase(), name);
  return `ALTER ${type}`;
};

/** What DO and CREATE EXTENSION run is text: it may do anything. */
export const doBlock: Handler = (walk) => {
  walk.found.effect('Execute');
  walk.found.opaque('Read', 'Write', 'Define', 'Grant');
  return 'DO';
};

export const call: Handler = (walk, fields, scope) => {
  const target = struct(fields, 'funccall');
  const [schema, name] = qualified(nameParts(target?.funcname));
  walk.found.executes(schema, name);
  walkAll(walk, list(target, 'args'), scope);
  return 'CALL';
};

export const publicationObjects = (walk: Walk, fields: Fields, scope: Scope): void => {
  for (const node of list(fields, 'pubobjects')) {
    const table = struct(as(node, 'PublicationObjSpec'), 'pubtable');
    if (table === undefined) {
      walk.found.relation('Read', text(as(node, 'PublicationObjSpec'), 'name'), '*');
      continue;
    }
    const [schema, name] = qualified(nameParts(table.relation));
    walk.found.relation('Read', schema, name);
    walk.found.column(schema === undefined ? { name } : { schema, name }, '*');
    const inside = childScope(scope);
    const use = schema === undefined ? { name } : { schema, name };
    inside.items.push({ name, relations: [use], renamed: false, target: false, read: false });
    walkNode(walk, table.whereClause, inside);
  }
  if (flag(fields, 'for_all_tables')) walk.found.relation('Read', undefined, '*');
};

export const reindex: Handler = (walk, fields) => {
  const target = struct(fields, 'relation');
  if (target) {
    const [schema, name] = qualified(nameParts(target));
    walk.found.relation('Write', schema, name);
  } else {
    const schema = text(fields, 'kind') === 'REINDEX_OBJECT_SCHEMA' ? text(fields, 'name') : undefined;
    walk.found.relation('Write', schema, '*');
  }
  return 'REINDEX';
};
