// Row locks.
import { childScope, type Scope } from './scope.ts';
import { as, type Fields, list, struct, text, unwrap } from './tree.ts';
import { relation, type Walk } from './walk.ts';

/** FOR UPDATE and its kin need UPDATE privilege and keep others waiting: writes to what they lock. */
export function lockingClause(walk: Walk, fields: Fields, scope: Scope, locked: boolean): void {
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
