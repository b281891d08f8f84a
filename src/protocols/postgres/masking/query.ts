// Judges one SELECT, INSERT, UPDATE, DELETE or MERGE by where it mentions masked columns. No scopes are resolved: a name
// that may mean a masked column under any reading counts as one. A masked column may stand bare in the outermost target
// list or RETURNING (the server then reports its origin, and its values are masked), in IS NULL and in count(column);
// anywhere else it is a guess at its value or a way out, and is refused. Pure; guarantees nothing about functions.
import { allowBareOutputs, allowSafeUses, structuralProblem } from './column-uses.ts';
import { simplePredicates } from './predicates.ts';
import { type ColumnProblem, maskOfPlainColumn, mention } from './references.ts';
import type { QueryNames, RelationMasks } from './relation-masks.ts';
import { addSensitive, collectAliases, labelOf, type Scope } from './scope.ts';
import type { CatalogRelation } from './snapshot.ts';
import { type Mentions, mentionsOf, type TreeNode } from './tree.ts';

export interface QueryJudgement {
  problem: ColumnProblem | undefined;
  /** Known relations it may mean, with their masks where they have any. */
  relations: readonly { relation: CatalogRelation; masks: RelationMasks | undefined }[];
  /** Names that no known relation has. */
  unseen: readonly string[];
  /** Names under which masked values come out; an output of that name without an origin is not to be trusted. */
  outputs: ReadonlySet<string>;
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
