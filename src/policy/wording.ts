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

/** `public.orders`; parts that are not known are left out; empty for no object. */
export function objectText(object: readonly string[]): string {
  return safeText(object.filter((part) => part !== '*').join('.'));
}

/** `Write on public.orders`, `Session`. */
export function effectText(effect: Effect): string {
  const object = objectText(effect.object);
  return object === '' ? effect.action : `${effect.action} on ${object}`;
}

/** What the command is, for people: `DROP TABLE orders`, `UPDATE on orders`, `BEGIN`. Never its text. */
export function commandTitle(command: Command): string {
  const verb = safeText(command.verb, 64);
  const objects = distinct(command.effects.map((effect) => objectText(effect.object)).filter((name) => name !== ''));
  if (objects.length === 0) return verb;
  const defines = command.effects.some(({ action }) => action === 'Define');
  return `${verb} ${defines ? '' : 'on '}${listText(objects)}`;
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
