// How things look: aligned tables, lists of facts, and the machine-readable forms. Pure. Text that others wrote is shown
// harmless: nothing in a reason or a statement can move the cursor, hide itself, or change what is read after it.
import { createRequire } from 'node:module';
import { formatDuration } from '../api/duration.ts';
import type { Resource } from '../api/resource.ts';

/** Control characters but those that JSON and YAML spell out or lay out by (YAML writes a tab as it is), marks that turn or hide text, and separators. */
const UNSPELLED = /[\t\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu;
const units = (text: string): string =>
  Array.from({ length: text.length }, (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`).join('');

/** JSON of a value, which terminals may show: what would act on them is spelled `\u009b`, and reads back the same. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(UNSPELLED, units);
}

/** YAML of a value, as harmless as `jsonText`. Its writer is loaded when it is first wanted: most verbs print none, and each starts anew. */
export function yamlText(value: unknown): string {
  const { Document, visit } = createRequire(import.meta.url)('yaml') as typeof import('yaml');
  const document = new Document(value);
  visit(document, {
    Scalar(_key, node) {
      // Only there can a character be spelled by its number.
      if (typeof node.value === 'string' && node.value.search(UNSPELLED) >= 0) node.type = 'QUOTE_DOUBLE';
    },
  });
  return document.toString().replace(UNSPELLED, units);
}

export type OutputForm = 'table' | 'wide' | 'json' | 'yaml' | 'name';

const HARMFUL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu;
const escaped = (char: string): string => `\\u{${char.codePointAt(0)!.toString(16)}}`;

/** One line. */
export function line(text: string): string {
  return text.replace(/[\r\n\t]+/g, ' ').replace(HARMFUL, escaped);
}

/** Several lines, each indented; line breaks and tabs are kept. */
export function block(text: string, indent = '    '): string {
  return text
    .replace(/\r\n?/g, '\n')
    .split('\n')
    .map((each) => indent + each.replace(HARMFUL, (char) => (char === '\t' ? '  ' : escaped(char))))
    .join('\n');
}

/** Columns as wide as their widest cell, three spaces apart, no trailing space. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows.map((row) => row.map(line))];
  const widths = header.map((_, column) => Math.max(...all.map((row) => width(row[column] ?? ''))));
  return all
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell + ' '.repeat(widths[column]! - width(cell))))
        .join('   ')
        .trimEnd(),
    )
    .map((each) => `${each}\n`)
    .join('');
}

const width = (text: string): number => Array.from(text).length;

/** `Who    alice` lines; undefined values are left out. */
export function facts(entries: readonly (readonly [string, string | undefined])[]): string {
  const shown = entries.filter((entry): entry is [string, string] => entry[1] !== undefined);
  const widest = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(widest)}   ${value}\n`).join('');
}

/** Objects in the form that was asked for; undefined: draw the table yourself. */
export function machineForm(form: OutputForm, items: readonly unknown[]): string | undefined {
  switch (form) {
    case 'json':
      return `${jsonText({ apiVersion: 'v1', kind: 'List', items }, 2)}\n`;
    case 'yaml':
      return items.length === 0 ? '' : items.map((item) => yamlText(item)).join('---\n');
    case 'name':
      return (items as Resource[]).map((item) => `${item.kind.toLowerCase()}/${item.metadata.name}\n`).join('');
    case 'table':
    case 'wide':
      return undefined;
  }
}

/** One object in the form that was asked for; undefined: describe it yourself. */
export function machineObject(form: OutputForm, object: Resource): string | undefined {
  return form === 'json' ? `${jsonText(object, 2)}\n` : machineForm(form, [object]);
}

/** `12m`, `3h5m`: at most two parts, for tables. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return formatDuration(Math.floor(seconds / 60) * 60_000);
  return `${Math.floor(seconds / 86_400)}d`;
}

/** `15:04:00Z`, with the day where it is not today. */
export function clockTime(text: string | undefined, nowMs: number): string {
  if (text === undefined) return '';
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return line(text);
  const iso = at.toISOString();
  const time = `${iso.slice(11, 19)}Z`;
  return iso.slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10) ? time : `${iso.slice(0, 10)} ${time}`;
}
