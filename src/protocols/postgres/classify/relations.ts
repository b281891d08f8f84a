// Schema: what is about relations, and the expressions that it brings along.
import { qualified } from './calls.ts';
import { NotUnderstood } from './findings.ts';
import { creates, defines, definesObject, type Handler, inner, withoutNames } from './handlers.ts';
import { childScope, type Scope } from './scope.ts';
import { OBJECT_NAMES, PARTS_OF_RELATIONS, RELATION_OBJECTS } from './tags.ts';
import { as, type Fields, list, nameParts, struct, text, unwrap } from './tree.ts';
import { select, type Walk, walkAll, walkFields, walkNode } from './walk.ts';

export const drop: Handler = (walk, fields) => {
  const { found } = walk;
  const type = text(fields, 'removeType') ?? '';
  const name = OBJECT_NAMES[type];
  if (name === undefined) throw new NotUnderstood('what is dropped is not known');
  for (const object of list(fields, 'objects')) {
    const parts = nameParts(object);
    if (RELATION_OBJECTS.has(type)) defines(walk, object);
    else if (PARTS_OF_RELATIONS.has(type)) {
      const [schema, relation] = qualified(parts.slice(0, -1));
      found.relation('Define', schema, relation);
      if (type === 'OBJECT_POLICY') found.relation('Grant', schema, relation);
    } else if (type === 'OBJECT_SCHEMA') found.relation('Define', parts[0], '*');
    else definesObject(walk, name.toLowerCase(), parts.length === 0 ? '*' : parts);
  }
  if (text(fields, 'behavior') === 'DROP_CASCADE') found.relation('Define', undefined, '*');
  return `DROP ${name}`;
};

/** ALTER … RENAME, SET SCHEMA, OWNER TO, DEPENDS ON: one object of any type. */
export const alterObject =
  (typeField: string, ...more: 'Grant'[]): Handler =>
  (walk, fields) => {
    const type = text(fields, typeField) ?? '';
    const named = OBJECT_NAMES[type];
    if (named === undefined) throw new NotUnderstood('what is altered is not known');
    const relation = struct(fields, 'relation');
    const parts = nameParts(fields.object);
    if (relation) {
      const [schema, name] = qualified(nameParts(relation));
      walk.found.relation('Define', schema, name);
      for (const access of more) walk.found.relation(access, schema, name);
      const renamed = text(fields, 'newname');
      // Under its new name other rules are about it.
      if (renamed !== undefined && RELATION_OBJECTS.has(type)) walk.found.relation('Define', schema, renamed);
      const moved = text(fields, 'newschema');
      if (moved !== undefined) walk.found.relation('Define', moved, name);
      if (renamed !== undefined && type === 'OBJECT_COLUMN') {
        const use = schema === undefined ? { name } : { schema, name };
        walk.found.column(use, text(fields, 'subname') ?? '*');
        walk.found.column(use, renamed);
      }
    } else if (type === 'OBJECT_SCHEMA') {
      const schema = parts[0] ?? text(fields, 'subname') ?? '*';
      walk.found.relation('Define', schema, '*');
      const renamed = text(fields, 'newname');
      if (renamed !== undefined) walk.found.relation('Define', renamed, '*');
      for (const access of more) walk.found.relation(access, schema, '*');
    } else {
      const name = parts.length > 0 ? parts : [text(fields, 'subname') ?? '*'];
      if (type === 'OBJECT_ROLE') walk.found.effect('Grant', 'role', ...name);
      definesObject(walk, named.toLowerCase(), name);
      for (const access of more) walk.found.effect(access, named.toLowerCase(), ...name);
    }
    const base =
      type === 'OBJECT_COLUMN' || type === 'OBJECT_TABCONSTRAINT'
        ? (OBJECT_NAMES[text(fields, 'relationType') ?? ''] ?? named)
        : named;
    return `ALTER ${base}`;
  };

export const createTable =
  (tag: string): Handler =>
  (walk, fields, scope) => {
    const target = struct(fields, 'relation') ?? {};
    creates(walk, target);
    const [schema, name] = qualified(nameParts(target));
    const inside = childScope(scope);
    const use = schema === undefined ? { name } : { schema, name };
    inside.items.push({ name, relations: [use], renamed: false, target: false, read: false });
    for (const node of list(fields, 'tableElts')) element(walk, node, inside);
    walkAll(walk, list(fields, 'constraints'), inside);
    walkAll(walk, list(fields, 'nnconstraints'), inside);
    // A child shows up in every read of its parent.
    for (const parent of list(fields, 'inhRelations')) defines(walk, parent);
    walkAll(walk, list(fields, 'options'), scope);
    typeOf(walk, fields, scope);
    walkNode(walk, struct(fields, 'partbound'), inside);
    walkNode(walk, struct(fields, 'partspec'), inside);
    return tag;
  };

function typeOf(walk: Walk, fields: Fields, scope: Scope): void {
  const type = struct(fields, 'ofTypename');
  if (type) walkNode(walk, { TypeName: type }, scope);
}

function element(walk: Walk, node: unknown, scope: Scope): void {
  const like = as(node, 'TableLikeClause');
  if (like) {
    const [schema, name] = qualified(nameParts(like.relation));
    walk.found.relation('Read', schema, name);
    walk.found.column(schema === undefined ? { name } : { schema, name }, '*');
  } else walkNode(walk, node, scope);
}

export const alterTable: Handler = (walk, fields, scope) => {
  const { found } = walk;
  const target = struct(fields, 'relation') ?? {};
  const type = text(fields, 'objtype') ?? 'OBJECT_TABLE';
  const named = OBJECT_NAMES[type];
  if (named === undefined) throw new NotUnderstood('what is altered is not known');
  const [schema, name] = qualified(nameParts(target));
  const use = schema === undefined ? { name } : { schema, name };
  if (type === 'OBJECT_TYPE') found.effect('Define', 'type', ...nameParts(target));
  else found.relation('Define', schema, name);
  const inside = childScope(scope);
  inside.items.push({ name, relations: [use], renamed: false, target: false, read: false });
  for (const node of list(fields, 'cmds')) {
    const command = as(node, 'AlterTableCmd');
    if (command === undefined) throw new NotUnderstood('the ALTER is not known');
    const subtype = text(command, 'subtype') ?? '';
    if (/Owner|RowSecurity/.test(subtype)) found.relation('Grant', schema, name);
    if (/Inherit|Partition/.test(subtype)) {
      const other = struct(as(command.def, 'PartitionCmd'), 'name') ?? as(command.def, 'RangeVar');
      if (other) defines(walk, other);
    }
    if (/Column|NotNull|Expression|Identity|Statistics|Storage|Compression/.test(subtype)) {
      const column = text(command, 'name') ?? text(as(command.def, 'ColumnDef'), 'colname');
      if (column !== undefined) found.column(use, column);
    }
    if (text(command, 'behavior') === 'DROP_CASCADE' && subtype.includes('Drop'))
      found.relation('Define', undefined, '*');
    definition(walk, command.def, inside);
  }
  return `ALTER ${named}`;
};

/** What an ALTER TABLE command brings: a column, a constraint, an expression, options; names of other relations are taken care of. */
function definition(walk: Walk, value: unknown, scope: Scope): void {
  const node = unwrap(value);
  if (node === undefined || node.kind === 'RangeVar' || node.kind === 'ReplicaIdentityStmt') return;
  if (node.kind === 'PartitionCmd') walkNode(walk, node.fields.bound, scope);
  else walkNode(walk, value, scope);
}

/** A statement about one relation that also holds expressions over its columns. */
export const onRelation =
  (tag: string, field: string, ...more: ('Grant' | 'Execute')[]): Handler =>
  (walk, fields, scope) => {
    const target = struct(fields, field);
    if (target === undefined) throw new NotUnderstood('its table is missing');
    if (tag === 'CREATE SEQUENCE') creates(walk, target);
    else defines(walk, target);
    const [schema, name] = qualified(nameParts(target));
    if (more.includes('Grant')) walk.found.relation('Grant', schema, name);
    const use = schema === undefined ? { name } : { schema, name };
    const inside = childScope(scope);
    for (const each of [name, 'old', 'new']) {
      inside.items.push({ name: each, relations: [use], renamed: false, target: false, read: false });
    }
    const rest: Record<string, unknown> = { ...withoutNames(fields) };
    delete rest[field];
    walkFields(walk, rest, inside);
    return tag;
  };

export const indexStatement: Handler = (walk, fields, scope) => {
  const target = struct(fields, 'relation') ?? {};
  const [schema, name] = qualified(nameParts(target));
  const use = schema === undefined ? { name } : { schema, name };
  for (const part of [...list(fields, 'indexParams'), ...list(fields, 'indexIncludingParams')]) {
    const column = text(as(part, 'IndexElem'), 'name');
    if (column !== undefined) walk.found.column(use, column);
  }
  return onRelation('CREATE INDEX', 'relation')(walk, fields, scope);
};

export const trigger: Handler = (walk, fields, scope) => {
  const [schema, name] = qualified(nameParts(fields.funcname));
  walk.found.mention(schema, name);
  return onRelation('CREATE TRIGGER', 'relation')(
    walk,
    { ...fields, args: [], columns: [], transitionRels: [], constrrel: undefined },
    scope,
  );
};

export const rule: Handler = (walk, fields, scope) => {
  const target = struct(fields, 'relation') ?? {};
  defines(walk, target);
  const [schema, name] = qualified(nameParts(target));
  const use = schema === undefined ? { name } : { schema, name };
  const inside = childScope(scope);
  for (const each of ['old', 'new']) {
    inside.items.push({ name: each, relations: [use], renamed: false, target: false, read: false });
  }
  walkNode(walk, fields.whereClause, inside);
  for (const action of list(fields, 'actions')) inner(walk, action, inside);
  return 'CREATE RULE';
};

export const view: Handler = (walk, fields, scope) => {
  creates(walk, struct(fields, 'view') ?? {});
  const query = as(fields.query, 'SelectStmt');
  if (query === undefined) throw new NotUnderstood('the view’s query is not known');
  select(walk, query, scope);
  walkAll(walk, list(fields, 'options'), scope);
  return 'CREATE VIEW';
};
