// What a function call does, by its name alone. An unqualified name that PostgreSQL brings along is taken for the
// built-in one: pg_catalog comes first in every search_path that the rules let a session set. Everything else may do
// anything, and is an Execute effect. Overloads that somebody with DDL rights added beside a built-in name are not seen.
import { GUARDED_FUNCTIONS, HARMLESS_FUNCTIONS, INFORMATION_FUNCTIONS } from './builtins.generated.ts';

export type FunctionKind =
  /** Computes or reads what anybody may. */
  | 'Harmless'
  /** set_config: as SET. */
  | 'Setting'
  /** nextval and setval: a write to a sequence. */
  | 'Sequence'
  /** Runs SQL that it is given as text, or reads relations that it is given as text. */
  | 'ReadsByText'
  /** Built in, with effects or reach. */
  | 'Guarded'
  /** Not built in. */
  | 'Unknown';

const READS_BY_TEXT = /^(query|table|schema|database|cursor)_to_xml|^ts_stat$|^ts_rewrite$|^currtid2?$/;

/** What SQL/JSON and SQL/XML syntax is spelled like; the grammar of PostgreSQL 15 reads some of it as function calls. */
export function functionKind(schema: string | undefined, name: string): FunctionKind {
  if (schema === 'information_schema') return INFORMATION_FUNCTIONS.has(name) ? 'Harmless' : 'Unknown';
  if (schema !== undefined && schema !== 'pg_catalog') return 'Unknown';
  if (HARMLESS_FUNCTIONS.has(name)) return 'Harmless';
  if (!GUARDED_FUNCTIONS.has(name)) return 'Unknown';
  if (name === 'set_config') return 'Setting';
  if (name === 'nextval' || name === 'setval') return 'Sequence';
  return READS_BY_TEXT.test(name) ? 'ReadsByText' : 'Guarded';
}

/** Whether an unqualified name means the function of pg_catalog. */
export function isBuiltinFunction(name: string): boolean {
  return HARMLESS_FUNCTIONS.has(name) || GUARDED_FUNCTIONS.has(name);
}
