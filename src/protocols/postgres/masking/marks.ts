// What is known so far of a database's relations, while the closure is being computed. Marks only grow stricter, and there
// are finitely many, so the computation ends.
import { type ColumnMask, type RelationMasks } from './relation-masks.ts';
import type { CatalogRelation } from './snapshot.ts';

export interface Marks {
  readonly relations: ReadonlyMap<number, RelationMasks>;
  /** Where two masks meet, the stronger one stays. */
  mask(relation: CatalogRelation, number: number, mask: ColumnMask): void;
  makeOpaque(relation: CatalogRelation, number: number, why: string): void;
  touch(relation: CatalogRelation): void;
  /** Code that runs when it is read; the first one found is kept. */
  endanger(relation: CatalogRelation, hazard: string): void;
  /** Whether a mark was added since `settle`. */
  readonly grown: boolean;
  settle(): void;
}

export function createMarks(): Marks {
  const relations = new Map<number, RelationMasks>();
  let grown = false;
  const of = (relation: CatalogRelation): RelationMasks => {
    let found = relations.get(relation.oid);
    if (found === undefined) {
      found = { relation, masked: new Map(), opaque: new Map(), touches: false, hazard: undefined };
      relations.set(relation.oid, found);
    }
    return found;
  };
  return {
    relations,
    mask(relation, number, mask) {
      const target = of(relation);
      const before = target.masked.get(number);
      const after = before === undefined ? mask : stronger(before, mask);
      if (!mask.builtIn && !target.touches) {
        target.touches = true;
        grown = true;
      }
      if (before !== undefined && before.with === after.with && before.predicates === after.predicates) return;
      target.masked.set(number, after);
      grown = true;
    },
    makeOpaque(relation, number, why) {
      const target = of(relation);
      if (target.opaque.has(number)) return;
      target.opaque.set(number, why);
      grown = true;
    },
    touch(relation) {
      const target = of(relation);
      if (target.touches) return;
      target.touches = true;
      grown = true;
    },
    endanger(relation, hazard) {
      const target = of(relation);
      if (target.hazard !== undefined) return;
      target.hazard = hazard;
      grown = true;
    },
    get grown() {
      return grown;
    },
    settle() {
      grown = false;
    },
  };
}

/** Stronger masks win where several policies name one column. */
const STRENGTH = { Null: 3, Redact: 2, Last4: 1, Email: 1 } as const;
function stronger(a: ColumnMask, b: ColumnMask): ColumnMask {
  const rank = { Deny: 2, Equality: 1, Any: 0 } as const;
  const kept =
    STRENGTH[a.with] === STRENGTH[b.with] && a.with !== b.with
      ? { ...a, with: 'Redact' as const } // Last4 and Email together: neither may show what the other hides
      : STRENGTH[b.with] > STRENGTH[a.with]
        ? b
        : a;
  const strictest = rank[a.predicates] >= rank[b.predicates] ? a.predicates : b.predicates;
  return kept.predicates === strictest ? kept : { ...kept, predicates: strictest };
}
