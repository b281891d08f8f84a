// What PostgreSQL lends to policy tests and explanations: its rules and classifier, and which columns of a statement the
// masks in force cover. The latter goes by names alone (the statement's, and the schema file's where there is one): it
// does not follow views, and whether a masked statement may run at all is for a session with a live catalog to say.
import type { Command } from '../../policy/command.ts';
import type { SessionPolicy } from '../../policy/session-policy.ts';
import type { TestProtocol } from '../../policy/testing/run.ts';
import { classify, loadClassifier } from '../../protocols/postgres/classify/classify.ts';
import { mayBe, type Part, parsePattern } from '../../protocols/postgres/pattern.ts';
import { postgresRules } from '../../protocols/postgres/rules.ts';
import type { SqlFacts } from '../../protocols/postgres/statement.ts';

/** Loads the parser; once a process. */
export async function loadPostgresTests(): Promise<TestProtocol> {
  await loadClassifier();
  return {
    rules: postgresRules,
    classify(text) {
      const found = classify(text);
      return found.kind === 'Statements'
        ? { kind: 'Commands', commands: found.statements.map(({ command }) => command) }
        : { kind: 'NotUnderstood', reason: found.reason };
    },
    masked: maskedColumns,
  };
}

interface KnownRelation {
  schema: string;
  name: string;
  columns: readonly string[];
}

/** Reads what it needs of a schema file; members that it does not know are left alone. */
function relationsOf(schema: unknown): readonly KnownRelation[] | undefined {
  if (typeof schema !== 'object' || schema === null || !('relations' in schema)) return undefined;
  const { relations } = schema;
  if (!Array.isArray(relations)) return undefined;
  return relations.flatMap((relation: unknown): KnownRelation[] => {
    if (typeof relation !== 'object' || relation === null) return [];
    const { schema: home, name, columns } = relation as Record<string, unknown>;
    if (typeof home !== 'string' || typeof name !== 'string' || !Array.isArray(columns)) return [];
    const names = columns.flatMap((column: unknown) => {
      const own = typeof column === 'object' && column !== null && 'name' in column ? column.name : column;
      return typeof own === 'string' ? [own] : [];
    });
    return [{ schema: home, name, columns: names }];
  });
}

type Found = ReturnType<NonNullable<TestProtocol['masked']>>;

export function maskedColumns(commands: readonly Command[], session: SessionPolicy, schema: unknown): Found {
  const patterns = session.masks.flatMap(({ columns }) => columns).map((pattern) => parsePattern(pattern));
  const known = relationsOf(schema);
  const found = new Set<string>();
  for (const { facts } of commands) {
    const sql = facts as SqlFacts;
    for (const use of sql.columns) {
      for (const relation of sql.relations) {
        if (use.relation !== undefined && use.relation !== relation.name) continue;
        const home = relation.schema ?? '*';
        const table = known?.find((each) => each.name === relation.name && (home === '*' || each.schema === home));
        if (table !== undefined && use.column !== '*' && !table.columns.includes(use.column)) continue;
        for (const pattern of patterns) {
          const [inSchema, inTable, column] = pattern ?? [];
          if (inSchema === undefined || inTable === undefined || column === undefined) continue;
          if (!mayBe(inSchema, table?.schema ?? home) || !mayBe(inTable, relation.name)) continue;
          const names = columnNames(use.column, column, table);
          if (names === undefined)
            return {
              kind: 'Unknown',
              reason: `* of ${relation.name} stands for columns that only a schema file tells`,
            };
          for (const name of names) found.add(`${relation.name}.${name}`);
        }
      }
    }
  }
  return { kind: 'Columns', columns: [...found].sort() };
}

/** undefined: only the schema could tell. */
function columnNames(used: string, pattern: Part, table: KnownRelation | undefined): string[] | undefined {
  if (used !== '*') return mayBe(pattern, used) ? [used] : [];
  if (table !== undefined) return table.columns.filter((column) => mayBe(pattern, column));
  return pattern.quoted || !pattern.text.includes('*') ? [pattern.text] : undefined;
}
