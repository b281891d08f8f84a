// Parse trees of what the catalog says (views, expressions), kept as long as the catalog entry they belong to.
import { parseSync } from 'libpg-query';
import { type Mentions, mentionsOf } from './tree.ts';

const parsed = new WeakMap<object, { tree: unknown; mentions: Mentions } | 'Unreadable'>();
/** The first statement of `sql`; remembered by `owner`. */
export function parseOnce(owner: object, sql: string): { tree: unknown; mentions: Mentions } | 'Unreadable' {
  const known = parsed.get(owner);
  if (known !== undefined) return known;
  let result: { tree: unknown; mentions: Mentions } | 'Unreadable' = 'Unreadable';
  try {
    const tree = parseSync(sql).stmts?.[0]?.stmt;
    if (tree !== undefined) result = { tree, mentions: mentionsOf(tree) };
  } catch {
    // stays Unreadable: whoever asks treats it as able to do anything
  }
  parsed.set(owner, result);
  return result;
}
