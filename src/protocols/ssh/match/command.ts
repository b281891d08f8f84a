// Patterns of commands: words as a person would write them, `systemctl restart nginx-*`, `git-upload-pack 'team/*'`.
//
// Quotes and backslashes group words as in a shell. In an Allow, `*` stands for characters of one word but no `/`, never
// for the beginning of an option, and `**` beside other characters for any, `/` too, though never for a part `..`; a last
// word `**` stands for any further words. Every word of a command must be described; a word that is not known (an
// expansion, a glob) is described by a last `**` alone.
//
// In a Deny or Hold the wildcards stand for anything, a pattern is about longer commands too, about a program by any path,
// and about options in any place: `systemctl stop` is also `/bin/systemctl --no-block stop nginx`.
import { compileGlob } from '../../../policy/glob.ts';
import type { ShellWord } from '../shell/facts.ts';

export interface CommandPattern {
  /** Exactly. */
  permits(words: readonly ShellWord[]): boolean;
  /** Generously. */
  restricts(words: readonly ShellWord[]): boolean;
  /** The whole line of a shell that is not known. */
  permitsLine(line: string): boolean;
  restrictsLine(line: string): boolean;
  /** Whether the word at `index` is spelled out. */
  literal(index: number): boolean;
  /** No wildcard at all. */
  exact: boolean;
}

/** undefined: quotes without an end. */
export function patternWords(pattern: string): { text: string; quoted: boolean }[] | undefined {
  const words: { text: string; quoted: boolean }[] = [];
  let word: { text: string; quoted: boolean } | undefined;
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    if (char === ' ' || char === '\t') {
      if (word !== undefined) words.push(word);
      word = undefined;
      continue;
    }
    word ??= { text: '', quoted: false };
    if (char === '\\' && at + 1 < pattern.length) word.text += pattern[++at];
    else if (char === "'" || char === '"') {
      const end = pattern.indexOf(char, at + 1);
      if (end < 0) return undefined;
      word.text += pattern.slice(at + 1, end);
      word.quoted = true;
      at = end;
    } else word.text += char;
  }
  return word === undefined ? words : [...words, word];
}

/** Why it can not be used or would never match, and what to write; undefined: it is in order. */
export function commandProblem(pattern: string): string | undefined {
  const words = patternWords(pattern);
  if (words === undefined) return `"${pattern}" has a quote without its end`;
  if (words.length === 0) return `"${pattern}" has no word`;
  if (words.slice(0, -1).some(({ text }) => text === '**'))
    return `"${pattern}" has ** before its end; write it as the last word, and * for one word`;
  const name = words[0]!.text;
  if (name === '') return `"${pattern}" can never match: a program’s name is not empty`;
  if (
    /[;&|<>()$\x60\n]/.test(
      words
        .filter(({ quoted }) => !quoted)
        .map(({ text }) => text)
        .join(' '),
    )
  )
    return `"${pattern}" can never match: each command of a line is compared by itself; write them one by one, or put the characters in quotes`;
  if (/[\s"'\\$]/.test(name)) return `"${pattern}" can never match: no program is called so`;
  return undefined;
}

export function compileCommand(pattern: string): CommandPattern {
  const words = (patternWords(pattern) ?? []).map(({ text }) => text);
  const open = words.at(-1) === '**';
  const fixed = open ? words.slice(0, -1) : words;
  const exactly = fixed.map(allowWord);
  const generously = fixed.map((text, at) => denyWord(text, at === 0));
  const anything = fixed.length === 0;
  const literal = fixed.map((text) => !text.includes('*'));
  const permits = (given: readonly ShellWord[]): boolean => {
    if (given.length < exactly.length || (!open && given.length > exactly.length)) return false;
    return exactly.every((fits, at) => {
      const word = given[at]!;
      return word.kind === 'Literal' && fits(word.text);
    });
  };
  return {
    exact: !open && literal.every(Boolean),
    literal: (index) => literal[index] === true,
    permits,
    restricts: (given) => anything || mayMatch(generously, given),
    // A line of plain words means those words to whatever reads it; any other must be spelled out.
    permitsLine: (line) => line === pattern || (PLAIN_LINE.test(line) && permits(wordsOf(line))),
    restrictsLine(line) {
      if (!PLAIN_LINE.test(line) || anything) return true;
      const given = wordsOf(line);
      // Whatever reads it may have wrappers and words of its own.
      return given.some((_, at) => mayMatch(generously, given.slice(at)));
    },
  };
}

const wordsOf = (line: string): ShellWord[] => line.split(' ').map((text) => ({ kind: 'Literal', text }));

const PLAIN_LINE = /^[A-Za-z0-9_./+][A-Za-z0-9_./:,@+-]*(?: [A-Za-z0-9_./:,@+-]+)*$/;

/** Words longer than this are described only by themselves and by a last `**`. */
const LONGEST_WORD = 4096;
const PARENT = /(?:^|\/)\.\.(?:\/|$)/;

function allowWord(text: string): (word: string) => boolean {
  if (!text.includes('*')) return (word) => word === text;
  const tokens = text.match(/\*+|[^*]/gsu) ?? [];
  const glob = compileGlob(text.replace(/\*+/g, '*'));
  return (word) =>
    word.length <= LONGEST_WORD &&
    !(text.startsWith('*') && word.startsWith('-')) &&
    (PARENT.test(text) || !PARENT.test(word)) &&
    glob(word) &&
    (!word.includes('/') || matchesTokens(tokens, word));
}

/** Pattern x word steps at worst. `*` takes no `/`, `**` any character. */
function matchesTokens(tokens: readonly string[], word: string): boolean {
  let open = pastWildcards(tokens, new Set([0]));
  for (const char of word.match(/./gsu) ?? []) {
    const next = new Set<number>();
    for (const at of open) {
      const token = tokens[at];
      if (token === undefined) continue;
      if (token.startsWith('*')) {
        if (char !== '/' || token.length > 1) next.add(at);
      } else if (char.startsWith(token) && char.length === token.length) next.add(at + 1);
    }
    if (next.size === 0) return false;
    open = pastWildcards(tokens, next);
  }
  return open.has(tokens.length);
}

function pastWildcards(tokens: readonly string[], open: Set<number>): Set<number> {
  for (const at of open) if (tokens[at]?.startsWith('*')) open.add(at + 1);
  return open;
}

function denyWord(text: string, name: boolean): (word: string) => boolean {
  const fits = compileGlob(text.replace(/\*+/g, '*').toLowerCase());
  if (!name || text.includes('/')) return (word) => fits(word.toLowerCase());
  return (word) => fits(word.slice(word.lastIndexOf('/') + 1).toLowerCase()) || fits(word.toLowerCase());
}

/** Whether some reading of the words begins with what the pattern describes, options left out or not. */
function mayMatch(pattern: readonly ((word: string) => boolean)[], words: readonly ShellWord[]): boolean {
  // Positions of the pattern that may be next, after each word.
  let open = new Set([0]);
  for (const [at, word] of words.entries()) {
    if (open.has(pattern.length)) return true;
    const next = new Set<number>();
    if (word.kind === 'Pattern') {
      // Nothing, or any words at all: whatever the pattern lacks may be here.
      return true;
    }
    const option = at > 0 && word.text.startsWith('-');
    const value = at > 1 && isOption(words[at - 1]);
    for (const position of open) {
      if (pattern[position]!(word.text)) next.add(position + 1);
      // An option may stand anywhere, with a value after it.
      if (option || value) next.add(position);
    }
    if (next.size === 0) return false;
    open = next;
  }
  return open.has(pattern.length);
}

const isOption = (word: ShellWord | undefined): boolean => word?.kind === 'Literal' && word.text.startsWith('-');
