// Where in a statement a masked column may stand: bare in the outermost outputs, and where nothing of its value shows.
// And the ways of naming columns that are no column references, which are refused.
import { nameKey } from './patterns.ts';
import { type ColumnProblem, classOf, describe, problemFor } from './references.ts';
import { type Scope, sensitiveUnder } from './scope.ts';
import {
  bodyOf,
  columnRef,
  isNode,
  listOf,
  namesOf,
  rangeVar,
  stringOf,
  type TreeNode,
  unwrap,
  visit,
} from './tree.ts';

/** Ways of naming columns without a column reference. */
export function structuralProblem(statement: unknown, scope: Scope): ColumnProblem | undefined {
  let problem: ColumnProblem | undefined;
  const refuse = (name: string | undefined, why: string): void => {
    problem ??= describe(scope, name, why);
  };
  visit(statement, (node, kind) => {
    const relation = rangeVar(node);
    if (relation?.hasColumnAliases) {
      const label = scope.labels.get(nameKey(relation.label));
      if (label !== undefined && (label.sensitive.length > 0 || label.unseen)) {
        refuse(undefined, 'its table must not be given other column names in FROM');
      }
    }
    if (kind === 'JoinExpr') {
      if (node.isNatural === true) refuse(undefined, 'NATURAL JOIN may compare it; name the columns with USING or ON');
      for (const name of namesOf(node.usingClause)) {
        if (scope.columns.has(nameKey(name)) || scope.unseen.length > 0) refuse(name, 'it cannot be joined by');
      }
      if (isNode(node.alias) && listOf(node.alias.colnames).length > 0) {
        refuse(undefined, 'its table must not be given other column names in FROM');
      }
    }
    if (isNode(node.infer) && typeof node.infer.conname === 'string') {
      refuse(undefined, 'ON CONFLICT ON CONSTRAINT may compare it; name the columns of the constraint');
    }
    if (kind === 'IndexElem' && typeof node.name === 'string' && scope.columns.has(nameKey(node.name))) {
      const { masks, number } = scope.columns.get(nameKey(node.name))!;
      if (masks.masked.get(number)?.predicates !== 'Any' && masks.masked.get(number)?.predicates !== 'Equality') {
        refuse(node.name, 'ON CONFLICT compares it');
      }
    }
  });
  return problem;
}

/** Notes the outermost target list's bare columns and stars as allowed. */
export function allowBareOutputs(
  statement: unknown,
  scope: Scope,
  allowed: Set<TreeNode>,
  outputs: Set<string>,
): ColumnProblem | undefined {
  const top = unwrap(statement);
  if (top === undefined) return undefined;
  const select = top.kind === 'SelectStmt';
  if (select && (top.body.op !== 'SETOP_NONE' || listOf(top.body.distinctClause).length > 0)) return undefined;
  if (select && (top.body.intoClause !== undefined || top.body.valuesLists !== undefined)) return undefined;
  const targets = select
    ? listOf(top.body.targetList)
    : isNode(top.body.returningClause)
      ? listOf(top.body.returningClause.exprs)
      : [];
  const aliases = new Set<string>();
  const maskedOrdinals = new Set<number>();
  let star = false;
  for (const [index, item] of targets.entries()) {
    const target = bodyOf(item, 'ResTarget');
    const body = bodyOf(target?.val, 'ColumnRef');
    const use = body === undefined ? undefined : columnRef(body);
    if (target === undefined || use === undefined) continue;
    const kind = classOf(use, scope);
    if (kind.kind === 'Clear' || kind.kind === 'WholeRow') continue; // the walk over all mentions refuses whole rows
    const opaque = kind.columns.find(({ masks, number }) => masks.opaque.has(number));
    if (opaque !== undefined) {
      return problemFor(opaque.masks, opaque.number, opaque.masks.opaque.get(opaque.number)!);
    }
    allowed.add(use.node);
    if (use.star) star = true;
    else maskedOrdinals.add(index + 1);
    for (const { masks, number } of kind.columns) outputs.add(masks.relation.columns.get(number)!.name);
    const alias = stringOf(target.name);
    if (alias !== undefined) {
      outputs.add(alias);
      aliases.add(nameKey(alias));
    }
  }
  if (allowed.size === 0 || !select) return undefined;
  // ORDER BY and GROUP BY may name an output by its alias or its place.
  let problem: ColumnProblem | undefined;
  visit([top.body.sortClause, top.body.groupClause], (node, kind) => {
    const use = columnRef(node);
    if (use !== undefined && use.fields.length === 1 && aliases.has(nameKey(use.fields[0]!))) {
      problem ??= describe(scope, use.fields[0], 'it cannot be sorted or grouped by');
    }
    if (kind === 'A_Const' && isNode(node.ival)) {
      const ordinal = typeof node.ival.ival === 'number' ? node.ival.ival : 0;
      if (star || maskedOrdinals.has(ordinal)) {
        problem ??= describe(scope, undefined, 'it cannot be sorted or grouped by; name the columns to sort by');
      }
    }
  });
  return problem;
}

/** IS NULL, count(column) and the target list of EXISTS tell nothing of a value. */
export function allowSafeUses(statement: unknown, scope: Scope, allowed: Set<TreeNode>): void {
  const allowPlain = (value: unknown): void => {
    const body = bodyOf(value, 'ColumnRef');
    const use = body === undefined ? undefined : columnRef(body);
    if (use === undefined || use.star) return;
    const kind = classOf(use, scope);
    if (kind.kind === 'Masked' && kind.columns.every(({ masks, number }) => masks.masked.has(number))) {
      allowed.add(use.node);
    }
  };
  visit(statement, (node, kind) => {
    if (kind === 'NullTest') allowPlain(node.arg);
    // A `*` reaches no further than the FROM beside it.
    if (Array.isArray(node.targetList) && node.op !== undefined && !sensitiveUnder(node.fromClause, scope)) {
      for (const item of listOf(node.targetList)) {
        const body = bodyOf(bodyOf(item, 'ResTarget')?.val, 'ColumnRef');
        const use = body === undefined ? undefined : columnRef(body);
        if (body !== undefined && use?.star === true && use.fields.length === 0) allowed.add(body);
      }
    }
    if (Array.isArray(node.funcname)) {
      const name = namesOf(node.funcname).join('.');
      const builtin = name === 'pg_catalog.count' || (name === 'count' && !scope.names.hasOwnFunction('count'));
      const plain = node.agg_distinct !== true && node.agg_order === undefined && node.agg_within_group !== true;
      if (builtin && plain && listOf(node.args).length === 1) allowPlain(listOf(node.args)[0]);
    }
    if (kind === 'SubLink' && node.subLinkType === 'EXISTS_SUBLINK') {
      const select = bodyOf(node.subselect, 'SelectStmt');
      if (select === undefined || select.op !== 'SETOP_NONE' || select.distinctClause !== undefined) return;
      if (select.sortClause !== undefined || select.groupClause !== undefined) return;
      for (const item of listOf(select.targetList)) {
        const body = bodyOf(bodyOf(item, 'ResTarget')?.val, 'ColumnRef');
        if (body !== undefined && columnRef(body)?.star) allowed.add(body);
      }
    }
  });
}
