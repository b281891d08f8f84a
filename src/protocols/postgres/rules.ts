// The member `sql` of policy rules: what a matcher restricts and what it permits. Fields given are and-ed, values of one
// field are or-ed.
//
// Deny and Hold are generous: a table named without a schema may be any schema's that has one of that name (any at all
// where the catalog could not be asked, see names/), code that is text (DO, query_to_xml,
// CASCADE) may touch any table, a column without a table any table's of the statement. `effects` and `tables` must meet
// in one table: {effects: [Write], tables: [cards]} is about writes to cards, not about writes beside a read of cards.
//
// Allow is exact: a table named without a schema is within `orders` and `*.orders`, and within `public.orders` only
// where no other schema can be meant.
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
import { compileGlob } from '../../policy/glob.ts';
import type { PreparedMatcher, PresetRule, ProtocolRules } from '../../policy/session-policy.ts';
import { TAGS } from './classify/tags.ts';
import { lintMatcher } from './lint.ts';
import { ANY, type Part, type PreparedPart, parsePattern, preparePart } from './pattern.ts';
import { type Column, type Name, type Subject, subjectOf } from './subject.ts';

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

type NamePattern = readonly [schema: PreparedPart, name: PreparedPart];
type ColumnPattern = readonly [schema: PreparedPart, table: PreparedPart, column: PreparedPart];

interface Patterns {
  effects: ReadonlySet<string> | undefined;
  statements: readonly ((tag: string) => boolean)[] | undefined;
  tables: readonly NamePattern[] | undefined;
  columns: readonly ColumnPattern[] | undefined;
  functions: readonly NamePattern[] | undefined;
  unbounded: boolean | undefined;
}

function prepare(matcher: SqlMatcher): PreparedMatcher {
  const patterns: Patterns = {
    effects: matcher.effects && new Set<string>(matcher.effects),
    statements: matcher.statements?.map((pattern) => compileGlob(pattern.toUpperCase())),
    tables: matcher.tables?.map((pattern) => tail(pattern, 2) as [PreparedPart, PreparedPart]),
    columns: matcher.columns?.map((pattern) => tail(pattern, 3) as [PreparedPart, PreparedPart, PreparedPart]),
    functions: matcher.functions?.map((pattern) => tail(pattern, 2) as [PreparedPart, PreparedPart]),
    unbounded: matcher.unbounded,
  };
  return {
    restricts: (command) => restricts(patterns, subjectOf(command)),
    permits: (command, index) => command.protocol === 'postgresql' && permits(patterns, subjectOf(command), index),
  };
}

/** A pattern that cannot be read describes a name that nothing has; lint tells of it. */
const NOTHING: Part = { text: '', quoted: true };

function tail(pattern: string, length: number): PreparedPart[] {
  let parts = parsePattern(pattern);
  if (parts === undefined || parts.length > length) parts = new Array<Part>(length).fill(NOTHING);
  return [...new Array<Part>(length - parts.length).fill(ANY), ...parts].map(preparePart);
}

// --- Deny and Hold -------------------------------------------------------------------------------------------------

function restricts(patterns: Patterns, subject: Subject): boolean {
  const { effects, statements, tables, columns, functions, unbounded } = patterns;
  if (unbounded !== undefined && subject.unbounded !== unbounded) return false;
  if (statements && !subject.tags.some((tag) => statements.some((matches) => matches(tag)))) return false;
  // A function that a rule names is executed, whatever is known of its effects.
  if (effects && !someIn(effects, subject.actions) && !(functions && effects.has('Execute'))) return false;
  if (tables && !touchesAny(tables, effects, subject)) return false;
  if (
    columns &&
    !columns.some(
      (pattern) => touches(pattern, effects, subject) && subject.columns.some((use) => mayMention(pattern, use)),
    )
  ) {
    return false;
  }
  return !functions || subject.functions.some((use) => functions.some((pattern) => mayMean(pattern, use)));
}

function someIn(effects: ReadonlySet<string>, actions: ReadonlySet<string>): boolean {
  for (const action of actions) if (effects.has(action)) return true;
  return false;
}

function touchesAny(
  patterns: readonly NamePattern[],
  effects: ReadonlySet<string> | undefined,
  subject: Subject,
): boolean {
  for (const pattern of patterns) if (touches(pattern, effects, subject)) return true;
  return false;
}

function touches(
  pattern: readonly [PreparedPart, PreparedPart, ...PreparedPart[]],
  effects: ReadonlySet<string> | undefined,
  subject: Subject,
): boolean {
  for (const use of subject.relations) {
    if (effects !== undefined && !effects.has(use.access)) continue;
    if (mayMean(pattern, use)) return true;
  }
  return false;
}

/** Some reading of the name is described. */
function mayMean(pattern: readonly [PreparedPart, PreparedPart, ...PreparedPart[]], use: Name): boolean {
  const schema = pattern[0];
  const name = pattern[1];
  if (!name.any && !name.may(use.name, use.lower)) return false;
  if (schema.any) return true;
  for (let i = 0; i < use.schemas.length; i++) if (schema.may(use.schemas[i]!, use.lowerSchemas[i]!)) return true;
  return false;
}

function mayMention(pattern: ColumnPattern, use: Column): boolean {
  return pattern[2].may(use.column, use.lowerColumn) && (use.relation === undefined || mayMean(pattern, use.relation));
}

// --- Allow ---------------------------------------------------------------------------------------------------------

function permits(patterns: Patterns, subject: Subject, index: number): boolean {
  const effect = subject.effects[index];
  if (effect === undefined) return false;
  if (effect.harmless) return true;
  const { effects, statements, tables, columns, functions, unbounded } = patterns;
  if (effects && !effects.has(effect.action)) return false;
  if (unbounded !== undefined && subject.unbounded !== unbounded) return false;
  if (statements && !subject.tags.every((tag) => statements.some((matches) => matches(tag)))) return false;
  if (tables || columns) {
    const { relation } = effect;
    if (relation === undefined) return false;
    if (tables && !mustMean(tables, relation)) return false;
    if (
      columns &&
      !relation.schemas.every((schema) => permitsColumns(columns, subject, effect.action, schema, relation))
    )
      return false;
  }
  return !functions || (effect.function !== undefined && mustMean(functions, effect.function));
}

/** Every reading of the name is described, by whichever pattern. */
function mustMean(patterns: readonly NamePattern[], use: Name): boolean {
  for (const schema of use.schemas) if (!describes(patterns, schema, use.name)) return false;
  return true;
}

function describes(patterns: readonly NamePattern[], schema: string, name: string): boolean {
  for (const pattern of patterns) if (pattern[0].must(schema) && pattern[1].must(name)) return true;
  return false;
}

/** Statements that write columns one by one. */
const BY_COLUMN = new Set(['INSERT', 'UPDATE', 'COPY', 'SELECT', 'EXPLAIN', 'PREPARE', 'DECLARE CURSOR']);

function permitsColumns(
  columns: readonly ColumnPattern[],
  subject: Subject,
  action: string,
  schema: string,
  relation: Name,
): boolean {
  const own = columns.filter((pattern) => pattern[0].must(schema) && pattern[1].must(relation.name));
  if (own.length === 0) return false;
  const within = (column: string) => own.some((pattern) => pattern[2].must(column));
  const byColumn = action === 'Read' || (action === 'Write' && subject.tags.every((tag) => BY_COLUMN.has(tag)));
  if (!byColumn && !within('*')) return false;
  return subject.columns.every((use) => {
    if (use.relation !== undefined) {
      if (use.relation.name !== relation.name) return true;
      // Of another schema's relation of that name, for sure.
      if (use.relation.qualified && schema !== '*' && use.relation.schemas[0] !== schema) return true;
    }
    return within(use.column);
  });
}
