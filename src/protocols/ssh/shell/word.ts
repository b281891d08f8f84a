// Reads one word of a shell line: quotes taken off, expansions and globs told apart from text. Refuses whatever dash,
// bash, ksh, zsh and busybox read differently, or read by options and locale: ANSI-C and locale quotes, braces, `=cmd`,
// `~user`, `^`, `#`, `!`, arithmetic, every `${…}` but the plainest, subscripts and modifiers after `$name`, bytes beyond
// ASCII outside quotes.
import type { ShellWord } from './facts.ts';
import { refuse } from './refusal.ts';

export interface Cursor {
  readonly text: string;
  at: number;
  /** How deep in substitutions and `sh -c`. */
  readonly depth: number;
  /** Bodies of here-documents that begin at the next line. */
  readonly pending: { delimiter: string; literal: boolean; tabs: boolean }[];
  /** Parses the commands up to a `)`, which it leaves. */
  readonly substitution: (cursor: Cursor) => void;
  /** Parses a text whole. */
  readonly nested: (text: string) => void;
}

export interface RawWord {
  pieces: (string | undefined)[];
  /** Written without any quote, expansion or glob: may be a reserved word. */
  bare: boolean;
}

/** ASCII that means itself in every shell, wherever it stands in a word. */
const PLAIN = /[A-Za-z0-9_./:,@%+\-\]]+/y;
const END = /[ \t\n;&|()<>]/;

export function atWordEnd({ text }: Cursor, at: number): boolean {
  return at >= text.length || END.test(text[at]!);
}

/** The word at the cursor; undefined if none begins here. */
export function readWord(cursor: Cursor): RawWord | undefined {
  const { text } = cursor;
  const start = cursor.at;
  if (atWordEnd(cursor, start)) return undefined;
  const exact = /[[=!]|\{\}/y;
  exact.lastIndex = start;
  const whole = exact.exec(text)?.[0];
  if (whole !== undefined && atWordEnd(cursor, start + whole.length)) {
    cursor.at += whole.length;
    return { pieces: [whole], bare: true };
  }
  if (text[start] === '=') refuse('zsh reads a word that begins with = as a program’s path');
  const word: RawWord = { pieces: [], bare: true };
  while (!atWordEnd(cursor, cursor.at)) readPart(cursor, word, start);
  return word;
}

/** The value of an assignment may be empty. */
export function readValue(cursor: Cursor): RawWord {
  const word: RawWord = { pieces: [], bare: true };
  const start = cursor.at;
  while (!atWordEnd(cursor, cursor.at)) readPart(cursor, word, start);
  return word;
}

function readPart(cursor: Cursor, word: RawWord, start: number): void {
  const { text } = cursor;
  PLAIN.lastIndex = cursor.at;
  const plain = PLAIN.exec(text)?.[0];
  if (plain !== undefined) {
    add(word, plain);
    cursor.at += plain.length;
    return;
  }
  const char = text[cursor.at]!;
  if (char === '=') {
    cursor.at++;
    add(word, char);
    return;
  }
  word.bare = false;
  switch (char) {
    case '*':
    case '?':
    case '[':
      cursor.at++;
      word.pieces.push(undefined);
      return;
    case '~': {
      const next = cursor.at + 1;
      if (cursor.at !== start || !(text[next] === '/' || atWordEnd(cursor, next)))
        refuse('~ means different things to different shells here');
      cursor.at++;
      word.pieces.push(undefined);
      return;
    }
    case '\\': {
      const next = text[cursor.at + 1];
      if (next === undefined || !/[ -~]/.test(next))
        refuse('it has a backslash before the end of a line, or before a character that is not ASCII');
      add(word, next);
      cursor.at += 2;
      return;
    }
    case "'": {
      const end = text.indexOf("'", cursor.at + 1);
      if (end < 0) refuse('it has a quote without its end');
      const inside = text.slice(cursor.at + 1, end);
      checkInside(cursor, inside);
      add(word, inside);
      cursor.at = end + 1;
      return;
    }
    case '"':
      cursor.at++;
      add(word, '');
      readDoubleQuoted(cursor, word);
      return;
    case '$':
      readExpansion(cursor);
      word.pieces.push(undefined);
      return;
    case '`':
      readBackticks(cursor, false);
      word.pieces.push(undefined);
      return;
    case '{':
      // As find and xargs want it; no shell expands empty braces.
      if (text[cursor.at + 1] === '}') {
        add(word, '{}');
        cursor.at += 2;
        return;
      }
      return refuse('it has braces that not every shell reads alike; put them in quotes');
    case '}':
      return refuse('it has braces that not every shell reads alike; put them in quotes');
    case '#':
      return refuse('it has an unquoted #, which may begin a comment');
    case '!':
    case '^':
      return refuse(`it has an unquoted ${char}, which not every shell reads alike`);
    default:
      return refuse('it has a character that is not ASCII outside quotes');
  }
}

function add(word: RawWord, text: string): void {
  const last = word.pieces.length - 1;
  const before = word.pieces[last];
  if (last >= 0 && before !== undefined) word.pieces[last] = before + text;
  else word.pieces.push(text);
}

function readDoubleQuoted(cursor: Cursor, word: RawWord): void {
  const { text } = cursor;
  const start = cursor.at;
  for (;;) {
    const char = text[cursor.at];
    if (char === undefined) refuse('it has a quote without its end');
    if (char === '"') {
      checkInside(cursor, text.slice(start, cursor.at));
      cursor.at++;
      return;
    }
    if (char === '$') {
      readExpansion(cursor);
      word.pieces.push(undefined);
    } else if (char === '`') {
      readBackticks(cursor, true);
      word.pieces.push(undefined);
    } else if (char === '\\') {
      const next = text[cursor.at + 1];
      if (next === undefined || !/[ -~]/.test(next))
        refuse('it has a backslash before the end of a line, or before a character that is not ASCII');
      add(word, /[$`"\\]/.test(next) ? next : `\\${next}`);
      cursor.at += 2;
    } else {
      add(word, char);
      cursor.at++;
    }
  }
}

/** In some locales a byte beyond ASCII makes one character with a byte after it that is ASCII here. */
function checkInside(cursor: Cursor, inside: string): void {
  if (/[^\0-\x7f][@-~]?[\\`[\]^{|}~@]/.test(inside))
    refuse('it has a character that is not ASCII beside one that means something');
  if (cursor.pending.length > 0 && inside.includes('\n'))
    refuse('a quoted text goes over the line that a here-document begins after');
}

function readExpansion(cursor: Cursor): void {
  const { text } = cursor;
  const rest = cursor.at + 1;
  if (text.startsWith('((', rest)) refuse('it has arithmetic, which can run programs');
  if (text[rest] === '(') {
    cursor.at = rest + 1;
    cursor.substitution(cursor);
    if (text[cursor.at] !== ')') refuse('it has a substitution without its end');
    cursor.at++;
    return;
  }
  const simple = /\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*|[0-9?$]/y;
  simple.lastIndex = rest;
  const name = simple.exec(text)?.[0];
  if (name === undefined) refuse('it has an expansion that is more than $NAME, ${NAME}, $(…)');
  cursor.at = rest + name.length;
  const next = text[cursor.at];
  if (next === '[' || next === ':') refuse('zsh reads what follows the variable as a part of it');
  if (/^[0-9]$/.test(name) && next !== undefined && /[0-9]/.test(next))
    refuse('it has an argument’s number with two digits');
}

function readBackticks(cursor: Cursor, quoted: boolean): void {
  const { text } = cursor;
  const end = text.indexOf('`', cursor.at + 1);
  if (end < 0) refuse('it has a substitution without its end');
  const inside = text.slice(cursor.at + 1, end);
  if (inside.includes('\\') || (quoted && /["']/.test(inside)))
    refuse('it has quotes or backslashes between backticks; write $(…)');
  cursor.nested(inside);
  cursor.at = end + 1;
}

export function shellWord({ pieces }: RawWord): ShellWord {
  const [only] = pieces;
  if (pieces.length === 0) return { kind: 'Literal', text: '' };
  return pieces.length === 1 && only !== undefined ? { kind: 'Literal', text: only } : { kind: 'Pattern', pieces };
}
