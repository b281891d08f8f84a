// Which of a database's own functions may run beside masked data. A function is cleared when its body, read token by
// token, can name nothing masked: no dynamic SQL, no unreadable identifiers, no relation that leads to masked data, no
// function that is not cleared itself. Bodies are never understood, only read for names, so a cleared function is safe
// in whatever way it uses them.
import { scan } from '../classify/parser.ts';
import { PURE_EXTENSIONS, reachesStorage, SYSTEM_COLUMNS } from './builtin-reach.ts';
import { matchesPattern, nameKey } from './patterns.ts';
import type { CatalogFunction, Snapshot } from './snapshot.ts';

export interface BodyWords {
  /** Every word of the body, folded; quoted identifiers as they are. */
  names: ReadonlySet<string>;
  /** Operators, as spelled. */
  operators: ReadonlySet<string>;
  /** Why the words do not tell everything it does. */
  unreadable: string | undefined;
  /** NEW or OLD used other than `NEW.column` and `RETURN NEW`. */
  wholeRow: boolean;
}

const CREATES_CODE = new Set([
  'function',
  'procedure',
  'view',
  'rule',
  'trigger',
  'aggregate',
  'operator',
  'cast',
  'policy',
]);
const cache = new WeakMap<object, BodyWords>();

/** Reads a body's words. Linear in its length; remembered per catalog object. */
export function bodyWords(owner: object, text: string): BodyWords {
  const known = cache.get(owner);
  if (known !== undefined) return known;
  const words = readWords(text);
  cache.set(owner, words);
  return words;
}

function readWords(text: string): BodyWords {
  const names = new Set<string>();
  const operators = new Set<string>();
  let unreadable: string | undefined;
  let wholeRow = false;
  const tokens = scan(text)?.filter((token) => !token.tokenName.endsWith('COMMENT'));
  if (tokens === undefined) return { names, operators, unreadable: 'its body could not be read', wholeRow: true };
  let created = false;
  for (let i = 0; i < tokens.length; i++) {
    const raw = tokens[i]!.text;
    const first = raw.charCodeAt(0);
    const isString = tokens[i]!.tokenName === 'SCONST' || tokens[i]!.tokenName === 'USCONST';
    if (isString) continue;
    if (/^u&/i.test(raw)) unreadable = 'it writes identifiers with Unicode escapes';
    if (first === 0x22) {
      names.add(nameKey(raw.slice(1, -1).replaceAll('""', '"')));
      continue;
    }
    const word = raw.toLowerCase();
    const isWord = first === 0x5f || first >= 0x80 || (word >= 'a' && word < '{');
    if (!isWord) {
      operators.add(raw);
      continue;
    }
    names.add(nameKey(word));
    if (word === 'execute' || word === 'do') unreadable = 'it runs SQL that it builds as text';
    if (word === 'alter' || word === 'load') unreadable = 'it changes the schema';
    if (word === 'create') created = true;
    if (created && CREATES_CODE.has(word)) unreadable = 'it creates code';
    if (word === 'new' || word === 'old') {
      const oneColumn = tokens[i + 1]?.text === '.' && tokens[i + 2]?.text !== '*';
      const returned = tokens[i - 1]?.text.toLowerCase() === 'return' && tokens[i + 1]?.text === ';';
      if (!oneColumn && !returned) wholeRow = true;
    }
  }
  return { names, operators, unreadable, wholeRow };
}

export interface Verdicts {
  /** Functions that may not run beside masks, by oid, with why. */
  bad: ReadonlyMap<number, string>;
}

export function functionText(fn: CatalogFunction): string {
  return `${fn.source}\n${fn.expressions}`;
}

/**
 * All functions that cannot be cleared. `tainted` are the names of relations that lead to masked data. The answer is the
 * least fixed point: calling a function that is not cleared is enough not to be.
 */
export function judgeFunctions(
  snapshot: Snapshot,
  trusted: readonly string[],
  tainted: ReadonlySet<string>,
): Map<number, string> {
  const bad = new Map<number, string>();
  const open: CatalogFunction[] = [];
  for (const fn of snapshot.functions.values()) {
    if (trusted.some((pattern) => matchesPattern(pattern, `${fn.schema}.${fn.name}`))) continue;
    const reason = badByItself(fn, tainted);
    if (reason !== undefined) bad.set(fn.oid, reason);
    else open.push(fn);
  }
  const parts = new Map(snapshot.aggregates.map((aggregate) => [aggregate.oid, aggregate.parts]));
  for (;;) {
    const names = new Set<string>();
    for (const oid of bad.keys()) names.add(nameKey(snapshot.functions.get(oid)!.name));
    const operators = new Set(
      snapshot.operators.filter((o) => bad.has(o.function) || snapshot.reaching.has(o.function)).map((o) => o.name),
    );
    const before = bad.size;
    for (const fn of open) {
      if (bad.has(fn.oid)) continue;
      const words = bodyWords(fn, functionText(fn));
      const calls = firstIn(words.names, names) ?? firstIn(words.operators, operators);
      const part = parts.get(fn.oid)?.find((oid) => bad.has(oid) || snapshot.reaching.has(oid));
      if (calls !== undefined) bad.set(fn.oid, `it uses ${calls}, which is not cleared`);
      else if (part !== undefined) bad.set(fn.oid, 'it is made of functions that are not cleared');
    }
    if (bad.size === before) return bad;
  }
}

function badByItself(fn: CatalogFunction, tainted: ReadonlySet<string>): string | undefined {
  if (fn.kind === 'a') return undefined;
  if (fn.language === 'c' || fn.language === 'internal') {
    return fn.language === 'c' && fn.extension !== undefined && PURE_EXTENSIONS.has(fn.extension)
      ? undefined
      : `it is written in ${fn.language}, which cannot be read`;
  }
  if (fn.language !== 'sql' && fn.language !== 'plpgsql')
    return `it is written in ${fn.language}, which cannot be read`;
  if (fn.settings.includes('standard_conforming_strings')) return 'it changes how its own text is read';
  return badWords(bodyWords(fn, functionText(fn)), tainted);
}

/** What is wrong with a body by its own words. */
export function badWords(words: BodyWords, tainted: ReadonlySet<string>): string | undefined {
  if (words.unreadable !== undefined) return words.unreadable;
  for (const name of words.names) {
    if (tainted.has(name)) return `it reads ${name}, which leads to masked data`;
    if (reachesStorage(name)) return `it uses ${name}`;
    if (name !== 'pg_attribute' && Object.hasOwn(SYSTEM_COLUMNS, name)) return `it reads ${name}`;
  }
  return words.names.has('attmissingval') ? 'it reads attmissingval' : undefined;
}

export function firstIn(names: ReadonlySet<string>, wanted: ReadonlySet<string>): string | undefined {
  const [few, many] = names.size < wanted.size ? [names, wanted] : [wanted, names];
  for (const name of few) if (many.has(name)) return name;
  return undefined;
}
