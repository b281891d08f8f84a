// The names in one statement under which masked columns may be reached: labels of relations, aliases, joins, OLD and NEW.
// One flat scope for the whole statement: a name counts wherever it stands, so a reading that PostgreSQL would not take
// can only make the judgement stricter.
import { nameKey } from './patterns.ts';
import type { QueryNames, RelationMasks } from './relation-masks.ts';
import { bodyOf, isNode, listOf, rangeVar, stringOf, type TreeNode, unwrap, visit } from './tree.ts';

export interface Label {
  sensitive: RelationMasks[];
  unseen: boolean;
}

export interface Scope {
  names: QueryNames;
  labels: Map<string, Label>;
  /** Masked and opaque columns by name. */
  columns: Map<string, { masks: RelationMasks; number: number }>;
  unseen: string[];
  sensitive: boolean;
}

export function labelOf(scope: Scope, name: string): Label {
  const key = nameKey(name);
  let label = scope.labels.get(key);
  if (label === undefined) {
    label = { sensitive: [], unseen: false };
    scope.labels.set(key, label);
  }
  return label;
}

export function addSensitive(scope: Scope, label: Label, masks: RelationMasks): void {
  scope.sensitive = true;
  label.sensitive.push(masks);
  for (const number of [...masks.masked.keys(), ...masks.opaque.keys()]) {
    const name = masks.relation.columns.get(number)?.name;
    if (name !== undefined) scope.columns.set(nameKey(name), { masks, number });
  }
}

/** Labels that are not relations' own: of subqueries, functions and joins; OLD, NEW and EXCLUDED. */
export function collectAliases(statement: unknown, scope: Scope): void {
  visit(statement, (node, kind) => {
    if (rangeVar(node) !== undefined) return;
    if (kind === 'JoinExpr') {
      for (const alias of [node.alias, node.join_using_alias]) {
        const name = isNode(alias) ? stringOf(alias.aliasname) : undefined;
        if (name !== undefined) joinUnder(node, labelOf(scope, name), scope);
      }
      return;
    }
    if (isNode(node.alias)) {
      const name = stringOf(node.alias.aliasname);
      if (name !== undefined) labelOf(scope, name);
    }
    if (typeof node.ctename === 'string') labelOf(scope, node.ctename);
  });
  const target = unwrap(statement);
  const relation = isNode(target?.body.relation) ? rangeVar(target.body.relation) : undefined;
  if (target === undefined || relation === undefined) return;
  const own = labelOf(scope, relation.label);
  const extra = ['old', 'new', 'excluded'];
  if (isNode(target.body.returningClause)) {
    for (const option of listOf(target.body.returningClause.options)) {
      const name = bodyOf(option, 'ReturningOption')?.value;
      if (typeof name === 'string') extra.push(name);
    }
  }
  for (const name of extra) {
    const label = labelOf(scope, name);
    label.sensitive.push(...own.sensitive);
    label.unseen ||= own.unseen;
  }
}

export function sensitiveUnder(from: unknown, scope: Scope): boolean {
  let found = false;
  visit(from, (node) => {
    const relation = rangeVar(node);
    const label = relation === undefined ? undefined : scope.labels.get(nameKey(relation.label));
    if (label !== undefined && (label.sensitive.length > 0 || label.unseen)) found = true;
  });
  return found;
}

function joinUnder(join: TreeNode, label: Label, scope: Scope): void {
  visit([join.larg, join.rarg], (node) => {
    const relation = rangeVar(node);
    if (relation === undefined) return;
    const under = scope.labels.get(nameKey(relation.label));
    label.sensitive.push(...(under?.sensitive ?? []));
    label.unseen ||= under?.unseen ?? false;
  });
}
