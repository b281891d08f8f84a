// Parse trees of what the catalog says (views, expressions), kept as long as the catalog entry they belong to.
import { parse } from '../classify/parser.ts';
import { type Mentions, mentionsOf } from './tree.ts';

const parsed = new WeakMap<object, { tree: unknown; mentions: Mentions } | 'Unreadable'>();
/** The first statement of `sql`; remembered by `owner`. */
export function parseOnce(owner: object, sql: string): { tree: unknown; mentions: Mentions } | 'Unreadable' {
  const known = parsed.get(owner);
  if (known !== undefined) return known;
  let result: { tree: unknown; mentions: Mentions } | 'Unreadable' = 'Unreadable';
  const outcome = sql.includes('\0') ? undefined : parse(sql, Buffer.byteLength(sql));
  if (outcome?.kind === 'Parsed') {
    const tree = (outcome.statements[0] as { stmt?: unknown } | undefined)?.stmt;
    try {
      if (tree !== undefined) result = { tree, mentions: mentionsOf(tree) };
    } catch {
      // stays Unreadable: whoever asks treats it as able to do anything
    }
  }
  parsed.set(owner, result);
  return result;
}
