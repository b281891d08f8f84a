// The masking of one (connection, account, database): keeps a snapshot of its catalog fresh, and answers sessions' three
// questions from it. Fails closed: without a snapshot, or after a failed refresh, everything is refused or stale.

import type { CompiledMask } from '../../../policy/bundle.ts';
import type { RuleRef } from '../../../policy/decision.ts';
import { type DetectorKind, maskDetectedText } from '../../../policy/detectors/detectors.ts';
import type { Clock } from '../../../system/clock.ts';
import { loadParser } from '../classify/parser.ts';
import type { ClassifiedStatement } from '../statement.ts';
import { type Closure, computeClosure } from './closure.ts';
import { copyFormatOf, copyMasker } from './copy-rows.ts';
import type {
  CatalogDescribe,
  CatalogQuery,
  FieldOrigin,
  MaskingCatalog,
  MaskReview,
  RowPlan,
  SessionMasking,
} from './masking.ts';
import type { Pins } from './pins.ts';
import { hideDetected, hideLiterals } from './redact.ts';
import { qualifiedName } from './relation-masks.ts';
import { type DetailedReview, reviewStatement, UNSEARCHABLE_COPY } from './review.ts';
import { type ColumnTreatment, isSearchable, isText, rowMasker } from './rows.ts';
import { CatalogError, FIRST_USER_OID, loadSnapshot, type Snapshot } from './snapshot.ts';
import { bodyOf, isNode, namesOf, rangeVar, type TreeNode } from './tree.ts';

/** How long a snapshot is trusted, ms. */
export const FRESH_MS = 2000;
/** How long the side connection may take for one refresh, ms. */
const REFRESH_DEADLINE_MS = 15_000;
/** Closures kept per catalog; sessions of one policy share one. */
const KEPT_CLOSURES = 16;

export interface MaskingCatalogOptions {
  query: CatalogQuery;
  describe: CatalogDescribe;
  clock: Clock;
}

export function openMaskingCatalog({ query, describe, clock }: MaskingCatalogOptions): MaskingCatalog {
  let snapshot: Snapshot | undefined;
  let version = 0;
  let freshUntil = Number.NEGATIVE_INFINITY;
  /** Rises with `invalidate`: a refresh that began before does not make the catalog fresh. */
  let epoch = 0;
  let running: Promise<void> | undefined;
  const pins: Pins = new Map();
  const closures = new Map<string, Closure>();

  const load = async (): Promise<void> => {
    const began = clock.monotonic();
    const of = epoch;
    try {
      await loadParser();
      const next = await withDeadline(clock, loadSnapshot(query, describe, snapshot));
      if (next !== snapshot) {
        snapshot = next;
        version += 1;
        closures.clear();
      }
      freshUntil = of === epoch ? began + FRESH_MS : Number.NEGATIVE_INFINITY;
    } catch (error) {
      freshUntil = Number.NEGATIVE_INFINITY;
      throw error;
    }
  };
  const stale = (): boolean => snapshot === undefined || clock.monotonic() >= freshUntil;

  return {
    get stale() {
      return stale();
    },
    invalidate() {
      epoch += 1;
      freshUntil = Number.NEGATIVE_INFINITY;
    },
    async refresh(force) {
      if (!force && !stale()) return;
      // One that runs already may have read the catalog before what the caller knows of.
      if (running !== undefined) {
        const before = epoch;
        await running.catch(() => undefined);
        if (!force && !stale() && before === epoch) return;
      }
      running ??= load().finally(() => {
        running = undefined;
      });
      await running;
    },
    resolve(masks, trustedFunctions) {
      const current = snapshot;
      if (current === undefined) return refuseAll(masks, version);
      const key = JSON.stringify([masks, trustedFunctions]);
      let closure = closures.get(key);
      if (closure === undefined) {
        closure = computeClosure(current, masks, trustedFunctions, pins);
        if (closures.size >= KEPT_CLOSURES) closures.delete(closures.keys().next().value!);
        closures.set(key, closure);
      }
      return sessionMasking(closure, masks, version);
    },
  };
}

async function withDeadline<T>(clock: Clock, work: Promise<T>): Promise<T> {
  let withdraw: (() => void) | undefined;
  const deadline = new Promise<never>((_, reject) => {
    withdraw = clock.after(REFRESH_DEADLINE_MS, () =>
      reject(new CatalogError('the catalog did not answer within 15 s')),
    );
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    withdraw?.();
  }
}

const NO_RULE: RuleRef = { policy: 'sallyport', rule: 'masking' };

function refuseAll(masks: readonly CompiledMask[], version: number): SessionMasking {
  const by = masks[0]?.ref ?? NO_RULE;
  const message = 'the catalog of this database has not been read yet, so masks cannot be applied';
  const hint = 'Try again in a moment. Nothing reached the database.';
  return {
    catalogVersion: version,
    review: () => ({ kind: 'Refused', column: undefined, by, message, hint }),
    plan: () => ({ kind: 'Refused', column: undefined, by, message, hint }),
    planCopy: () => ({ kind: 'Refused', column: undefined, by, message, hint }),
    redact: (_, text, parameters) => hideLiterals(text, parameters),
    scrub: (text) => maskDetectedText(text),
  };
}

/** What a review knew beside what it says. Reviews made by another closure are not found here, and so are void. */
const details = new WeakMap<MaskReview, { closure: Closure; outputs: ReadonlySet<string> }>();

function sessionMasking(closure: Closure, masks: readonly CompiledMask[], version: number): SessionMasking {
  const by = masks[0]?.ref ?? NO_RULE;
  const detectors = [...new Set(masks.flatMap((mask) => mask.detectors as DetectorKind[]))];
  const textTypes = new Set(
    [...closure.snapshot.types.values()].filter((type) => type.name === 'citext').map((type) => type.oid),
  );
  const reviews = new WeakMap<ClassifiedStatement, DetailedReview>();
  const context = { closure, by, detectors: detectors.length > 0 };

  const review = (statement: ClassifiedStatement): MaskReview => {
    let known = reviews.get(statement);
    if (known === undefined) {
      const made = reviewStatement(statement, context);
      // A copy: `details` must not be shared with other closures.
      known = { review: { ...made.review }, outputs: made.outputs };
      reviews.set(statement, known);
      details.set(known.review, { closure, outputs: known.outputs });
    }
    return known.review;
  };

  return {
    catalogVersion: version,
    review,
    plan: (reviewed, fields) => planRows(closure, by, detectors, textTypes, reviewed, fields),
    planCopy(statement) {
      const reviewed = review(statement);
      if (reviewed.kind === 'Refused') return reviewed;
      return detectors.length === 0 ? { kind: 'Pass' } : planCopy(closure, by, detectors, textTypes, statement);
    },
    redact(statement, text, parameters) {
      const clear = statement !== undefined && review(statement).kind === 'Clear';
      return clear ? hideDetected(text, parameters) : hideLiterals(text, parameters);
    },
    scrub: (text) => maskDetectedText(text),
  };
}

function planRows(
  closure: Closure,
  by: RuleRef,
  detectors: readonly DetectorKind[],
  textTypes: ReadonlySet<number>,
  review: MaskReview,
  fields: readonly FieldOrigin[],
): RowPlan {
  if (review.kind === 'Refused') return review;
  const refused = (column: string | undefined, message: string, rule: RuleRef | undefined = by): RowPlan => ({
    kind: 'Refused',
    column,
    by: rule,
    message,
    hint: 'No row of it was shown. Select masked columns bare, or leave them out.',
  });
  const known = details.get(review);
  if (known === undefined || known.closure !== closure) {
    return refused(undefined, 'the catalog changed after the statement was judged; send it again');
  }
  const origins: string[] = [];
  const treatments: ColumnTreatment[] = [];
  for (const field of fields) {
    const search: ColumnTreatment =
      detectors.length > 0 && isSearchable(field.typeOid, field.format, textTypes)
        ? { kind: 'Detect', detectors }
        : { kind: 'Pass' };
    if (!closure.active) {
      treatments.push(search);
      continue;
    }
    if (field.tableOid === 0) {
      if (known.outputs.has(field.name)) {
        return refused(field.name, `the server did not say where column ${field.name} comes from`);
      }
      treatments.push(search);
      continue;
    }
    const relation = closure.snapshot.relations.get(field.tableOid);
    if (relation === undefined) {
      if (field.tableOid >= FIRST_USER_OID) return { kind: 'Unknown', tableOid: field.tableOid };
      // TOAST tables and the like: system relations that are not read here hold nothing to be shown beside masks.
      return refused(field.name, `relation ${field.tableOid} is not known`);
    }
    const masks = closure.masksOf(field.tableOid);
    const column = `${qualifiedName(relation)}.${relation.columns.get(field.attributeNumber)?.name ?? field.name}`;
    if (masks === undefined || masks.masked.size + masks.opaque.size === 0) {
      if (relation.kind !== 'S' && relation.oid >= FIRST_USER_OID && field.attributeNumber > 0) {
        // A column added after the snapshot: judge again with a newer one.
        if (!relation.columns.has(field.attributeNumber)) return { kind: 'Unknown', tableOid: field.tableOid };
      }
      treatments.push(search);
      continue;
    }
    if (field.attributeNumber === 0)
      return refused(`${qualifiedName(relation)}.*`, `${column} is a whole row with masked columns`);
    const why = masks.opaque.get(field.attributeNumber);
    if (why !== undefined) return refused(column, `column ${column} is masked: ${why}`);
    const mask = masks.masked.get(field.attributeNumber);
    if (mask === undefined) {
      if (field.attributeNumber > 0 && relation.oid >= FIRST_USER_OID && !relation.columns.has(field.attributeNumber)) {
        return { kind: 'Unknown', tableOid: field.tableOid };
      }
      treatments.push(search);
      continue;
    }
    if (review.kind === 'Clear') {
      return refused(column, `column ${column} is masked and came up where it was not expected`, mask.ref);
    }
    origins.push(column);
    treatments.push({ kind: 'Mask', with: isText(field.typeOid, textTypes) ? mask.with : 'Null' });
  }
  if (treatments.every((treatment) => treatment.kind === 'Pass')) return { kind: 'Pass' };
  return { kind: 'Mask', masker: rowMasker(treatments), origins };
}

function planCopy(
  closure: Closure,
  by: RuleRef,
  detectors: readonly DetectorKind[],
  textTypes: ReadonlySet<number>,
  statement: ClassifiedStatement,
): RowPlan {
  const copy = bodyOf(statement.tree, 'CopyStmt');
  const format = copy === undefined ? undefined : copyFormatOf(copy);
  if (copy === undefined || format === undefined) {
    return { kind: 'Refused', column: undefined, by, ...UNSEARCHABLE_COPY };
  }
  return { kind: 'Mask', masker: copyMasker(format, copiedText(copy, closure, textTypes), detectors), origins: [] };
}

/** Which of the copied columns hold text, in their order; undefined: not known, so all of them may. */
function copiedText(copy: TreeNode, closure: Closure, textTypes: ReadonlySet<number>): boolean[] | undefined {
  const target = isNode(copy.relation) ? rangeVar(copy.relation) : undefined;
  const [relation, another] = target === undefined ? [] : closure.candidates(target.schema, target.name);
  if (relation === undefined || another !== undefined) return undefined;
  const { expressions, types } = closure.snapshot;
  const generated = new Set(
    expressions.flatMap((one) => (one.kind === 'Generated' && one.relation === relation.oid ? [one.column] : [])),
  );
  const columns = [...relation.columns.values()].filter((column) => !column.dropped);
  const names = namesOf(copy.attlist);
  const copied =
    names.length > 0
      ? names.map((name) => columns.find((column) => column.name === name))
      : columns.filter((column) => !generated.has(column.number)).sort((a, b) => a.number - b.number);
  return copied.map((column) => {
    let type = column?.type;
    // A domain is described as what it is made of.
    for (let depth = 0; depth < 32; depth++) {
      const base = type === undefined ? undefined : types.get(type)?.base;
      if (base === undefined || base === 0) break;
      type = base;
    }
    return type === undefined || type >= FIRST_USER_OID || isSearchable(type, 0, textTypes);
  });
}
