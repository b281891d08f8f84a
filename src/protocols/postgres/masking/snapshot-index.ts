// A snapshot's relations, functions, operators and types by name, and what belongs to what.
import { nameKey } from './patterns.ts';
import type { CatalogRelation, Snapshot } from './snapshot.ts';

export interface SnapshotIndex {
  /** Relations of that name, in that schema or in any. */
  relations(schema: string | undefined, name: string): readonly CatalogRelation[];
  /** Oids of the database's own functions; by the name's key. */
  functions: ReadonlyMap<string, readonly number[]>;
  /** Functions behind the database's own operators. */
  operators: ReadonlyMap<string, readonly number[]>;
  types: ReadonlyMap<string, readonly number[]>;
  /** By the relation or type they belong to. */
  expressions: ReadonlyMap<number, Snapshot['expressions']>;
  triggers: ReadonlyMap<number, Snapshot['triggers']>;
  /** Relations that a view reads. */
  reads: ReadonlyMap<number, ReadonlySet<number>>;
}

export function indexSnapshot(snapshot: Snapshot): SnapshotIndex {
  const byName = grouped(
    snapshot.relations.values(),
    (relation) => nameKey(relation.name),
    (relation) => relation,
  );
  return {
    relations(schema, name) {
      const found = byName.get(nameKey(name)) ?? [];
      if (schema === undefined) return found;
      return found.filter(
        (r) => nameKey(r.schema) === nameKey(schema) || (schema === 'pg_temp' && r.schema.startsWith('pg_temp_')),
      );
    },
    functions: grouped(
      snapshot.functions.values(),
      (fn) => nameKey(fn.name),
      (fn) => fn.oid,
    ),
    operators: grouped(
      snapshot.operators,
      (operator) => operator.name,
      (operator) => operator.function,
    ),
    types: grouped(
      snapshot.types.values(),
      (type) => nameKey(type.name),
      (type) => type.oid,
    ),
    expressions: grouped(
      snapshot.expressions,
      (expression) => expression.relation,
      (expression) => expression,
    ),
    triggers: grouped(
      snapshot.triggers,
      (trigger) => trigger.relation,
      (trigger) => trigger,
    ),
    reads: new Map(
      [
        ...grouped(
          snapshot.viewReads,
          (read) => read.view,
          (read) => read.relation,
        ),
      ].map(([view, reads]) => [view, new Set(reads)]),
    ),
  };
}

function grouped<T, K, V>(items: Iterable<T>, keyOf: (item: T) => K, valueOf: (item: T) => V): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [valueOf(item)]);
    else group.push(valueOf(item));
  }
  return groups;
}
