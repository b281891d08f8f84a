// Code that runs when a relation is written: triggers, rules, checks, defaults, foreign keys' actions. It runs beside
// masked data whatever the statement itself names, so it must be judged with it.
import type { Unjudged } from './code.ts';
import { badWords, bodyWords, firstIn, functionText } from './functions.ts';
import { matchesPattern, nameKey } from './patterns.ts';
import { qualifiedName, type RelationMasks } from './relation-masks.ts';
import type { Snapshot } from './snapshot.ts';
import type { Closing } from './spread.ts';

/** Bits of pg_trigger.tgtype. */
export const TRIGGER_INSERT = 4;
export const TRIGGER_DELETE = 8;
export const TRIGGER_UPDATE = 16;
export const TRIGGER_TRUNCATE = 32;

export interface WriteHazards {
  /** The first piece of code that runs and cannot be judged. `event`: bits of pg_trigger.tgtype. */
  writeHazard(oid: number, event: number): Unjudged | undefined;
  /** Whether writing it may write, through foreign keys, a relation with masked data, whose errors would tell. */
  cascades(oid: number): boolean;
}

export function findWriteHazards({ snapshot, index, marks, code }: Closing, trusted: readonly string[]): WriteHazards {
  const descendants = (oid: number): Set<number> => {
    const all = new Set([oid]);
    for (const at of all) {
      for (const { child, parent } of snapshot.inherits) if (parent === at) all.add(child);
      for (const { child, parent } of snapshot.cascades) if (parent === at) all.add(child);
      // An updatable view writes the relations below it.
      if (snapshot.relations.get(at)?.kind !== 'v') continue;
      for (const read of index.reads.get(at) ?? []) all.add(read);
    }
    return all;
  };
  const hazardOf = (oid: number, event: number): Unjudged | undefined => {
    const relation = snapshot.relations.get(oid);
    if (relation === undefined) return undefined;
    for (const expression of index.expressions.get(oid) ?? []) {
      const found = expression.kind === 'Policy' ? undefined : code.expression(expression);
      if (found !== undefined) return found;
    }
    for (const column of relation.columns.values()) {
      const found = code.type(column.type);
      if (found !== undefined) return found;
    }
    const masks = marks.relations.get(oid);
    for (const trigger of index.triggers.get(oid) ?? []) {
      if ((trigger.type & event) === 0) continue;
      const found = code.function(trigger.function) ?? copiesMasked(trigger.function, masks);
      if (found !== undefined) return found;
    }
    for (const rule of snapshot.rules) {
      if (rule.relation !== oid) continue;
      const why = badWords(bodyWords(rule, rule.definition), taintedNames()) ?? ruleCalls(rule);
      if (why !== undefined) return { what: `a rule on ${qualifiedName(relation)}`, why, trust: undefined };
    }
    return undefined;
  };
  const ruleCalls = (rule: Snapshot['rules'][number]): string | undefined => {
    const called = firstIn(bodyWords(rule, rule.definition).names, code.unclearedNames());
    return called === undefined ? undefined : `it uses ${called}, which is not cleared`;
  };
  const taintedNames = (): Set<string> =>
    new Set(
      [...marks.relations.values()].filter((masks) => masks.touches).map((masks) => nameKey(masks.relation.name)),
    );
  /** A trigger that reads the masked columns of its own row may carry them into others. */
  const copiesMasked = (oid: number, masks: RelationMasks | undefined): Unjudged | undefined => {
    const fn = snapshot.functions.get(oid);
    if (masks === undefined || fn === undefined) return undefined;
    if (trusted.some((pattern) => matchesPattern(pattern, `${fn.schema}.${fn.name}`))) return undefined;
    const columns = [...masks.masked.keys(), ...masks.opaque.keys()];
    if (columns.length === 0) return undefined;
    const words = bodyWords(fn, functionText(fn));
    const name = `${fn.schema}.${fn.name}`;
    if (words.wholeRow) return { what: `trigger function ${name}`, why: 'it passes whole rows on', trust: name };
    const column = columns
      .map((n) => masks.relation.columns.get(n)!.name)
      .find((column) => words.names.has(nameKey(column)));
    return column === undefined
      ? undefined
      : { what: `trigger function ${name}`, why: `it reads the masked column ${column}`, trust: name };
  };

  return {
    writeHazard(oid, event) {
      for (const at of descendants(oid)) {
        // A foreign key's action may delete or update where the statement does the other.
        const found = hazardOf(at, at === oid ? event : event | TRIGGER_UPDATE | TRIGGER_DELETE);
        if (found !== undefined) return found;
      }
      return undefined;
    },
    cascades: (oid) => [...descendants(oid)].some((at) => marks.relations.get(at)?.touches === true),
  };
}
