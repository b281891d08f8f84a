// What a column reference may mean under any reading of its scope, and the sentence that refuses it.
import { nameKey } from './patterns.ts';
import { type ColumnMask, firstMask, qualifiedName, type RelationMasks } from './relation-masks.ts';
import type { Scope } from './scope.ts';
import type { CatalogRelation } from './snapshot.ts';
import type { ColumnRefUse } from './tree.ts';

export interface ColumnProblem {
  /** `schema.table.column`, or what is known of it. */
  column: string;
  mask: ColumnMask | undefined;
  why: string;
}

const SYSTEM_COLUMN_NAMES = new Set(['tableoid', 'xmin', 'cmin', 'xmax', 'cmax', 'ctid']);

type RefClass =
  | { kind: 'Clear' }
  /** May be the columns given; empty: an unseen relation's. */
  | { kind: 'Masked'; columns: { masks: RelationMasks; number: number }[] }
  | { kind: 'WholeRow'; masks: RelationMasks | undefined };

function columnsOf(masks: RelationMasks): { masks: RelationMasks; number: number }[] {
  return [...masks.masked.keys(), ...masks.opaque.keys()].map((number) => ({ masks, number }));
}

/** What a column reference may mean under any reading. */
export function classOf(use: ColumnRefUse, scope: Scope): RefClass {
  const unseen = scope.unseen.length > 0;
  const last = use.fields[use.fields.length - 1];
  if (use.star) {
    const label = last === undefined ? undefined : scope.labels.get(nameKey(last));
    if (label !== undefined) {
      if (label.sensitive.length === 0 && !label.unseen) return { kind: 'Clear' };
      return { kind: 'Masked', columns: label.sensitive.flatMap(columnsOf) };
    }
    const all = [...scope.labels.values()].flatMap((other) => other.sensitive);
    return all.length > 0 || unseen
      ? { kind: 'Masked', columns: [...new Set(all)].flatMap(columnsOf) }
      : { kind: 'Clear' };
  }
  if (last === undefined) return { kind: 'Clear' };
  if (use.fields.length === 1) {
    const whole = scope.labels.get(nameKey(last));
    if (whole !== undefined && (whole.sensitive.length > 0 || whole.unseen)) {
      return { kind: 'WholeRow', masks: whole.sensitive[0] };
    }
    const column = scope.columns.get(nameKey(last));
    if (column !== undefined) return { kind: 'Masked', columns: named(scope, last) };
    return unseen && !SYSTEM_COLUMN_NAMES.has(last) ? { kind: 'Masked', columns: [] } : { kind: 'Clear' };
  }
  const label = scope.labels.get(nameKey(use.fields[use.fields.length - 2]!));
  if (label === undefined) {
    return scope.columns.has(nameKey(last)) || unseen
      ? { kind: 'Masked', columns: named(scope, last) }
      : { kind: 'Clear' };
  }
  if (label.unseen) return { kind: 'Masked', columns: named(scope, last) };
  for (const masks of label.sensitive) {
    // `c.f` where f is no column of c is the call f(c).
    const known = SYSTEM_COLUMN_NAMES.has(last) || columnNumber(masks.relation, last) !== undefined;
    if (!known) return { kind: 'WholeRow', masks };
  }
  const columns = label.sensitive.flatMap((masks) => {
    const number = columnNumber(masks.relation, last);
    return number !== undefined && (masks.masked.has(number) || masks.opaque.has(number)) ? [{ masks, number }] : [];
  });
  return columns.length > 0 ? { kind: 'Masked', columns } : { kind: 'Clear' };
}

function named(scope: Scope, name: string): { masks: RelationMasks; number: number }[] {
  return [...scope.labels.values()].flatMap((label) =>
    label.sensitive.flatMap((masks) => {
      const number = columnNumber(masks.relation, name);
      return number !== undefined && (masks.masked.has(number) || masks.opaque.has(number)) ? [{ masks, number }] : [];
    }),
  );
}

function columnNumber(relation: CatalogRelation, name: string): number | undefined {
  const key = nameKey(name);
  for (const column of relation.columns.values()) {
    if (!column.dropped && nameKey(column.name) === key) return column.number;
  }
  return undefined;
}

export function maskOfPlainColumn(use: ColumnRefUse, scope: Scope): 'Deny' | 'Equality' | 'Any' | undefined {
  const kind = classOf(use, scope);
  if (kind.kind !== 'Masked' || use.star || kind.columns.length === 0) return undefined;
  let weakest: 'Equality' | 'Any' = 'Any';
  for (const { masks, number } of kind.columns) {
    const mask = masks.masked.get(number);
    if (mask === undefined || mask.predicates === 'Deny' || masks.opaque.has(number)) return 'Deny';
    if (mask.predicates === 'Equality') weakest = 'Equality';
  }
  return weakest;
}

export function mention(use: ColumnRefUse, scope: Scope): ColumnProblem | undefined {
  const kind = classOf(use, scope);
  if (kind.kind === 'Clear') return undefined;
  if (kind.kind === 'WholeRow') {
    return {
      column: kind.masks === undefined ? use.fields.join('.') : `${qualifiedName(kind.masks.relation)}.*`,
      mask: kind.masks === undefined ? undefined : firstMask(kind.masks),
      why: 'a whole row of its table is used as a value',
    };
  }
  const first = kind.columns[0];
  if (first === undefined) {
    return {
      column: [...use.fields, ...(use.star ? ['*'] : [])].join('.'),
      mask: undefined,
      why: `relation "${scope.unseen[0]}" is not known here (made in a transaction that is still open, or misspelt), so its columns can only be selected as they are`,
    };
  }
  return problemFor(
    first.masks,
    first.number,
    first.masks.opaque.get(first.number) ??
      'it can be selected as it is, but not computed with, compared, sorted by or passed on',
  );
}

export function problemFor(masks: RelationMasks, number: number, why: string): ColumnProblem {
  return {
    column: `${qualifiedName(masks.relation)}.${masks.relation.columns.get(number)?.name ?? '*'}`,
    mask: masks.masked.get(number) ?? firstMask(masks),
    why,
  };
}

export function describe(scope: Scope, name: string | undefined, why: string): ColumnProblem {
  const found = name === undefined ? undefined : scope.columns.get(nameKey(name));
  const any = found ?? scope.columns.values().next().value;
  if (any === undefined) return { column: name ?? scope.unseen[0] ?? '*', mask: undefined, why };
  return problemFor(any.masks, any.number, why);
}
