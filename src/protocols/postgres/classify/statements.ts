// What every kind of statement does. Exhaustive: a kind that is not in the table is not understood. `expressions` are
// walked everywhere a statement can hold some, so that a function call in a DEFAULT or a policy is seen as one.
import { NotUnderstood } from './findings.ts';
import { childScope, type Scope } from './scope.ts';
import { OBJECT_NAMES, PARTS_OF_RELATIONS, RELATION_OBJECTS } from './tags.ts';
import {
  as,
  constantText,
  type Fields,
  flag,
  list,
  nameParts,
  number,
  stringOf,
  struct,
  text,
  unwrap,
} from './tree.ts';
import { trivial } from './trivial.ts';
import {
  assignments,
  dmlTarget,
  fromClause,
  intoClause,
  qualified,
  readTargets,
  select,
  unboundedWhere,
  type Walk,
  walkAll,
  walkFields,
  walkNode,
  withClause,
} from './walk.ts';

/** Returns the tag. */
type Handler = (walk: Walk, fields: Fields, scope: Scope) => string;

/** Handles one statement node (`{ SelectStmt: … }`). Throws NotUnderstood. */
export function statement(walk: Walk, node: unknown, scope: Scope): string {
  const wrapped = unwrap(node);
  const handler = wrapped && HANDLERS[wrapped.kind];
  if (handler === undefined) throw new NotUnderstood(`${wrapped?.kind ?? 'the statement'} is not known`);
  return handler(walk, wrapped!.fields, scope);
}

export const STATEMENT_KINDS = (): string[] => Object.keys(HANDLERS);

function inner(walk: Walk, node: unknown, scope: Scope): void {
  walk.found.inner.push(statement(walk, node, childScope(scope)));
}

function defines(walk: Walk, target: unknown): void {
  const [schema, name] = qualified(nameParts(target));
  walk.found.relation('Define', schema, name);
}

/** A non-relation: its name is for messages; no table pattern is about it. */
function definesObject(walk: Walk, kind: string, name: unknown): void {
  walk.found.effect('Define', kind, ...nameParts(name));
}

const define =
  (tag: string, kind: string, name: (fields: Fields) => unknown, ...more: ('Grant' | 'Execute')[]): Handler =>
  (walk, fields, scope) => {
    definesObject(walk, kind, name(fields));
    for (const action of more) walk.found.effect(action, kind, ...nameParts(name(fields)));
    walkFields(walk, withoutNames(fields), scope);
    return tag;
  };

/** Fields that hold names of what is defined, not expressions. */
function withoutNames(fields: Fields): Fields {
  const rest: Record<string, unknown> = {};
  for (const key in fields) {
    if (!/name$|names$|^(objects?|func|roles?|grantees?|owner|newowner|user)$/.test(key)) rest[key] = fields[key];
  }
  return rest;
}

// --- queries -------------------------------------------------------------------------------------------------------

const selectStatement: Handler = (walk, fields, scope) => {
  select(walk, fields, scope);
  return struct(fields, 'intoClause') ? 'SELECT INTO' : 'SELECT';
};

const insert: Handler = (walk, fields, outer) => {
  const scope = childScope(outer);
  withClause(walk, struct(fields, 'withClause'), scope);
  const items = dmlTarget(walk, struct(fields, 'relation'), ['old', 'new']);
  const target = items[0]!;
  if (list(fields, 'cols').length > 0) assignments(walk, list(fields, 'cols'), target, scope);
  else for (const use of target.relations) walk.found.column(use, '*');
  const source = as(fields.selectStmt, 'SelectStmt');
  if (source) select(walk, source, scope);
  const after = childScope(scope);
  // What EXCLUDED holds came with the statement: reading it is no read of the table.
  after.items.push(...items);
  const conflict = struct(fields, 'onConflictClause');
  if (conflict) {
    const resolving = childScope(after);
    resolving.items.push({ ...target, name: 'excluded', target: false });
    walkNode(walk, conflict.infer, after);
    assignments(walk, list(conflict, 'targetList'), target, resolving);
    walkNode(walk, conflict.whereClause, resolving);
  }
  returning(walk, fields, after);
  readTargets(walk, items);
  return 'INSERT';
};

/** RETURNING, whose WITH (OLD AS o, NEW AS n) names rows of the target. */
function returning(walk: Walk, fields: Fields, scope: Scope): void {
  const clause = struct(fields, 'returningClause');
  if (clause === undefined) return;
  const target = scope.items.find((item) => item.target);
  const inside = childScope(scope);
  for (const option of list(clause, 'options')) {
    const name = text(as(option, 'ReturningOption'), 'value');
    if (name !== undefined && target) inside.items.push({ ...target, name });
  }
  const items = [...inside.items];
  if (items.length > 0 && target) target.read = true;
  // `*` means the statement's own FROM items, so it is resolved in their scope.
  for (const expression of list(clause, 'exprs')) {
    const reference = as(as(expression, 'ResTarget')?.val, 'ColumnRef');
    const star = reference !== undefined && nameParts(reference.fields).join() === '*';
    walkNode(walk, expression, star ? scope : inside);
  }
}

const update: Handler = (walk, fields, outer) => {
  const scope = childScope(outer);
  withClause(walk, struct(fields, 'withClause'), scope);
  const items = dmlTarget(walk, struct(fields, 'relation'), ['old', 'new']);
  scope.items.push(...items);
  fromClause(walk, list(fields, 'fromClause'), scope);
  assignments(walk, list(fields, 'targetList'), items[0]!, scope);
  walkNode(walk, fields.whereClause, scope);
  if (unboundedWhere(fields.whereClause)) walk.found.unbounded = true;
  returning(walk, fields, scope);
  readTargets(walk, items);
  return 'UPDATE';
};

const remove: Handler = (walk, fields, outer) => {
  const scope = childScope(outer);
  withClause(walk, struct(fields, 'withClause'), scope);
  const items = dmlTarget(walk, struct(fields, 'relation'), ['old', 'new']);
  scope.items.push(...items);
  fromClause(walk, list(fields, 'usingClause'), scope);
  walkNode(walk, fields.whereClause, scope);
  if (unboundedWhere(fields.whereClause)) walk.found.unbounded = true;
  returning(walk, fields, scope);
  readTargets(walk, items);
  return 'DELETE';
};

const merge: Handler = (walk, fields, outer) => {
  const scope = childScope(outer);
  withClause(walk, struct(fields, 'withClause'), scope);
  const items = dmlTarget(walk, struct(fields, 'relation'), ['old', 'new']);
  scope.items.push(...items);
  fromClause(walk, [fields.sourceRelation], scope);
  walkNode(walk, fields.joinCondition, scope);
  const everything = fields.joinCondition === undefined || trivial(fields.joinCondition);
  for (const node of list(fields, 'mergeWhenClauses')) {
    const when = as(node, 'MergeWhenClause');
    if (when === undefined) throw new NotUnderstood('a WHEN of MERGE is not known');
    walkNode(walk, when.condition, scope);
    assignments(walk, list(when, 'targetList'), items[0]!, scope);
    if (text(when, 'commandType') === 'CMD_INSERT' && list(when, 'targetList').length === 0) {
      for (const use of items[0]!.relations) walk.found.column(use, '*');
    }
    walkAll(walk, list(when, 'values'), scope);
    const changes = text(when, 'commandType') === 'CMD_UPDATE' || text(when, 'commandType') === 'CMD_DELETE';
    if (everything && changes && (when.condition === undefined || trivial(when.condition))) walk.found.unbounded = true;
  }
  returning(walk, fields, scope);
  readTargets(walk, items);
  return 'MERGE';
};

const createTableAs: Handler = (walk, fields, scope) => {
  intoClause(walk, struct(fields, 'into') ?? {}, scope);
  const query = unwrap(fields.query);
  if (query?.kind === 'SelectStmt') select(walk, query.fields, scope);
  else inner(walk, fields.query, scope); // CREATE TABLE AS EXECUTE
  return text(fields, 'objtype') === 'OBJECT_MATVIEW' ? 'CREATE MATERIALIZED VIEW' : 'CREATE TABLE AS';
};

/** Plain EXPLAIN plans: it reads what its statement reads or writes, and runs the functions that planning folds. */
const explain: Handler = (walk, fields, scope) => {
  let runs = false;
  for (const option of list(fields, 'options')) {
    const element = as(option, 'DefElem');
    const value = element?.arg === undefined ? 'true' : (stringOf(element.arg) ?? settingWord(element.arg));
    if (text(element, 'defname') === 'analyze') runs = !['false', 'off', '0'].includes(value.toLowerCase());
  }
  const { found } = walk;
  if (runs) {
    inner(walk, fields.query, scope);
    return 'EXPLAIN';
  }
  const before = new Map(found.effects);
  const relations = new Map(found.relations);
  const unbounded = found.unbounded;
  found.effects.clear();
  found.relations.clear();
  inner(walk, fields.query, scope);
  const planned = [...found.effects.values()];
  const touched = [...found.relations.values()];
  found.effects.clear();
  found.relations.clear();
  found.unbounded = unbounded;
  // EXPLAIN EXECUTE still depends on what was prepared.
  if (found.session?.kind !== 'Execute') found.session = undefined;
  for (const [key, effect] of before) found.effects.set(key, effect);
  for (const [key, use] of relations) found.relations.set(key, use);
  for (const use of touched) {
    if (use.access !== 'Define') found.relation('Read', use.schema, use.name);
  }
  for (const effect of planned) {
    if (effect.action === 'Execute' || effect.action === 'Session') found.effect(effect.action, ...effect.object);
  }
  return 'EXPLAIN';
};

function settingWord(value: unknown): string {
  const boolean = as(value, 'Boolean');
  if (boolean) return flag(boolean, 'boolval') ? 'true' : 'false';
  const integer = as(value, 'Integer');
  if (integer) return String(number(integer, 'ival'));
  return 'true';
}

const copy: Handler = (walk, fields, scope) => {
  const { found } = walk;
  const into = flag(fields, 'is_from');
  const file = text(fields, 'filename');
  const program = flag(fields, 'is_program');
  const place = program ? 'Program' : file === undefined ? 'Client' : 'File';
  const direction = into ? 'In' : 'Out';
  const target = struct(fields, 'relation');
  found.copy = { direction, place, query: target === undefined };
  if (target) {
    const schema = text(target, 'schemaname');
    const name = text(target, 'relname') ?? '';
    const use = schema === undefined ? { name } : { schema, name };
    found.copy = { direction, place, query: false, relation: use };
    found.relation(into ? 'Write' : 'Read', schema, name);
    const columns = list(fields, 'attlist');
    if (columns.length === 0) found.column(use, '*');
    for (const column of columns) found.column(use, stringOf(column) ?? '*');
    const inside = childScope(scope);
    inside.items.push({ name, relations: [use], renamed: false, target: false, read: false });
    walkNode(walk, fields.whereClause, inside);
  } else {
    inner(walk, fields.query, scope);
  }
  if (place === 'Program') found.effect('Execute', 'program', file ?? '*');
  if (place === 'File') found.effect('Execute', 'file', file ?? '*');
  return 'COPY';
};

// --- the session ---------------------------------------------------------------------------------------------------

const TRANSACTIONS: Readonly<
  Record<string, [tag: string, kind: 'Begin' | 'Commit' | 'Rollback' | 'Savepoint' | 'TwoPhase']>
> = {
  TRANS_STMT_BEGIN: ['BEGIN', 'Begin'],
  TRANS_STMT_START: ['START TRANSACTION', 'Begin'],
  TRANS_STMT_COMMIT: ['COMMIT', 'Commit'],
  TRANS_STMT_ROLLBACK: ['ROLLBACK', 'Rollback'],
  TRANS_STMT_SAVEPOINT: ['SAVEPOINT', 'Savepoint'],
  TRANS_STMT_RELEASE: ['RELEASE', 'Savepoint'],
  TRANS_STMT_ROLLBACK_TO: ['ROLLBACK', 'Savepoint'],
  TRANS_STMT_PREPARE: ['PREPARE TRANSACTION', 'TwoPhase'],
  TRANS_STMT_COMMIT_PREPARED: ['COMMIT PREPARED', 'TwoPhase'],
  TRANS_STMT_ROLLBACK_PREPARED: ['ROLLBACK PREPARED', 'TwoPhase'],
};

const transaction: Handler = (walk, fields) => {
  const known = TRANSACTIONS[text(fields, 'kind') ?? 'TRANS_STMT_BEGIN'];
  if (known === undefined) throw new NotUnderstood('the transaction command is not known');
  const [tag, kind] = known;
  if (kind === 'TwoPhase') {
    // It outlives the session, or ends somebody else's.
    walk.found.effect('Write', 'prepared transaction', text(fields, 'gid') ?? '');
    if (tag === 'PREPARE TRANSACTION') walk.found.session = { kind: 'Commit' };
    return tag;
  }
  walk.found.session = { kind };
  walk.found.effect('Session');
  return tag;
};

const set: Handler = (walk, fields) => {
  const { found } = walk;
  const name = (text(fields, 'name') ?? '').toLowerCase();
  const local = flag(fields, 'is_local');
  switch (text(fields, 'kind') ?? 'VAR_SET_VALUE') {
    case 'VAR_SET_VALUE': {
      const values = list(fields, 'args').map(constantText);
      const value = values.includes(undefined) ? undefined : values.join(', ');
      found.session = { kind: 'Set', name, value, local };
      found.setting(name, value);
      return 'SET';
    }
    case 'VAR_SET_DEFAULT':
      found.session = { kind: 'Reset', name };
      found.reset(name);
      return 'SET';
    case 'VAR_SET_CURRENT':
      found.session = { kind: 'Set', name, value: undefined, local };
      found.setting(name, undefined);
      return 'SET';
    case 'VAR_SET_MULTI': {
      if (name === 'transaction snapshot')
        found.setting('transaction_snapshot', list(fields, 'args').map(constantText)[0]);
      else if (name === 'transaction' || name === 'session characteristics') {
        const prefix = name === 'transaction' ? '' : 'default_';
        for (const node of list(fields, 'args')) {
          const element = as(node, 'DefElem');
          const mode = text(element, 'defname') ?? '*';
          const full = mode.startsWith('transaction_') ? mode : `transaction_${mode}`;
          found.setting(`${prefix}${full}`, constantText(element?.arg));
        }
      } else throw new NotUnderstood('the form of SET is not known');
      found.session = { kind: 'Set', name, value: undefined, local };
      return 'SET';
    }
    case 'VAR_RESET':
      found.session = { kind: 'Reset', name };
      found.reset(name);
      return 'RESET';
    case 'VAR_RESET_ALL':
      found.session = { kind: 'Reset', name: undefined };
      found.effect('Session');
      return 'RESET';
    default:
      throw new NotUnderstood('the form of SET is not known');
  }
};

const DISCARDS: Readonly<Record<string, string>> = {
  DISCARD_ALL: 'DISCARD ALL',
  DISCARD_PLANS: 'DISCARD PLANS',
  DISCARD_SEQUENCES: 'DISCARD SEQUENCES',
  DISCARD_TEMP: 'DISCARD TEMP',
};

// --- privileges ----------------------------------------------------------------------------------------------------

const grant: Handler = (walk, fields) => {
  const { found } = walk;
  const tag = flag(fields, 'is_grant') ? 'GRANT' : 'REVOKE';
  const type = text(fields, 'objtype') ?? '';
  const objects = list(fields, 'objects');
  const target = text(fields, 'targtype');
  if (target === 'ACL_TARGET_ALL_IN_SCHEMA') {
    for (const schema of objects) {
      if (RELATION_OBJECTS.has(type)) found.relation('Grant', stringOf(schema) ?? '*', '*');
      else found.effect('Grant', stringOf(schema) ?? '*', '*');
    }
  } else if (target === 'ACL_TARGET_DEFAULTS') {
    found.effect('Grant', '*', '*');
  } else {
    for (const object of objects) {
      const [schema, name] = qualified(nameParts(object));
      if (RELATION_OBJECTS.has(type)) found.relation('Grant', schema, name);
      else found.effect('Grant', OBJECT_NAMES[type]?.toLowerCase() ?? '*', ...nameParts(object));
      for (const privilege of list(fields, 'privileges')) {
        for (const column of list(as(privilege, 'AccessPriv'), 'cols')) {
          found.column(schema === undefined ? { name } : { schema, name }, stringOf(column) ?? '*');
        }
      }
    }
  }
  if (found.effects.size === 0) found.effect('Grant', '*');
  return tag;
};

function roleName(value: unknown): string {
  const role = as(value, 'RoleSpec') ?? (value as Fields | undefined);
  return text(role, 'rolename') ?? text(as(value, 'AccessPriv'), 'priv_name') ?? '*';
}

const roles =
  (tag: (fields: Fields) => string, names: (fields: Fields) => readonly unknown[]): Handler =>
  (walk, fields) => {
    const targets = names(fields);
    for (const target of targets) {
      walk.found.effect('Grant', 'role', typeof target === 'string' ? target : roleName(target));
    }
    if (targets.length === 0) walk.found.effect('Grant', 'role', '*');
    return tag(fields);
  };

// --- schema --------------------------------------------------------------------------------------------------------

const drop: Handler = (walk, fields) => {
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
const alterObject =
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

const createTable =
  (tag: string): Handler =>
  (walk, fields, scope) => {
    const target = struct(fields, 'relation') ?? {};
    defines(walk, target);
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

const alterTable: Handler = (walk, fields, scope) => {
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
const onRelation =
  (tag: string, field: string, ...more: ('Grant' | 'Execute')[]): Handler =>
  (walk, fields, scope) => {
    const target = struct(fields, field);
    if (target === undefined) throw new NotUnderstood('its table is missing');
    defines(walk, target);
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

const indexStatement: Handler = (walk, fields, scope) => {
  const target = struct(fields, 'relation') ?? {};
  const [schema, name] = qualified(nameParts(target));
  const use = schema === undefined ? { name } : { schema, name };
  for (const part of [...list(fields, 'indexParams'), ...list(fields, 'indexIncludingParams')]) {
    const column = text(as(part, 'IndexElem'), 'name');
    if (column !== undefined) walk.found.column(use, column);
  }
  return onRelation('CREATE INDEX', 'relation')(walk, fields, scope);
};

const trigger: Handler = (walk, fields, scope) => {
  const [schema, name] = qualified(nameParts(fields.funcname));
  walk.found.mention(schema, name);
  return onRelation('CREATE TRIGGER', 'relation')(
    walk,
    { ...fields, args: [], columns: [], transitionRels: [], constrrel: undefined },
    scope,
  );
};

const rule: Handler = (walk, fields, scope) => {
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

const view: Handler = (walk, fields, scope) => {
  defines(walk, struct(fields, 'view') ?? {});
  const query = as(fields.query, 'SelectStmt');
  if (query === undefined) throw new NotUnderstood('the view’s query is not known');
  select(walk, query, scope);
  walkAll(walk, list(fields, 'options'), scope);
  return 'CREATE VIEW';
};

const createSchema: Handler = (walk, fields, scope) => {
  const name = text(fields, 'schemaname') ?? '*';
  walk.found.effect('Define', name);
  if (fields.authrole !== undefined) walk.found.effect('Grant', name);
  for (const each of list(fields, 'schemaElts')) inner(walk, each, scope);
  return 'CREATE SCHEMA';
};

const createFunction: Handler = (walk, fields, scope) => {
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

const alterFunction: Handler = (walk, fields) => {
  const type = OBJECT_NAMES[text(fields, 'objtype') ?? 'OBJECT_FUNCTION'] ?? 'FUNCTION';
  const name = struct(fields, 'func');
  definesObject(walk, type.toLowerCase(), name);
  escalations(walk, list(fields, 'actions'), type.toLowerCase(), name);
  return `ALTER ${type}`;
};

/** What DO and CREATE EXTENSION run is text: it may do anything. */
const doBlock: Handler = (walk) => {
  walk.found.effect('Execute', 'do');
  walk.found.opaque('Read', 'Write', 'Define', 'Grant');
  return 'DO';
};

const call: Handler = (walk, fields, scope) => {
  const target = struct(fields, 'funccall');
  const [schema, name] = qualified(nameParts(target?.funcname));
  walk.found.executes(schema, name);
  walkAll(walk, list(target, 'args'), scope);
  return 'CALL';
};

const publicationObjects = (walk: Walk, fields: Fields, scope: Scope): void => {
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

const maintenance =
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

const reindex: Handler = (walk, fields) => {
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

const aboutObject =
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

const one = (field: string) => (fields: Fields) => fields[field];

const HANDLERS: Readonly<Record<string, Handler>> = {
  SelectStmt: selectStatement,
  InsertStmt: insert,
  UpdateStmt: update,
  DeleteStmt: remove,
  MergeStmt: merge,
  CreateTableAsStmt: createTableAs,
  ExplainStmt: explain,
  CopyStmt: copy,

  TransactionStmt: transaction,
  VariableSetStmt: set,
  VariableShowStmt: (walk) => {
    walk.found.effect('Read');
    return 'SHOW';
  },
  DiscardStmt: (walk, fields) => {
    const target = text(fields, 'target') ?? 'DISCARD_ALL';
    const tag = DISCARDS[target];
    if (tag === undefined) throw new NotUnderstood('the DISCARD is not known');
    if (target === 'DISCARD_ALL') walk.found.session = { kind: 'DiscardAll' };
    walk.found.effect('Session');
    return tag;
  },
  PrepareStmt: (walk, fields, scope) => {
    inner(walk, fields.query, scope);
    for (const type of list(fields, 'argtypes')) walkNode(walk, type, scope);
    walk.found.session = { kind: 'Prepare', name: text(fields, 'name') ?? '' };
    return 'PREPARE';
  },
  ExecuteStmt: (walk, fields, scope) => {
    walk.found.session = { kind: 'Execute', name: text(fields, 'name') ?? '' };
    walk.found.effect('Session');
    walkAll(walk, list(fields, 'params'), scope);
    return 'EXECUTE';
  },
  DeallocateStmt: (walk, fields) => {
    const name = text(fields, 'name');
    walk.found.session = { kind: 'Deallocate', name };
    walk.found.effect('Session');
    return name === undefined ? 'DEALLOCATE ALL' : 'DEALLOCATE';
  },
  DeclareCursorStmt: (walk, fields, scope) => {
    inner(walk, fields.query, scope);
    walk.found.session = { kind: 'Declare', cursor: text(fields, 'portalname') ?? '' };
    return 'DECLARE CURSOR';
  },
  FetchStmt: (walk, fields) => {
    walk.found.session = { kind: 'Fetch', cursor: text(fields, 'portalname') ?? '' };
    walk.found.effect('Session');
    return flag(fields, 'ismove') ? 'MOVE' : 'FETCH';
  },
  ClosePortalStmt: (walk, fields) => {
    const cursor = text(fields, 'portalname');
    walk.found.session = { kind: 'CloseCursor', cursor };
    walk.found.effect('Session');
    return cursor === undefined ? 'CLOSE CURSOR ALL' : 'CLOSE CURSOR';
  },
  ListenStmt: (walk, fields) => {
    walk.found.session = { kind: 'Listen' };
    walk.found.effect('Session', 'listen', text(fields, 'conditionname') ?? '*');
    return 'LISTEN';
  },
  UnlistenStmt: (walk) => {
    walk.found.session = { kind: 'Unlisten' };
    walk.found.effect('Session');
    return 'UNLISTEN';
  },
  NotifyStmt: (walk) => {
    walk.found.session = { kind: 'Notify' };
    walk.found.executes('pg_catalog', 'pg_notify');
    return 'NOTIFY';
  },
  ConstraintsSetStmt: (walk) => {
    walk.found.effect('Session');
    return 'SET CONSTRAINTS';
  },
  LockStmt: (walk, fields) => {
    // ACCESS SHARE (mode 1) is what a read takes.
    const access = number(fields, 'mode') === 1 ? 'Read' : 'Write';
    for (const target of list(fields, 'relations')) {
      const [schema, name] = qualified(nameParts(target));
      walk.found.relation(access, schema, name);
    }
    return 'LOCK TABLE';
  },

  TruncateStmt: (walk, fields) => {
    for (const target of list(fields, 'relations')) {
      const [schema, name] = qualified(nameParts(target));
      walk.found.relation('Write', schema, name);
    }
    if (text(fields, 'behavior') === 'DROP_CASCADE') walk.found.relation('Write', undefined, '*');
    walk.found.unbounded = true;
    return 'TRUNCATE TABLE';
  },
  VacuumStmt: maintenance(
    (fields) => (flag(fields, 'is_vacuumcmd') ? 'VACUUM' : 'ANALYZE'),
    (fields) => list(fields, 'rels').flatMap((target) => as(target, 'VacuumRelation')?.relation ?? []),
  ),
  ClusterStmt: maintenance(
    () => 'CLUSTER',
    (fields) => (fields.relation === undefined ? [] : [fields.relation]),
  ),
  ReindexStmt: reindex,
  RefreshMatViewStmt: maintenance(
    () => 'REFRESH MATERIALIZED VIEW',
    (fields) => [fields.relation],
  ),
  CheckPointStmt: (walk) => {
    walk.found.effect('Execute', 'checkpoint');
    return 'CHECKPOINT';
  },
  LoadStmt: (walk, fields) => {
    walk.found.effect('Execute', 'library', text(fields, 'filename') ?? '*');
    return 'LOAD';
  },
  DoStmt: doBlock,
  CallStmt: call,

  GrantStmt: grant,
  GrantRoleStmt: roles(
    (fields) => (flag(fields, 'is_grant') ? 'GRANT ROLE' : 'REVOKE ROLE'),
    (fields) => list(fields, 'granted_roles'),
  ),
  AlterDefaultPrivilegesStmt: (walk) => {
    walk.found.relation('Grant', undefined, '*');
    return 'ALTER DEFAULT PRIVILEGES';
  },
  CreateRoleStmt: roles(
    () => 'CREATE ROLE',
    (fields) => [text(fields, 'role') ?? '*'],
  ),
  AlterRoleStmt: roles(
    () => 'ALTER ROLE',
    (fields) => [fields.role],
  ),
  AlterRoleSetStmt: roles(
    () => 'ALTER ROLE',
    (fields) => (fields.role === undefined ? [] : [fields.role]),
  ),
  DropRoleStmt: roles(
    () => 'DROP ROLE',
    (fields) => list(fields, 'roles'),
  ),
  DropOwnedStmt: (walk) => {
    walk.found.relation('Define', undefined, '*');
    walk.found.relation('Grant', undefined, '*');
    return 'DROP OWNED';
  },
  ReassignOwnedStmt: (walk) => {
    walk.found.relation('Define', undefined, '*');
    walk.found.relation('Grant', undefined, '*');
    return 'REASSIGN OWNED';
  },
  CreateUserMappingStmt: define('CREATE USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  AlterUserMappingStmt: define('ALTER USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  DropUserMappingStmt: define('DROP USER MAPPING', 'user mapping', one('servername'), 'Grant'),
  CreatePolicyStmt: onRelation('CREATE POLICY', 'table', 'Grant'),
  AlterPolicyStmt: onRelation('ALTER POLICY', 'table', 'Grant'),
  SecLabelStmt: aboutObject('SECURITY LABEL', 'Grant'),
  CommentStmt: aboutObject('COMMENT', 'Define'),

  CreateStmt: createTable('CREATE TABLE'),
  CreateForeignTableStmt: (walk, fields, scope) => {
    createTable('CREATE TABLE')(walk, struct(fields, 'base') ?? {}, scope);
    walk.found.effect('Execute', 'server', text(fields, 'servername') ?? '*');
    return 'CREATE FOREIGN TABLE';
  },
  AlterTableStmt: alterTable,
  AlterTableMoveAllStmt: (walk, fields) => {
    walk.found.relation('Define', undefined, '*');
    return `ALTER ${OBJECT_NAMES[text(fields, 'objtype') ?? ''] ?? 'TABLE'}`;
  },
  IndexStmt: indexStatement,
  ViewStmt: view,
  CreateTrigStmt: trigger,
  RuleStmt: rule,
  CreateSchemaStmt: createSchema,
  CreateSeqStmt: onRelation('CREATE SEQUENCE', 'sequence'),
  AlterSeqStmt: onRelation('ALTER SEQUENCE', 'sequence'),
  CreateStatsStmt: (walk, fields, scope) => {
    for (const target of list(fields, 'relations')) defines(walk, target);
    const inside = childScope(scope);
    fromClause(walk, list(fields, 'relations'), inside);
    for (const expression of list(fields, 'exprs')) walkNode(walk, as(expression, 'StatsElem')?.expr, inside);
    return 'CREATE STATISTICS';
  },
  AlterStatsStmt: define('ALTER STATISTICS', 'statistics', one('defnames')),
  CompositeTypeStmt: (walk, fields, scope) => {
    definesObject(walk, 'type', fields.typevar);
    walkAll(walk, list(fields, 'coldeflist'), scope);
    return 'CREATE TYPE';
  },
  CreateEnumStmt: define('CREATE TYPE', 'type', one('typeName')),
  CreateRangeStmt: define('CREATE TYPE', 'type', one('typeName')),
  AlterEnumStmt: define('ALTER TYPE', 'type', one('typeName')),
  AlterTypeStmt: define('ALTER TYPE', 'type', one('typeName')),
  CreateDomainStmt: define('CREATE DOMAIN', 'domain', one('domainname')),
  AlterDomainStmt: define('ALTER DOMAIN', 'domain', one('typeName')),
  DefineStmt: (walk, fields) => {
    const name = OBJECT_NAMES[text(fields, 'kind') ?? ''];
    if (name === undefined) throw new NotUnderstood('what is created is not known');
    definesObject(walk, name.toLowerCase(), fields.defnames);
    return `CREATE ${name}`;
  },
  CreateFunctionStmt: createFunction,
  AlterFunctionStmt: alterFunction,
  CreateCastStmt: (walk, fields) => {
    definesObject(walk, 'cast', fields.targettype);
    return 'CREATE CAST';
  },
  CreateTransformStmt: define('CREATE TRANSFORM', 'transform', one('lang')),
  CreateConversionStmt: define('CREATE CONVERSION', 'conversion', one('conversion_name')),
  CreateOpClassStmt: (walk, fields) => {
    definesObject(walk, 'operator class', fields.opclassname);
    return 'CREATE OPERATOR CLASS';
  },
  CreateOpFamilyStmt: define('CREATE OPERATOR FAMILY', 'operator family', one('opfamilyname')),
  AlterOpFamilyStmt: (walk, fields) => {
    definesObject(walk, 'operator family', fields.opfamilyname);
    return 'ALTER OPERATOR FAMILY';
  },
  AlterOperatorStmt: (walk, fields) => {
    definesObject(walk, 'operator', struct(fields, 'opername'));
    return 'ALTER OPERATOR';
  },
  AlterCollationStmt: define('ALTER COLLATION', 'collation', one('collname')),
  AlterTSDictionaryStmt: define('ALTER TEXT SEARCH DICTIONARY', 'text search dictionary', one('dictname')),
  AlterTSConfigurationStmt: define('ALTER TEXT SEARCH CONFIGURATION', 'text search configuration', one('cfgname')),
  CreateAmStmt: define('CREATE ACCESS METHOD', 'access method', one('amname'), 'Execute'),
  CreatePLangStmt: define('CREATE LANGUAGE', 'language', one('plname'), 'Execute'),
  CreateEventTrigStmt: define('CREATE EVENT TRIGGER', 'event trigger', one('trigname'), 'Grant'),
  AlterEventTrigStmt: define('ALTER EVENT TRIGGER', 'event trigger', one('trigname'), 'Grant'),
  CreateExtensionStmt: define('CREATE EXTENSION', 'extension', one('extname'), 'Execute'),
  AlterExtensionStmt: define('ALTER EXTENSION', 'extension', one('extname'), 'Execute'),
  AlterExtensionContentsStmt: (walk, fields) => {
    definesObject(walk, 'extension', fields.extname);
    if (RELATION_OBJECTS.has(text(fields, 'objtype') ?? '')) defines(walk, fields.object);
    return 'ALTER EXTENSION';
  },
  CreateFdwStmt: define('CREATE FOREIGN DATA WRAPPER', 'foreign data wrapper', one('fdwname'), 'Execute'),
  AlterFdwStmt: define('ALTER FOREIGN DATA WRAPPER', 'foreign data wrapper', one('fdwname'), 'Execute'),
  CreateForeignServerStmt: define('CREATE SERVER', 'server', one('servername'), 'Execute'),
  AlterForeignServerStmt: define('ALTER SERVER', 'server', one('servername'), 'Execute'),
  ImportForeignSchemaStmt: (walk, fields) => {
    walk.found.relation('Define', text(fields, 'local_schema'), '*');
    walk.found.effect('Execute', 'server', text(fields, 'server_name') ?? '*');
    return 'IMPORT FOREIGN SCHEMA';
  },
  CreatePublicationStmt: (walk, fields, scope) => {
    definesObject(walk, 'publication', fields.pubname);
    publicationObjects(walk, fields, scope);
    return 'CREATE PUBLICATION';
  },
  AlterPublicationStmt: (walk, fields, scope) => {
    definesObject(walk, 'publication', fields.pubname);
    publicationObjects(walk, fields, scope);
    return 'ALTER PUBLICATION';
  },
  CreateSubscriptionStmt: define('CREATE SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  AlterSubscriptionStmt: define('ALTER SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  DropSubscriptionStmt: define('DROP SUBSCRIPTION', 'subscription', one('subname'), 'Execute'),
  CreateTableSpaceStmt: define('CREATE TABLESPACE', 'tablespace', one('tablespacename'), 'Execute'),
  DropTableSpaceStmt: define('DROP TABLESPACE', 'tablespace', one('tablespacename')),
  AlterTableSpaceOptionsStmt: define('ALTER TABLESPACE', 'tablespace', one('tablespacename')),
  CreatedbStmt: define('CREATE DATABASE', 'database', one('dbname')),
  DropdbStmt: define('DROP DATABASE', 'database', one('dbname')),
  AlterDatabaseStmt: define('ALTER DATABASE', 'database', one('dbname')),
  AlterDatabaseRefreshCollStmt: define('ALTER DATABASE', 'database', one('dbname')),
  AlterDatabaseSetStmt: (walk, fields) => {
    definesObject(walk, 'database', fields.dbname);
    walk.found.effect('Grant', 'database', text(fields, 'dbname') ?? '*');
    return 'ALTER DATABASE';
  },
  AlterSystemStmt: (walk, fields) => {
    const name = text(struct(fields, 'setstmt'), 'name') ?? '*';
    walk.found.effect('Define', 'system', name);
    walk.found.effect('Grant', 'system', name);
    return 'ALTER SYSTEM';
  },
  DropStmt: drop,
  RenameStmt: alterObject('renameType'),
  AlterObjectSchemaStmt: alterObject('objectType'),
  AlterOwnerStmt: alterObject('objectType', 'Grant'),
  AlterObjectDependsStmt: alterObject('objectType'),
};
