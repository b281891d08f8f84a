// Options of programs, as getopt(3) reads them: enough to know where a wrapper's own words end. An option that a model
// does not list is refused, since it might take the next word, or run something.
import type { ShellWord } from './facts.ts';
import { refuse } from './refusal.ts';

export interface OptionModel {
  /** Letters without a value. */
  flags?: string;
  /** Letters with a value, in the same word or the next. */
  values?: string;
  /** Long names without and with a value (`--name=value` or the next word). */
  longFlags?: readonly string[];
  longValues?: readonly string[];
}

export interface ReadOptions {
  /** The first word that is no option. */
  at: number;
  /** By letter or long name; the last of each. */
  seen: ReadonlyMap<string, string>;
}

/** Reads from word `from`, up to the first word that is no option, or past `--`. */
export function readOptions(words: readonly ShellWord[], from: number, model: OptionModel): ReadOptions {
  const seen = new Map<string, string>();
  let at = from;
  const name = words[0]?.kind === 'Literal' ? words[0].text : '';
  const next = (): string => literal(words[++at], name);
  for (; at < words.length; at++) {
    const word = literal(words[at], name);
    if (word === '--') return { at: at + 1, seen };
    if (!word.startsWith('-') || word === '-') break;
    if (word.startsWith('--')) {
      const cut = word.indexOf('=');
      const long = cut < 0 ? word.slice(2) : word.slice(2, cut);
      if (model.longFlags?.includes(long) && cut < 0) seen.set(long, '');
      else if (model.longValues?.includes(long)) seen.set(long, cut < 0 ? next() : word.slice(cut + 1));
      else refuse(`an option of ${name} is not known here`);
      continue;
    }
    for (let index = 1; index < word.length; index++) {
      const letter = word[index]!;
      if (model.flags?.includes(letter)) seen.set(letter, '');
      else if (model.values?.includes(letter)) {
        seen.set(letter, index + 1 < word.length ? word.slice(index + 1) : next());
        break;
      } else refuse(`an option of ${name} is not known here`);
    }
  }
  return { at, seen };
}

/** What comes before a wrapper's command must be plain: an expansion there could be an option, or the command. */
export function literal(word: ShellWord | undefined, name: string): string {
  if (word === undefined) refuse(`${name} lacks a word`);
  if (word.kind === 'Pattern') refuse(`${name} has an expansion where its options are`);
  return word.text;
}
