// Whether a condition is true (or the same) for every row, provably from its text: it names no column at all
// (`true`, `1=1`, `$1`, `exists (select 1)`, `random() < 2`), or compares a thing with itself (`id = id`, `name like '%'`),
// or is an OR with such an arm, an AND of such arms. `WHERE CURRENT OF` is bounded. Conditions that are true for all rows
// for reasons only the data knows (`id > 0`) are not found.
import { as, type Fields, isObject, list, nameParts, text, unwrap } from './tree.ts';

export function trivial(condition: unknown): boolean {
  const bool = as(condition, 'BoolExpr');
  if (bool) {
    const args = list(bool, 'args');
    switch (text(bool, 'boolop')) {
      case 'OR_EXPR':
        return args.some(trivial) || nullOrNot(args);
      case 'AND_EXPR':
        return args.every(trivial);
      default:
        return !namesColumn(condition);
    }
  }
  const expression = as(condition, 'A_Expr');
  if (expression && reflexive(expression)) return true;
  return !namesColumn(condition);
}

function reflexive(expression: Fields): boolean {
  const operator = nameParts(expression.name).at(-1) ?? '';
  const kind = text(expression, 'kind');
  if (kind === 'AEXPR_NOT_DISTINCT' || (kind === 'AEXPR_OP' && ['=', '<=', '>='].includes(operator))) {
    return same(expression.lexpr, expression.rexpr);
  }
  if (kind === 'AEXPR_LIKE' || kind === 'AEXPR_ILIKE') {
    const pattern = as(expression.rexpr, 'A_Const')?.sval;
    const value = isObject(pattern) ? (text(pattern, 'sval') ?? '') : '';
    return !operator.startsWith('!') && value !== '' && value.replaceAll('%', '') === '';
  }
  if (kind === 'AEXPR_IN' && operator === '=') {
    const values = as(expression.rexpr, 'List');
    return list(values, 'items').some((item) => same(expression.lexpr, item));
  }
  return false;
}

/** `x IS NULL OR x IS NOT NULL`. */
function nullOrNot(args: readonly unknown[]): boolean {
  const seen = new Map<string, string | undefined>();
  for (const arg of args) {
    const test = as(arg, 'NullTest');
    if (test === undefined) continue;
    const of = JSON.stringify(test.arg, (key, value: unknown) => (key === 'location' ? undefined : value));
    const kind = text(test, 'nulltesttype');
    if (seen.has(of) && seen.get(of) !== kind) return true;
    seen.set(of, kind);
  }
  return false;
}

function namesColumn(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(namesColumn);
  if (!isObject(value)) return false;
  const node = unwrap(value);
  if (node?.kind === 'ColumnRef' || node?.kind === 'CurrentOfExpr') return true;
  return Object.values(value).some(namesColumn);
}

/** Equal but for where they stand in the text. */
function same(a: unknown, b: unknown): boolean {
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((each, i) => same(each, b[i]));
  if (!isObject(a)) return a === b;
  if (!isObject(b)) return false;
  const keys = (of: object) => Object.keys(of).filter((key) => key !== 'location');
  const names = keys(a);
  return names.length === keys(b).length && names.every((name) => same(a[name], b[name]));
}
