// What masks mean for a whole database: which columns of which relations carry masked values, down and up inheritance,
// through views, materialized views, generated columns and row types; which functions, operators, types and relations
// run code that cannot be judged. A least fixed point, computed once per snapshot and set of masks; pure.
// Not covered, and documented so: tables that triggers or jobs copy masked values into, and foreign tables that lead back.
import { parseSync } from 'libpg-query';
import type { CompiledMask } from '../../../policy/bundle.ts';
import { reachesStorage, SYSTEM_COLUMNS } from './builtin-reach.ts';
import { badWords, bodyWords, firstIn, functionText, judgeFunctions } from './functions.ts';
import { completePattern, matchesFolded, matchesPattern, nameKey } from './patterns.ts';
import { judgeQuery } from './query.ts';
import { type ColumnMask, type QueryNames, qualifiedName, type RelationMasks } from './relation-masks.ts';
import { type CatalogRelation, FIRST_USER_OID, type Snapshot } from './snapshot.ts';
import { type Mentions, mentionsOf, type NameUse } from './tree.ts';

/** (oid, attnum) of every column a mask's patterns ever matched, so that renaming it does not unmask it. By `pinKey`. */
export type Pins = Map<string, Map<number, Set<number>>>;
const pinKey = (mask: CompiledMask): string => JSON.stringify(mask.columns);

export interface Closure extends QueryNames {
  snapshot: Snapshot;
  /** Whether any column of this database is masked by policy. */
  active: boolean;
  /** Only relations that masks or unjudged code concern. */
  relations: ReadonlyMap<number, RelationMasks>;
  /** The first thing among those named that cannot be judged, as people write it, and why. */
  unjudged(mentions: Mentions): Unjudged | undefined;
  /** Code that runs when the relation is written and cannot be judged. `event`: bits of pg_trigger.tgtype. */
  writeHazard(oid: number, event: number): Unjudged | undefined;
  /** Whether writing it may write, through foreign keys, a relation with masked data, whose errors would tell. */
  cascades(oid: number): boolean;
}
export interface Unjudged {
  what: string;
  why: string;
  /** `schema.function` for `trustedFunctions`; undefined: nothing permits it. */
  trust: string | undefined;
}

export const TRIGGER_INSERT = 4;
export const TRIGGER_DELETE = 8;
export const TRIGGER_UPDATE = 16;
export const TRIGGER_TRUNCATE = 32;

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

const parsed = new WeakMap<object, { tree: unknown; mentions: Mentions } | 'Unreadable'>();
function parseOnce(owner: object, sql: string): { tree: unknown; mentions: Mentions } | 'Unreadable' {
  const known = parsed.get(owner);
  if (known !== undefined) return known;
  let result: { tree: unknown; mentions: Mentions } | 'Unreadable' = 'Unreadable';
  try {
    const tree = parseSync(sql).stmts?.[0]?.stmt;
    if (tree !== undefined) result = { tree, mentions: mentionsOf(tree) };
  } catch {
    // stays Unreadable: whoever asks treats it as able to do anything
  }
  parsed.set(owner, result);
  return result;
}

export function computeClosure(
  snapshot: Snapshot,
  masks: readonly CompiledMask[],
  trusted: readonly string[],
  pins: Pins,
): Closure {
  matchColumns(snapshot, masks, pins);
  const relations = new Map<number, RelationMasks>();
  const byName = new Map<string, CatalogRelation[]>();
  for (const relation of snapshot.relations.values()) {
    const key = nameKey(relation.name);
    const same = byName.get(key);
    if (same === undefined) byName.set(key, [relation]);
    else same.push(relation);
  }
  let changed = true;
  const of = (relation: CatalogRelation): RelationMasks => {
    let found = relations.get(relation.oid);
    if (found === undefined) {
      found = { relation, masked: new Map(), opaque: new Map(), touches: false, hazard: undefined };
      relations.set(relation.oid, found);
    }
    return found;
  };
  const maskColumn = (relation: CatalogRelation, number: number, mask: ColumnMask): void => {
    const target = of(relation);
    const before = target.masked.get(number);
    const after = before === undefined ? mask : stronger(before, mask);
    if (!mask.builtIn && !target.touches) {
      target.touches = true;
      changed = true;
    }
    if (before !== undefined && before.with === after.with && before.predicates === after.predicates) {
      return;
    }
    target.masked.set(number, after);
    changed = true;
  };
  const makeOpaque = (relation: CatalogRelation, number: number, why: string): void => {
    const target = of(relation);
    if (target.opaque.has(number)) return;
    target.opaque.set(number, why);
    changed = true;
  };
  const setTouches = (relation: CatalogRelation): void => {
    const target = of(relation);
    if (target.touches) return;
    target.touches = true;
    changed = true;
  };

  let active = false;
  for (const mask of masks) {
    for (const [oid, columns] of pins.get(pinKey(mask)) ?? []) {
      const relation = snapshot.relations.get(oid);
      if (relation === undefined) continue;
      for (const number of columns) {
        maskColumn(relation, number, { ref: mask.ref, with: mask.with, predicates: mask.predicates, builtIn: false });
        active = true;
      }
    }
  }
  const anyRef = masks[0]?.ref ?? { policy: '', rule: '' };
  for (const [name, columns] of Object.entries(SYSTEM_COLUMNS)) {
    for (const relation of byName.get(name) ?? []) {
      if (relation.oid >= FIRST_USER_OID) continue;
      for (const column of relation.columns.values()) {
        if (!columns.includes(column.name)) continue;
        maskColumn(relation, column.number, { ref: anyRef, with: 'Null', predicates: 'Deny', builtIn: true });
      }
    }
  }

  const ownFunctions = new Map<string, number[]>();
  for (const fn of snapshot.functions.values()) {
    const key = nameKey(fn.name);
    const same = ownFunctions.get(key);
    if (same === undefined) ownFunctions.set(key, [fn.oid]);
    else same.push(fn.oid);
  }
  const ownOperators = new Map<string, number[]>();
  for (const operator of snapshot.operators) {
    ownOperators.set(operator.name, [...(ownOperators.get(operator.name) ?? []), operator.function]);
  }
  const ownTypes = new Map<string, number[]>();
  for (const type of snapshot.types.values()) {
    ownTypes.set(nameKey(type.name), [...(ownTypes.get(nameKey(type.name)) ?? []), type.oid]);
  }

  let bad = new Map<number, string>();
  const candidates = (schema: string | undefined, name: string): readonly CatalogRelation[] => {
    const found = byName.get(nameKey(name)) ?? [];
    if (schema === undefined) return found;
    return found.filter(
      (r) => nameKey(r.schema) === nameKey(schema) || (schema === 'pg_temp' && r.schema.startsWith('pg_temp_')),
    );
  };
  const names: QueryNames = {
    candidates,
    masksOf: (oid) => relations.get(oid),
    hasOwnFunction: (name) => ownFunctions.has(nameKey(name)),
    hasOwnOperator: (name) => ownOperators.has(name),
  };
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
  const expressionOwners = new Map<number, Snapshot['expressions']>();
  for (const expression of snapshot.expressions) {
    const same = expressionOwners.get(expression.relation);
    if (same === undefined) expressionOwners.set(expression.relation, [expression]);
    else same.push(expression);
  }
  const badCasts = (): Set<number> => {
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
    for (const expression of expressionOwners.get(oid) ?? []) {
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
    const own = (ownFunctions.get(nameKey(use.name)) ?? []).filter(
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
      for (const oid of ownOperators.get(use.name) ?? []) {
        const found = badFunction(oid);
        if (found !== undefined) return { ...found, what: `operator ${use.name} (${found.what})` };
      }
    }
    for (const use of mentions.types) {
      for (const oid of ownTypes.get(nameKey(use.name)) ?? ownTypes.get(nameKey(use.name.replace(/^_/, ''))) ?? []) {
        const found = badType(oid);
        if (found !== undefined) return found;
      }
    }
    // `c.f` and `(c).f` call f(c) where c has no column f.
    for (const name of attributeNames(mentions)) {
      if (!ownFunctions.has(nameKey(name)) && !(reachesStorage(name) && snapshot.builtins.has(name))) continue;
      const isColumn = mentions.relations.some((use) =>
        candidates(use.schema, use.name).some((r) => [...r.columns.values()].some((column) => column.name === name)),
      );
      const found = isColumn ? undefined : functionUse({ schema: undefined, name });
      if (found !== undefined) return found;
    }
    return undefined;
  };

  const readsOf = new Map<number, Set<number>>();
  for (const read of snapshot.viewReads) {
    const same = readsOf.get(read.view);
    if (same === undefined) readsOf.set(read.view, new Set([read.relation]));
    else same.add(read.relation);
  }
  let castTypes = new Set<number>();
  while (changed) {
    changed = false;
    spreadInheritance();
    spreadRowTypes();
    spreadGenerated();
    const tainted = new Set<string>();
    for (const masks of relations.values()) {
      if (masks.touches || masks.hazard !== undefined) tainted.add(nameKey(masks.relation.name));
    }
    for (const oid of castTypes) tainted.add(nameKey(snapshot.types.get(oid)!.name));
    const next = judgeFunctions(snapshot, trusted, tainted);
    if (next.size !== bad.size) changed = true;
    bad = next;
    const casts = badCasts();
    if (casts.size !== castTypes.size) changed = true;
    castTypes = casts;
    spreadTypes();
    spreadViews();
    spreadPolicies();
  }

  function spreadInheritance(): void {
    for (const { child, parent } of snapshot.inherits) {
      const below = snapshot.relations.get(child);
      const above = snapshot.relations.get(parent);
      if (below === undefined || above === undefined) continue;
      copyByName(above, below);
      copyByName(below, above);
    }
  }
  function copyByName(from: CatalogRelation, to: CatalogRelation): void {
    const source = relations.get(from.oid);
    if (source === undefined) return;
    if (source.touches) setTouches(to);
    for (const column of to.columns.values()) {
      if (column.dropped) continue;
      for (const [number, mask] of source.masked) {
        if (from.columns.get(number)?.name === column.name) maskColumn(to, column.number, mask);
      }
      for (const [number, why] of source.opaque) {
        if (from.columns.get(number)?.name === column.name) makeOpaque(to, column.number, why);
      }
    }
  }
  /** A column whose type is the row type of a masked table holds its rows. */
  function spreadRowTypes(): void {
    const carrying = new Set<number>();
    for (const type of snapshot.types.values()) {
      const masks = relations.get(type.relation);
      if (masks !== undefined && masks.masked.size + masks.opaque.size > 0) carrying.add(type.oid);
    }
    for (let grown = carrying.size > 0; grown; ) {
      grown = false;
      for (const type of snapshot.types.values()) {
        if (carrying.has(type.oid)) continue;
        const composite = snapshot.relations.get(type.relation);
        const inside = composite?.kind === 'c' && [...composite.columns.values()].some((c) => carrying.has(c.type));
        if (carrying.has(type.element) || carrying.has(type.base) || inside) {
          carrying.add(type.oid);
          grown = true;
        }
      }
    }
    if (carrying.size === 0) return;
    for (const relation of snapshot.relations.values()) {
      for (const column of relation.columns.values()) {
        if (!carrying.has(column.type)) continue;
        makeOpaque(relation, column.number, 'it holds rows of a masked table');
        setTouches(relation);
      }
    }
  }
  function spreadGenerated(): void {
    for (const expression of snapshot.expressions) {
      if (expression.kind !== 'Generated') continue;
      const masks = relations.get(expression.relation);
      if (masks === undefined || masks.masked.size + masks.opaque.size === 0) continue;
      const parse = parseOnce(expression, `select (${expression.text})`);
      const words = parse === 'Unreadable' ? undefined : parse.mentions.columns.flatMap((use) => use.fields);
      const source = [...masks.masked].find(([number]) => {
        const name = masks.relation.columns.get(number)?.name;
        return words === undefined || (name !== undefined && words.includes(name));
      });
      // What it shows of the value is not known, so the source's mask may not fit: all of it is hidden.
      if (source !== undefined) maskColumn(masks.relation, expression.column, { ...source[1], with: 'Null' });
      const hidden = [...masks.opaque.keys()].some((number) => {
        const name = masks.relation.columns.get(number)?.name;
        return number !== expression.column && (words === undefined || (name !== undefined && words.includes(name)));
      });
      if (hidden) makeOpaque(masks.relation, expression.column, 'it is generated from masked data');
    }
  }
  function spreadViews(): void {
    for (const [oid, view] of snapshot.views) {
      const relation = snapshot.relations.get(oid);
      if (relation === undefined) continue;
      const parse = parseOnce(view, view.definition);
      const judgement = parse === 'Unreadable' ? undefined : judgeQuery(parse.tree, names, parse.mentions);
      const reads = [...(readsOf.get(oid) ?? [])].flatMap((read) => relations.get(read) ?? []);
      const below = [...reads, ...(judgement?.relations.flatMap((use) => use.masks ?? []) ?? [])];
      if (below.some((masks) => masks.touches)) setTouches(relation);
      const code = parse === 'Unreadable' ? undefined : unjudged(parse.mentions);
      const hazard =
        code?.what ??
        below.find((masks) => masks.hazard !== undefined)?.hazard ??
        (parse === 'Unreadable' ? 'its definition' : undefined);
      if (hazard !== undefined && of(relation).hazard === undefined) {
        of(relation).hazard = hazard;
        changed = true;
      }
      if (below.every((masks) => masks.masked.size + masks.opaque.size === 0 && !masks.touches)) continue;
      const sound = judgement !== undefined && judgement.problem === undefined && judgement.unseen.length === 0;
      for (const column of relation.columns.values()) {
        const origin = view.origins?.[column.number - 1];
        const inner = origin === undefined ? undefined : relations.get(origin.tableOid);
        if (origin === undefined) {
          makeOpaque(relation, column.number, 'its view could not be described');
        } else if (origin.tableOid === 0) {
          if (!sound || judgement.outputs.has(origin.name)) {
            makeOpaque(relation, column.number, `view ${qualifiedName(relation)} computes it beside masked data`);
          }
        } else if (!snapshot.relations.has(origin.tableOid) || origin.attributeNumber <= 0) {
          if (origin.attributeNumber === 0) makeOpaque(relation, column.number, 'it holds whole rows');
        } else {
          const mask = inner?.masked.get(origin.attributeNumber);
          const why = inner?.opaque.get(origin.attributeNumber);
          if (mask !== undefined) maskColumn(relation, column.number, mask);
          if (why !== undefined) makeOpaque(relation, column.number, why);
        }
      }
    }
  }
  /** A value of such a type may be cast by whatever is done with it, also without a word of it in the statement. */
  function spreadTypes(): void {
    if (castTypes.size === 0) return;
    for (const relation of snapshot.relations.values()) {
      for (const column of relation.columns.values()) {
        if (column.type < FIRST_USER_OID || relations.get(relation.oid)?.hazard !== undefined) continue;
        const found = badType(column.type);
        if (found === undefined) continue;
        of(relation).hazard = found.what;
        changed = true;
      }
    }
  }
  /** Row-level policies run on every read. */
  function spreadPolicies(): void {
    for (const expression of snapshot.expressions) {
      const relation = snapshot.relations.get(expression.relation);
      if (expression.kind !== 'Policy' || relation === undefined) continue;
      const found = badExpression(expression);
      if (found !== undefined && of(relation).hazard === undefined) {
        of(relation).hazard = found.what;
        changed = true;
      }
      const parse = parseOnce(expression, `select (${expression.text})`);
      const reads = parse === 'Unreadable' ? [] : parse.mentions.relations;
      if (reads.some((use) => candidates(use.schema, use.name).some((r) => relations.get(r.oid)?.touches))) {
        setTouches(relation);
      }
    }
  }

  const triggersOf = new Map<number, Snapshot['triggers']>();
  for (const trigger of snapshot.triggers) {
    triggersOf.set(trigger.relation, [...(triggersOf.get(trigger.relation) ?? []), trigger]);
  }
  const descendants = (oid: number): Set<number> => {
    const all = new Set([oid]);
    for (const at of all) {
      for (const { child, parent } of snapshot.inherits) if (parent === at) all.add(child);
      for (const { child, parent } of snapshot.cascades) if (parent === at) all.add(child);
      // An updatable view writes the relations below it.
      if (snapshot.relations.get(at)?.kind !== 'v') continue;
      for (const read of readsOf.get(at) ?? []) all.add(read);
    }
    return all;
  };
  const hazardOf = (oid: number, event: number): Unjudged | undefined => {
    const relation = snapshot.relations.get(oid);
    if (relation === undefined) return undefined;
    for (const expression of expressionOwners.get(oid) ?? []) {
      const found = expression.kind === 'Policy' ? undefined : badExpression(expression);
      if (found !== undefined) return found;
    }
    for (const column of relation.columns.values()) {
      const found = badType(column.type);
      if (found !== undefined) return found;
    }
    const masks = relations.get(oid);
    for (const trigger of triggersOf.get(oid) ?? []) {
      if ((trigger.type & event) === 0) continue;
      const found = badFunction(trigger.function) ?? copiesMasked(trigger.function, masks);
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
    const badNames = new Set([...bad.keys()].map((id) => nameKey(snapshot.functions.get(id)!.name)));
    const called = firstIn(bodyWords(rule, rule.definition).names, badNames);
    return called === undefined ? undefined : `it uses ${called}, which is not cleared`;
  };
  const taintedNames = (): Set<string> =>
    new Set([...relations.values()].filter((masks) => masks.touches).map((masks) => nameKey(masks.relation.name)));
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
    ...names,
    snapshot,
    active,
    relations,
    unjudged,
    writeHazard(oid, event) {
      for (const at of descendants(oid)) {
        // A foreign key's action may delete or update where the statement does the other.
        const found = hazardOf(at, at === oid ? event : event | TRIGGER_UPDATE | TRIGGER_DELETE);
        if (found !== undefined) return found;
      }
      return undefined;
    },
    cascades: (oid) => [...descendants(oid)].some((at) => relations.get(at)?.touches === true),
  };
}

function attributeNames(mentions: Mentions): string[] {
  return [
    ...mentions.columns.flatMap((use) => (use.fields.length > 1 ? use.fields.slice(-1) : [])),
    ...mentions.attributes,
  ];
}
