// How commands, effects and rules are spelled in messages. Names come from clients and targets: control, invisible and
// direction-changing characters are shown as escapes, and everything is cut to a length that fits a terminal.
import type { Command, Effect } from './command.ts';
import type { Decision, RuleRef } from './decision.ts';

const LONGEST_NAME = 80;
const MOST_OBJECTS = 3;

/** One line of harmless text. Cut with `…` after `most` characters. */
export function safeText(text: string, most: number = LONGEST_NAME): string {
  const shown = text.length > most ? `${text.slice(0, most)}…` : text;
  return shown.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}

/** With a full stop, where it does not end a sentence yet. */
export const sentence = (text: string): string => (text === '' || /[.!?]$/.test(text) ? text : `${text}.`);

/** What is not in order, from the name the compiler gave it: `policy payments/team`, `Connection payments/orders-db`. */
export function brokenTitle(name: string): string {
  const split = name.indexOf(' ');
  const kind = split < 0 ? 'policy' : name.slice(0, split);
  if (kind === 'file') return 'a file that may hold policies';
  if (name.endsWith('(unreadable)')) return `${/^[AEIOU]/.test(kind) ? 'an' : 'a'} ${kind} whose name can not be read`;
  return safeText(split < 0 ? `policy ${name}` : name, 200);
}

/** `public.orders`; parts that are not known are left out; empty for no object. */
export function objectText(object: readonly string[]): string {
  const known = object.filter((part) => part !== '*');
  // What follows is a path, an address, a name of another kind: no part of a dotted one.
  return safeText(known.join(KINDS.test(object[0] ?? '') ? ' ' : '.'));
}

const KINDS = /^(?:file|tcp|listen|socket|env|subsystem)$/;

/** `Write on public.orders`, `Session`. */
export function effectText(effect: Effect): string {
  const object = objectText(effect.object);
  return object === '' ? effect.action : `${effect.action} on ${object}`;
}

/** Objects that are compared with each other; of more the title shows only the first anyway. */
const MOST_COMPARED = 200;
/** Verbs that take their object without a word between. */
const DIRECT = /^(?:SET|RESET|LISTEN|CALL|LOAD|exec|forward|listen|(?:sftp|scp|rsync) .*)$/;

/** What the command is, for people: `DROP TABLE orders`, `UPDATE on orders`, `BEGIN`. Never its text. */
export function commandTitle(command: Command): string {
  const verb = safeText(command.verb, 64);
  const words = command.verb.toLowerCase();
  const objects = command.effects.map(({ object }) => withoutKind(words, object));
  const telling = objects.length > MOST_COMPARED ? objects : objects.filter((object) => !isPrefix(object, objects));
  const names = distinct(telling.map((object) => kindAndName(object, objects))).filter((name) => name !== '');
  if (names.length === 0) return verb;
  const direct =
    DIRECT.test(verb) ||
    command.effects.some(({ action, object }, at) => action === 'Define' || object.length > objects[at]!.length);
  return `${verb} ${direct ? '' : 'on '}${listText(names)}`;
}

/** `['function', 'app', 'f']` of DROP FUNCTION is `app.f`, and DO does nothing to an object `do`: the verb said it. */
function withoutKind(words: string, object: readonly string[]): readonly string[] {
  const [kind] = object;
  const told = kind?.split(' ').some((word) => ` ${words} `.includes(` ${word} `)) === true;
  return told ? object.slice(1) : object;
}

/** `['role']` says nothing beside `['role', 'admin']`. */
function isPrefix(object: readonly string[], objects: readonly (readonly string[])[]): boolean {
  return objects.some((other) => other.length > object.length && object.every((part, at) => part === other[at]));
}

/** `role admin` where there is an effect on `role` as such, else `app.orders`. */
function kindAndName(object: readonly string[], objects: readonly (readonly string[])[]): string {
  const kind =
    objects.length <= MOST_COMPARED &&
    objects.some((other) => other.length === 1 && object.length > 1 && other[0] === object[0]);
  return kind ? `${objectText(object.slice(0, 1))} ${objectText(object.slice(1))}`.trim() : objectText(object);
}

/** `a, b and 2 more`. */
export function listText(items: readonly string[], most: number = MOST_OBJECTS): string {
  if (items.length <= most) return items.join(', ');
  return `${items.slice(0, most).join(', ')} and ${items.length - most} more`;
}

export function distinct(items: readonly string[]): string[] {
  return [...new Set(items)];
}

/** `Policy payments/orders-team, rule "no-ddl"`. */
export function ruleText(ref: RuleRef): string {
  return `Policy ${ref.policy}, rule "${ref.rule}"`;
}

/**
 * The second line of a refusal: which policy and rule, the denial's id, and whether anything reached the target.
 * `target` is what the person calls it: `the database`.
 */
export function denialDetail(
  decision: Extract<Decision, { kind: 'Deny' }>,
  told: { denial?: string; target: string; reached?: boolean },
): string {
  const who = decision.by === undefined ? 'No rule' : ruleText(decision.by);
  const id = told.denial === undefined ? '' : ` (denial ${told.denial})`;
  return `${decision.by === undefined ? `${who} allows it` : who}${id}. ${
    told.reached === true ? `Part of it reached ${told.target}.` : `Nothing reached ${told.target}.`
  }`;
}

/** Rows indented by two, each column as wide as its widest cell; no trailing space. */
export function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, cell.length)));
  return rows.map((row) => `  ${row.map((cell, at) => cell.padEnd(widths[at]!)).join('  ')}`.trimEnd());
}
