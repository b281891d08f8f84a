// What masks mean for a whole database: which columns of which relations carry masked values, down and up inheritance,
// through views, materialized views, generated columns and row types; which functions, operators, types and relations
// run code that cannot be judged. A least fixed point, computed once per snapshot and set of masks; pure.
// Not covered, and documented so: tables that triggers or jobs copy masked values into, and foreign tables that lead back.
import type { CompiledMask } from '../../../policy/bundle.ts';
import { SYSTEM_COLUMNS } from './builtin-reach.ts';
import { judgeCode, type Unjudged } from './code.ts';
import { createMarks, type Marks } from './marks.ts';
import { nameKey } from './patterns.ts';
import { matchColumns, type Pins, pinKey } from './pins.ts';
import type { QueryNames, RelationMasks } from './relation-masks.ts';
import { FIRST_USER_OID, type Snapshot } from './snapshot.ts';
import { indexSnapshot, type SnapshotIndex } from './snapshot-index.ts';
import { type Closing, spreadColumns, spreadReaders } from './spread.ts';
import type { Mentions } from './tree.ts';
import { findWriteHazards, type WriteHazards } from './write-hazards.ts';

export interface Closure extends QueryNames, WriteHazards {
  snapshot: Snapshot;
  /** Whether any column of this database is masked by policy. */
  active: boolean;
  /** Only relations that masks or unjudged code concern. */
  relations: ReadonlyMap<number, RelationMasks>;
  /** The first thing among those named that cannot be judged, as people write it, and why. */
  unjudged(mentions: Mentions): Unjudged | undefined;
}

export function computeClosure(
  snapshot: Snapshot,
  masks: readonly CompiledMask[],
  trusted: readonly string[],
  pins: Pins,
): Closure {
  matchColumns(snapshot, masks, pins);
  const index = indexSnapshot(snapshot);
  const marks = createMarks();
  const active = markByPolicy(marks, snapshot, masks, pins);
  markSystemColumns(marks, index, masks);

  const code = judgeCode(snapshot, index, trusted);
  const names: QueryNames = {
    candidates: index.relations,
    masksOf: (oid) => marks.relations.get(oid),
    hasOwnFunction: (name) => index.functions.has(nameKey(name)),
    hasOwnOperator: (name) => index.operators.has(name),
  };
  const closing: Closing = { snapshot, index, names, marks, code };
  let moreCode: boolean;
  do {
    marks.settle();
    spreadColumns(closing);
    moreCode = code.judge(taintedNames(marks));
    spreadReaders(closing);
  } while (marks.grown || moreCode);

  return {
    ...names,
    ...findWriteHazards(closing, trusted),
    snapshot,
    active,
    relations: marks.relations,
    unjudged: code.mentioned,
  };
}

/** Whether there are any such columns. */
function markByPolicy(marks: Marks, snapshot: Snapshot, masks: readonly CompiledMask[], pins: Pins): boolean {
  let any = false;
  for (const mask of masks) {
    for (const [oid, columns] of pins.get(pinKey(mask)) ?? []) {
      const relation = snapshot.relations.get(oid);
      if (relation === undefined) continue;
      for (const number of columns) {
        marks.mask(relation, number, { ref: mask.ref, with: mask.with, predicates: mask.predicates, builtIn: false });
        any = true;
      }
    }
  }
  return any;
}

/** Statistics and the like hold samples of every column's values. */
function markSystemColumns(marks: Marks, index: SnapshotIndex, masks: readonly CompiledMask[]): void {
  const anyRef = masks[0]?.ref ?? { policy: '', rule: '' };
  for (const [name, columns] of Object.entries(SYSTEM_COLUMNS)) {
    for (const relation of index.relations(undefined, name)) {
      if (relation.oid >= FIRST_USER_OID) continue;
      for (const column of relation.columns.values()) {
        if (!columns.includes(column.name)) continue;
        marks.mask(relation, column.number, { ref: anyRef, with: 'Null', predicates: 'Deny', builtIn: true });
      }
    }
  }
}

/** Names of relations whose reading leads to masked data or runs unjudged code. */
function taintedNames(marks: Marks): Set<string> {
  const names = new Set<string>();
  for (const masks of marks.relations.values()) {
    if (masks.touches || masks.hazard !== undefined) names.add(nameKey(masks.relation.name));
  }
  return names;
}
