// Targets of INSERT, UPDATE, DELETE, MERGE and their columns.
import { NotUnderstood } from './findings.ts';
import { type Item, type Scope } from './scope.ts';
import { as, type Fields, list, struct, text } from './tree.ts';
import { trivial } from './trivial.ts';
import { type Walk, walkAll, walkNode } from './walk.ts';

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
