// Columns that an expression mentions, and the FROM items they may belong to.

import { ROW_FUNCTIONS } from './builtins.generated.ts';
import { NotUnderstood } from './findings.ts';
import { type Item, type Scope, visibleCte } from './scope.ts';
import { type Fields, list, nameParts, struct, text, unwrap } from './tree.ts';
import { type Walk } from './walk.ts';

export function columnReference(walk: Walk, fields: Fields, scope: Scope): void {
  const parts = nameParts(fields.fields);
  const column = parts[parts.length - 1] ?? '*';
  if (parts.length > 1) {
    const schema = parts.length > 2 ? parts[parts.length - 3] : undefined;
    const known = itemsNamed(walk, scope, parts[parts.length - 2] ?? '', schema);
    // An alias of nothing in sight (or of a whole row: `(a).b`) may be any relation's.
    if (known.length === 0) walk.found.column(undefined, column);
    for (const item of known) {
      mention(walk, item, column);
      // `row.to_jsonb` is `to_jsonb(row)` where there is no such column.
      if (ROW_FUNCTIONS.has(column)) mention(walk, item, '*');
    }
    return;
  }
  if (column === '*') {
    for (const item of look(walk, scope)) mention(walk, item, '*');
    return;
  }
  // The name of a FROM item alone is its whole row, unless a column is called so.
  for (const item of itemsNamed(walk, scope, column, undefined)) mention(walk, item, '*');
  let any = false;
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    for (const item of look(walk, at)) {
      any = true;
      mention(walk, item, column);
    }
  }
  if (!any) walk.found.column(undefined, column);
}

/** Thousands of columns over thousands of FROM items would take minutes: what that many looks mean is not understood. */
const LOOKS = 200_000;

function look(walk: Walk, scope: Scope): readonly Item[] {
  walk.looks += scope.items.length;
  if (walk.looks > LOOKS) throw new NotUnderstood('it has too many columns and tables');
  return scope.items;
}

/** A name with a schema means a relation that has no alias; one without a schema means an alias or such a relation. */
function itemsNamed(walk: Walk, scope: Scope, name: string, schema: string | undefined): Item[] {
  const items: Item[] = [];
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    for (const item of look(walk, at)) {
      if (item.name !== name) continue;
      if (schema !== undefined && item.relations.some((use) => use.schema !== undefined && use.schema !== schema)) {
        continue;
      }
      items.push(item);
    }
  }
  return items;
}

export function mention(walk: Walk, item: Item, column: string): void {
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
