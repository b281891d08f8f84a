// May this statement run beside masks? Judged before a byte reaches the server, from its parse tree and the closure alone.
// Clear: nothing masked can come of it. Masked: what comes of it is masked by the server's report of origins, and its
// errors are rebuilt. Everything else is refused with the column, or the code, that could not be judged.
import type { RuleRef } from '../../../policy/decision.ts';
import type { ClassifiedStatement } from '../statement.ts';
import type { Closure } from './closure.ts';
import type { Unjudged } from './code.ts';
import { copyFormatOf } from './copy-rows.ts';
import type { MaskReview } from './masking.ts';
import { judgeQuery } from './query.ts';
import { firstMask, qualifiedName, type RelationMasks } from './relation-masks.ts';
import {
  BRINGS_CODE,
  HARMLESS,
  HARMLESS_ELSEWHERE,
  NAMED_CODE,
  QUERIES,
  READING_SETTINGS,
  SAFE_ALTERATIONS,
} from './statement-kinds.ts';
import {
  bodyOf,
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
import { TRIGGER_DELETE, TRIGGER_INSERT, TRIGGER_TRUNCATE, TRIGGER_UPDATE } from './write-hazards.ts';

export interface ReviewContext {
  closure: Closure;
  /** Named in refusals that no single mask is behind. */
  by: RuleRef;
  /** Whether contents are masked by detectors: then COPY TO passes only where its rows can be searched. */
  detectors: boolean;
}

export interface DetailedReview {
  review: MaskReview;
  /** Output names that must have an origin: see QueryJudgement.outputs. */
  outputs: ReadonlySet<string>;
}

const NOTHING: ReadonlySet<string> = new Set();
const clear: DetailedReview = { review: { kind: 'Clear' }, outputs: NOTHING };
/** For `events`: no code of the relation runs. */
const READS_NOTHING = -1;
const NOT_SENT = 'Nothing reached the database.';
export const UNSEARCHABLE_COPY = {
  message: 'this COPY TO is refused while contents are masked: its rows could not be searched',
  hint: `COPY table [(columns)] TO STDOUT in text or CSV with the usual quotes and delimiters is searched; or use SELECT. ${NOT_SENT}`,
};

function refuse(by: RuleRef, message: string, hint: string, column?: string): DetailedReview {
  return { review: { kind: 'Refused', column, by, message, hint }, outputs: NOTHING };
}

function masked(relations: Iterable<string>, outputs: ReadonlySet<string> = NOTHING): DetailedReview {
  return { review: { kind: 'Masked', relations: [...new Set(relations)] }, outputs };
}

/** Judges one statement. Never throws on a tree of any shape. */
export function reviewStatement(statement: ClassifiedStatement, context: ReviewContext): DetailedReview {
  const top = unwrap(statement.tree);
  if (top === undefined) {
    return refuse(context.by, 'the statement is not understood well enough to keep masked data in', NOT_SENT);
  }
  if (context.detectors && top.kind === 'CopyStmt' && top.body.is_from !== true) {
    const searchable = top.body.query === undefined && top.body.filename === undefined && top.body.is_program !== true;
    if (!searchable || copyFormatOf(top.body) === undefined) {
      return refuse(context.by, UNSEARCHABLE_COPY.message, UNSEARCHABLE_COPY.hint);
    }
  }
  if (!context.closure.active) return clear;
  const tree = { [top.kind]: top.body };
  const mentions = mentionsOf(tree);
  return (
    refuseKinds(mentions, context) ??
    refuseSettings(tree, context) ??
    refuseCode(context.closure.unjudged(mentions), context) ??
    judge(tree, top.kind, top.body, mentions, context)
  );
}

function refuseKinds(mentions: Mentions, { by }: ReviewContext): DetailedReview | undefined {
  for (const kind of mentions.kinds) {
    if (!BRINGS_CODE.has(kind)) continue;
    const what = kind
      .replace(/Stmt$/, '')
      .replace(/([a-z])([A-Z])/g, '$1 $2')
      .toUpperCase();
    return refuse(
      by,
      `${what} is refused while columns of this database are masked: it could carry masked data elsewhere`,
      `Ask somebody whose access has no masks to make this change. ${NOT_SENT}`,
    );
  }
  return undefined;
}

function refuseSettings(tree: unknown, { by }: ReviewContext): DetailedReview | undefined {
  let found: DetailedReview | undefined;
  const no = (name: string): void => {
    found ??= refuse(by, `setting ${name} may not be changed while columns are masked`, NOT_SENT);
  };
  visit(tree, (node, kind) => {
    if (kind === 'VariableSetStmt' && typeof node.name === 'string') {
      const name = node.name.toLowerCase();
      // Setting it to what it is anyway is what drivers do.
      const value = bodyOf(listOf(node.args)[0], 'A_Const');
      const text = isNode(value?.sval) ? String(value.sval.sval).toLowerCase() : '';
      const asBefore = name === 'standard_conforming_strings' && (text === 'on' || text === 'true');
      const encoding = name === 'client_encoding' && ['utf8', 'utf-8', 'unicode'].includes(text);
      const reset = typeof node.kind === 'string' && node.kind !== 'VAR_SET_VALUE';
      if (READING_SETTINGS.has(name) && !asBefore && !encoding && !reset) no(name);
    }
    // The view has a rule that makes an UPDATE of it a set_config.
    const target = kind === 'UpdateStmt' && isNode(node.relation) ? rangeVar(node.relation)?.name : undefined;
    if (target === 'pg_settings') no('by UPDATE');
    if (Array.isArray(node.funcname) && namesOf(node.funcname).at(-1) === 'set_config') {
      const first = bodyOf(listOf(node.args)[0], 'A_Const');
      const name = isNode(first?.sval) ? String(first.sval.sval ?? '').toLowerCase() : undefined;
      if (name === undefined) no('named by an expression');
      else if (READING_SETTINGS.has(name)) no(name);
    }
  });
  return found;
}

function refuseCode(code: Unjudged | undefined, { by }: ReviewContext): DetailedReview | undefined {
  if (code === undefined) return undefined;
  const hint =
    code.trust === undefined
      ? `It is never allowed while columns of this database are masked. ${NOT_SENT}`
      : `Once somebody has read it, a policy may list "${code.trust}" in trustedFunctions. ${NOT_SENT}`;
  return refuse(by, `${code.what} cannot be judged beside masked columns: ${code.why}`, hint);
}

function judge(
  tree: TreeNode,
  kind: string,
  body: TreeNode,
  mentions: Mentions,
  context: ReviewContext,
): DetailedReview {
  if (QUERIES.has(kind)) return judgeOne(tree, mentions, context, true);
  switch (kind) {
    case 'ExplainStmt': {
      const inner = judgeInner(body.query, context, true);
      return inner.review.kind === 'Masked' ? masked(inner.review.relations) : inner;
    }
    case 'PrepareStmt':
    case 'DeclareCursorStmt':
      return judgeInner(body.query, context, true);
    case 'CreateTableAsStmt':
      return judgeInner(body.query, context, false);
    case 'ViewStmt':
      return judgeInner(body.query, context, false);
    // What they run was reviewed under its name; its outputs still have their origins.
    case 'ExecuteStmt':
    case 'FetchStmt':
      return masked([]);
    case 'CopyStmt':
      return judgeCopy(body, mentions, context);
    // Deferred constraints and triggers speak here, with rows in their errors.
    case 'TransactionStmt':
      return /BEGIN|START|SAVEPOINT/.test(String(body.kind)) ? clear : masked([]);
    case 'ConstraintsSetStmt':
      return masked([]);
    case 'VariableSetStmt':
      return clear;
    case 'TruncateStmt':
      return judgeRelationsOnly(mentions, context, TRIGGER_TRUNCATE);
    // They run the code of indexes and views. Without a name they go over every table.
    case 'RefreshMatViewStmt':
    case 'ReindexStmt':
    case 'VacuumStmt': {
      const judged = judgeRelationsOnly(mentions, context);
      return judged.review.kind === 'Clear' && mentions.relations.length === 0 ? masked([]) : judged;
    }
    case 'AlterTableStmt':
      return judgeAlteration(body, mentions, context);
    case 'IndexStmt':
      return judgeIndex(body, mentions, context);
    case 'RenameStmt':
    case 'AlterObjectSchemaStmt': {
      const type = String(body.renameType ?? body.objectType);
      if (NAMED_CODE.has(type) || NAMED_CODE.has(String(body.relationType))) {
        return refuse(context.by, 'renaming or moving code is refused while columns are masked', NOT_SENT);
      }
      if (type === 'OBJECT_SCHEMA') {
        const name = stringOf(body.subname) ?? '';
        for (const masks of context.closure.relations.values()) {
          if (masks.relation.schema !== name || masks.relation.schema === 'pg_catalog') continue;
          return refuse(context.by, `schema ${name} holds masked data and may not be renamed`, NOT_SENT);
        }
      }
      break;
    }
    case 'CallStmt': {
      const inner = judgeOne(tree, mentions, context, false);
      return inner.review.kind === 'Clear' ? masked([]) : inner;
    }
  }
  if (HARMLESS.has(kind)) return judgeRelationsOnly(mentions, context, READS_NOTHING);
  if (!HARMLESS_ELSEWHERE.has(kind)) {
    return refuse(context.by, `statements of this kind (${kind}) are refused while columns are masked`, NOT_SENT);
  }
  const relation = sensitiveRelation(mentions, context);
  return relation === undefined ? clear : refuseChange(relation, context);
}

function refuseChange(masks: RelationMasks, { by }: ReviewContext): DetailedReview {
  return refuse(
    firstMask(masks)?.ref ?? by,
    `${qualifiedName(masks.relation)} leads to masked data and may not be changed or built upon this way`,
    `Ask somebody whose access has no masks to make this change. ${NOT_SENT}`,
  );
}

function sensitiveRelation(mentions: Mentions, { closure }: ReviewContext): RelationMasks | undefined {
  for (const use of mentions.relations) {
    for (const relation of closure.candidates(use.schema, use.name)) {
      const masks = closure.masksOf(relation.oid);
      if (masks !== undefined && (masks.touches || masks.hazard !== undefined || masks.masked.size > 0)) return masks;
    }
  }
  return undefined;
}

/** For statements that name relations but read no values: errors may still quote rows. */
function judgeRelationsOnly(mentions: Mentions, context: ReviewContext, events = 0): DetailedReview {
  const { closure, by } = context;
  const touched: string[] = [];
  for (const use of mentions.relations) {
    for (const relation of closure.candidates(use.schema, use.name)) {
      if (closure.cascades(relation.oid)) touched.push(qualifiedName(relation));
      const hazard = closure.masksOf(relation.oid)?.hazard;
      const runs = hazard === undefined ? undefined : { what: hazard, why: 'it runs with the table', trust: undefined };
      const refused =
        events < 0 ? undefined : refuseCode(runs ?? closure.writeHazard(relation.oid, events), { ...context, by });
      if (refused !== undefined) return refused;
    }
  }
  return touched.length === 0 ? clear : masked(touched);
}

function judgeInner(query: unknown, context: ReviewContext, outputs: boolean): DetailedReview {
  const inner = unwrap(query);
  if (inner !== undefined && (inner.kind === 'ExecuteStmt' || inner.kind === 'DeclareCursorStmt')) {
    // EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE run what was prepared; its outputs have no origins then.
    return inner.kind === 'DeclareCursorStmt'
      ? judgeInner(inner.body.query, context, outputs)
      : outputs
        ? masked([])
        : refuse(context.by, 'CREATE TABLE AS EXECUTE is refused while columns are masked', NOT_SENT);
  }
  if (inner?.kind === 'CreateTableAsStmt' || inner?.kind === 'RefreshMatViewStmt') {
    return judge({ [inner.kind]: inner.body }, inner.kind, inner.body, mentionsOf(query), context);
  }
  if (inner === undefined || !QUERIES.has(inner.kind)) {
    return refuse(context.by, 'the statement is not understood well enough to keep masked data in', NOT_SENT);
  }
  return judgeOne({ [inner.kind]: inner.body }, mentionsOf(query), context, outputs);
}

const WRITE_EVENTS: Readonly<Record<string, number>> = {
  InsertStmt: TRIGGER_INSERT | TRIGGER_UPDATE, // ON CONFLICT DO UPDATE
  UpdateStmt: TRIGGER_UPDATE | TRIGGER_INSERT | TRIGGER_DELETE, // a row may move between partitions
  DeleteStmt: TRIGGER_DELETE,
  MergeStmt: TRIGGER_INSERT | TRIGGER_UPDATE | TRIGGER_DELETE,
  CopyStmt: TRIGGER_INSERT,
};

function judgeOne(tree: TreeNode, mentions: Mentions, context: ReviewContext, outputs: boolean): DetailedReview {
  const { closure, by } = context;
  const judgement = judgeQuery(tree, closure, mentions);
  if (judgement.problem !== undefined) {
    const { column, mask, why } = judgement.problem;
    const reason = mask === undefined ? `${column}: ${why}` : `column ${column} is masked: ${why}`;
    return refuse(mask?.ref ?? by, reason, `Select the column bare, or leave it out. ${NOT_SENT}`, column);
  }
  const touched = new Set<string>();
  for (const { relation, masks } of judgement.relations) {
    if (masks?.hazard !== undefined) {
      return refuse(
        by,
        `${qualifiedName(relation)} runs ${masks.hazard}, which cannot be judged beside masked columns`,
        `A policy may list the function in trustedFunctions once somebody has read it. ${NOT_SENT}`,
      );
    }
    if (relation.schema === 'pg_toast') {
      return refuse(by, 'TOAST tables hold parts of masked values', NOT_SENT);
    }
    if (masks?.touches === true) touched.add(qualifiedName(relation));
  }
  const writes = refuseWrites(tree, context, touched);
  if (writes !== undefined) return writes;
  const names = judgement.outputs;
  if (names.size > 0 && !outputs) {
    const [name] = names;
    return refuse(by, `column ${name} is masked and may not be stored or copied elsewhere`, NOT_SENT, name);
  }
  if (touched.size > 0 || names.size > 0 || judgement.unseen.length > 0) return masked(touched, names);
  return clear;
}

/** Triggers, rules, checks and foreign keys of whatever is written, CTEs included. */
function refuseWrites(tree: unknown, context: ReviewContext, touched: Set<string>): DetailedReview | undefined {
  let found: DetailedReview | undefined;
  visit(tree, (node, kind) => {
    const events = kind === undefined ? undefined : WRITE_EVENTS[kind];
    const target = isNode(node.relation) ? rangeVar(node.relation) : undefined;
    if (events === undefined || target === undefined || found !== undefined) return;
    if (kind === 'CopyStmt' && node.is_from !== true) return;
    for (const relation of context.closure.candidates(target.schema, target.name)) {
      found ??= refuseCode(context.closure.writeHazard(relation.oid, events), context);
      if (context.closure.cascades(relation.oid)) touched.add(qualifiedName(relation));
    }
  });
  return found;
}

function judgeCopy(body: TreeNode, mentions: Mentions, context: ReviewContext): DetailedReview {
  if (body.filename !== undefined || body.is_program === true) {
    return refuse(
      context.by,
      'COPY with files and programs of the server is refused while columns are masked',
      NOT_SENT,
    );
  }
  if (body.query !== undefined) return judgeInner(body.query, context, false);
  const target = isNode(body.relation) ? rangeVar(body.relation) : undefined;
  if (target === undefined) {
    return refuse(context.by, 'the statement is not understood well enough to keep masked data in', NOT_SENT);
  }
  if (body.is_from === true) return judgeOne({ CopyStmt: body }, mentions, context, false);
  const columns = namesOf(body.attlist);
  const found = context.closure.candidates(target.schema, target.name);
  if (found.length === 0) {
    return refuse(context.by, `relation "${target.name}" is not known here, so it cannot be copied out`, NOT_SENT);
  }
  for (const relation of found) {
    const masks = context.closure.masksOf(relation.oid);
    if (masks === undefined) continue;
    for (const number of [...masks.masked.keys(), ...masks.opaque.keys()]) {
      const name = relation.columns.get(number)?.name ?? '*';
      if (columns.length > 0 && !columns.includes(name)) continue;
      return refuse(
        masks.masked.get(number)?.ref ?? context.by,
        `column ${qualifiedName(relation)}.${name} is masked and may not be copied out`,
        `Name the other columns: COPY ${target.name} (...) TO STDOUT, or use SELECT. ${NOT_SENT}`,
        `${qualifiedName(relation)}.${name}`,
      );
    }
  }
  return judgeOne({ CopyStmt: body }, mentions, context, false);
}

function judgeAlteration(body: TreeNode, mentions: Mentions, context: ReviewContext): DetailedReview {
  const relation = sensitiveRelation(mentions, context);
  if (relation === undefined) return clear;
  const commands = listOf(body.cmds).map((command) => bodyOf(command, 'AlterTableCmd'));
  let generated = false;
  visit(body, (node, kind) => {
    if (kind === 'Constraint' && node.contype === 'CONSTR_GENERATED') generated = true;
  });
  const safe = commands.every((command) => command !== undefined && SAFE_ALTERATIONS.has(String(command.subtype)));
  // Only the altered table itself may be a masked one: no foreign keys, no inheritance.
  if (!safe || generated || mentions.relations.length !== 1 || mentions.columns.length > 0) {
    return refuseChange(relation, context);
  }
  return masked([qualifiedName(relation.relation)]);
}

function judgeIndex(body: TreeNode, mentions: Mentions, context: ReviewContext): DetailedReview {
  const relation = sensitiveRelation(mentions, context);
  if (relation === undefined) return clear;
  const elements = listOf(body.indexParams).map((item) => stringOf(bodyOf(item, 'IndexElem')?.name));
  const sensitive = new Set(
    [...relation.masked.keys(), ...relation.opaque.keys()].map((n) => relation.relation.columns.get(n)?.name),
  );
  const plain = elements.every((name) => name !== undefined && !sensitive.has(name));
  if (!plain || mentions.columns.length > 0 || body.whereClause !== undefined) return refuseChange(relation, context);
  return masked([qualifiedName(relation.relation)]);
}
