// Which code of a database may run beside masked data, as statements name it: functions, operators, types with their
// domains and casts, expressions. Whether a function's body is harmless is judged in functions.ts; what cannot be read or
// is not known counts as able to do anything.
import { reachesStorage } from './builtin-reach.ts';
import { judgeFunctions } from './functions.ts';
import { parseOnce } from './parse-once.ts';
import { nameKey } from './patterns.ts';
import { FIRST_USER_OID, type Snapshot } from './snapshot.ts';
import type { SnapshotIndex } from './snapshot-index.ts';
import type { Mentions, NameUse } from './tree.ts';

export interface Unjudged {
  what: string;
  why: string;
  /** `schema.function` for `trustedFunctions`; undefined: nothing permits it. */
  trust: string | undefined;
}

export interface Code {
  /** Judges everything anew, given the names of relations that lead to masked data. True: more is not cleared than before. */
  judge(tainted: ReadonlySet<string>): boolean;
  /** Whether any cast is not cleared, so that columns' types have to be looked at. */
  readonly badCasts: boolean;
  function(oid: number): Unjudged | undefined;
  type(oid: number): Unjudged | undefined;
  expression(expression: Snapshot['expressions'][number]): Unjudged | undefined;
  /** The first thing among those named that cannot be judged. */
  mentioned(mentions: Mentions): Unjudged | undefined;
  /** Names of the database's own functions that are not cleared. */
  unclearedNames(): Set<string>;
}

export function judgeCode(snapshot: Snapshot, index: SnapshotIndex, trusted: readonly string[]): Code {
  let bad = new Map<number, string>();
  let castTypes = new Set<number>();
  const badFunction = (oid: number): Unjudged | undefined => {
    const fn = snapshot.functions.get(oid);
    if (fn === undefined) {
      return snapshot.reaching.has(oid)
        ? { what: 'a built-in function', why: 'it reads storage', trust: undefined }
        : undefined;
    }
    const why = bad.get(oid);
    const name = `${fn.schema}.${fn.name}`;
    return why === undefined ? undefined : { what: `function ${name}`, why, trust: name };
  };
  const findBadCasts = (): Set<number> => {
    const types = new Set<number>();
    for (const cast of snapshot.casts) {
      const fn = snapshot.functions.get(cast.function);
      // A new base type needs a superuser and comes with C casts of its own; those of extensions are taken as they are.
      if (fn?.language === 'c' && fn.extension !== undefined) continue;
      if (badFunction(cast.function) === undefined) continue;
      for (const type of [cast.source, cast.target]) if (type >= FIRST_USER_OID) types.add(type);
    }
    return types;
  };
  const badType = (oid: number, depth = 0): Unjudged | undefined => {
    const type = snapshot.types.get(oid);
    if (type === undefined || depth > 8) return undefined;
    for (const expression of index.expressions.get(oid) ?? []) {
      if (expression.kind !== 'Domain') continue;
      const found = badExpression(expression);
      if (found !== undefined) return found;
    }
    if (castTypes.has(oid)) {
      return {
        what: `type ${type.schema}.${type.name}`,
        why: 'it is cast by a function that is not cleared',
        trust: undefined,
      };
    }
    return badType(type.base, depth + 1) ?? badType(type.element, depth + 1);
  };
  const badExpression = (expression: Snapshot['expressions'][number]): Unjudged | undefined => {
    const parse = parseOnce(expression, `select (${expression.text})`);
    if (parse === 'Unreadable') {
      return {
        what: `an expression of ${snapshot.relations.get(expression.relation)?.name ?? 'a type'}`,
        why: 'it could not be read',
        trust: undefined,
      };
    }
    return unjudged(parse.mentions);
  };
  const functionUse = (use: NameUse): Unjudged | undefined => {
    const own = (index.functions.get(nameKey(use.name)) ?? []).filter(
      (oid) => use.schema === undefined || nameKey(snapshot.functions.get(oid)!.schema) === nameKey(use.schema),
    );
    for (const oid of own) {
      const found = badFunction(oid);
      if (found !== undefined) return found;
    }
    const builtin = use.schema === undefined || use.schema === 'pg_catalog' || use.schema === 'information_schema';
    if (builtin && snapshot.builtins.has(use.name)) {
      return reachesStorage(use.name)
        ? { what: `function ${use.name}`, why: 'it can read any table or storage', trust: undefined }
        : undefined;
    }
    if (own.length > 0) return undefined;
    const name = use.schema === undefined ? use.name : `${use.schema}.${use.name}`;
    return { what: `function ${name}`, why: 'no such function is known here', trust: undefined };
  };
  const unjudged = (mentions: Mentions): Unjudged | undefined => {
    for (const use of mentions.functions) {
      const found = functionUse(use);
      if (found !== undefined) return found;
    }
    for (const use of mentions.operators) {
      for (const oid of index.operators.get(use.name) ?? []) {
        const found = badFunction(oid);
        if (found !== undefined) return { ...found, what: `operator ${use.name} (${found.what})` };
      }
    }
    for (const use of mentions.types) {
      for (const oid of index.types.get(nameKey(use.name)) ??
        index.types.get(nameKey(use.name.replace(/^_/, ''))) ??
        []) {
        const found = badType(oid);
        if (found !== undefined) return found;
      }
    }
    // `c.f` and `(c).f` call f(c) where c has no column f.
    for (const name of attributeNames(mentions)) {
      if (!index.functions.has(nameKey(name)) && !(reachesStorage(name) && snapshot.builtins.has(name))) continue;
      const isColumn = mentions.relations.some((use) =>
        index
          .relations(use.schema, use.name)
          .some((r) => [...r.columns.values()].some((column) => column.name === name)),
      );
      const found = isColumn ? undefined : functionUse({ schema: undefined, name });
      if (found !== undefined) return found;
    }
    return undefined;
  };

  return {
    judge(tainted) {
      const names = new Set(tainted);
      for (const oid of castTypes) names.add(nameKey(snapshot.types.get(oid)!.name));
      const before = bad.size + castTypes.size;
      bad = judgeFunctions(snapshot, trusted, names);
      castTypes = findBadCasts();
      return bad.size + castTypes.size !== before;
    },
    get badCasts() {
      return castTypes.size > 0;
    },
    function: badFunction,
    type: (oid) => badType(oid),
    expression: badExpression,
    mentioned: unjudged,
    unclearedNames: () => new Set([...bad.keys()].map((oid) => nameKey(snapshot.functions.get(oid)!.name))),
  };
}

function attributeNames(mentions: Mentions): string[] {
  return [
    ...mentions.columns.flatMap((use) => (use.fields.length > 1 ? use.fields.slice(-1) : [])),
    ...mentions.attributes,
  ];
}
