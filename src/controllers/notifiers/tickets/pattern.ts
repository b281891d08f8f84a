// Whether a ticket's number is what a policy's pattern says. Patterns come from a namespace's authors and run in the
// operator, so they are not handed to a regular-expression engine that may take forever: characters, classes and
// quantifiers without groups are matched state by state, in time linear in the text. Pure.
import { ticketPattern } from '../../../api/notifier.ts';

interface Atom {
  takes(character: string): boolean;
  least: number;
  most: number;
}

const LONGEST = 128;

/** Always anchored at both ends; a pattern that is not of the form takes nothing. */
export function matchesTicket(pattern: string, text: string): boolean {
  const atoms = ticketPattern.test(pattern) ? atomsOf(pattern.slice(1, -1)) : undefined;
  if (atoms === undefined || text.length > LONGEST) return false;
  // One state for every atom and how often it has been taken; counts above `least` of an unbounded atom are one.
  let states = closure(atoms, new Set(['0 0']));
  for (const character of text) {
    const next = new Set<string>();
    for (const state of states) {
      const [at, count] = state.split(' ').map(Number) as [number, number];
      const atom = atoms[at];
      if (atom === undefined || count >= atom.most || !atom.takes(character)) continue;
      next.add(`${at} ${Math.min(count + 1, atom.most === Infinity ? atom.least : Infinity)}`);
    }
    states = closure(atoms, next);
    if (states.size === 0) return false;
  }
  return [...states].some((state) => Number(state.split(' ')[0]) === atoms.length);
}

/** Adds what is reached without taking a character: atoms that have been taken often enough are left. */
function closure(atoms: readonly Atom[], states: Set<string>): Set<string> {
  for (const state of states) {
    const [at, count] = state.split(' ').map(Number) as [number, number];
    const atom = atoms[at];
    // A Set's loop comes by what is added in it.
    if (atom !== undefined && count >= atom.least) states.add(`${at + 1} 0`);
  }
  return states;
}

function atomsOf(text: string): Atom[] | undefined {
  const atoms: Atom[] = [];
  for (const [, atom = '', quantifier = ''] of text.matchAll(/(\[[^\]]+\]|\\.|.)(\{[0-9,]+\}|[+?*])?/g)) {
    const bounds = boundsOf(quantifier);
    const takes = takerOf(atom);
    if (bounds === undefined || takes === undefined) return undefined;
    atoms.push({ takes, ...bounds });
  }
  return atoms;
}

function boundsOf(quantifier: string): { least: number; most: number } | undefined {
  switch (quantifier) {
    case '':
      return { least: 1, most: 1 };
    case '?':
      return { least: 0, most: 1 };
    case '*':
      return { least: 0, most: Infinity };
    case '+':
      return { least: 1, most: Infinity };
    default: {
      const [, least = '', comma, most = ''] = /^\{([0-9]+)(,)?([0-9]*)\}$/.exec(quantifier) ?? [];
      const low = Number(least);
      const high = comma === undefined ? low : most === '' ? Infinity : Number(most);
      return least === '' || high < low ? undefined : { least: low, most: high };
    }
  }
}

const DIGIT = /^[0-9]$/;
const WORD = /^[A-Za-z0-9_]$/;

function takerOf(atom: string): ((character: string) => boolean) | undefined {
  if (atom === '\\d') return (character) => DIGIT.test(character);
  if (atom === '\\w') return (character) => WORD.test(character);
  if (atom.startsWith('\\')) return (character) => character === atom.slice(1);
  if (!atom.startsWith('[')) return (character) => character === atom;
  const inside = atom.slice(1, -1);
  const ranges: (readonly [number, number])[] = [];
  for (let at = 0; at < inside.length; at += 1) {
    const from = inside.charCodeAt(at);
    if (inside[at + 1] === '-' && at + 2 < inside.length) {
      const to = inside.charCodeAt(at + 2);
      if (to < from) return undefined;
      ranges.push([from, to]);
      at += 2;
    } else ranges.push([from, from]);
  }
  return (character) => ranges.some(([from, to]) => character.charCodeAt(0) >= from && character.charCodeAt(0) <= to);
}
