// Name patterns of SQL rules: `schema.table`, `table`, `schema.table.column`, with `*` for any run of characters. A part
// in double quotes is taken as it is written; another is folded to lower case as PostgreSQL folds it.
import { compileGlob, globMatches } from '../../policy/glob.ts';

export interface Part {
  text: string;
  quoted: boolean;
}

/** Splits at dots outside quotes. undefined if a quote is not closed, or a part is empty. */
export function parsePattern(pattern: string): Part[] | undefined {
  const parts: Part[] = [];
  let at = 0;
  while (at <= pattern.length) {
    let text = '';
    const quoted = pattern[at] === '"';
    if (quoted) {
      at++;
      for (;;) {
        const end = pattern.indexOf('"', at);
        if (end < 0) return undefined;
        text += pattern.slice(at, end);
        at = end + 1;
        if (pattern[at] !== '"') break;
        text += '"';
        at++;
      }
      if (at < pattern.length && pattern[at] !== '.') return undefined;
    } else {
      const dot = pattern.indexOf('.', at);
      const end = dot < 0 ? pattern.length : dot;
      text = pattern.slice(at, end).toLowerCase();
      at = end;
    }
    if (text === '') return undefined;
    parts.push({ text, quoted });
    at++;
  }
  return parts;
}

const everything = (part: Part): boolean => !part.quoted && part.text.length > 0 && globMatches(part.text, '');

/** Some reading of `name` is described; `*` as a name may be any. Case is not told apart unless the pattern is quoted. */
export function mayBe(part: Part, name: string): boolean {
  if (name === '*' || everything(part)) return true;
  return part.quoted ? part.text === name : globMatches(part.text, name.toLowerCase());
}

/** Every reading of `name` is described. */
export function mustBe(part: Part, name: string): boolean {
  if (everything(part)) return true;
  if (name === '*') return false;
  return part.quoted ? part.text === name : globMatches(part.text, name);
}

/** A part made ready to be asked often. */
export interface PreparedPart {
  /** Describes every name. */
  any: boolean;
  /** `mayBe`; `lower`: the name in lower case. */
  may(name: string, lower: string): boolean;
  /** `mustBe`. */
  must(name: string): boolean;
}

export function preparePart(part: Part): PreparedPart {
  if (everything(part)) return { any: true, may: () => true, must: () => true };
  const { text } = part;
  if (part.quoted) {
    return { any: false, may: (name) => name === '*' || name === text, must: (name) => name !== '*' && name === text };
  }
  const matches = compileGlob(text);
  return {
    any: false,
    may: (name, lower) => name === '*' || matches(lower),
    must: (name) => name !== '*' && matches(name),
  };
}

export const ANY: Part = { text: '*', quoted: false };
