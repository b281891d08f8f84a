// Queries, DML, and what wraps them: EXPLAIN, COPY, CREATE TABLE AS.
import { NotUnderstood } from './findings.ts';
import { type Handler, inner } from './handlers.ts';
import { childScope, type Scope } from './scope.ts';
import { assignments, dmlTarget, readTargets, unboundedWhere } from './targets.ts';
import { as, type Fields, flag, list, nameParts, number, stringOf, struct, text, unwrap } from './tree.ts';
import { trivial } from './trivial.ts';
import { fromClause, intoClause, select, type Walk, walkAll, walkNode, withClause } from './walk.ts';

export const selectStatement: Handler = (walk, fields, scope) => {
  select(walk, fields, scope);
  return struct(fields, 'intoClause') ? 'SELECT INTO' : 'SELECT';
};

export const insert: Handler = (walk, fields, outer) => {
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
    for (const element of list(struct(conflict, 'infer'), 'indexElems')) {
      const column = text(as(element, 'IndexElem'), 'name');
      if (column !== undefined) for (const use of target.relations) walk.found.column(use, column);
    }
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

export const update: Handler = (walk, fields, outer) => {
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

export const remove: Handler = (walk, fields, outer) => {
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

export const merge: Handler = (walk, fields, outer) => {
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

export const createTableAs: Handler = (walk, fields, scope) => {
  intoClause(walk, struct(fields, 'into') ?? {}, scope);
  const query = unwrap(fields.query);
  if (query?.kind === 'SelectStmt') select(walk, query.fields, scope);
  else inner(walk, fields.query, scope); // CREATE TABLE AS EXECUTE
  return text(fields, 'objtype') === 'OBJECT_MATVIEW' ? 'CREATE MATERIALIZED VIEW' : 'CREATE TABLE AS';
};

/** Plain EXPLAIN plans: it reads what its statement reads or writes, and runs the functions that planning folds. */
export const explain: Handler = (walk, fields, scope) => {
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

export const copy: Handler = (walk, fields, scope) => {
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
