// The shape of a text: itself, with its plain literals left out. Pure.
//
// Guarantees: two texts of one shape are read by PostgreSQL's scanner (standard_conforming_strings on) as the same tokens
// but for the values of those literals, each of which is one ICONST or SCONST. Only two spellings are left out: decimal
// integers of at most nine digits, which always fit int4, and '…' without backslash and without a letter or & in front.
// Everything else that holds a value stays in the shape as it is written. What this file's few rules can not be sure
// of has no shape at all: comments, dollar quotes and parameters, backslashes, anything but ASCII.
// Does not: know whether a literal matters to what the statement does; shape-cache.ts finds that out.

/** Longer texts are rare, and searching them costs as much as is won. */
const LONGEST = 4096;
const MOST_LITERALS = 64;
/** No text holds it. */
const GAP = '\0';
const LONGEST_INTEGER = 9;

export interface Shape {
  key: string;
  /** Where the literals begin, ascending; offsets are characters and, all being ASCII, bytes. */
  literals: readonly number[];
}

const OTHER = 0;
const DIGIT = 1;
const WORD = 2;
/** What ends the search for a shape. */
const UNSURE = 3;
const QUOTE = 4;
const DOUBLE_QUOTE = 5;
const MINUS = 6;
const SLASH = 7;

const KINDS = new Uint8Array(65_536).fill(UNSURE);
for (let code = 9; code < 127; code += 1) {
  const char = String.fromCharCode(code);
  if (/[\t\n\f\r ]/.test(char)) KINDS[code] = OTHER;
  else if (code < 32) KINDS[code] = UNSURE;
  else if (/[0-9]/.test(char)) KINDS[code] = DIGIT;
  else if (/[A-Za-z_]/.test(char)) KINDS[code] = WORD;
  else if (char === '$' || char === '\\') KINDS[code] = UNSURE;
  else if (char === "'") KINDS[code] = QUOTE;
  else if (char === '"') KINDS[code] = DOUBLE_QUOTE;
  else if (char === '-') KINDS[code] = MINUS;
  else if (char === '/') KINDS[code] = SLASH;
  else KINDS[code] = OTHER;
}
const AMPERSAND = 0x26;
const PLUS = 0x2b;
const DOT = 0x2e;
const BACKSLASH = 0x5c;

/** undefined: it has no shape. */
export function shapeOf(text: string): Shape | undefined {
  const { length } = text;
  if (length > LONGEST) return undefined;
  const literals: number[] = [];
  let key = '';
  /** What is before has gone into the key. */
  let from = 0;
  let at = 0;
  while (at < length) {
    const start = at;
    switch (KINDS[text.charCodeAt(at)]) {
      case OTHER:
        at += 1;
        break;
      case WORD:
        at = endOfWord(text, at);
        break;
      case DIGIT: {
        at += 1;
        while (at < length && KINDS[text.charCodeAt(at)] === DIGIT) at += 1;
        const next = at < length ? text.charCodeAt(at) : 0x20;
        const before = start > 0 ? text.charCodeAt(start - 1) : 0x20;
        if (KINDS[next] === WORD || next === DOT || before === DOT) at = endOfNumber(text, at);
        else if (at - start <= LONGEST_INTEGER) {
          key += `${text.slice(from, start)}${GAP}i`;
          from = at;
          literals.push(start);
        }
        break;
      }
      case QUOTE: {
        const before = start > 0 ? text.charCodeAt(start - 1) : 0x20;
        const kind = KINDS[before];
        if (kind === WORD || kind === DIGIT || before === AMPERSAND) return undefined;
        at = endOfString(text, start);
        if (at < 0) return undefined;
        key += `${text.slice(from, start)}${GAP}s`;
        from = at;
        literals.push(start);
        break;
      }
      case DOUBLE_QUOTE:
        if (start > 0 && text.charCodeAt(start - 1) === AMPERSAND) return undefined;
        at = text.indexOf('"', start + 1) + 1;
        if (at === 0) return undefined;
        for (let i = start; i < at; i += 1) if (!isPlain(text.charCodeAt(i))) return undefined;
        break;
      case MINUS:
      case SLASH:
        at += 1;
        if (at < length) {
          const next = text.charCodeAt(at);
          const first = text.charCodeAt(start);
          if ((first === 0x2d && next === 0x2d) || (first === 0x2f && next === 0x2a)) return undefined;
        }
        break;
      default:
        return undefined;
    }
    if (literals.length > MOST_LITERALS) return undefined;
  }
  return { key: key + text.slice(from), literals };
}

function endOfWord(text: string, from: number): number {
  let at = from + 1;
  // A $ within is part of the word; it has no shape, like every other $.
  while (at < text.length) {
    const kind = KINDS[text.charCodeAt(at)];
    if (kind !== WORD && kind !== DIGIT) break;
    at += 1;
  }
  return at;
}

/**
 * Of a number that is more than digits: stays as it is written, the sign and digits of an exponent (7E+1) with it. That
 * some of what follows may be tokens of their own (0x1E+1) does no harm: nothing of it is left out.
 */
function endOfNumber(text: string, from: number): number {
  let at = from;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    const kind = KINDS[code];
    if (kind === WORD || kind === DIGIT || code === DOT) at += 1;
    else if ((code === PLUS || kind === MINUS) && isExponent(text, at)) at += 2;
    else break;
  }
  return at;
}

/** Whether the sign at `at` stands between an e and a digit. */
function isExponent(text: string, at: number): boolean {
  return (text.charCodeAt(at - 1) | 0x20) === 0x65 && KINDS[text.charCodeAt(at + 1)] === DIGIT;
}

/** Behind the closing quote; -1: there is none, or it is not plain. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH || !isPlain(code)) return -1;
    if (code !== 0x27) continue;
    if (text.charCodeAt(at + 1) !== 0x27) return at + 1;
    at += 1;
  }
  return -1;
}

function isPlain(code: number): boolean {
  return (code >= 0x20 && code < 0x7f) || code === 0x09 || code === 0x0a || code === 0x0d;
}
