// Judges one SELECT, INSERT, UPDATE, DELETE or MERGE by where it mentions masked columns. No scopes are resolved: a name
// that may mean a masked column under any reading counts as one. A masked column may stand bare in the outermost target
// list or RETURNING (the server then reports its origin, and its values are masked), in IS NULL and in count(column);
// anywhere else it is a guess at its value or a way out, and is refused. Pure; guarantees nothing about functions.
import type { CompiledMask } from '../../../policy/bundle.ts';
import { nameKey } from './patterns.ts';
import { simplePredicates } from './predicates.ts';
import type { CatalogRelation } from './snapshot.ts';
import {
  bodyOf,
  type ColumnRefUse,
  columnRef,
  isNode,
  listOf,
  type Mentions,
  mentionsOf,
  namesOf,
  rangeVar,
  stringOf,
  type TreeNode,
  unwrap,
  visit,
} from './tree.ts';

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

export interface QueryNames {
  /** Relations a name may mean; empty: none that is known. */
  candidates(schema: string | undefined, name: string): readonly CatalogRelation[];
  masksOf(oid: number): RelationMasks | undefined;
  /** Whether the database has a function of its own with that name. */
  hasOwnFunction(name: string): boolean;
  hasOwnOperator(name: string): boolean;
}

export interface ColumnProblem {
  /** `schema.table.column`, or what is known of it. */
  column: string;
  mask: ColumnMask | undefined;
  why: string;
}

export interface QueryJudgement {
  problem: ColumnProblem | undefined;
  /** Known relations it may mean, with their masks where they have any. */
  relations: readonly { relation: CatalogRelation; masks: RelationMasks | undefined }[];
  /** Names that no known relation has. */
  unseen: readonly string[];
  /** Names under which masked values come out; an output of that name without an origin is not to be trusted. */
  outputs: ReadonlySet<string>;
}

const SYSTEM_COLUMN_NAMES = new Set(['tableoid', 'xmin', 'cmin', 'xmax', 'cmax', 'ctid']);

interface Label {
  sensitive: RelationMasks[];
  unseen: boolean;
}

interface Scope {
  names: QueryNames;
  labels: Map<string, Label>;
  /** Masked and opaque columns by name. */
  columns: Map<string, { masks: RelationMasks; number: number }>;
  unseen: string[];
  sensitive: boolean;
}

export function judgeQuery(
  statement: unknown,
  names: QueryNames,
  mentions: Mentions = mentionsOf(statement),
): QueryJudgement {
  const scope: Scope = { names, labels: new Map(), columns: new Map(), unseen: [], sensitive: false };
  const relations: { relation: CatalogRelation; masks: RelationMasks | undefined }[] = [];
  for (const use of mentions.relations) {
    const found = names.candidates(use.schema, use.name);
    const label = labelOf(scope, use.label);
    for (const relation of found) {
      const masks = names.masksOf(relation.oid);
      relations.push({ relation, masks });
      if (masks !== undefined && masks.masked.size + masks.opaque.size > 0) addSensitive(scope, label, masks);
    }
    if (found.length === 0 && !(use.schema === undefined && mentions.ctes.has(use.name))) {
      scope.unseen.push(use.name);
      label.unseen = true;
    }
  }
  const outputs = new Set<string>();
  const done = (problem: ColumnProblem | undefined): QueryJudgement => ({
    problem,
    relations,
    unseen: scope.unseen,
    outputs,
  });
  if (!scope.sensitive && scope.unseen.length === 0) return done(undefined);

  collectAliases(statement, scope);
  const structure = structuralProblem(statement, scope);
  if (structure !== undefined) return done(structure);
  const allowed = new Set<TreeNode>();
  const top = allowBareOutputs(statement, scope, allowed, outputs);
  if (top !== undefined) return done(top);
  allowSafeUses(statement, scope, allowed);
  const harmless = simplePredicates(statement, (ref) => maskOfPlainColumn(ref, scope), names);
  for (const use of mentions.columns) {
    if (allowed.has(use.node) || harmless.has(use.node)) continue;
    const problem = mention(use, scope);
    if (problem !== undefined) return done(problem);
  }
  return done(undefined);
}

function labelOf(scope: Scope, name: string): Label {
  const key = nameKey(name);
  let label = scope.labels.get(key);
  if (label === undefined) {
    label = { sensitive: [], unseen: false };
    scope.labels.set(key, label);
  }
  return label;
}

function addSensitive(scope: Scope, label: Label, masks: RelationMasks): void {
  scope.sensitive = true;
  label.sensitive.push(masks);
  for (const number of [...masks.masked.keys(), ...masks.opaque.keys()]) {
    const name = masks.relation.columns.get(number)?.name;
    if (name !== undefined) scope.columns.set(nameKey(name), { masks, number });
  }
}

/** Labels that are not relations' own: of subqueries, functions and joins; OLD, NEW and EXCLUDED. */
function collectAliases(statement: unknown, scope: Scope): void {
  visit(statement, (node, kind) => {
    if (rangeVar(node) !== undefined) return;
    if (kind === 'JoinExpr') {
      for (const alias of [node.alias, node.join_using_alias]) {
        const name = isNode(alias) ? stringOf(alias.aliasname) : undefined;
        if (name !== undefined) joinUnder(node, labelOf(scope, name), scope);
      }
      return;
    }
    if (isNode(node.alias)) {
      const name = stringOf(node.alias.aliasname);
      if (name !== undefined) labelOf(scope, name);
    }
    if (typeof node.ctename === 'string') labelOf(scope, node.ctename);
  });
  const target = unwrap(statement);
  const relation = isNode(target?.body.relation) ? rangeVar(target.body.relation) : undefined;
  if (target === undefined || relation === undefined) return;
  const own = labelOf(scope, relation.label);
  const extra = ['old', 'new', 'excluded'];
  if (isNode(target.body.returningClause)) {
    for (const option of listOf(target.body.returningClause.options)) {
      const name = bodyOf(option, 'ReturningOption')?.value;
      if (typeof name === 'string') extra.push(name);
    }
  }
  for (const name of extra) {
    const label = labelOf(scope, name);
    label.sensitive.push(...own.sensitive);
    label.unseen ||= own.unseen;
  }
}

function sensitiveUnder(from: unknown, scope: Scope): boolean {
  let found = false;
  visit(from, (node) => {
    const relation = rangeVar(node);
    const label = relation === undefined ? undefined : scope.labels.get(nameKey(relation.label));
    if (label !== undefined && (label.sensitive.length > 0 || label.unseen)) found = true;
  });
  return found;
}

function joinUnder(join: TreeNode, label: Label, scope: Scope): void {
  visit([join.larg, join.rarg], (node) => {
    const relation = rangeVar(node);
    if (relation === undefined) return;
    const under = scope.labels.get(nameKey(relation.label));
    label.sensitive.push(...(under?.sensitive ?? []));
    label.unseen ||= under?.unseen ?? false;
  });
}

/** Ways of naming columns without a column reference. */
function structuralProblem(statement: unknown, scope: Scope): ColumnProblem | undefined {
  let problem: ColumnProblem | undefined;
  const refuse = (name: string | undefined, why: string): void => {
    problem ??= describe(scope, name, why);
  };
  visit(statement, (node, kind) => {
    const relation = rangeVar(node);
    if (relation?.hasColumnAliases) {
      const label = scope.labels.get(nameKey(relation.label));
      if (label !== undefined && (label.sensitive.length > 0 || label.unseen)) {
        refuse(undefined, 'its table must not be given other column names in FROM');
      }
    }
    if (kind === 'JoinExpr') {
      if (node.isNatural === true) refuse(undefined, 'NATURAL JOIN may compare it; name the columns with USING or ON');
      for (const name of namesOf(node.usingClause)) {
        if (scope.columns.has(nameKey(name)) || scope.unseen.length > 0) refuse(name, 'it cannot be joined by');
      }
      if (isNode(node.alias) && listOf(node.alias.colnames).length > 0) {
        refuse(undefined, 'its table must not be given other column names in FROM');
      }
    }
    if (isNode(node.infer) && typeof node.infer.conname === 'string') {
      refuse(undefined, 'ON CONFLICT ON CONSTRAINT may compare it; name the columns of the constraint');
    }
    if (kind === 'IndexElem' && typeof node.name === 'string' && scope.columns.has(nameKey(node.name))) {
      const { masks, number } = scope.columns.get(nameKey(node.name))!;
      if (masks.masked.get(number)?.predicates !== 'Any' && masks.masked.get(number)?.predicates !== 'Equality') {
        refuse(node.name, 'ON CONFLICT compares it');
      }
    }
  });
  return problem;
}

/** Notes the outermost target list's bare columns and stars as allowed. */
function allowBareOutputs(
  statement: unknown,
  scope: Scope,
  allowed: Set<TreeNode>,
  outputs: Set<string>,
): ColumnProblem | undefined {
  const top = unwrap(statement);
  if (top === undefined) return undefined;
  const select = top.kind === 'SelectStmt';
  if (select && (top.body.op !== 'SETOP_NONE' || listOf(top.body.distinctClause).length > 0)) return undefined;
  if (select && (top.body.intoClause !== undefined || top.body.valuesLists !== undefined)) return undefined;
  const targets = select
    ? listOf(top.body.targetList)
    : isNode(top.body.returningClause)
      ? listOf(top.body.returningClause.exprs)
      : [];
  const aliases = new Set<string>();
  const maskedOrdinals = new Set<number>();
  let star = false;
  for (const [index, item] of targets.entries()) {
    const target = bodyOf(item, 'ResTarget');
    const body = bodyOf(target?.val, 'ColumnRef');
    const use = body === undefined ? undefined : columnRef(body);
    if (target === undefined || use === undefined) continue;
    const kind = classOf(use, scope);
    if (kind.kind === 'Clear' || kind.kind === 'WholeRow') continue; // the walk over all mentions refuses whole rows
    const opaque = kind.columns.find(({ masks, number }) => masks.opaque.has(number));
    if (opaque !== undefined) {
      return problemFor(opaque.masks, opaque.number, opaque.masks.opaque.get(opaque.number)!);
    }
    allowed.add(use.node);
    if (use.star) star = true;
    else maskedOrdinals.add(index + 1);
    for (const { masks, number } of kind.columns) outputs.add(masks.relation.columns.get(number)!.name);
    const alias = stringOf(target.name);
    if (alias !== undefined) {
      outputs.add(alias);
      aliases.add(nameKey(alias));
    }
  }
  if (allowed.size === 0 || !select) return undefined;
  // ORDER BY and GROUP BY may name an output by its alias or its place.
  let problem: ColumnProblem | undefined;
  visit([top.body.sortClause, top.body.groupClause], (node, kind) => {
    const use = columnRef(node);
    if (use !== undefined && use.fields.length === 1 && aliases.has(nameKey(use.fields[0]!))) {
      problem ??= describe(scope, use.fields[0], 'it cannot be sorted or grouped by');
    }
    if (kind === 'A_Const' && isNode(node.ival)) {
      const ordinal = typeof node.ival.ival === 'number' ? node.ival.ival : 0;
      if (star || maskedOrdinals.has(ordinal)) {
        problem ??= describe(scope, undefined, 'it cannot be sorted or grouped by; name the columns to sort by');
      }
    }
  });
  return problem;
}

/** IS NULL, count(column) and the target list of EXISTS tell nothing of a value. */
function allowSafeUses(statement: unknown, scope: Scope, allowed: Set<TreeNode>): void {
  const allowPlain = (value: unknown): void => {
    const body = bodyOf(value, 'ColumnRef');
    const use = body === undefined ? undefined : columnRef(body);
    if (use === undefined || use.star) return;
    const kind = classOf(use, scope);
    if (kind.kind === 'Masked' && kind.columns.every(({ masks, number }) => masks.masked.has(number))) {
      allowed.add(use.node);
    }
  };
  visit(statement, (node, kind) => {
    if (kind === 'NullTest') allowPlain(node.arg);
    // A `*` reaches no further than the FROM beside it.
    if (Array.isArray(node.targetList) && node.op !== undefined && !sensitiveUnder(node.fromClause, scope)) {
      for (const item of listOf(node.targetList)) {
        const body = bodyOf(bodyOf(item, 'ResTarget')?.val, 'ColumnRef');
        const use = body === undefined ? undefined : columnRef(body);
        if (body !== undefined && use?.star === true && use.fields.length === 0) allowed.add(body);
      }
    }
    if (Array.isArray(node.funcname)) {
      const name = namesOf(node.funcname).join('.');
      const builtin = name === 'pg_catalog.count' || (name === 'count' && !scope.names.hasOwnFunction('count'));
      const plain = node.agg_distinct !== true && node.agg_order === undefined && node.agg_within_group !== true;
      if (builtin && plain && listOf(node.args).length === 1) allowPlain(listOf(node.args)[0]);
    }
    if (kind === 'SubLink' && node.subLinkType === 'EXISTS_SUBLINK') {
      const select = bodyOf(node.subselect, 'SelectStmt');
      if (select === undefined || select.op !== 'SETOP_NONE' || select.distinctClause !== undefined) return;
      if (select.sortClause !== undefined || select.groupClause !== undefined) return;
      for (const item of listOf(select.targetList)) {
        const body = bodyOf(bodyOf(item, 'ResTarget')?.val, 'ColumnRef');
        if (body !== undefined && columnRef(body)?.star) allowed.add(body);
      }
    }
  });
}

type RefClass =
  | { kind: 'Clear' }
  /** May be the columns given; empty: an unseen relation's. */
  | { kind: 'Masked'; columns: { masks: RelationMasks; number: number }[] }
  | { kind: 'WholeRow'; masks: RelationMasks | undefined };

function columnsOf(masks: RelationMasks): { masks: RelationMasks; number: number }[] {
  return [...masks.masked.keys(), ...masks.opaque.keys()].map((number) => ({ masks, number }));
}

/** What a column reference may mean under any reading. */
function classOf(use: ColumnRefUse, scope: Scope): RefClass {
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

function maskOfPlainColumn(use: ColumnRefUse, scope: Scope): 'Deny' | 'Equality' | 'Any' | undefined {
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

function mention(use: ColumnRefUse, scope: Scope): ColumnProblem | undefined {
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

function firstMask(masks: RelationMasks): ColumnMask | undefined {
  return masks.masked.values().next().value;
}

function problemFor(masks: RelationMasks, number: number, why: string): ColumnProblem {
  return {
    column: `${qualifiedName(masks.relation)}.${masks.relation.columns.get(number)?.name ?? '*'}`,
    mask: masks.masked.get(number) ?? firstMask(masks),
    why,
  };
}

function describe(scope: Scope, name: string | undefined, why: string): ColumnProblem {
  const found = name === undefined ? undefined : scope.columns.get(nameKey(name));
  const any = found ?? scope.columns.values().next().value;
  if (any === undefined) return { column: name ?? scope.unseen[0] ?? '*', mask: undefined, why };
  return problemFor(any.masks, any.number, why);
}

export function qualifiedName(relation: CatalogRelation): string {
  return `${relation.schema}.${relation.name}`;
}
