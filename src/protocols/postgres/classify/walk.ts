// Walks the queries and expressions of a parse tree: relations, columns, functions, effects. A node kind that is not
// known here makes the whole statement not understood. Names are resolved as far as the text allows: CTEs and aliases
// are, the catalog is not. A column is said of every relation it may belong to.
//
// Not seen, because only the database knows: what views, triggers, rules, row security, domains, operators and implicit
// casts run; a function called as if it were a column (`row.function`).
import { BUILTIN_TYPES, INFORMATION_TYPES } from './builtins.generated.ts';
import { called, operatorName, qualified } from './calls.ts';
import { collect, columnReference, mention } from './columns.ts';
import { type Findings, NotUnderstood } from './findings.ts';
import { lockingClause } from './locks.ts';
import { childScope, type Item, type Scope, visibleCte } from './scope.ts';
import { as, constantText, type Fields, flag, list, nameParts, stringOf, struct, text, unwrap } from './tree.ts';

/** Levels of nodes. Deeper trees are refused before this code or the analyses after it run out of stack. */
const DEPTH = 1200;

export interface Walk {
  found: Findings;
  depth: number;
  /** FROM items looked at so far, to resolve names. */
  looks: number;
  /** What `name` is in the target list of `… from pg_settings where name = '…'`: how pg_dump sets what a server may not have. */
  settingName?: string | undefined;
  /** Handles a statement inside a statement (CTEs, rules, schemas); returns its tag. */
  statement(walk: Walk, node: unknown, scope: Scope): string;
}

/** Expression and clause nodes with nothing to judge but their parts. */
const PLAIN = new Set(
  `A_ArrayExpr A_Indices A_Indirection A_Star Alias BitString Boolean BooleanTest BoolExpr CaseExpr CaseTestExpr
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
    case 'A_Const':
      return; // whoever cares for a value looks at it from where it stands
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

/** A relation in a place where CTE names count. */
export function relation(walk: Walk, fields: Fields, scope: Scope, access: 'Read' | 'Write'): void {
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

function functionCall(walk: Walk, fields: Fields, scope: Scope): void {
  const [schema, name] = qualified(nameParts(fields.funcname));
  called(walk, schema, name, list(fields, 'args'));
  walkAll(walk, list(fields, 'args'), scope);
  walkAll(walk, list(fields, 'agg_order'), scope);
  walkNode(walk, fields.agg_filter, scope);
  walkNode(walk, fields.over, scope);
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

/** SELECT INTO, CREATE TABLE AS, CREATE MATERIALIZED VIEW: a new relation. */
export function intoClause(walk: Walk, into: Fields, scope: Scope): void {
  const target = struct(into, 'rel');
  if (target === undefined) throw new NotUnderstood('the new table has no name');
  const temporary = text(target, 'relpersistence') === 't';
  walk.found.creates(text(target, 'schemaname'), text(target, 'relname') ?? '', temporary);
  walkAll(walk, list(into, 'options'), scope);
}
