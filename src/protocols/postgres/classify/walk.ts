// Walks the queries and expressions of a parse tree: relations, columns, functions, effects. A node kind that is not
// known here makes the whole statement not understood. Names are resolved as far as the text allows: CTEs and aliases
// are, the catalog is not. A column is said of every relation it may belong to.
//
// Not seen, because only the database knows: what views, triggers, rules, row security, domains, operators and implicit
// casts run; a function called as if it were a column (`row.function`).
import { BUILTIN_TYPES, INFORMATION_TYPES } from './builtins.generated.ts';
import { type Findings, NotUnderstood } from './findings.ts';
import { functionKind } from './functions.ts';
import { childScope, type Item, type Scope, visibleCte } from './scope.ts';
import { as, constantText, type Fields, flag, list, nameParts, stringOf, struct, text, unwrap } from './tree.ts';
import { trivial } from './trivial.ts';

/** Levels of nodes. Deeper trees are refused before this code or the analyses after it run out of stack. */
const DEPTH = 1200;

export interface Walk {
  found: Findings;
  depth: number;
  /** What `name` is in the target list of `… from pg_settings where name = '…'`: how pg_dump sets what a server may not have. */
  settingName?: string | undefined;
  /** Handles a statement inside a statement (CTEs, rules, schemas); returns its tag. */
  statement(walk: Walk, node: unknown, scope: Scope): string;
}

/** Expression and clause nodes with nothing to judge but their parts. */
const PLAIN = new Set(
  `A_ArrayExpr A_Const A_Indices A_Indirection A_Star Alias BitString Boolean BooleanTest BoolExpr CaseExpr CaseTestExpr
  CaseWhen CoalesceExpr CollateClause CurrentOfExpr Float GroupingFunc GroupingSet IndexElem InferClause
  InferenceElem Integer JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor
  JsonBehavior JsonFormat JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput
  JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr
  List MergeSupportFunc MinMaxExpr MultiAssignRef NamedArgExpr NullTest ParamRef RangeTableFunc RangeTableFuncCol
  RoleSpec RowExpr SQLValueFunction SetToDefault String WindowDef XmlExpr XmlSerialize DefElem
  ReturningOption TableFunc CTESearchClause CTECycleClause FunctionParameter PartitionBoundSpec PartitionSpec PartitionElem
  PartitionRangeDatum ATAlterConstraint StatsElem`.split(/\s+/),
);

export function walkAll(walk: Walk, nodes: readonly unknown[], scope: Scope): void {
  for (const node of nodes) walkNode(walk, node, scope);
}

/** Any wrapped node, unwrapped struct or list of them. */
export function walkNode(walk: Walk, value: unknown, scope: Scope): void {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const each of value) walkNode(walk, each, scope);
    return;
  }
  if (++walk.depth > DEPTH) throw new NotUnderstood('the statement is nested too deeply');
  const node = unwrap(value);
  if (node === undefined) walkStruct(walk, value as Fields, scope);
  else walkKind(walk, node.kind, node.fields, value, scope);
  walk.depth--;
}

function walkStruct(walk: Walk, fields: Fields, scope: Scope): void {
  if ('relname' in fields) relation(walk, fields, scope, 'Read');
  else if ('names' in fields && 'typemod' in fields) typeName(walk, fields, scope);
  else walkFields(walk, fields, scope);
}

export function walkFields(walk: Walk, fields: Fields, scope: Scope): void {
  for (const key in fields) {
    const value = fields[key];
    if (typeof value === 'object' && value !== null) walkNode(walk, value, scope);
  }
}

function walkKind(walk: Walk, kind: string, fields: Fields, node: unknown, scope: Scope): void {
  switch (kind) {
    case 'SelectStmt':
      select(walk, fields, scope);
      return;
    case 'SubLink':
      operatorName(walk, list(fields, 'operName'));
      walkNode(walk, fields.testexpr, scope);
      walkNode(walk, fields.subselect, scope);
      return;
    case 'ColumnRef':
      columnReference(walk, fields, scope);
      return;
    case 'FuncCall':
      functionCall(walk, fields, scope);
      return;
    case 'TypeCast':
      walkNode(walk, fields.arg, scope);
      typeName(walk, struct(fields, 'typeName') ?? {}, scope);
      return;
    case 'TypeName':
      typeName(walk, fields, scope);
      return;
    case 'A_Expr':
      operatorName(walk, list(fields, 'name'));
      walkNode(walk, fields.lexpr, scope);
      walkNode(walk, fields.rexpr, scope);
      return;
    case 'SortBy':
      operatorName(walk, list(fields, 'useOp'));
      walkNode(walk, fields.node, scope);
      return;
    case 'ResTarget':
      walkNode(walk, fields.val, scope);
      walkAll(walk, list(fields, 'indirection'), scope);
      return;
    case 'RangeVar':
      relation(walk, fields, scope, 'Read');
      return;
    case 'RangeSubselect':
      walkNode(walk, fields.subquery, scope);
      return;
    case 'RangeFunction':
      walkAll(walk, list(fields, 'functions'), scope);
      walkAll(walk, list(fields, 'coldeflist'), scope);
      return;
    case 'ColumnDef':
      typeName(walk, struct(fields, 'typeName') ?? {}, scope);
      walkNode(walk, fields.raw_default, scope);
      walkAll(walk, list(fields, 'constraints'), scope);
      return;
    case 'RangeTableSample': {
      walkNode(walk, fields.relation, scope);
      const [schema, name] = qualified(nameParts(fields.method));
      called(walk, schema, name, []);
      walkAll(walk, list(fields, 'args'), scope);
      walkNode(walk, fields.repeatable, scope);
      return;
    }
    case 'Constraint': {
      // A foreign key puts triggers on the table it refers to, and keeps its rows from being deleted.
      const referred = struct(fields, 'pktable');
      if (referred) walk.found.relation('Define', text(referred, 'schemaname'), text(referred, 'relname') ?? '');
      walkNode(walk, fields.raw_expr, scope);
      walkNode(walk, fields.where_clause, scope);
      walkAll(walk, list(fields, 'exclusions'), scope);
      return;
    }
    case 'JoinExpr':
      join(walk, fields, scope);
      return;
    case 'WithClause':
      withClause(walk, fields, scope);
      return;
    default:
      if (PLAIN.has(kind)) walkFields(walk, fields, scope);
      else if (kind.endsWith('Stmt')) walk.found.inner.push(walk.statement(walk, node, scope));
      else throw new NotUnderstood(`its ${kind} is not known`);
  }
}

export function qualified(parts: readonly string[]): [schema: string | undefined, name: string] {
  return [parts.length > 1 ? parts[parts.length - 2] : undefined, parts[parts.length - 1] ?? ''];
}

/** A relation in a place where CTE names count. */
function relation(walk: Walk, fields: Fields, scope: Scope, access: 'Read' | 'Write'): void {
  const schema = text(fields, 'schemaname');
  const name = text(fields, 'relname') ?? '';
  if (schema === undefined && visibleCte(scope, name)) return;
  walk.found.relation(access, schema, name);
}

function typeName(walk: Walk, fields: Fields, scope: Scope): void {
  const [schema, name] = qualified(nameParts(fields.names));
  walkAll(walk, list(fields, 'typmods'), scope);
  if (name === '' || flag(fields, 'pct_type')) return;
  const known =
    schema === undefined || schema === 'pg_catalog'
      ? BUILTIN_TYPES.has(name)
      : schema === 'information_schema' && INFORMATION_TYPES.has(name);
  if (!known) walk.found.mention(schema, name);
}

/** OPERATOR(schema.op): of pg_catalog it is what the plain operator means; of another schema it is a call. */
function operatorName(walk: Walk, name: readonly unknown[]): void {
  if (name.length < 2) return;
  const [schema, operator] = qualified(nameParts(name));
  if (schema !== 'pg_catalog') walk.found.executes(schema, operator);
}

function functionCall(walk: Walk, fields: Fields, scope: Scope): void {
  const [schema, name] = qualified(nameParts(fields.funcname));
  called(walk, schema, name, list(fields, 'args'));
  walkAll(walk, list(fields, 'args'), scope);
  walkAll(walk, list(fields, 'agg_order'), scope);
  walkNode(walk, fields.agg_filter, scope);
  walkNode(walk, fields.over, scope);
}

function called(walk: Walk, schema: string | undefined, name: string, args: readonly unknown[]): void {
  const { found } = walk;
  switch (functionKind(schema, name)) {
    case 'Harmless':
      found.mention(schema, name);
      return;
    case 'Setting': {
      found.mention(schema, name);
      const pinned = nameParts(as(args[0], 'ColumnRef')?.fields).join('.') === 'name' ? walk.settingName : undefined;
      const setting = args.length === 3 ? (pinned ?? constantText(args[0])) : undefined;
      found.setting((setting ?? '*').toLowerCase(), setting === undefined ? undefined : constantText(args[1]));
      return;
    }
    case 'Sequence': {
      found.mention(schema, name);
      const parts = sequenceName(args[0]);
      if (parts === undefined) found.relation('Write', undefined, '*');
      else found.relation('Write', parts.length > 1 ? parts[0] : undefined, parts[parts.length - 1] ?? '*');
      return;
    }
    case 'ReadsByText':
      found.executes(schema, name);
      found.opaque('Read');
      return;
    case 'Guarded':
    case 'Unknown':
      found.executes(schema, name);
      return;
  }
}

/** The name inside `nextval('"Odd".orders_id_seq'::regclass)`; undefined unless it is a plain constant. */
function sequenceName(argument: unknown): string[] | undefined {
  const value = constantText(argument);
  if (value === undefined) return undefined;
  const parts: string[] = [];
  let at = 0;
  while (at <= value.length) {
    if (value[at] === '"') {
      const end = value.indexOf('"', at + 1);
      if (end < 0) return undefined;
      parts.push(value.slice(at + 1, end));
      at = end + 1;
    } else {
      const dot = value.indexOf('.', at);
      const end = dot < 0 ? value.length : dot;
      parts.push(value.slice(at, end).trim().toLowerCase());
      at = end;
    }
    if (at < value.length && value[at] !== '.') return undefined;
    at++;
  }
  return parts.length > 2 || parts.some((part) => part === '' || part.includes('"')) ? undefined : parts;
}

function columnReference(walk: Walk, fields: Fields, scope: Scope): void {
  const parts = nameParts(fields.fields);
  const column = parts[parts.length - 1] ?? '*';
  if (parts.length > 1) {
    const schema = parts.length > 2 ? parts[parts.length - 3] : undefined;
    const known = itemsNamed(scope, parts[parts.length - 2] ?? '', schema);
    // An alias of nothing in sight (or of a whole row: `(a).b`) may be any relation's.
    if (known.length === 0) walk.found.column(undefined, column);
    for (const item of known) mention(walk, item, column);
    return;
  }
  if (column === '*') {
    for (const item of scope.items) mention(walk, item, '*');
    return;
  }
  // The name of a FROM item alone is its whole row, unless a column is called so.
  for (const item of itemsNamed(scope, column, undefined)) mention(walk, item, '*');
  let any = false;
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    for (const item of at.items) {
      any = true;
      mention(walk, item, column);
    }
  }
  if (!any) walk.found.column(undefined, column);
}

/** A name with a schema means a relation that has no alias; one without a schema means an alias or such a relation. */
function itemsNamed(scope: Scope, name: string, schema: string | undefined): Item[] {
  const items: Item[] = [];
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    for (const item of at.items) {
      if (item.name !== name) continue;
      if (schema !== undefined && item.relations.some((use) => use.schema !== undefined && use.schema !== schema)) {
        continue;
      }
      items.push(item);
    }
  }
  return items;
}

function mention(walk: Walk, item: Item, column: string): void {
  if (item.target) item.read = true;
  for (const use of item.relations) walk.found.column(use, item.renamed ? '*' : column);
}

/** What a FROM item brings into scope, before its expressions are walked. */
export function collect(node: unknown, scope: Scope, into: Item[]): void {
  const wrapped = unwrap(node);
  if (wrapped === undefined) return;
  const { kind, fields } = wrapped;
  const alias = struct(fields, 'alias');
  const name = text(alias, 'aliasname');
  const renamed = list(alias, 'colnames').length > 0;
  switch (kind) {
    case 'RangeVar': {
      const schema = text(fields, 'schemaname');
      const relname = text(fields, 'relname') ?? '';
      const cte = schema === undefined && visibleCte(scope, relname);
      const use = schema === undefined ? { name: relname } : { schema, name: relname };
      into.push({ name: name ?? relname, relations: cte ? [] : [use], renamed, target: false, read: false });
      return;
    }
    case 'RangeTableSample':
      collect(fields.relation, scope, into);
      return;
    case 'JoinExpr': {
      const inside: Item[] = [];
      collect(fields.larg, scope, inside);
      collect(fields.rarg, scope, inside);
      into.push(...inside);
      for (const each of [alias, struct(fields, 'join_using_alias')]) {
        const joined = text(each, 'aliasname');
        if (joined === undefined) continue;
        const relations = inside.flatMap((item) => item.relations);
        const renames = list(each, 'colnames').length > 0 || inside.some((item) => item.renamed);
        into.push({ name: joined, relations, renamed: renames, target: false, read: false });
      }
      return;
    }
    default:
      // Subqueries and functions: what they read is found where they are walked.
      into.push({ name: name ?? '', relations: [], renamed: false, target: false, read: false });
  }
}

function join(walk: Walk, fields: Fields, scope: Scope): void {
  walkNode(walk, fields.larg, scope);
  walkNode(walk, fields.rarg, scope);
  const using = list(fields, 'usingClause');
  if (using.length > 0 || flag(fields, 'isNatural')) {
    const inside: Item[] = [];
    collect(fields.larg, scope, inside);
    collect(fields.rarg, scope, inside);
    for (const item of inside) {
      if (flag(fields, 'isNatural')) mention(walk, item, '*');
      for (const column of using) mention(walk, item, stringOf(column) ?? '*');
    }
  }
  walkNode(walk, fields.quals, scope);
}

export function fromClause(walk: Walk, nodes: readonly unknown[], scope: Scope): void {
  for (const node of nodes) collect(node, scope, scope.items);
  walkAll(walk, nodes, scope);
}

/** Adds the CTEs to the scope and walks their statements. */
export function withClause(walk: Walk, clause: Fields | undefined, scope: Scope): void {
  if (clause === undefined) return;
  const ctes = list(clause, 'ctes').map((node) => as(node, 'CommonTableExpr') ?? {});
  if (flag(clause, 'recursive')) {
    for (const cte of ctes) scope.ctes.add(text(cte, 'ctename') ?? '');
  }
  for (const cte of ctes) {
    const inside = childScope(scope);
    const query = unwrap(cte.ctequery);
    if (query === undefined) throw new NotUnderstood('a WITH query is missing');
    if (query.kind === 'SelectStmt') select(walk, query.fields, inside);
    else walk.found.inner.push(walk.statement(walk, cte.ctequery, inside));
    scope.ctes.add(text(cte, 'ctename') ?? '');
  }
}

export function select(walk: Walk, fields: Fields, outer: Scope, locked = false): void {
  if (++walk.depth > DEPTH) throw new NotUnderstood('the statement is nested too deeply');
  const scope = childScope(outer);
  withClause(walk, struct(fields, 'withClause'), scope);
  const into = struct(fields, 'intoClause');
  if (into) intoClause(walk, into, scope);
  const op = text(fields, 'op');
  if (op !== undefined && op !== 'SETOP_NONE') {
    select(walk, struct(fields, 'larg') ?? {}, scope, locked);
    select(walk, struct(fields, 'rarg') ?? {}, scope, locked);
    // Sorted by output names and positions only.
    for (const sort of list(fields, 'sortClause')) {
      if (as(as(sort, 'SortBy')?.node, 'ColumnRef') === undefined) walkNode(walk, sort, scope);
    }
    walkNode(walk, fields.limitOffset, scope);
    walkNode(walk, fields.limitCount, scope);
  } else {
    fromClause(walk, list(fields, 'fromClause'), scope);
    walkAll(walk, list(fields, 'valuesLists'), scope);
    const outside = walk.settingName;
    walk.settingName = settingName(fields);
    walkAll(walk, list(fields, 'targetList'), scope);
    walk.settingName = outside;
    walkAll(walk, list(fields, 'distinctClause'), scope);
    walkNode(walk, fields.whereClause, scope);
    walkAll(walk, list(fields, 'groupClause'), scope);
    walkNode(walk, fields.havingClause, scope);
    walkAll(walk, list(fields, 'windowClause'), scope);
    const outputs = new Set(list(fields, 'targetList').map((target) => text(as(target, 'ResTarget'), 'name') ?? ''));
    for (const sort of list(fields, 'sortClause')) {
      // ORDER BY prefers an output's name to a column's.
      const bare = nameParts(as(as(sort, 'SortBy')?.node, 'ColumnRef')?.fields);
      if (bare.length === 1 && outputs.has(bare[0] ?? '')) continue;
      walkNode(walk, sort, scope);
    }
    walkNode(walk, fields.limitOffset, scope);
    walkNode(walk, fields.limitCount, scope);
  }
  lockingClause(walk, fields, scope, locked);
  walk.depth--;
}

function settingName(fields: Fields): string | undefined {
  const from = list(fields, 'fromClause');
  const only = from.length === 1 ? as(from[0], 'RangeVar') : undefined;
  if (only === undefined || text(only, 'relname') !== 'pg_settings' || only.alias !== undefined) return undefined;
  const schema = text(only, 'schemaname');
  if (schema !== undefined && schema !== 'pg_catalog') return undefined;
  const where = as(fields.whereClause, 'A_Expr');
  if (where === undefined || text(where, 'kind') !== 'AEXPR_OP' || nameParts(where.name).join() !== '=')
    return undefined;
  if (nameParts(as(where.lexpr, 'ColumnRef')?.fields).join('.') !== 'name') return undefined;
  return constantText(where.rexpr);
}

/** FOR UPDATE and its kin need UPDATE privilege and keep others waiting: writes to what they lock. */
function lockingClause(walk: Walk, fields: Fields, scope: Scope, locked: boolean): void {
  const clauses = list(fields, 'lockingClause').map((clause) => as(clause, 'LockingClause') ?? {});
  if (clauses.length === 0 && !locked) return;
  const names = clauses.flatMap((clause) =>
    list(clause, 'lockedRels').map((name) => text(as(name, 'RangeVar'), 'relname')),
  );
  const everything = locked || clauses.some((clause) => list(clause, 'lockedRels').length === 0);
  for (const node of list(fields, 'fromClause')) lockItem(walk, node, scope, everything ? undefined : names);
}

function lockItem(walk: Walk, node: unknown, scope: Scope, names: readonly (string | undefined)[] | undefined): void {
  const wrapped = unwrap(node);
  if (wrapped === undefined) return;
  const { kind, fields } = wrapped;
  const alias = text(struct(fields, 'alias'), 'aliasname');
  const matches = (name: string | undefined) => names === undefined || names.includes(name);
  if (kind === 'RangeVar') {
    if (matches(alias ?? text(fields, 'relname'))) relation(walk, fields, scope, 'Write');
  } else if (kind === 'JoinExpr') {
    lockItem(walk, fields.larg, scope, names);
    lockItem(walk, fields.rarg, scope, names);
  } else if (kind === 'RangeTableSample') {
    lockItem(walk, fields.relation, scope, names);
  } else if (kind === 'RangeSubselect' && matches(alias)) {
    const query = as(fields.subquery, 'SelectStmt');
    if (query) lockQuery(walk, query, scope);
  }
}

function lockQuery(walk: Walk, query: Fields, outer: Scope): void {
  const scope = childScope(outer);
  for (const cte of list(struct(query, 'withClause'), 'ctes')) {
    scope.ctes.add(text(as(cte, 'CommonTableExpr'), 'ctename') ?? '');
  }
  for (const side of ['larg', 'rarg']) {
    const inner = struct(query, side);
    if (inner) lockQuery(walk, inner, scope);
  }
  for (const node of list(query, 'fromClause')) lockItem(walk, node, scope, undefined);
}

/** SELECT INTO, CREATE TABLE AS, CREATE MATERIALIZED VIEW: a new relation. */
export function intoClause(walk: Walk, into: Fields, scope: Scope): void {
  const target = struct(into, 'rel');
  if (target === undefined) throw new NotUnderstood('the new table has no name');
  walk.found.relation('Define', text(target, 'schemaname'), text(target, 'relname') ?? '');
  walkAll(walk, list(into, 'options'), scope);
}

/** The target of INSERT, UPDATE, DELETE, MERGE: CTE names do not count there. */
export function dmlTarget(walk: Walk, target: Fields | undefined, aliases: readonly string[]): Item[] {
  if (target === undefined) throw new NotUnderstood('its target is missing');
  const schema = text(target, 'schemaname');
  const name = text(target, 'relname') ?? '';
  walk.found.relation('Write', schema, name);
  const use = schema === undefined ? { name } : { schema, name };
  const alias = text(struct(target, 'alias'), 'aliasname') ?? name;
  return [alias, ...aliases].map((each) => ({
    name: each,
    relations: [use],
    renamed: false,
    target: true,
    read: false,
  }));
}

/** Columns that are assigned: not reads. */
export function assignments(walk: Walk, targets: readonly unknown[], item: Item, scope: Scope): void {
  for (const node of targets) {
    const target = as(node, 'ResTarget');
    if (target === undefined) throw new NotUnderstood('an assignment is not known');
    for (const use of item.relations) walk.found.column(use, text(target, 'name') ?? '*');
    walkAll(walk, list(target, 'indirection'), scope);
    walkNode(walk, target.val, scope);
  }
}

/** Reading a target's columns, in WHERE, RETURNING or an expression, is a read of it, as it is for PostgreSQL's privileges. */
export function readTargets(walk: Walk, items: readonly Item[]): void {
  for (const item of items) {
    if (!item.read) continue;
    for (const use of item.relations) walk.found.relation('Read', use.schema, use.name);
  }
}

export function unboundedWhere(where: unknown): boolean {
  return where === undefined || trivial(where);
}
