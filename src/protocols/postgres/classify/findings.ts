// What walking one statement has found so far, without repetitions. Ends as the effects and facts of its Command.
import type { Action, Effect } from '../../../policy/command.ts';
import type { ColumnUse, FunctionUse, RelationUse, SessionEffect, SettingUse, SqlFacts } from '../statement.ts';

/** The walk met something it does not know; the statement is then not understood as a whole. */
export class NotUnderstood extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'NotUnderstood';
  }
}

/** Identifiers hold no NUL and are never empty. */
function keyOf(a: string | undefined, b: string | undefined, c: string | undefined): string {
  return `${a ?? ''}\0${b ?? ''}\0${c ?? ''}`;
}

/** Distinct names that one statement may mention; what is done with them later is up to quadratic in them. */
const MOST = { relations: 1000, columns: 20_000, functions: 2000, effects: 5000, settings: 1000 };

function bounded(size: number, what: keyof typeof MOST): void {
  if (size > MOST[what]) throw new NotUnderstood(`it has more than ${MOST[what]} ${what}`);
}

export class Findings {
  readonly relations = new Map<string, RelationUse>();
  readonly columns = new Map<string, ColumnUse>();
  readonly functions = new Map<string, FunctionUse>();
  readonly effects = new Map<string, Effect>();
  readonly inner: string[] = [];
  readonly settings: SettingUse[] = [];
  unbounded = false;
  copy: SqlFacts['copy'];
  session: SessionEffect | undefined;

  effect(action: Action, ...object: string[]): void {
    const key = `${action}\0${object.join('\0')}`;
    if (!this.effects.has(key)) this.effects.set(key, { action, object });
    bounded(this.effects.size, 'effects');
  }

  relation(access: RelationUse['access'], schema: string | undefined, name: string): void {
    const key = keyOf(access, schema, name);
    const known = this.relations.get(key);
    if (known === undefined) {
      this.relations.set(key, schema === undefined ? { name, access } : { schema, name, access });
    } else {
      // Made, and altered or referred to under the same name: that may be another one.
      delete known.creates;
    }
    bounded(this.relations.size, 'relations');
    this.effect(access, schema ?? '*', name);
  }

  /** A new relation. */
  creates(schema: string | undefined, name: string, temporary: boolean): void {
    const key = keyOf('Define', schema, name);
    const other = this.relations.has(key);
    this.relation('Define', schema, name);
    const made = this.relations.get(key);
    if (made !== undefined && !other) made.creates = temporary ? 'Temporary' : 'Permanent';
  }

  column(relation: { schema?: string; name: string } | undefined, column: string): void {
    const key = keyOf(relation?.schema, relation?.name, column);
    if (this.columns.has(key)) return;
    bounded(this.columns.size, 'columns');
    if (relation === undefined) this.columns.set(key, { column });
    else if (relation.schema === undefined) this.columns.set(key, { relation: relation.name, column });
    else this.columns.set(key, { schema: relation.schema, relation: relation.name, column });
  }

  /** A mention alone: nothing is said of what the function does. */
  mention(schema: string | undefined, name: string): void {
    const key = keyOf(schema, name, undefined);
    if (!this.functions.has(key)) this.functions.set(key, schema === undefined ? { name } : { schema, name });
    bounded(this.functions.size, 'functions');
  }

  /** A function that does something. */
  executes(schema: string | undefined, name: string): void {
    this.mention(schema, name);
    this.effect('Execute', schema ?? '*', name);
  }

  setting(name: string, value: string | undefined): void {
    this.settings.push({ name, value });
    bounded(this.settings.length, 'settings');
    this.effect('Session', name);
    // Another role is another set of privileges. An unknown setting may be that one.
    if (name === 'role' || name === 'session_authorization' || name === '*') this.effect('Grant', 'role', value ?? '*');
  }

  reset(name: string): void {
    this.settings.push({ name, value: undefined, reset: true });
    this.effect('Session', name);
  }

  /** What code given as text may do: anything to any relation. */
  opaque(...accesses: RelationUse['access'][]): void {
    for (const access of accesses) this.relation(access, undefined, '*');
    this.column(undefined, '*');
  }
}
