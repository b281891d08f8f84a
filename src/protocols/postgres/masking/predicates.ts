// Comparisons of a masked column that its policy permits (`predicates: Equality | Any`). Only conjuncts of the outermost
// WHERE count, and only against constants and parameters: there a comparison filters rows and can do nothing else.
import { bodyOf, type ColumnRefUse, columnRef, isNode, listOf, namesOf, type TreeNode, unwrap } from './tree.ts';

const COMPARISONS = new Set(['=', '<>', '!=', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*']);
const KINDS = new Set(['AEXPR_OP', 'AEXPR_IN', 'AEXPR_LIKE', 'AEXPR_ILIKE', 'AEXPR_BETWEEN', 'AEXPR_NOT_BETWEEN']);

/** Column references that are permitted where they stand. */
export function simplePredicates(
  statement: unknown,
  policyOf: (use: ColumnRefUse) => 'Deny' | 'Equality' | 'Any' | undefined,
  names: { hasOwnOperator(name: string): boolean },
): Set<TreeNode> {
  const permitted = new Set<TreeNode>();
  const where = unwrap(statement)?.body.whereClause;
  const pending: unknown[] = where === undefined ? [] : [where];
  for (;;) {
    const next = pending.pop();
    if (next === undefined) return permitted;
    const both = bodyOf(next, 'BoolExpr');
    if (both?.boolop === 'AND_EXPR') {
      pending.push(...listOf(both.args));
      continue;
    }
    const comparison = bodyOf(next, 'A_Expr');
    if (comparison === undefined || !KINDS.has(String(comparison.kind))) continue;
    const operator = namesOf(comparison.name);
    if (operator.length !== 1 && operator[0] !== 'pg_catalog') continue;
    const symbol = operator[operator.length - 1] ?? '';
    const between = String(comparison.kind).includes('BETWEEN');
    if (!between && (!COMPARISONS.has(symbol) || names.hasOwnOperator(symbol))) continue;
    const equality = comparison.kind === 'AEXPR_OP' && symbol === '=';
    for (const [column, value] of [
      [comparison.lexpr, comparison.rexpr],
      [comparison.rexpr, comparison.lexpr],
    ]) {
      const body = bodyOf(column, 'ColumnRef');
      const use = body === undefined ? undefined : columnRef(body);
      if (use === undefined || !isConstant(value)) continue;
      const policy = policyOf(use);
      if (policy === 'Any' || (policy === 'Equality' && equality)) permitted.add(use.node);
    }
  }
}

function isConstant(value: unknown): boolean {
  const node = unwrap(value);
  if (node === undefined) return Array.isArray(value) && value.every(isConstant);
  if (node.kind === 'A_Const' || node.kind === 'ParamRef') return true;
  if (node.kind === 'List') return listOf(node.body.items).every(isConstant);
  // A cast of a constant to a built-in type by its grammar name (`'x'::text` comes as pg_catalog or bare `text`).
  return node.kind === 'TypeCast' && isNode(node.body.arg) && isConstant(node.body.arg);
}
