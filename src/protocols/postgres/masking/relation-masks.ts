// What masks mean for one relation: the words that the closure computes and the judging of statements reads.
import type { CompiledMask } from '../../../policy/bundle.ts';
import type { CatalogRelation } from './snapshot.ts';

/** What masks mean for one relation. */
export interface RelationMasks {
  relation: CatalogRelation;
  /** Columns by number. */
  masked: Map<number, ColumnMask>;
  /** Columns computed from masked data somewhere below; why. They are never let out. */
  opaque: Map<number, string>;
  /** Whether masked data is below it at all, so that its errors may carry some. */
  touches: boolean;
  /** Code that runs when it is read and cannot be judged. */
  hazard: string | undefined;
}
export type ColumnMask = Pick<CompiledMask, 'ref' | 'with' | 'predicates'> & {
  /** Not by a policy but by this program, over system relations. */
  builtIn: boolean;
};

/** How the names in a statement are looked up. */
export interface QueryNames {
  /** Relations a name may mean; empty: none that is known. */
  candidates(schema: string | undefined, name: string): readonly CatalogRelation[];
  masksOf(oid: number): RelationMasks | undefined;
  /** Whether the database has a function of its own with that name. */
  hasOwnFunction(name: string): boolean;
  hasOwnOperator(name: string): boolean;
}

export function firstMask(masks: RelationMasks): ColumnMask | undefined {
  return masks.masked.values().next().value;
}

export function qualifiedName(relation: CatalogRelation): string {
  return `${relation.schema}.${relation.name}`;
}
