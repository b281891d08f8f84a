// What the classifier says of one SQL statement: the `facts` of a PostgreSQL Command. Names are as the statement's
// parse gives them (folded, unquoted); a schema is absent where the statement names none, and then any schema may be meant,
// or one of `schemas` where names/ looked the name up.
import type { Command } from '../../policy/command.ts';

export interface RelationUse {
  schema?: string;
  name: string;
  access: 'Read' | 'Write' | 'Define' | 'Grant';
  /** The statement makes it: where it has no schema, in the first one of the search_path, or as a temporary one. */
  creates?: 'Permanent' | 'Temporary';
  /** Where `schema` is absent: the only schemas that can be meant, at least one. Absent: any may be. */
  schemas?: readonly string[];
}

/** A column mention. `relation` absent: any relation of the statement may be meant. `column` `*`: all of them, or a whole row. */
export interface ColumnUse {
  schema?: string;
  relation?: string;
  column: string;
  /** As for relations. */
  schemas?: readonly string[];
}

/** A function or type. */
export interface FunctionUse {
  schema?: string;
  name: string;
  /** As for relations. */
  schemas?: readonly string[];
}

/** How a statement plays with the session's own state, where the wire protocol must follow it. */
export type SessionEffect =
  | { kind: 'Begin' | 'Commit' | 'Rollback' }
  | { kind: 'Savepoint' }
  | { kind: 'Set'; name: string; value: string | undefined; local: boolean }
  | { kind: 'Reset'; name: string | undefined }
  | { kind: 'Prepare'; name: string }
  | { kind: 'Execute'; name: string }
  | { kind: 'Deallocate'; name: string | undefined }
  | { kind: 'Declare'; cursor: string }
  | { kind: 'Fetch'; cursor: string }
  | { kind: 'CloseCursor'; cursor: string | undefined }
  | { kind: 'DiscardAll' }
  | { kind: 'Listen' | 'Notify' | 'Unlisten' };

/** A setting that a statement changes, by SET, RESET or set_config. `value` undefined: not a constant, or `reset` to its default. */
export interface SettingUse {
  name: string;
  value: string | undefined;
  reset?: true;
}

export interface SqlFacts {
  /** Command tag without counts: `SELECT`, `DROP TABLE`, `COPY`, `EXPLAIN`. For EXPLAIN the explained one is in `inner`. */
  tag: string;
  /** Tags of statements it contains: DML in CTEs, what EXPLAIN ANALYZE runs, what PREPARE or DECLARE names. */
  inner: readonly string[];
  relations: readonly RelationUse[];
  columns: readonly ColumnUse[];
  functions: readonly FunctionUse[];
  /** UPDATE or DELETE without WHERE or with one that is trivially true, TRUNCATE; anywhere in the statement. */
  unbounded: boolean;
  copy?: {
    direction: 'In' | 'Out';
    place: 'Client' | 'File' | 'Program';
    relation?: { schema?: string; name: string };
    query: boolean;
  };
  session?: SessionEffect;
  /** Every setting changed, set_config's included. Absent: none. */
  settings?: readonly SettingUse[];
  /** Byte range of the statement in the text it came in. */
  start: number;
  end: number;
}

export type SqlCommand = Command<SqlFacts>;

/** `tree` is libpg-query's node of the statement, for the masking analysis; it is never changed. */
export interface ClassifiedStatement {
  command: SqlCommand;
  tree: unknown;
}

export type Classification =
  | { kind: 'Statements'; statements: readonly ClassifiedStatement[] } // none for an empty query
  /** `syntax`: PostgreSQL's own parser refuses the text with `reason`, at this character, counted from 1. */
  | { kind: 'NotUnderstood'; reason: string; syntax?: { position: number } };
