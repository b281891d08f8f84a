// Says what SQL text does, by PostgreSQL's own parse of it. Guarantees: never throws; a statement of a kind, or with a
// part, that is not known here is NotUnderstood as a whole text, and so is text that PostgreSQL's parser refuses; every
// statement has at least one effect. Needs `standard_conforming_strings = on` and a client encoding of UTF-8, which the
// session pins. What the database itself attaches to relations and types (views, triggers, rules, domains, casts,
// operators) is not in the text and not seen.
import type { Classification, ClassifiedStatement, SqlFacts } from '../statement.ts';
import { Findings, NotUnderstood } from './findings.ts';
import { loadParser, parse } from './parser.ts';
import { childScope } from './scope.ts';
import { statement } from './statements.ts';
import { type Fields, isObject, number } from './tree.ts';
import type { Walk } from './walk.ts';

/** Bytes of UTF-8 that are judged at most, unless the caller says otherwise. */
export const STATEMENT_BYTES = 256 * 1024;

/** Loads the parser; await once before the first `classify`. */
export function loadClassifier(): Promise<void> {
  return loadParser();
}

/** Statements of one text that are judged at most. */
const STATEMENTS = 10_000;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `text`: one message's SQL, of any number of statements. A Buffer is read as UTF-8. */
export function classify(input: string | Uint8Array, limits: { statementBytes?: number } = {}): Classification {
  const most = limits.statementBytes ?? STATEMENT_BYTES;
  let text: string;
  if (typeof input === 'string') {
    text = input;
    if (!text.isWellFormed()) return refuse('it is not valid UTF-8');
  } else {
    if (input.length > most) return refuse(`it is longer than ${most} bytes`);
    try {
      text = decoder.decode(input);
    } catch {
      return refuse('it is not valid UTF-8');
    }
  }
  // A string's UTF-8 is at least as long as the string, so a long one need not be measured.
  const bytes = text.length > most ? text.length : Buffer.byteLength(text);
  if (bytes > most) return refuse(`it is longer than ${most} bytes`);
  if (text.includes('\0')) return refuse('it holds a NUL');
  const outcome = parse(text, bytes);
  if (outcome.kind === 'Failed') {
    const { reason, offset } = outcome;
    return offset === undefined ? refuse(reason) : { ...refuse(reason), syntax: { position: offset + 1 } };
  }
  if (outcome.statements.length > STATEMENTS) return refuse(`it is more than ${STATEMENTS} statements`);
  try {
    const ascii = bytes === text.length;
    const utf8 = ascii ? undefined : Buffer.from(text);
    const statements: ClassifiedStatement[] = [];
    for (const raw of outcome.statements) {
      if (!isObject(raw)) return refuse('the parse tree could not be read');
      const { start, end } = extent(raw, bytes);
      const own = utf8 === undefined ? text.slice(start, end) : utf8.toString('utf8', start, end);
      statements.push(classifyOne(raw, own, start, end));
    }
    return { kind: 'Statements', statements };
  } catch (error) {
    if (error instanceof NotUnderstood) return refuse(error.message);
    if (error instanceof RangeError) return refuse('the statement is nested too deeply');
    return refuse('its parse tree has an unexpected shape');
  }
}

function refuse(reason: string): Extract<Classification, { kind: 'NotUnderstood' }> {
  return { kind: 'NotUnderstood', reason };
}

/** Bytes of the text that a statement takes; `bytes`: of the whole. */
function extent(raw: Fields, bytes: number): { start: number; end: number } {
  const start = number(raw, 'stmt_location');
  const length = number(raw, 'stmt_len');
  return { start, end: length === 0 ? bytes : start + length };
}

/** The only statement of an ASCII text, from its tree. Throws NotUnderstood and RangeError. */
export function classifyTree(raw: Fields, text: string, bytes: number): ClassifiedStatement {
  const { start, end } = extent(raw, bytes);
  return classifyOne(raw, text.slice(start, end), start, end);
}

function classifyOne(raw: Fields, text: string, start: number, end: number): ClassifiedStatement {
  const found = new Findings();
  const walk: Walk = { found, depth: 0, looks: 0, statement };
  const tag = statement(walk, raw.stmt, childScope(undefined));
  if (found.effects.size === 0)
    found.effect(tag === 'SELECT' || tag === 'EXPLAIN' || found.inner.length > 0 ? 'Read' : 'Execute');
  const facts: SqlFacts = {
    tag,
    inner: found.inner,
    relations: [...found.relations.values()],
    columns: [...found.columns.values()],
    functions: [...found.functions.values()],
    unbounded: found.unbounded,
    start,
    end,
  };
  if (found.copy) facts.copy = found.copy;
  if (found.session) facts.session = found.session;
  if (found.settings.length > 0) facts.settings = found.settings;
  return {
    command: { protocol: 'postgresql', verb: tag, effects: [...found.effects.values()], text, facts },
    tree: raw.stmt,
  };
}
