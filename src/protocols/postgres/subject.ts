// What rules ask of a command, made once a command: names with the schemas they can mean, tags, what each effect is on.
// Pure. Remembered by the command's facts and effects, which nobody changes.
import type { Action, Command, Effect } from '../../policy/command.ts';
import { SYSTEM_RELATIONS } from './classify/builtins.generated.ts';
import { isBuiltinFunction } from './classify/functions.ts';
import { harmlessSetting } from './classify/settings.ts';
import type { ColumnUse, RelationUse, SqlFacts } from './statement.ts';

/** A name and every schema it can mean; `*` is any. */
export interface Name {
  name: string;
  lower: string;
  schemas: readonly string[];
  lowerSchemas: readonly string[];
  /** The statement itself says the schema. */
  qualified: boolean;
}

export interface Relation extends Name {
  access: RelationUse['access'];
}

export interface Column {
  column: string;
  lowerColumn: string;
  /** undefined: any relation of the statement. */
  relation: Name | undefined;
}

export interface SubjectEffect {
  action: Action;
  /** Touches no data and no rights: permitted by whatever Allow there is. */
  harmless: boolean;
  relation: Name | undefined;
  function: Name | undefined;
}

export interface Subject {
  unbounded: boolean;
  /** The statement's and those of every one inside it. */
  tags: readonly string[];
  actions: ReadonlySet<string>;
  relations: readonly Relation[];
  columns: readonly Column[];
  functions: readonly Name[];
  effects: readonly SubjectEffect[];
}

const known = new WeakMap<SqlFacts, { of: readonly Effect[]; subject: Subject }>();

export function subjectOf(command: Command): Subject {
  const facts = command.facts as SqlFacts;
  const before = known.get(facts);
  if (before !== undefined && before.of === command.effects) return before.subject;
  const subject = make(command.effects, facts);
  known.set(facts, { of: command.effects, subject });
  return subject;
}

const ANYWHERE: readonly string[] = ['*'];
const CATALOG: readonly string[] = ['pg_catalog'];

interface Use {
  schema?: string;
  name: string;
  schemas?: readonly string[];
}

/** Names that PostgreSQL brings along are of pg_catalog when nothing else is known. */
function nameOf(use: Use, isSystem: (name: string) => boolean): Name {
  const schemas = use.schema !== undefined ? [use.schema] : (use.schemas ?? (isSystem(use.name) ? CATALOG : ANYWHERE));
  return {
    name: use.name,
    lower: use.name.toLowerCase(),
    schemas,
    lowerSchemas: schemas.map((schema) => schema.toLowerCase()),
    qualified: use.schema !== undefined,
  };
}

const isSystemRelation = (name: string): boolean => SYSTEM_RELATIONS.has(name);

function columnOf(use: ColumnUse): Column {
  const { relation } = use;
  return {
    column: use.column,
    lowerColumn: use.column.toLowerCase(),
    relation: relation === undefined ? undefined : nameOf({ ...use, name: relation }, isSystemRelation),
  };
}

/** As the classifier writes objects of effects: schema or `*`, then the name. */
const objectKey = (action: string, use: { schema?: string; name: string }): string =>
  `${action}\0${use.schema ?? '*'}\0${use.name}`;

function make(effects: readonly Effect[], facts: SqlFacts): Subject {
  const relations: Relation[] = [];
  const byObject = new Map<string, Name>();
  for (const use of facts.relations) {
    const relation: Relation = { ...nameOf(use, isSystemRelation), access: use.access };
    relations.push(relation);
    byObject.set(objectKey(use.access, use), relation);
  }
  const functions = facts.functions.map((use) => {
    const name = nameOf(use, isBuiltinFunction);
    byObject.set(objectKey('Execute', use), name);
    return name;
  });
  return {
    unbounded: facts.unbounded,
    tags: [facts.tag, ...facts.inner],
    actions: new Set(effects.map(({ action }) => action)),
    relations,
    columns: facts.columns.map(columnOf),
    functions,
    effects: effects.map((effect): SubjectEffect => {
      const { action, object } = effect;
      const on = object.length === 2 ? byObject.get(`${action}\0${object[0]}\0${object[1]}`) : undefined;
      return {
        action,
        harmless: harmless(effect, facts),
        relation: action === 'Execute' ? undefined : on,
        function: action === 'Execute' ? on : undefined,
      };
    }),
  };
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
