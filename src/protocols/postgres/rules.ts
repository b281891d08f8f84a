// The member `sql` of policy rules: what a matcher restricts and what it permits. Fields given are and-ed, values of one
// field are or-ed.
//
// Deny and Hold are generous: a table named without a schema may be any schema's, code that is text (DO, query_to_xml,
// CASCADE) may touch any table, a column without a table any table's of the statement. `effects` and `tables` must meet
// in one table: {effects: [Write], tables: [cards]} is about writes to cards, not about writes beside a read of cards.
//
// Allow is exact: a table named without a schema is within `orders` and `*.orders`, not within `public.orders`.
//   tables      permits effects on tables alone; an Execute of a function or a SET needs an Allow of its own
//   columns     permits reads, inserts and updates whose every mentioned column of that table is listed (`*` and whole rows
//               need a pattern for all of them); what concerns whole rows (DELETE, TRUNCATE, DDL) only under such a pattern
//   functions   permits Execute effects of these functions alone
//   statements  the statement and every one inside it (CTEs, EXPLAIN ANALYZE, PREPARE, COPY) must be listed
//   unbounded   false: permits only commands that are not unbounded
//
// Whenever there is any Allow, these are permitted too, as they touch no data and no rights: BEGIN, COMMIT, ROLLBACK,
// SAVEPOINT and RELEASE, SET CONSTRAINTS, DISCARD, DEALLOCATE, EXECUTE and FETCH (of what was itself decided), CLOSE,
// UNLISTEN, RESET ALL, SHOW, queries of no table and no function with effects (`SELECT 1`, `SELECT version()`), and SET
// or RESET of the settings listed in classify/settings.ts. A Deny or Hold still beats that.
//
// Names that PostgreSQL brings along (pg_class, nextval) mean those of pg_catalog when no schema is given.
import type { SqlMatcher } from '../../api/policy.ts';
import type { Command, Effect } from '../../policy/command.ts';
import { globMatches } from '../../policy/glob.ts';
import type { PreparedMatcher, PresetRule, ProtocolRules } from '../../policy/session-policy.ts';
import { SYSTEM_RELATIONS } from './classify/builtins.generated.ts';
import { isBuiltinFunction } from './classify/functions.ts';
import { harmlessSetting } from './classify/settings.ts';
import { TAGS } from './classify/tags.ts';
import { lintMatcher } from './lint.ts';
import { ANY, mayBe, mustBe, type Part, parsePattern } from './pattern.ts';
import type { ColumnUse, SqlFacts } from './statement.ts';

const readOnly: readonly PresetRule[] = [{ name: 'read', action: 'Allow', matcher: { effects: ['Read'] } }];

const readWrite: readonly PresetRule[] = [
  { name: 'read-write', action: 'Allow', matcher: { effects: ['Read', 'Write'] } },
  {
    name: 'coordinate',
    action: 'Allow',
    matcher: {
      effects: ['Execute'],
      functions: ['pg_catalog.pg_advisory_*', 'pg_catalog.pg_try_advisory_*', 'pg_catalog.pg_notify'],
    },
  },
  { name: 'listen', action: 'Allow', matcher: { effects: ['Session'], statements: ['LISTEN'] } },
];

const holdChanges: readonly PresetRule[] = [
  {
    name: 'schema-and-privileges',
    action: 'Hold',
    matcher: { effects: ['Define', 'Grant'] },
    message: 'Changes of schema and privileges need an approval.',
  },
];

export const postgresRules: ProtocolRules = {
  member: 'sql',
  presets: { ReadOnly: readOnly, ReadWrite: readWrite, HoldSchemaAndPrivilegeChanges: holdChanges },
  lint: (matcher) => lintMatcher(matcher as SqlMatcher, TAGS),
  prepare: (matcher) => prepare(matcher as SqlMatcher),
};

interface Patterns {
  effects: ReadonlySet<string> | undefined;
  statements: readonly string[] | undefined;
  tables: readonly [schema: Part, table: Part][] | undefined;
  columns: readonly [schema: Part, table: Part, column: Part][] | undefined;
  functions: readonly [schema: Part, name: Part][] | undefined;
  unbounded: boolean | undefined;
}

function prepare(matcher: SqlMatcher): PreparedMatcher {
  const patterns: Patterns = {
    effects: matcher.effects && new Set<string>(matcher.effects),
    statements: matcher.statements?.map((pattern) => pattern.toUpperCase()),
    tables: matcher.tables?.map((pattern) => tail(pattern, 2) as [Part, Part]),
    columns: matcher.columns?.map((pattern) => tail(pattern, 3) as [Part, Part, Part]),
    functions: matcher.functions?.map((pattern) => tail(pattern, 2) as [Part, Part]),
    unbounded: matcher.unbounded,
  };
  return {
    restricts: (command) => restricts(patterns, command, command.facts as SqlFacts),
    permits: (command, index) => {
      const effect = command.effects[index];
      return effect !== undefined && permits(patterns, command, command.facts as SqlFacts, effect);
    },
  };
}

/** A pattern that cannot be read describes a name that nothing has; lint tells of it. */
const NOTHING: Part = { text: '', quoted: true };

function tail(pattern: string, length: number): Part[] {
  const parts = parsePattern(pattern);
  if (parts === undefined || parts.length > length) return new Array<Part>(length).fill(NOTHING);
  return [...new Array<Part>(length - parts.length).fill(ANY), ...parts];
}

/** The schema that a name without one is known to mean. */
function relationSchema(schema: string | undefined, name: string): string {
  return schema ?? (SYSTEM_RELATIONS.has(name) ? 'pg_catalog' : '*');
}

function functionSchema(schema: string | undefined, name: string): string {
  return schema ?? (isBuiltinFunction(name) ? 'pg_catalog' : '*');
}

// --- Deny and Hold -------------------------------------------------------------------------------------------------

function restricts(patterns: Patterns, command: Command, facts: SqlFacts): boolean {
  const { effects, statements, tables, columns, functions, unbounded } = patterns;
  if (unbounded !== undefined && facts.unbounded !== unbounded) return false;
  if (statements && ![facts.tag, ...facts.inner].some((tag) => statements.some((each) => globMatches(each, tag))))
    return false;
  if (effects && !command.effects.some((effect) => effects.has(effect.action))) {
    // A function that a rule names is executed, whatever is known of its effects.
    if (!(functions && effects.has('Execute'))) return false;
  }
  const touched = facts.relations.filter((use) => effects === undefined || effects.has(use.access));
  const meets = (schema: Part, table: Part) =>
    touched.some((use) => mayBe(schema, relationSchema(use.schema, use.name)) && mayBe(table, use.name));
  if (tables && !tables.some(([schema, table]) => meets(schema, table))) return false;
  if (
    columns &&
    !columns.some((pattern) => meets(pattern[0], pattern[1]) && facts.columns.some((use) => mayMention(pattern, use)))
  ) {
    return false;
  }
  if (
    functions &&
    !facts.functions.some((use) =>
      functions.some(([schema, name]) => mayBe(schema, functionSchema(use.schema, use.name)) && mayBe(name, use.name)),
    )
  ) {
    return false;
  }
  return true;
}

function mayMention([schema, table, column]: readonly [Part, Part, Part], use: ColumnUse): boolean {
  if (!mayBe(column, use.column)) return false;
  if (use.relation === undefined) return true;
  return mayBe(schema, relationSchema(use.schema, use.relation)) && mayBe(table, use.relation);
}

// --- Allow ---------------------------------------------------------------------------------------------------------

function permits(patterns: Patterns, command: Command, facts: SqlFacts, effect: Effect): boolean {
  if (harmless(effect, facts)) return true;
  const { effects, statements, tables, columns, functions, unbounded } = patterns;
  if (effects && !effects.has(effect.action)) return false;
  if (unbounded !== undefined && facts.unbounded !== unbounded) return false;
  if (statements && ![facts.tag, ...facts.inner].every((tag) => statements.some((each) => globMatches(each, tag))))
    return false;
  if (tables || columns) {
    const [schema, name] = relationOf(effect, facts) ?? [];
    if (schema === undefined || name === undefined) return false;
    if (tables && !tables.some((pattern) => mustBe(pattern[0], schema) && mustBe(pattern[1], name))) return false;
    if (columns && !permitsColumns(columns, facts, effect, schema, name)) return false;
  }
  if (functions) {
    const [schema, name] = functionOf(effect, facts) ?? [];
    if (schema === undefined || name === undefined) return false;
    if (!functions.some((pattern) => mustBe(pattern[0], schema) && mustBe(pattern[1], name))) return false;
  }
  return command.protocol === 'postgresql';
}

function harmless(effect: Effect, facts: SqlFacts): boolean {
  if (effect.action === 'Read') return effect.object.length === 0;
  if (effect.action !== 'Session') return false;
  if (effect.object.length === 0) return true;
  const uses = effect.object.length === 1 ? facts.settings?.filter((use) => use.name === effect.object[0]) : undefined;
  return (
    uses !== undefined &&
    uses.length > 0 &&
    uses.every((use) => harmlessSetting(use.name, use.value, use.reset === true))
  );
}

/** The relation an effect is on, with its schema as far as it is known. */
function relationOf(effect: Effect, facts: SqlFacts): [schema: string, name: string] | undefined {
  const [schema, name] = effect.object;
  if (effect.object.length !== 2 || schema === undefined || name === undefined) return undefined;
  const is = facts.relations.some(
    (use) => use.access === effect.action && use.name === name && (use.schema ?? '*') === schema,
  );
  return is ? [relationSchema(schema === '*' ? undefined : schema, name), name] : undefined;
}

function functionOf(effect: Effect, facts: SqlFacts): [schema: string, name: string] | undefined {
  const [schema, name] = effect.object;
  if (effect.action !== 'Execute' || effect.object.length !== 2 || schema === undefined || name === undefined) {
    return undefined;
  }
  const is = facts.functions.some((use) => use.name === name && (use.schema ?? '*') === schema);
  return is ? [functionSchema(schema === '*' ? undefined : schema, name), name] : undefined;
}

/** Statements that write columns one by one. */
const BY_COLUMN = new Set(['INSERT', 'UPDATE', 'COPY', 'SELECT', 'EXPLAIN', 'PREPARE', 'DECLARE CURSOR']);

function permitsColumns(
  columns: readonly [schema: Part, table: Part, column: Part][],
  facts: SqlFacts,
  effect: Effect,
  schema: string,
  name: string,
): boolean {
  const own = columns.filter((pattern) => mustBe(pattern[0], schema) && mustBe(pattern[1], name));
  if (own.length === 0) return false;
  const within = (column: string) => own.some((pattern) => mustBe(pattern[2], column));
  const byColumn =
    effect.action === 'Read' ||
    (effect.action === 'Write' && [facts.tag, ...facts.inner].every((tag) => BY_COLUMN.has(tag)));
  if (!byColumn && !within('*')) return false;
  return facts.columns.every((use) => {
    if (use.relation !== undefined) {
      const others = use.relation !== name || (use.schema !== undefined && schema !== '*' && use.schema !== schema);
      if (others) return true;
    }
    return within(use.column);
  });
}
