// Which columns the patterns of masks name, now and before: a column that was masked once stays so while it exists.
import type { CompiledMask } from '../../../policy/bundle.ts';
import { completePattern, matchesFolded } from './patterns.ts';
import { FIRST_USER_OID, type Snapshot } from './snapshot.ts';

/** (oid, attnum) of every column a mask's patterns ever matched, so that renaming it does not unmask it. By `pinKey`. */
export type Pins = Map<string, Map<number, Set<number>>>;
export const pinKey = (mask: CompiledMask): string => JSON.stringify(mask.columns);

const LEADS_TO_DATA = new Set(['r', 'p', 'v', 'm', 'f']);

/** Finds the columns that patterns name, and keeps those found before while they exist. */
export function matchColumns(snapshot: Snapshot, masks: readonly CompiledMask[], pins: Pins): void {
  for (const mask of masks) {
    const pinned = pins.get(pinKey(mask)) ?? new Map<number, Set<number>>();
    pins.set(pinKey(mask), pinned);
    for (const [oid, columns] of pinned) {
      const relation = snapshot.relations.get(oid);
      if (relation === undefined) pinned.delete(oid);
      else for (const number of columns) if (relation.columns.get(number)?.dropped !== false) columns.delete(number);
    }
    const patterns = mask.columns.map((pattern) => {
      const folded = completePattern(pattern, 3).toLowerCase();
      // Most columns of a large schema are told apart by how they end.
      return { folded, ending: folded.slice(folded.lastIndexOf('*') + 1) };
    });
    for (const relation of snapshot.relations.values()) {
      if (!LEADS_TO_DATA.has(relation.kind) || relation.oid < FIRST_USER_OID) continue;
      const prefix = `${relation.schema}.${relation.name}.`.toLowerCase();
      for (const column of relation.columns.values()) {
        if (column.dropped) continue;
        const name = prefix + column.name.toLowerCase();
        if (!patterns.some(({ folded, ending }) => name.endsWith(ending) && matchesFolded(folded, name))) continue;
        const columns = pinned.get(relation.oid) ?? new Set<number>();
        columns.add(column.number);
        pinned.set(relation.oid, columns);
      }
    }
  }
}
