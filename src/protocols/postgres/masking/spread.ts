// The ways in which what is known of one relation bears on others: inheritance, row types, generated columns, views,
// types with casts, row-level policies. One step each; the closure repeats them until nothing is added.
import type { Code } from './code.ts';
import type { Marks } from './marks.ts';
import { parseOnce } from './parse-once.ts';
import { judgeQuery } from './query.ts';
import { type QueryNames, qualifiedName } from './relation-masks.ts';
import { type CatalogRelation, FIRST_USER_OID, type Snapshot } from './snapshot.ts';
import type { SnapshotIndex } from './snapshot-index.ts';

/** A closure in the making. */
export interface Closing {
  snapshot: Snapshot;
  index: SnapshotIndex;
  names: QueryNames;
  marks: Marks;
  code: Code;
}

/** From columns to columns of tables. */
export function spreadColumns(at: Closing): void {
  spreadInheritance(at);
  spreadRowTypes(at);
  spreadGenerated(at);
}

/** To relations that run code or queries when they are read; after the code was judged. */
export function spreadReaders(at: Closing): void {
  spreadTypes(at);
  spreadViews(at);
  spreadPolicies(at);
}

function spreadInheritance(at: Closing): void {
  const { snapshot } = at;
  for (const { child, parent } of snapshot.inherits) {
    const below = snapshot.relations.get(child);
    const above = snapshot.relations.get(parent);
    if (below === undefined || above === undefined) continue;
    copyByName(at, above, below);
    copyByName(at, below, above);
  }
}

function copyByName({ marks }: Closing, from: CatalogRelation, to: CatalogRelation): void {
  const source = marks.relations.get(from.oid);
  if (source === undefined) return;
  if (source.touches) marks.touch(to);
  for (const column of to.columns.values()) {
    if (column.dropped) continue;
    for (const [number, mask] of source.masked) {
      if (from.columns.get(number)?.name === column.name) marks.mask(to, column.number, mask);
    }
    for (const [number, why] of source.opaque) {
      if (from.columns.get(number)?.name === column.name) marks.makeOpaque(to, column.number, why);
    }
  }
}

/** A column whose type is the row type of a masked table holds its rows. */
function spreadRowTypes({ snapshot, marks }: Closing): void {
  const carrying = new Set<number>();
  for (const type of snapshot.types.values()) {
    const masks = marks.relations.get(type.relation);
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
      marks.makeOpaque(relation, column.number, 'it holds rows of a masked table');
      marks.touch(relation);
    }
  }
}

function spreadGenerated({ snapshot, marks }: Closing): void {
  for (const expression of snapshot.expressions) {
    if (expression.kind !== 'Generated') continue;
    const masks = marks.relations.get(expression.relation);
    if (masks === undefined || masks.masked.size + masks.opaque.size === 0) continue;
    const parse = parseOnce(expression, `select (${expression.text})`);
    const words = parse === 'Unreadable' ? undefined : parse.mentions.columns.flatMap((use) => use.fields);
    const source = [...masks.masked].find(([number]) => {
      const name = masks.relation.columns.get(number)?.name;
      return words === undefined || (name !== undefined && words.includes(name));
    });
    // What it shows of the value is not known, so the source's mask may not fit: all of it is hidden.
    if (source !== undefined) marks.mask(masks.relation, expression.column, { ...source[1], with: 'Null' });
    const hidden = [...masks.opaque.keys()].some((number) => {
      const name = masks.relation.columns.get(number)?.name;
      return number !== expression.column && (words === undefined || (name !== undefined && words.includes(name)));
    });
    if (hidden) marks.makeOpaque(masks.relation, expression.column, 'it is generated from masked data');
  }
}

function spreadViews({ snapshot, index, marks, names, code }: Closing): void {
  for (const [oid, view] of snapshot.views) {
    const relation = snapshot.relations.get(oid);
    if (relation === undefined) continue;
    const parse = parseOnce(view, view.definition);
    const judgement = parse === 'Unreadable' ? undefined : judgeQuery(parse.tree, names, parse.mentions);
    const reads = [...(index.reads.get(oid) ?? [])].flatMap((read) => marks.relations.get(read) ?? []);
    const below = [...reads, ...(judgement?.relations.flatMap((use) => use.masks ?? []) ?? [])];
    if (below.some((masks) => masks.touches)) marks.touch(relation);
    const called = parse === 'Unreadable' ? undefined : code.mentioned(parse.mentions);
    const hazard =
      called?.what ??
      below.find((masks) => masks.hazard !== undefined)?.hazard ??
      (parse === 'Unreadable' ? 'its definition' : undefined);
    if (hazard !== undefined) marks.endanger(relation, hazard);
    if (below.every((masks) => masks.masked.size + masks.opaque.size === 0 && !masks.touches)) continue;
    const sound = judgement !== undefined && judgement.problem === undefined && judgement.unseen.length === 0;
    for (const column of relation.columns.values()) {
      const origin = view.origins?.[column.number - 1];
      const inner = origin === undefined ? undefined : marks.relations.get(origin.tableOid);
      if (origin === undefined) {
        marks.makeOpaque(relation, column.number, 'its view could not be described');
      } else if (origin.tableOid === 0) {
        if (!sound || judgement.outputs.has(origin.name)) {
          marks.makeOpaque(relation, column.number, `view ${qualifiedName(relation)} computes it beside masked data`);
        }
      } else if (!snapshot.relations.has(origin.tableOid) || origin.attributeNumber <= 0) {
        if (origin.attributeNumber === 0) marks.makeOpaque(relation, column.number, 'it holds whole rows');
      } else {
        const mask = inner?.masked.get(origin.attributeNumber);
        const why = inner?.opaque.get(origin.attributeNumber);
        if (mask !== undefined) marks.mask(relation, column.number, mask);
        if (why !== undefined) marks.makeOpaque(relation, column.number, why);
      }
    }
  }
}

/** A value of such a type may be cast by whatever is done with it, also without a word of it in the statement. */
function spreadTypes({ snapshot, marks, code }: Closing): void {
  if (!code.badCasts) return;
  for (const relation of snapshot.relations.values()) {
    for (const column of relation.columns.values()) {
      if (column.type < FIRST_USER_OID || marks.relations.get(relation.oid)?.hazard !== undefined) continue;
      const found = code.type(column.type);
      if (found === undefined) continue;
      marks.endanger(relation, found.what);
    }
  }
}

/** Row-level policies run on every read. */
function spreadPolicies({ snapshot, index, marks, code }: Closing): void {
  for (const expression of snapshot.expressions) {
    const relation = snapshot.relations.get(expression.relation);
    if (expression.kind !== 'Policy' || relation === undefined) continue;
    const found = code.expression(expression);
    if (found !== undefined) marks.endanger(relation, found.what);
    const parse = parseOnce(expression, `select (${expression.text})`);
    const reads = parse === 'Unreadable' ? [] : parse.mentions.relations;
    if (reads.some((use) => index.relations(use.schema, use.name).some((r) => marks.relations.get(r.oid)?.touches))) {
      marks.touch(relation);
    }
  }
}
