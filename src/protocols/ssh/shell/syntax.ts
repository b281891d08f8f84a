// The grammar: lists, pipelines, subshells, groups, if, while, until, for, simple commands with assignments and
// redirections. A strict subset of the POSIX shell language (XCU 2): what is not here is refused, and so is what is here
// but read differently by one of dash, bash, ksh, zsh, busybox (see word.ts). It judges no names: parse.ts does.
import type { ShellRedirection } from './facts.ts';
import { refuse } from './refusal.ts';
import { atWordEnd, type Cursor, type RawWord, readValue, readWord, shellWord } from './word.ts';

/** What the grammar finds, in the order of the text. Everything that could run is told, whatever it depends on. */
export interface Sink {
  command(words: readonly RawWord[], assignments: readonly string[]): void;
  redirection(redirection: ShellRedirection): void;
  /** A variable of the shell itself. */
  variable(name: string): void;
}

/** What one line may cost, over all texts in it. */
export interface Steps {
  left: number;
  /** Compound commands around what is being read. */
  open: number;
}

const DEEPEST = 8;
const MOST_OPEN = 32;
export const MOST_STEPS = 20_000;

/** Throws Refusal. */
export function readScript(text: string, sink: Sink, depth = 0, steps: Steps = { left: MOST_STEPS, open: 0 }): void {
  if (depth > DEEPEST) refuse('it nests too deep');
  if (/[\0-\x08\x0b-\x1f\x7f-\x9f\ufeff]/.test(text)) refuse('it has control characters');
  const nested = (inner: string): void => readScript(inner, sink, depth + 1, steps);
  const at = (start: number, level: number): Cursor => ({
    text,
    at: start,
    depth: level,
    pending: [],
    nested,
    substitution(outer) {
      if (level >= DEEPEST) refuse('it nests too deep');
      const inner = at(outer.at, level + 1);
      readList(inner, sink, [')'], steps);
      outer.at = inner.at;
    },
  });
  const cursor = at(0, depth);
  readList(cursor, sink, [], steps);
  if (cursor.at < text.length) refuse('it has a ) or a reserved word without its beginning');
}

/** Reads to one of the reserved words (or `)`) in `ends`, or to the end of the text if there are none; leaves it. */
function readList(cursor: Cursor, sink: Sink, ends: readonly string[], steps: Steps): void {
  const { text } = cursor;
  skipLines(cursor);
  for (let any = false; ; any = true) {
    if (--steps.left < 0) refuse('it is too long a list');
    if (cursor.at >= text.length ? ends.length === 0 : ends.includes(reservedAt(cursor) ?? '')) {
      if (!any) refuse('it is empty, or a part of it is');
      if (cursor.pending.length > 0) refuse('a here-document has no end');
      return;
    }
    readAndOr(cursor, sink, steps);
    skipBlanks(cursor);
    const char = text[cursor.at];
    if (char === ';' || char === '&') {
      if (/[;&|!>]/.test(text[cursor.at + 1] ?? '')) refuse('it has a separator that not every shell reads alike');
      cursor.at++;
      skipLines(cursor);
    } else if (char === '\n') skipLines(cursor);
    else if (char !== undefined && char !== ')') refuse('it has something after a command that is no separator');
    else if (char === ')' ? !ends.includes(')') : ends.length > 0)
      refuse('it has a bracket or a reserved word without its counterpart');
  }
}

const RESERVED = /[a-z]+|[{}!)]/y;

/** The bare word at the cursor if it may be a reserved one. */
function reservedAt(cursor: Cursor): string | undefined {
  RESERVED.lastIndex = cursor.at;
  const word = RESERVED.exec(cursor.text)?.[0];
  return word === ')' || (word !== undefined && atWordEnd(cursor, cursor.at + word.length)) ? word : undefined;
}

function expect(cursor: Cursor, word: string): void {
  skipBlanks(cursor);
  if (reservedAt(cursor) !== word) refuse(`it has no ${word} where one must be`);
  cursor.at += word.length;
}

function readAndOr(cursor: Cursor, sink: Sink, steps: Steps): void {
  for (;;) {
    readPipeline(cursor, sink, steps);
    skipBlanks(cursor);
    if (!cursor.text.startsWith('&&', cursor.at) && !cursor.text.startsWith('||', cursor.at)) return;
    cursor.at += 2;
    skipLines(cursor);
  }
}

function readPipeline(cursor: Cursor, sink: Sink, steps: Steps): void {
  if (reservedAt(cursor) === '!') {
    cursor.at++;
    skipBlanks(cursor);
  }
  for (;;) {
    readCommand(cursor, sink, steps);
    skipBlanks(cursor);
    const { text, at } = cursor;
    if (text[at] !== '|' || text[at + 1] === '|') return;
    if (text[at + 1] === '&') refuse('it has |&, which not every shell reads alike');
    cursor.at++;
    skipLines(cursor);
  }
}

function readCommand(cursor: Cursor, sink: Sink, steps: Steps): void {
  if (--steps.left < 0) refuse('it has too many commands');
  if (++steps.open > MOST_OPEN) refuse('it nests too deep');
  readAnyCommand(cursor, sink, steps);
  steps.open--;
}

function readAnyCommand(cursor: Cursor, sink: Sink, steps: Steps): void {
  const { text } = cursor;
  if (text[cursor.at] === '(') {
    if (text[cursor.at + 1] === '(') refuse('it has arithmetic, which can run programs');
    cursor.at++;
    readList(cursor, sink, [')'], steps);
    cursor.at++;
    return readRedirections(cursor, sink);
  }
  const word = reservedAt(cursor);
  switch (word) {
    case '{':
      cursor.at++;
      readList(cursor, sink, ['}'], steps);
      cursor.at++;
      return readRedirections(cursor, sink);
    case 'if':
      cursor.at += 2;
      readList(cursor, sink, ['then'], steps);
      return readBranches(cursor, sink, steps);
    case 'while':
    case 'until':
      cursor.at += 5;
      readList(cursor, sink, ['do'], steps);
      return readBody(cursor, sink, steps);
    case 'for':
      cursor.at += 3;
      return readFor(cursor, sink, steps);
    default:
      return readSimple(cursor, sink);
  }
}

function readBranches(cursor: Cursor, sink: Sink, steps: Steps): void {
  for (;;) {
    expect(cursor, 'then');
    readList(cursor, sink, ['elif', 'else', 'fi'], steps);
    const word = reservedAt(cursor)!;
    cursor.at += word.length;
    if (word === 'elif') readList(cursor, sink, ['then'], steps);
    else {
      if (word === 'else') {
        readList(cursor, sink, ['fi'], steps);
        cursor.at += 2;
      }
      return readRedirections(cursor, sink);
    }
  }
}

function readBody(cursor: Cursor, sink: Sink, steps: Steps): void {
  expect(cursor, 'do');
  readList(cursor, sink, ['done'], steps);
  cursor.at += 4;
  readRedirections(cursor, sink);
}

function readFor(cursor: Cursor, sink: Sink, steps: Steps): void {
  skipBlanks(cursor);
  const name = readWord(cursor);
  if (name?.bare !== true) refuse('its loop has no plain variable');
  sink.variable(name.pieces[0]!);
  expect(cursor, 'in');
  for (skipBlanks(cursor); readWord(cursor) !== undefined; skipBlanks(cursor));
  const end = cursor.text[cursor.at];
  if (end !== ';' && end !== '\n') refuse('its loop is not written as for NAME in WORDS; do …; done');
  cursor.at += end === ';' ? 1 : 0;
  skipLines(cursor);
  readBody(cursor, sink, steps);
}

const ASSIGNMENT = /([A-Za-z_][A-Za-z0-9_]*)(\+?=)/y;

function readSimple(cursor: Cursor, sink: Sink): void {
  const words: RawWord[] = [];
  const assignments: string[] = [];
  let redirected = false;
  for (;;) {
    skipBlanks(cursor);
    if (readRedirection(cursor, sink)) {
      redirected = true;
      continue;
    }
    ASSIGNMENT.lastIndex = cursor.at;
    const assignment = words.length === 0 ? ASSIGNMENT.exec(cursor.text) : null;
    if (assignment !== null) {
      if (assignment[2] !== '=') refuse('it has +=, which not every shell reads alike');
      cursor.at += assignment[0].length;
      readValue(cursor);
      assignments.push(assignment[1]!);
      continue;
    }
    const word = readWord(cursor);
    if (word === undefined) break;
    words.push(word);
  }
  if (cursor.text[cursor.at] === '(')
    refuse('it has a bracket that may define a function, fill an array or qualify a pattern');
  if (words.length > 0) return sink.command(words, assignments);
  if (redirected || assignments.length === 0) refuse('it has a command without a name');
  for (const name of assignments) sink.variable(name);
}

function readRedirections(cursor: Cursor, sink: Sink): void {
  do skipBlanks(cursor);
  while (readRedirection(cursor, sink));
  if (!atWordEnd(cursor, cursor.at) || cursor.text[cursor.at] === '(') refuse('it has a word after a compound command');
}

const OPERATOR = /([0-9]*)(<<-?|<>|<&|<|>>|>&|>\||>)/y;
const HARMLESS = /^\/dev\/(?:null|stdin|stdout|stderr|fd\/[0-2])$/;

/** False if there is none here. */
function readRedirection(cursor: Cursor, sink: Sink): boolean {
  const { text } = cursor;
  OPERATOR.lastIndex = cursor.at;
  const found = OPERATOR.exec(text);
  if (found === null) return false;
  const [whole, number = '', operator] = found;
  if (number.length > 1) refuse('it has a file descriptor of two digits');
  cursor.at += whole.length;
  const next = text[cursor.at] ?? '';
  if (/[<>&|!(]/.test(next)) refuse('it has a redirection that not every shell reads alike');
  if (operator === '<' && /^[0-9]*-[0-9]*>/.test(text.slice(cursor.at, cursor.at + 64)))
    refuse('zsh reads <…-…> as a pattern of numbers');
  if (operator === '<&' || operator === '>&') {
    if (!/[0-9-]/.test(next) || !atWordEnd(cursor, cursor.at + 1))
      refuse('it has a redirection that not every shell reads alike');
    cursor.at++;
    return true;
  }
  skipBlanks(cursor);
  if (operator === '<<' || operator === '<<-') {
    readDelimiter(cursor, operator === '<<-');
    return true;
  }
  const word = readWord(cursor);
  if (word === undefined) refuse('it has a redirection without a file');
  const target = shellWord(word);
  if (target.kind === 'Literal') {
    if (HARMLESS.test(target.text)) return true;
    // bash and ksh connect, others open a file of that name.
    if (/^\/+dev\/+(?:\.\/+)*(?:tcp|udp)\//.test(target.text)) sink.redirection({ action: 'Connect', target });
  }
  if (operator === '<' || operator === '<>') sink.redirection({ action: 'Read', target });
  if (operator !== '<') sink.redirection({ action: 'Write', target });
  return true;
}

function readDelimiter(cursor: Cursor, tabs: boolean): void {
  if (cursor.depth > 0) refuse('it has a here-document within a substitution');
  const form = /(?:'([A-Za-z0-9_]+)'|"([A-Za-z0-9_]+)"|([A-Za-z0-9_]+))/y;
  form.lastIndex = cursor.at;
  const found = form.exec(cursor.text);
  if (found === null || !atWordEnd(cursor, cursor.at + found[0].length))
    refuse('it has a here-document whose end is not a plain word');
  cursor.at += found[0].length;
  cursor.pending.push({ delimiter: (found[1] ?? found[2] ?? found[3])!, literal: found[3] === undefined, tabs });
}

function skipBlanks(cursor: Cursor): void {
  while (cursor.text[cursor.at] === ' ' || cursor.text[cursor.at] === '\t') cursor.at++;
}

/** Blanks and ends of lines, with the here-documents that begin after one. */
function skipLines(cursor: Cursor): void {
  const { text, pending } = cursor;
  for (;;) {
    skipBlanks(cursor);
    if (text[cursor.at] !== '\n') return;
    cursor.at++;
    for (const { delimiter, literal, tabs } of pending.splice(0)) skipDocument(cursor, delimiter, literal, tabs);
  }
}

function skipDocument(cursor: Cursor, delimiter: string, literal: boolean, tabs: boolean): void {
  const { text } = cursor;
  for (;;) {
    if (cursor.at >= text.length) refuse('a here-document has no end');
    const newline = text.indexOf('\n', cursor.at);
    const line = text.slice(cursor.at, newline < 0 ? text.length : newline);
    cursor.at = newline < 0 ? text.length : newline + 1;
    if ((tabs ? line.replace(/^\t+/, '') : line) === delimiter) {
      // The end of this line separates, as the one before the document did.
      return;
    }
    if (!literal && /[$`\\]/.test(line)) refuse('it has a here-document with expansions; put its end word in quotes');
  }
}
