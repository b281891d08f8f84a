// The classifier against real servers. What it calls read-only must be so for PostgreSQL too: a READ ONLY transaction
// must not refuse it, and it must not make a transaction that has something to commit. And what psql and pg_dump
// themselves send must pass as read-only.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import type { Command } from '../../../src/policy/command.ts';
import { classify, loadClassifier } from '../../../src/protocols/postgres/classify/classify.ts';
import { functionKind } from '../../../src/protocols/postgres/classify/functions.ts';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { CORPUS } from '../../fuzz/classify-corpus.ts';
import { INTROSPECTION } from '../../fuzz/classify-introspection.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

before(loadClassifier);

const SETUP = `
  create schema app;
  create type mood as enum ('a', 'b');
  create type app.mood as enum ('a', 'b');
  create table orders (id int primary key, a int, b int, x int, owner text, d int, m mood, j jsonb);
  create table stock (id int primary key, a int, c int, d int, sold int);
  create table app.orders (id serial primary key, a int, total numeric);
  create table parts (id int) partition by range (id);
  create table parts_1 partition of parts for values from (1) to (100);
  create view v as select * from orders;
  create materialized view m as select * from orders;
  create sequence s;
  create function refund(int default 0) returns boolean language sql volatile as 'insert into stock values ((random()*1e9)::int) returning true';
  create function app.refund(int default 0) returns boolean language sql volatile as 'insert into stock values ((random()*1e9)::int) returning true';
  create function calm(int default 0) returns int language sql immutable as 'select 1';
  create procedure app.close_month(boolean) language sql as 'delete from stock';
  create rule r as on delete to v do instead delete from orders where orders.id = old.id;
  insert into orders select g, g, g, g, 'x', g, 'a', '{}' from generate_series(1, 5) g;
`;

/** More that plays with the border between reading and not. */
const EXTRA = [
  'select * from orders where id = 1 for no key update',
  'select * from orders tablesample system (50)',
  'select (select max(a) from stock), array(select id from orders)',
  'with recursive t(n) as (values (1) union all select n + 1 from t where n < 10) select * from t',
  'select refund()',
  'select calm()',
  'select app.refund(1) from orders',
  'select * from refund()',
  'select 1 where refund()',
  'select case when true then refund() end',
  'select count(*) filter (where refund()) from orders',
  'values (refund())',
  'select * from orders order by refund()',
  'select 1 limit (case when refund() then 1 end)',
  'explain analyze insert into stock values (99)',
  'explain (analyze, buffers) select * from orders',
  'explain (analyze true) update orders set a = 1',
  'explain update orders set a = 1',
  'with w as (insert into stock values (98) returning *) select * from w',
  'with w as (select 1) insert into stock select 97 from w',
  "select nextval('s')",
  "select setval('s', 5)",
  "select currval('s')",
  'select lastval()',
  "select nextval('s'::regclass) from orders",
  'create temp table tt (a int)',
  'create temporary sequence ts',
  'select * into temp tt2 from orders',
  'prepare q as select * from orders',
  'prepare q2 as insert into stock values (96)',
  'declare c1 cursor for select * from orders',
  'declare c2 cursor for select * from orders for update',
  'lock table orders in access exclusive mode',
  'lock table orders in share mode',
  'select lo_creat(-1)',
  "select lo_from_bytea(0, 'x')",
  'select lo_unlink(1)',
  "select lo_put(1, 0, 'x')",
  "select pg_notify('a', 'b')",
  "select set_config('application_name', 'x', false)",
  "select set_config('search_path', 'app', true)",
  "select query_to_xml('select refund()', true, true, '')",
  "select pg_logical_emit_message(true, 'a', 'b')",
  'select pg_create_restore_point($$x$$)',
  "select pg_replication_origin_create('x')",
  'select txid_current_if_assigned()',
  "select * from json_to_record('{}') as x(a int)",
  "select m, m::text, j->'a', j @? '$.a' from orders",
  "select 'a'::mood, 'b'::app.mood",
  'table orders',
  'copy orders to stdout',
  'copy (select * from orders) to stdout',
  'merge into stock using orders on stock.id = orders.id when not matched then insert (id) values (orders.id)',
  'insert into v (id) values (95)',
  'delete from v',
  'do $$ begin perform 1; end $$',
  'do $$ begin insert into stock values (94); end $$',
  'call app.close_month(true)',
  'comment on table orders is null',
  'alter table orders set (fillfactor = 90)',
  'grant select on orders to public',
  'alter default privileges grant select on tables to public',
  'refresh materialized view m',
  'reindex table orders',
  'analyze orders',
  'cluster orders using orders_pkey',
  'truncate stock',
  'listen a',
  'unlisten *',
  'notify a',
  'show all',
  'set local work_mem = 1000',
  'set transaction isolation level serializable',
  'reset all',
  'deallocate all',
  'discard plans',
  'close all',
  "security label on table orders is 'x'",
];

const readOnly = (postgresRules.presets['ReadOnly'] ?? []).map((rule) => postgresRules.prepare(rule.matcher));

function verdict(sql: string): 'Read' | 'Other' | 'NotUnderstood' {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') return 'NotUnderstood';
  const permitted = (command: Command) =>
    command.effects.every((_, index) => readOnly.some((rule) => rule.permits(command, index)));
  return result.statements.every((statement) => permitted(statement.command)) ? 'Read' : 'Other';
}

interface Behaviour {
  /** SQLSTATE in a READ ONLY transaction; undefined: it ran. */
  readOnlyState: string | undefined;
  /** It made a transaction that would write. */
  wrote: boolean;
}

async function open(server: PostgresServer): Promise<pg.Client> {
  const client = new pg.Client({
    host: server.host,
    port: server.port,
    user: server.superuser.username,
    password: server.superuser.password,
    database: 'postgres',
    ssl: { ca: server.ca },
  });
  client.on('error', () => undefined);
  await client.connect();
  await client.query("set statement_timeout = '2s'; set lock_timeout = '1s'");
  return client;
}

async function behaviour(client: pg.Client, sql: string): Promise<Behaviour> {
  await client.query('begin read only');
  let readOnlyState: string | undefined;
  try {
    await client.query(sql);
  } catch (error) {
    readOnlyState = (error as { code?: string }).code ?? 'unknown';
  }
  await client.query('rollback');
  await client.query('begin');
  let wrote = false;
  try {
    await client.query(sql);
    const result = await client.query('select pg_current_xact_id_if_assigned() is not null as wrote');
    wrote = (result.rows[0] as { wrote: boolean }).wrote;
  } catch {
    // What fails writes nothing.
  }
  await client.query('rollback');
  await client.query('deallocate all; discard temp').catch(() => undefined);
  return { readOnlyState, wrote };
}

/** Ends or empties the session that runs the test, or waits for a COPY. */
const OUT_OF_PLACE =
  /^(begin|start|end|commit|abort|rollback|prepare transaction|discard|reset|set (session authorization|role|names|local statement)|copy .* (from stdin|to stdout)|checkpoint|reindex (schema|database)|declare|fetch)/i;

for (const major of [18, 15] as const) {
  describe(`PostgreSQL ${major}`, () => {
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres({ major, setup: SETUP });
    });
    after(() => server.stop());

    test('INV-02: what is called read-only writes nothing, and a READ ONLY transaction lets it run', async () => {
      const client = await open(server);
      let read = 0;
      let wrote = 0;
      let refused = 0;
      const statements = [
        ...CORPUS.map((entry) => entry.sql).filter((sql) => !OUT_OF_PLACE.test(sql)),
        ...EXTRA.filter((sql) => !sql.endsWith('stdout')),
        ...Object.values(INTROSPECTION)
          .flat()
          .filter((sql) => !sql.includes('$1') && !OUT_OF_PLACE.test(sql)),
      ];
      try {
        for (const sql of statements) {
          const said = verdict(sql);
          const did = await behaviour(client, sql);
          if (said === 'Read') {
            read++;
            assert.notEqual(did.readOnlyState, '25006', `called read-only, refused by the server: ${sql}`);
            assert.equal(did.wrote && !sql.includes('txid_current()'), false, `called read-only, and wrote: ${sql}`);
          }
          if (did.wrote) wrote++;
          if (did.readOnlyState === '25006') refused++;
        }
      } finally {
        await client.end();
      }
      // The comparison is empty unless the server really wrote, refused and read in good numbers.
      assert.ok(read > 60 && wrote > 60 && refused > 60, `read ${read}, wrote ${wrote}, refused ${refused}`);
    });

    test('every harmless function, called with something, writes nothing', async () => {
      const client = await open(server);
      await client.query("set statement_timeout = '300ms'");
      const { rows } = await client.query(
        `select p.proname as name, p.prokind as kind, array(select format_type(t, null) from unnest(p.proargtypes) t) as args
         from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind in ('f', 'a')
           and not 'internal'::regtype = any (p.proargtypes::oid[]) and p.prorettype <> 'trigger'::regtype
           and p.prorettype <> 'event_trigger'::regtype and p.provariadic = 0`,
      );
      let ran = 0;
      try {
        for (const row of rows as { name: string; kind: string; args: string[] }[]) {
          if (functionKind('pg_catalog', row.name) !== 'Harmless') continue;
          if (/^(txid_current|pg_current_xact_id|pg_sleep)/.test(row.name)) continue;
          const args = row.args.map((type) => SAMPLES[type] ?? `null::${type.startsWith('any') ? 'int' : type}`);
          const sql = `select pg_catalog."${row.name}"(${args.join(', ')})`;
          const did = await behaviour(client, sql);
          assert.notEqual(did.readOnlyState, '25006', sql);
          assert.equal(did.wrote, false, sql);
          if (did.readOnlyState === undefined) ran++;
        }
      } finally {
        await client.end();
      }
      assert.ok(ran > 1500, `${ran} ran without an error`);
    });
  });
}

/** Values that most functions of these arguments accept; strict functions never run on NULL. */
const SAMPLES: Readonly<Record<string, string>> = {
  integer: '1',
  smallint: '1::smallint',
  bigint: '1::bigint',
  numeric: '1.5::numeric',
  real: '1.5::real',
  'double precision': '1.5::float8',
  text: "'orders'::text",
  name: "'orders'::name",
  'character varying': "'orders'::varchar",
  character: "'o'::bpchar",
  '"char"': `'r'::"char"`,
  boolean: 'true',
  bytea: "'abc'::bytea",
  oid: "'orders'::regclass::oid",
  regclass: "'orders'::regclass",
  cstring: "'1'::cstring",
  date: "'2024-01-01'::date",
  'timestamp without time zone': "'2024-01-01'::timestamp",
  'timestamp with time zone': "'2024-01-01'::timestamptz",
  'time without time zone': "'10:00'::time",
  interval: "'1 day'::interval",
  json: `'{"a":[1]}'::json`,
  jsonb: `'{"a":[1]}'::jsonb`,
  jsonpath: "'$.a'::jsonpath",
  uuid: "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
  inet: "'10.0.0.1/8'::inet",
  point: "'(1,2)'::point",
  box: "'(1,2),(3,4)'::box",
  tsvector: "'a b'::tsvector",
  tsquery: "'a & b'::tsquery",
  'text[]': "'{a,b}'::text[]",
  'integer[]': "'{1,2}'::int[]",
  'oid[]': "'{1,2}'::oid[]",
  pg_lsn: "'0/1'::pg_lsn",
  anyarray: "'{1,2}'::int[]",
  anyelement: '1',
  anycompatible: '1',
  anycompatiblearray: "'{1,2}'::int[]",
  anyrange: "'[1,2)'::int4range",
  anyenum: "'a'::mood",
  '"any"': '1',
  record: 'row(1)',
  xml: "'<a/>'::xml",
};

describe('clients', () => {
  for (const major of [18, 15] as const) {
    test(`ReadOnly permits psql’s \\d family on PostgreSQL ${major}${major === 15 ? ', and pg_dump' : ''}`, async () => {
      const server = await startPostgres({ major, setup: SETUP, logStatements: true });
      try {
        const connection = {
          ...process.env,
          PGHOST: server.host,
          PGPORT: String(server.port),
          PGUSER: server.superuser.username,
          PGPASSWORD: server.superuser.password,
          PGDATABASE: 'postgres',
          PGSSLMODE: 'require',
        };
        const described = `d d+ da dA dA+ dAc dAf dAo dAp db db+ dc dC dC+ dd dD ddp dE det deu dew df df+ dF dF+ dFd dFp dFt dg dg+ di di+ dl dL dm dn dn+ do do+ dO dp dP dP+ drds dRp dRs ds dt dt+ dT dT+ du dv dv+ dx dX dy l l+ z
          d|orders d+|orders d|app.orders d|parts d+|parts_1 d|v d+|m d|s d|orders_pkey d|pg_class dt|app.* sf|refund sv|v dT|mood dp|orders df|refund d|*.*`;
        const commands = described.split(/\s+/).map((each) => `\\${each.replace('|', ' ')}`);
        const psql = spawnSync('psql', ['-X', '-q'], {
          input: `${commands.join('\n')}\n\\conninfo\n\\encoding\n`,
          env: connection,
          encoding: 'utf8',
          timeout: 60_000,
          maxBuffer: 64 * 1024 * 1024,
        });
        assert.equal(psql.status, 0, psql.stderr);
        const before = statements(server.log()).length;
        if (major === 15) {
          const dump = spawnSync('pg_dump', [], {
            env: connection,
            encoding: 'utf8',
            timeout: 60_000,
            maxBuffer: 64 * 1024 * 1024,
          });
          assert.equal(dump.status, 0, dump.stderr);
        }
        // The server writes its log without waiting for anybody.
        let sent = statements(server.log());
        for (let i = 0; i < 50 && major === 15 && sent.length === before; i++) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          sent = statements(server.log());
        }
        assert.ok(sent.length > 80, `${sent.length} statements`);
        for (const sql of sent) assert.equal(verdict(sql), 'Read', sql);
      } finally {
        await server.stop();
      }
    });
  }
});

/** Statements of psql and pg_dump out of the server's log (`pid|application|LOG:  statement: …`, continued with tabs). */
function statements(log: string): string[] {
  const found: string[] = [];
  let taking = false;
  for (const line of log.split('\n')) {
    const head = /^\d+\|([^|]*)\|LOG: {2}(?:statement|execute [^:]*): (.*)$/.exec(line);
    if (head) {
      taking = head[1] === 'psql' || head[1] === 'pg_dump';
      if (taking) found.push(head[2]!);
    } else if (taking && line.startsWith('\t')) found[found.length - 1] += `\n${line.slice(1)}`;
    else taking = false;
  }
  return found;
}
