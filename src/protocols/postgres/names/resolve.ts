// What the unqualified names of a command can mean, by the names of its database. Pure. Only ever narrows: a name gets
// the schemas it can mean where that is certain, else it stays what it was, any schema's. What a search_path reported by
// the server says is used only where the caller vouches that it holds when the command is planned.
//
// Beyond that, a function of the database's own that shares the name of a built-in one is an Execute effect: which of the
// two runs depends on the argument types, which are not known here.
import type { Effect } from '../../../policy/command.ts';
import { SYSTEM_RELATIONS } from '../classify/builtins.generated.ts';
import { isBuiltinFunction } from '../classify/functions.ts';
import type { ColumnUse, FunctionUse, RelationUse, SqlCommand, SqlFacts } from '../statement.ts';
import type { NamesSnapshot } from './snapshot.ts';

export interface NameContext {
  snapshot: NamesSnapshot;
  /** The search_path in force, its `"$user"` replaced; undefined: not known for sure. */
  path: readonly string[] | undefined;
  /** The session may have temporary relations. */
  temporary: boolean;
  /** Names whose meaning statements of the session changed, or may have, that the snapshot does not show yet. */
  unsettled: Unsettled | undefined;
}

export interface Unsettled {
  /** Name -> schemas in which it was made or changed; `*`: any. */
  names: ReadonlyMap<string, ReadonlySet<string>>;
  /** Any name may have changed. */
  anything: boolean;
}

const TEMPORARY = 'pg_temp';
const CATALOG = 'pg_catalog';

const resolved = new WeakMap<NameContext, WeakMap<SqlCommand, SqlCommand>>();

/** The command itself where there is nothing to say. The same objects give the same answer, made once. */
export function resolveNames(command: SqlCommand, context: NameContext): SqlCommand {
  let memo = resolved.get(context);
  if (memo === undefined) resolved.set(context, (memo = new WeakMap()));
  let answer = memo.get(command);
  if (answer === undefined) {
    answer = resolve(command, context);
    memo.set(command, answer);
    memo.set(answer, answer);
  }
  return answer;
}

function resolve(command: SqlCommand, context: NameContext): SqlCommand {
  const { facts } = command;
  const creating = new Set(facts.relations.flatMap((use) => (use.creates === undefined ? [] : [use.name])));
  // Inside CREATE SCHEMA names mean those of the new schema first.
  if ([facts.tag, ...facts.inner].includes('CREATE SCHEMA')) return command;
  const relations = withNewNames(
    facts,
    facts.relations.map((use) => withSchemas(use, relationSchemas(use, context))),
  );
  const columns = facts.columns.map((use) =>
    use.relation === undefined || creating.has(use.relation) ? use : withSchemas(use, lookUp(use.relation, context)),
  );
  const shadowed: Effect[] = [];
  const functions = facts.functions.map((use) => {
    if (use.schema !== undefined || use.schemas !== undefined) return use;
    if (!isBuiltinFunction(use.name))
      return withSchemas(use, functionSchemas(context.snapshot.functions, use.name, context));
    const schemas = shadowSchemas(use.name, context);
    if (schemas === undefined) return use;
    if (!command.effects.some((effect) => isExecuteOf(effect, use.name))) {
      shadowed.push({ action: 'Execute', object: ['*', use.name] });
    }
    return { ...use, schemas };
  });
  const changed =
    shadowed.length > 0 ||
    differs(relations, facts.relations) ||
    differs(columns, facts.columns) ||
    differs(functions, facts.functions);
  if (!changed) return command;
  return {
    ...command,
    effects: shadowed.length === 0 ? command.effects : [...command.effects, ...shadowed],
    facts: { ...facts, relations, columns, functions },
  };
}

/** ALTER … RENAME tells the new name as one that is changed; it is in the schema of the old one, wherever else there is one. */
function withNewNames(facts: SqlFacts, relations: readonly RelationUse[]): readonly RelationUse[] {
  if (!facts.tag.startsWith('ALTER')) return relations;
  const open = (use: RelationUse): boolean => use.access === 'Define' && use.schema === undefined;
  const changed = relations.filter(open);
  if (changed.length < 2) return relations;
  if (changed.some((use) => use.schemas === undefined)) return facts.relations;
  const schemas = [...new Set(changed.flatMap((use) => use.schemas ?? []))];
  return relations.map((use) => (open(use) ? { ...use, schemas } : use));
}

function differs<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.some((each, index) => each !== b[index]);
}

function isExecuteOf(effect: Effect, name: string): boolean {
  return (
    effect.action === 'Execute' && effect.object.length === 2 && effect.object[0] === '*' && effect.object[1] === name
  );
}

function withSchemas<T extends RelationUse | ColumnUse | FunctionUse>(
  use: T,
  schemas: readonly string[] | undefined,
): T {
  return use.schema !== undefined || use.schemas !== undefined || schemas === undefined ? use : { ...use, schemas };
}

function relationSchemas(use: RelationUse, context: NameContext): readonly string[] | undefined {
  if (use.schema !== undefined) return undefined;
  if (use.creates === 'Temporary') return [TEMPORARY];
  if (use.creates === 'Permanent') return newSchemas(context);
  return lookUp(use.name, context);
}

/** Where a new relation goes: the first schema of the path, if that is known. */
function newSchemas({ path, snapshot, unsettled, temporary }: NameContext): readonly string[] | undefined {
  if (path === undefined || unsettled?.anything === true) return undefined;
  const first = path.find((schema) => schema === TEMPORARY || snapshot.usable.has(schema));
  if (first === undefined || first === TEMPORARY) return undefined;
  // A view of temporary relations is temporary itself.
  return temporary ? [first, TEMPORARY] : [first];
}

function isUnsettled(name: string, { unsettled }: NameContext): boolean {
  return unsettled !== undefined && (unsettled.anything || unsettled.names.has(name));
}

/** The relations that a name can mean where PostgreSQL looks it up. */
function lookUp(name: string, context: NameContext): readonly string[] | undefined {
  const { snapshot, path, temporary } = context;
  const more = context.unsettled?.names.get(name);
  if (name === '*' || context.unsettled?.anything === true || more?.has('*') === true) return undefined;
  const known = snapshot.relations.get(name) ?? [];
  const found = more === undefined ? known : [...new Set([...known, ...more])];
  const hidden = temporary && found.includes(TEMPORARY);
  const permanent = found.filter((schema) => schema !== TEMPORARY);
  const system = SYSTEM_RELATIONS.has(name);
  if (path === undefined || more !== undefined) {
    // pg_catalog comes first in every path that rules let a session set; temporary relations come before it.
    if (system) return hidden ? [TEMPORARY, CATALOG] : undefined;
    const all = hidden ? [TEMPORARY, ...permanent] : permanent;
    return all.length === 0 ? undefined : all;
  }
  const candidates = new Set(system ? [...permanent, CATALOG] : permanent);
  const meant: string[] = [];
  for (const schema of searched(path)) {
    if (schema === TEMPORARY) {
      if (hidden) meant.push(TEMPORARY);
    } else if (candidates.has(schema) && (schema === CATALOG || snapshot.usable.has(schema))) {
      return [...meant, schema];
    }
  }
  // In no schema of the path: PostgreSQL will not find it, unless it knows of one that is not known here.
  const all = [...meant, ...candidates];
  return all.length === 0 ? undefined : all;
}

/** The path as PostgreSQL walks it for relations: what it does not name comes first, temporary ones before pg_catalog. */
function searched(path: readonly string[]): string[] {
  const implicit = path.includes(CATALOG) ? [] : [CATALOG];
  return path.includes(TEMPORARY) ? [...implicit, ...path] : [TEMPORARY, ...implicit, ...path];
}

function functionSchemas(
  among: ReadonlyMap<string, readonly string[]>,
  name: string,
  context: NameContext,
): readonly string[] | undefined {
  if (isUnsettled(name, context)) return undefined;
  const found = among.get(name);
  if (found === undefined || context.path === undefined) return found;
  // Every schema of the path has a say: argument types choose among functions of one name.
  const meant = found.filter((schema) => context.path!.includes(schema) || schema === CATALOG);
  return meant.length === 0 ? found : meant;
}

/** undefined: the built-in function and nothing else. */
function shadowSchemas(name: string, context: NameContext): readonly string[] | undefined {
  const { snapshot, path, unsettled } = context;
  if (unsettled?.names.has(name) === true) return ['*'];
  const found = snapshot.shadows.get(name);
  if (found === undefined) return undefined;
  const meant =
    path === undefined || unsettled?.anything === true ? found : found.filter((schema) => path.includes(schema));
  return meant.length === 0 ? undefined : [CATALOG, ...meant];
}

/**
 * The schemas that a search_path setting names, as the server reports it: `"$user", public`. `"$user"` becomes `user`.
 * undefined: not a list of names (identifiers are folded, quotes doubled inside quotes, as SplitIdentifierString does).
 */
export function parsePath(setting: string, user: string): readonly string[] | undefined {
  const schemas: string[] = [];
  let rest = setting.trim();
  if (rest === '') return schemas;
  for (;;) {
    const quoted = /^"((?:[^"]|"")*)"/.exec(rest);
    const plain = quoted === null ? /^[^",\s]+/.exec(rest) : null;
    const found = quoted ?? plain;
    if (found === null) return undefined;
    const name = quoted === null ? found[0].toLowerCase() : found[1]!.replaceAll('""', '"');
    // Only ASCII folds the same everywhere; longer names are cut by the server.
    if (Buffer.byteLength(name) > 63 || (quoted === null && !/^[\x21-\x7e]+$/.test(name))) return undefined;
    if (name.startsWith(`${TEMPORARY}_`)) return undefined; // some session's own, by its number
    schemas.push(name === '$user' ? user : name);
    rest = rest.slice(found[0].length).trimStart();
    if (rest === '') return schemas;
    if (!rest.startsWith(',')) return undefined;
    rest = rest.slice(1).trimStart();
  }
}
