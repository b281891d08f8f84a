// `catalog export`: the schema of a Connection's database as policy tests read it. Asked with one of its accounts, so it
// shows what that account may see; it holds names and types, never data.
import type { Connection } from '../../api/connection.ts';
import { createDialGuard } from '../../gateway/dial-guard.ts';
import { type CredentialSource, credentialOf, hostsOf } from '../../protocols/credential.ts';
import { createSideConnection } from '../../protocols/postgres/side.ts';
import { connectUpstream } from '../../protocols/postgres/upstream/connect.ts';
import { ScramKeyCache } from '../../protocols/postgres/upstream/scram.ts';
import { systemClock } from '../../system/clock.ts';

export const CATALOG_FORMAT = 'sallyport-catalog/1';
const TIMEOUT_MS = 30_000;

export interface ExportedCatalog {
  format: typeof CATALOG_FORMAT;
  connection: string;
  database: string;
  relations: {
    schema: string;
    name: string;
    kind: 'Table' | 'View' | 'MaterializedView' | 'Partitioned' | 'Foreign' | 'Sequence';
    columns: { name: string; type: string }[];
  }[];
  functions: { schema: string; name: string; language: string }[];
}

const KINDS: Readonly<Record<string, ExportedCatalog['relations'][number]['kind']>> = {
  r: 'Table',
  v: 'View',
  m: 'MaterializedView',
  p: 'Partitioned',
  f: 'Foreign',
  S: 'Sequence',
};

const OWN = `n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'`;
const COLUMNS = `select n.nspname, c.relname, c.relkind, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relkind in ('r', 'v', 'm', 'p', 'f', 'S') and ${OWN} order by 1, 2, a.attnum`;
const FUNCTIONS = `select distinct n.nspname, p.proname, l.lanname
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang where ${OWN} order by 1, 2, 3`;

/** Rejects with an Error whose message may be shown. */
export async function exportCatalog(
  connection: Connection,
  account: string | undefined,
  signal: AbortSignal,
  credentials: CredentialSource,
): Promise<ExportedCatalog> {
  const { name, namespace = 'default' } = connection.metadata;
  const target = connection.spec.postgresql;
  const chosen = connection.spec.accounts.find((each) => account === undefined || each.name === account);
  if (target === undefined) throw new Error(`A Connection of type ${connection.spec.type} has no catalog to export.`);
  if (chosen === undefined) {
    throw new Error(
      `Connection ${name} has no account ${account}, only ${connection.spec.accounts.map((each) => each.name).join(', ')}.`,
    );
  }
  const credential = await credentialOf(credentials, { namespace, name }, chosen);
  const guard = createDialGuard({ allowLoopback: true });
  const database = target.databases?.[0] ?? 'postgres';
  const side = createSideConnection({
    clock: systemClock,
    timeoutMs: TIMEOUT_MS,
    open: (opening) =>
      connectUpstream({
        target,
        credential,
        dial: (at, dialling) => guard.dial(at, hostsOf(credential, at), dialling),
        database,
        settings: {},
        applicationName: 'sallyport catalog export',
        signal: AbortSignal.any([opening, signal]),
        keys: new ScramKeyCache(),
      }),
  });
  try {
    const relations = new Map<string, ExportedCatalog['relations'][number]>();
    for (const [schema, relation, kind, column, type] of await side.query(COLUMNS)) {
      const key = JSON.stringify([schema, relation]);
      let entry = relations.get(key);
      if (entry === undefined) {
        entry = { schema: schema ?? '', name: relation ?? '', kind: KINDS[kind ?? ''] ?? 'Table', columns: [] };
        relations.set(key, entry);
      }
      if (column !== null && column !== undefined) entry.columns.push({ name: column, type: type ?? '' });
    }
    const functions = (await side.query(FUNCTIONS)).map(([schema, own, language]) => ({
      schema: schema ?? '',
      name: own ?? '',
      language: language ?? '',
    }));
    return {
      format: CATALOG_FORMAT,
      connection: `${namespace}/${name}`,
      database,
      relations: [...relations.values()],
      functions,
    };
  } finally {
    side.close();
  }
}
