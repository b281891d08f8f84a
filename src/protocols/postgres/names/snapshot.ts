// The names of one database, as far as unqualified ones need resolving: which schemas have a relation, a function or a
// type of a name. Read over the side connection with the session's own account; plain data that never changes.
//
// Does not hold: the relations and functions that PostgreSQL brings along in pg_catalog (known without asking), toast
// tables, functions that belong to extensions where they share the name of a built-in one.
import type { CatalogQuery } from '../masking/masking.ts';

/** Objects made after initdb have oids from here on (PostgreSQL's FirstNormalObjectId). */
const FIRST_USER_OID = 16384;

export interface NamesSnapshot {
  /** Changes whenever anything below could have. */
  token: string;
  /** Relation name -> schemas that have one. Temporary ones of any session are under `pg_temp`. */
  relations: ReadonlyMap<string, readonly string[]>;
  /** Name -> schemas with a function, procedure, aggregate or type of it that is not built in. */
  functions: ReadonlyMap<string, readonly string[]>;
  /** As `functions`, without types and without what extensions brought: code that could run in place of a built-in function. */
  shadows: ReadonlyMap<string, readonly string[]>;
  /** Schemas the account may look into: the others are passed over in a search_path. */
  usable: ReadonlySet<string>;
  /** The account's role when it logs in: what `"$user"` stands for. */
  user: string;
}

export class NamesError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'NamesError';
  }
}

const versions = (table: string, where: string): string =>
  `select '${table}:' || pg_catalog.count(*) || ':' || coalesce(pg_catalog.sum(pg_catalog.hashtextextended(xmin::text || '/' || ctid::text, 0)::numeric), 0) as t from pg_catalog.${table} where ${where}`;

/** One row: a digest over the versions of all rows a snapshot reads, who asks, and what schemas are open to them. */
export const NAMES_TOKEN_SQL = `set search_path to pg_catalog; select (select pg_catalog.md5(pg_catalog.string_agg(t, ',' order by t)) from (${[
  versions('pg_namespace', 'true'),
  versions('pg_class', `oid >= ${FIRST_USER_OID} and relkind <> 't'`),
  versions('pg_proc', `oid >= ${FIRST_USER_OID}`),
  versions('pg_type', `oid >= ${FIRST_USER_OID} and typcategory <> 'A'`),
  versions('pg_extension', 'true'),
].join(
  ' union all ',
)}) s), current_user::text, pg_catalog.array_to_json(array(select nspname from pg_catalog.pg_namespace where pg_catalog.has_schema_privilege(oid, 'USAGE') order by nspname))::text`;

/** Rows of kind, name, JSON array of schemas. */
export const NAMES_SQL =
  `select k, name::text, pg_catalog.array_to_json(pg_catalog.array_agg(distinct schema))::text from (
select 'r' as k, c.relname as name, case when n.nspname ~ '^pg_temp_' then 'pg_temp' else n.nspname::text end as schema from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind <> 't' and (c.oid >= ${FIRST_USER_OID} or n.nspname = 'information_schema')
union all select 'f', p.proname, n.nspname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where p.oid >= ${FIRST_USER_OID}
union all select 'f', t.typname, n.nspname::text from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where t.oid >= ${FIRST_USER_OID} and t.typcategory <> 'A'
union all select 's', p.proname, n.nspname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where p.oid >= ${FIRST_USER_OID} and exists (select 1 from pg_catalog.pg_proc b where b.proname = p.proname and b.oid < ${FIRST_USER_OID}) and not exists (select 1 from pg_catalog.pg_depend x where x.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and x.objid = p.oid and x.deptype = 'e')
) names group by k, name`.replaceAll('\n', ' ');

/**
 * Reads the names, unless nothing changed since `previous`, which is then returned itself. Rejects with what `query`
 * rejects with, or NamesError when the server answers with something else than asked.
 */
export async function loadNames(query: CatalogQuery, previous: NamesSnapshot | undefined): Promise<NamesSnapshot> {
  // Nothing of the database's own can shadow a built-in here: search_path is set with it.
  const [digest, user, schemas] = (await query(NAMES_TOKEN_SQL))[0] ?? [];
  if (typeof digest !== 'string' || typeof user !== 'string' || typeof schemas !== 'string')
    throw new NamesError('the server did not say whether its names changed');
  const token = `${digest}\0${user}\0${schemas}`;
  if (previous?.token === token) return previous;
  const found = {
    r: new Map<string, readonly string[]>(),
    f: new Map<string, readonly string[]>(),
    s: new Map<string, readonly string[]>(),
  };
  for (const [kind, name, list] of await query(NAMES_SQL)) {
    if ((kind !== 'r' && kind !== 'f' && kind !== 's') || typeof name !== 'string' || typeof list !== 'string')
      throw new NamesError('the server listed its names in another form');
    found[kind].set(name, stringsOf(list));
  }
  return {
    token,
    relations: found.r,
    functions: found.f,
    shadows: found.s,
    usable: new Set(stringsOf(schemas)),
    user,
  };
}

function stringsOf(json: string): string[] {
  const value: unknown = JSON.parse(json);
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string'))
    throw new NamesError('the server listed its names in another form');
  return value;
}
