// One reading of a database's catalog, as far as masking needs it, in one statement and so of one moment. A snapshot is
// plain data and never changes; what it means for given masks is computed in closure.ts.
import { reachesStorage, SYSTEM_COLUMNS } from './builtin-reach.ts';
import type { CatalogDescribe, CatalogQuery, FieldOrigin } from './masking.ts';

/** Objects made after initdb have oids from here on (PostgreSQL's FirstNormalObjectId). */
export const FIRST_USER_OID = 16384;

export interface CatalogRelation {
  oid: number;
  schema: string;
  name: string;
  /** pg_class.relkind. */
  kind: string;
  rowType: number;
  columns: Map<number, CatalogColumn>;
}
export interface CatalogColumn {
  number: number;
  name: string;
  dropped: boolean;
  type: number;
}
export interface CatalogFunction {
  oid: number;
  schema: string;
  name: string;
  language: string;
  /** pg_proc.prokind. */
  kind: string;
  source: string;
  /** SQL-standard body and argument defaults, deparsed. */
  expressions: string;
  settings: string;
  extension: string | undefined;
}
/** Code that belongs to a relation and runs when it is read or written. */
export interface CatalogExpression {
  relation: number;
  kind: 'Policy' | 'Default' | 'Generated' | 'Check' | 'Index' | 'Domain';
  /** The column it computes, for Default and Generated. */
  column: number;
  text: string;
}
export interface CatalogTrigger {
  relation: number;
  function: number;
  /** pg_trigger.tgtype. */
  type: number;
}
export interface CatalogType {
  oid: number;
  schema: string;
  name: string;
  /** pg_type.typrelid, of row types. */
  relation: number;
  element: number;
  base: number;
}

export interface Snapshot {
  /** Changes whenever anything below could have. */
  token: string;
  relations: Map<number, CatalogRelation>;
  inherits: { child: number; parent: number }[];
  views: Map<number, { definition: string; token: string; origins: readonly FieldOrigin[] | undefined }>;
  viewReads: { view: number; relation: number; column: number }[];
  rules: { relation: number; event: string; definition: string }[];
  functions: Map<number, CatalogFunction>;
  aggregates: { oid: number; parts: number[] }[];
  builtins: ReadonlySet<string>;
  /** Oids of built-in functions that reach storage (builtin-reach.ts), for aggregates, operators and casts made of them. */
  reaching: ReadonlySet<number>;
  operators: { schema: string; name: string; function: number }[];
  casts: { source: number; target: number; function: number }[];
  types: Map<number, CatalogType>;
  triggers: CatalogTrigger[];
  expressions: CatalogExpression[];
  /** Foreign keys that write the referencing table when the referenced one changes. */
  cascades: { child: number; parent: number }[];
}

const USER = `>= ${FIRST_USER_OID}`;

/** A digest over the versions of all rows a snapshot reads: a few milliseconds on thousands of objects. */
export const TOKEN_SQL = `select pg_catalog.md5(pg_catalog.string_agg(t, ',' order by t)) from (${[
  ['pg_namespace', 'true'],
  ['pg_class', `oid ${USER}`],
  ['pg_attribute', `attrelid ${USER} and attnum > 0`],
  ['pg_inherits', 'true'],
  ['pg_rewrite', `oid ${USER}`],
  ['pg_proc', `oid ${USER}`],
  ['pg_trigger', 'not tgisinternal'],
  ['pg_operator', `oid ${USER}`],
  ['pg_cast', `oid ${USER}`],
  ['pg_type', `oid ${USER}`],
  ['pg_policy', 'true'],
  ['pg_attrdef', 'true'],
  ['pg_constraint', `oid ${USER}`],
  ['pg_index', `indexrelid ${USER}`],
  ['pg_extension', 'true'],
]
  .map(
    ([table, where]) =>
      `select '${table}:' || pg_catalog.count(*) || ':' || coalesce(pg_catalog.sum(pg_catalog.hashtextextended(xmin::text || '/' || ctid::text, 0)::numeric), 0) as t from pg_catalog.${table} where ${where}`,
  )
  .join(' union all ')}) s`;

const systemNames = Object.keys(SYSTEM_COLUMNS)
  .map((name) => `'${name}'`)
  .join(',');
const EXTENSION_OF = (classId: string, oid: string): string =>
  `(select e.extname from pg_catalog.pg_depend x join pg_catalog.pg_extension e on e.oid = x.refobjid where x.classid = 'pg_catalog.${classId}'::regclass and x.objid = ${oid} and x.deptype = 'e' limit 1)`;

function sections(major: number): [string, string][] {
  const body = major >= 14 ? `coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '')` : `''`;
  return [
    [
      'relation',
      `select pg_catalog.json_build_array(c.oid::int8, n.nspname, c.relname, c.relkind, c.reltype::int8) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r','p','v','m','f','S','t','c')`,
    ],
    [
      'column',
      `select pg_catalog.json_build_array(a.attrelid::int8, a.attnum, a.attname, a.attisdropped, a.atttypid::int8) from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid where a.attnum > 0 and c.relkind in ('r','p','v','m','f','c') and (c.oid ${USER} or c.relname in (${systemNames}))`,
    ],
    ['inherits', `select pg_catalog.json_build_array(inhrelid::int8, inhparent::int8) from pg_catalog.pg_inherits`],
    [
      'view',
      `select pg_catalog.json_build_array(c.oid::int8, pg_catalog.pg_get_viewdef(c.oid), r.oid::text || '/' || r.xmin::text || '/' || r.ctid::text) from pg_catalog.pg_class c join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.ev_type = '1' where c.oid ${USER} and c.relkind in ('v','m')`,
    ],
    [
      'reads',
      `select pg_catalog.json_build_array(r.ev_class::int8, d.refobjid::int8, d.refobjsubid) from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and r.ev_class ${USER} and d.refobjid <> r.ev_class`,
    ],
    [
      'rule',
      `select pg_catalog.json_build_array(r.ev_class::int8, r.ev_type, pg_catalog.pg_get_ruledef(r.oid)) from pg_catalog.pg_rewrite r where r.ev_class ${USER} and r.ev_type <> '1'`,
    ],
    [
      'function',
      `select pg_catalog.json_build_array(p.oid::int8, n.nspname, p.proname, l.lanname, p.prokind, p.prosrc, ${body} || ' ' || coalesce(pg_catalog.pg_get_expr(p.proargdefaults, 0), ''), coalesce(pg_catalog.array_to_string(p.proconfig, ','), ''), ${EXTENSION_OF('pg_proc', 'p.oid')}) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang where p.oid ${USER}`,
    ],
    [
      'aggregate',
      `select pg_catalog.json_build_array(aggfnoid::oid::int8, aggtransfn::oid::int8, aggfinalfn::oid::int8, aggcombinefn::oid::int8, aggserialfn::oid::int8, aggdeserialfn::oid::int8, aggmtransfn::oid::int8, aggminvtransfn::oid::int8, aggmfinalfn::oid::int8) from pg_catalog.pg_aggregate where aggfnoid::oid ${USER}`,
    ],
    [
      'builtin',
      `select pg_catalog.json_build_array(proname, oid::int8) from pg_catalog.pg_proc where oid < ${FIRST_USER_OID}`,
    ],
    [
      'operator',
      `select pg_catalog.json_build_array(n.nspname, o.oprname, o.oprcode::oid::int8) from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace where o.oid ${USER}`,
    ],
    [
      'cast',
      `select pg_catalog.json_build_array(castsource::int8, casttarget::int8, castfunc::int8) from pg_catalog.pg_cast where oid ${USER} and castfunc <> 0`,
    ],
    [
      'type',
      `select pg_catalog.json_build_array(t.oid::int8, n.nspname, t.typname, t.typrelid::int8, t.typelem::int8, t.typbasetype::int8) from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where t.oid ${USER}`,
    ],
    [
      'trigger',
      `select pg_catalog.json_build_array(tgrelid::int8, tgfoid::int8, tgtype) from pg_catalog.pg_trigger where not tgisinternal and tgenabled <> 'D'`,
    ],
    [
      'expression',
      `select pg_catalog.json_build_array(polrelid::int8, 'Policy', 0, coalesce(pg_catalog.pg_get_expr(polqual, polrelid), 'true')) from pg_catalog.pg_policy
       union all select pg_catalog.json_build_array(polrelid::int8, 'Policy', 0, coalesce(pg_catalog.pg_get_expr(polwithcheck, polrelid), 'true')) from pg_catalog.pg_policy
       union all select pg_catalog.json_build_array(d.adrelid::int8, case when a.attgenerated = '' then 'Default' else 'Generated' end, d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid)) from pg_catalog.pg_attrdef d join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
       union all select pg_catalog.json_build_array(conrelid::int8, 'Check', 0, pg_catalog.pg_get_expr(conbin, conrelid)) from pg_catalog.pg_constraint where contype = 'c' and conrelid <> 0
       union all select pg_catalog.json_build_array(contypid::int8, 'Domain', 0, pg_catalog.pg_get_expr(conbin, 0)) from pg_catalog.pg_constraint where contype = 'c' and contypid ${USER}
       union all select pg_catalog.json_build_array(indrelid::int8, 'Index', 0, pg_catalog.pg_get_expr(indexprs, indrelid)) from pg_catalog.pg_index where indexprs is not null and indrelid ${USER}
       union all select pg_catalog.json_build_array(indrelid::int8, 'Index', 0, pg_catalog.pg_get_expr(indpred, indrelid)) from pg_catalog.pg_index where indpred is not null and indrelid ${USER}`,
    ],
    [
      'cascade',
      `select pg_catalog.json_build_array(conrelid::int8, confrelid::int8) from pg_catalog.pg_constraint where contype = 'f' and (confdeltype in ('c','n','d') or confupdtype in ('c','n','d'))`,
    ],
  ];
}

export class CatalogError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CatalogError';
  }
}

type Json = string | number | boolean | null;

/**
 * Reads the catalog, unless nothing changed since `previous`, which is then returned itself.
 * Rejects with what `query` rejects with, or CatalogError when the server answers with something else than asked.
 */
export async function loadSnapshot(
  query: CatalogQuery,
  describe: CatalogDescribe,
  previous: Snapshot | undefined,
): Promise<Snapshot> {
  // Names in view definitions then come out qualified, and nothing of the database's own can shadow a built-in here.
  await query('set search_path to pg_catalog');
  const token = (await query(TOKEN_SQL))[0]?.[0];
  if (typeof token !== 'string') throw new CatalogError('the server did not say whether its catalog changed');
  if (previous?.token === token) return previous;
  const version = Number((await query(`select pg_catalog.current_setting('server_version_num')`))[0]?.[0]);
  if (!Number.isInteger(version)) throw new CatalogError('the server did not say its version');
  const rows = await query(
    sections(Math.floor(version / 10000))
      .map(([name, sql]) => `select '${name}' as s, pg_catalog.array_to_json(array(${bare(sql)}))::text as j`)
      .join(' union all '),
  );
  const read = (section: string): Json[][] => {
    const text = rows.find((row) => row[0] === section)?.[1];
    if (typeof text !== 'string') throw new CatalogError(`the catalog answered nothing for ${section}`);
    return JSON.parse(text) as Json[][];
  };

  const relations = new Map<number, CatalogRelation>();
  for (const [oid, schema, name, kind, rowType] of read('relation')) {
    relations.set(Number(oid), {
      oid: Number(oid),
      schema: String(schema),
      name: String(name),
      kind: String(kind),
      rowType: Number(rowType),
      columns: new Map(),
    });
  }
  for (const [relation, number, name, dropped, type] of read('column')) {
    relations.get(Number(relation))?.columns.set(Number(number), {
      number: Number(number),
      name: String(name),
      dropped: dropped === true,
      type: Number(type),
    });
  }
  const views: Snapshot['views'] = new Map();
  for (const [oid, definition, viewToken] of read('view')) {
    const key = Number(oid);
    const text = String(definition).trim().replace(/;$/, '');
    const before = previous?.views.get(key);
    const same = before?.token === String(viewToken) && before.definition === text;
    // A definition that this account may not even have described has no witness; closure.ts then treats it as opaque.
    const origins = same ? before.origins : await describe(text).catch(() => undefined);
    views.set(key, { definition: text, token: String(viewToken), origins });
  }
  const builtins = read('builtin');
  const numbers = (row: Json[], from: number): number[] => row.slice(from).map(Number);
  return {
    token,
    relations,
    views,
    inherits: read('inherits').map(([child, parent]) => ({ child: Number(child), parent: Number(parent) })),
    viewReads: read('reads').map(([view, relation, column]) => ({
      view: Number(view),
      relation: Number(relation),
      column: Number(column),
    })),
    rules: read('rule').map(([relation, event, definition]) => ({
      relation: Number(relation),
      event: String(event),
      definition: String(definition),
    })),
    functions: new Map(
      read('function').map(([oid, schema, name, language, kind, source, expressions, settings, extension]) => [
        Number(oid),
        {
          oid: Number(oid),
          schema: String(schema),
          name: String(name),
          language: String(language),
          kind: String(kind),
          source: String(source ?? ''),
          expressions: String(expressions ?? ''),
          settings: String(settings),
          extension: extension === null || extension === undefined ? undefined : String(extension),
        },
      ]),
    ),
    aggregates: read('aggregate').map((row) => ({ oid: Number(row[0]), parts: numbers(row, 1) })),
    builtins: new Set(builtins.map(([name]) => String(name))),
    reaching: new Set(builtins.filter(([name]) => reachesStorage(String(name))).map(([, oid]) => Number(oid))),
    operators: read('operator').map(([schema, name, oid]) => ({
      schema: String(schema),
      name: String(name),
      function: Number(oid),
    })),
    casts: read('cast').map(([source, target, oid]) => ({
      source: Number(source),
      target: Number(target),
      function: Number(oid),
    })),
    types: new Map(
      read('type').map((row) => [
        Number(row[0]),
        {
          oid: Number(row[0]),
          schema: String(row[1]),
          name: String(row[2]),
          relation: Number(row[3]),
          element: Number(row[4]),
          base: Number(row[5]),
        },
      ]),
    ),
    triggers: read('trigger').map(([relation, oid, type]) => ({
      relation: Number(relation),
      function: Number(oid),
      type: Number(type),
    })),
    expressions: read('expression').map(([relation, kind, column, text]) => ({
      relation: Number(relation),
      kind: String(kind) as CatalogExpression['kind'],
      column: Number(column),
      text: String(text),
    })),
    cascades: read('cascade').map(([child, parent]) => ({ child: Number(child), parent: Number(parent) })),
  };
}

function bare(sql: string): string {
  return sql.replace(/\s+/g, ' ');
}
