import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { CORPUS } from '../../../test/fuzz/classify-corpus.ts';
import { INTROSPECTION } from '../../../test/fuzz/classify-introspection.ts';
import type { SqlMatcher } from '../../api/policy.ts';
import type { Command } from '../../policy/command.ts';
import { classify, loadClassifier } from './classify/classify.ts';
import { mayBe, mustBe, parsePattern } from './pattern.ts';
import { postgresRules } from './rules.ts';

before(loadClassifier);

function commands(sql: string): Command[] {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') assert.fail(`${sql}: ${result.reason}`);
  return result.statements.map((statement) => statement.command);
}

/** Whether Allow rules with these matchers permit every effect of every statement. */
function allowed(sql: string, ...matchers: SqlMatcher[]): boolean {
  const rules = matchers.map((matcher) => postgresRules.prepare(matcher));
  return commands(sql).every((command) =>
    command.effects.every((_, index) => rules.some((rule) => rule.permits(command, index))),
  );
}
const restricted = (sql: string, matcher: SqlMatcher): boolean =>
  commands(sql).some((command) => postgresRules.prepare(matcher).restricts(command));

const preset = (name: string): SqlMatcher[] =>
  (postgresRules.presets[name] ?? []).map((rule) => rule.matcher as SqlMatcher);
const readOnly = preset('ReadOnly');
const readWrite = preset('ReadWrite');

test('ReadOnly permits reading and what goes with it', () => {
  for (const sql of [
    'select * from app.orders',
    'begin; select 1 from orders; savepoint a; rollback to a; commit',
    'copy orders to stdout',
    'copy (select * from orders) to stdout with csv header',
    'explain analyze select * from orders',
    'explain delete from orders',
    'select pg_sleep(1), version(), now(), random(), gen_random_uuid(), lower(x), count(*) from a group by x',
    "select x::int, 'paid'::app.state from a where y ~ 'x' and j @> '{}' order by 1",
    'declare c cursor for select * from orders; fetch 10 from c; close c',
    'prepare p as select * from orders where id = $1; execute p(1); deallocate p',
    "set application_name = 'x'; set statement_timeout = 0; set datestyle = iso; set time zone utc; show search_path",
    "set search_path = app, public; select set_config('search_path', '', false)",
    "set client_encoding = 'UTF8'; set names 'utf-8'; set standard_conforming_strings = on",
    'lock table orders in access share mode',
    'with a as (select 1) select * from a',
    'select json_agg(o), row_to_json(o), to_jsonb(o) from orders o',
    "select currval('s'), lastval()",
    'select * from generate_series(1, 10), unnest(array[1]), jsonb_each($1)',
    '',
  ]) {
    assert.ok(allowed(sql, ...readOnly), sql);
  }
});

test('ReadOnly refuses whatever writes, defines, grants, executes or changes who one is', () => {
  for (const sql of [
    'select * from orders for update',
    'select * from orders for key share',
    "select nextval('s')",
    "select setval('s', 1)",
    "select set_config('role', 'admin', false)",
    "select set_config('session_authorization', 'admin', false)",
    "select set_config('ro' || 'le', 'admin', false)",
    "select set_config('app.user_id', '1', false)",
    "select set_config('jit'::app.odd, 'x', false)",
    "select set_config(new_value => 'admin', setting_name => 'role', is_local => false)",
    "select set_config('search_path', 'a' || ',pg_catalog', false)",
    "select set_config('search_path', 'a,pg_catalogue'::varchar(12), false)",
    "select pg_catalog.set_config('ROLE', 'admin', false)",
    'select postgres.pg_catalog.pg_read_file($1)',
    'select lo_get(1)',
    "select lo_import('/etc/passwd')",
    'select pg_advisory_lock(1)',
    'select pg_try_advisory_xact_lock(1)',
    "select pg_read_file('/etc/passwd')",
    "select pg_read_binary_file('x')",
    "select pg_ls_dir('.')",
    "select pg_stat_file('.')",
    'select pg_terminate_backend(1)',
    'select pg_cancel_backend(1)',
    'select pg_reload_conf()',
    'select pg_switch_wal()',
    "select pg_logical_slot_get_changes('s', null, null)",
    "select pg_create_physical_replication_slot('s')",
    "select * from dblink('x', 'y') as t(a int)",
    "select query_to_xml('select 1', true, true, '')",
    "select table_to_xml('orders', true, true, '')",
    "select database_to_xml(true, true, '')",
    "select cursor_to_xml('c', 1, true, true, '')",
    "select ts_stat('select 1')",
    "select pg_notify('a', 'b')",
    'notify a',
    'listen a',
    'explain analyze delete from orders',
    'with d as (delete from orders returning *) select * from d',
    'select * into x from orders',
    'create table x as select 1',
    'create temp table x (a int)',
    'copy orders from stdin',
    "copy orders to '/tmp/x'",
    "copy orders to program 'x'",
    "do 'x'",
    'call f()',
    'select app.f()',
    'select f()',
    'set role admin',
    'set session authorization bob',
    'set local role admin',
    'reset role',
    'reset session authorization',
    'set search_path = public, pg_catalog',
    'set search_path from current',
    "set client_encoding = 'SJIS'",
    "set names 'latin1'",
    'set standard_conforming_strings = off',
    "set session_replication_role = 'replica'",
    "set app.tenant = '2'",
    "set local session_preload_libraries = 'x'",
    "set transaction snapshot 'x'",
    "load 'x'",
    'checkpoint',
    'vacuum',
    'analyze',
    'prepare p as delete from orders',
    'declare c cursor for select * from orders for update',
    'lock table orders',
    'begin; drop table orders; rollback',
    'select 1; delete from orders',
    'execute p(f())',
    'select 1 operator(public.+) 1',
    "prepare transaction 'x'",
    'truncate orders',
    'refresh materialized view m',
    'select pg_stat_reset()',
    'select pg_export_snapshot()',
    'select txid_current(), pg_promote()',
    "select pg_catalog.lowrite(0, 'x')",
    'select pg_import_system_collations(1)',
    'select public.version()',
    'select information_schema.evil()',
    'select 1 from orders order by f()',
    'values (f())',
  ]) {
    assert.ok(!allowed(sql, ...readOnly), sql);
  }
});

test('ReadOnly permits nothing of the corpus that is not a read or harmless', () => {
  const harmless = new Set([
    'Read',
    'Session',
    'Session application_name',
    'Session statement_timeout',
    'Session timezone',
    'Session jit',
    'Session client_encoding',
    'Session transaction_read_only',
    'Session default_transaction_read_only',
  ]);
  for (const entry of CORPUS) {
    const fine = entry.effects.split(', ').every((effect) => harmless.has(effect) || effect.startsWith('Read '));
    assert.equal(allowed(entry.sql, ...readOnly), fine, entry.sql);
  }
});

test('ReadWrite permits writing too, and neither schema nor privileges nor functions', () => {
  for (const sql of [
    'insert into orders values (1) on conflict do nothing returning *',
    'update orders set a = 1 where id = 2',
    'delete from orders',
    'merge into a using b on a.id = b.id when matched then delete',
    "select nextval('s')",
    'select * from orders for update skip locked',
    'copy orders from stdin',
    'select pg_advisory_xact_lock(1), pg_catalog.pg_try_advisory_lock(2)',
    'listen jobs; notify jobs; unlisten jobs',
    "select pg_notify('jobs', 'x')",
    'truncate orders',
  ]) {
    assert.ok(allowed(sql, ...readWrite), sql);
  }
  for (const sql of [
    'create table x (a int)',
    'drop table x',
    'grant select on a to b',
    'select f()',
    'select app.pg_advisory_lock(1)',
    "do 'x'",
    'set role admin',
    "copy orders from program 'x'",
    'explain analyze create table x as select 1',
    'alter role current_user superuser',
    'create index on a (b)',
    'select * into x from a',
    "select pg_read_file('x')",
  ]) {
    assert.ok(!allowed(sql, ...readWrite), sql);
  }
});

test('HoldSchemaAndPrivilegeChanges holds every change of schema and privileges in the corpus', () => {
  const [hold] = preset('HoldSchemaAndPrivilegeChanges');
  for (const entry of CORPUS) {
    const changes = entry.effects.split(', ').some((effect) => /^(Define|Grant) /.test(effect));
    assert.equal(restricted(entry.sql, hold!), changes, entry.sql);
  }
  assert.ok(restricted('set role admin', hold!));
  assert.ok(restricted("select set_config('role', 'admin', false)", hold!));
  assert.ok(!restricted('insert into a values (1)', hold!));
});

for (const [client, queries] of Object.entries(INTROSPECTION)) {
  test(`ReadOnly and ReadWrite permit what ${client} asks`, () => {
    for (const sql of queries) {
      assert.ok(allowed(sql, ...readOnly), sql);
      assert.ok(allowed(sql, ...readWrite), sql);
    }
  });
}

test('an Allow of tables permits exactly them', () => {
  const qualified: SqlMatcher = { tables: ['public.orders'] };
  assert.ok(allowed('select * from public.orders', qualified));
  assert.ok(allowed('select * from "public"."orders" o where o.id = 1', qualified));
  assert.ok(!allowed('select * from orders', qualified));
  assert.ok(!allowed('select * from app.orders', qualified));
  assert.ok(!allowed('select * from public.orders, public.stock', qualified));
  assert.ok(!allowed('select * from public."Orders"', qualified));
  assert.ok(!allowed('select f() from public.orders', qualified));
  for (const tables of [['orders'], ['*.orders'], ['*'], ['*.*'], ['*.ord*s']]) {
    assert.ok(allowed('select * from orders', { tables }), tables[0]);
    assert.ok(allowed('select * from app.orders', { tables }), tables[0]);
  }
  assert.ok(allowed('select * from PUBLIC.Orders', { tables: ['Public.ORDERS'] }));
  assert.ok(allowed('select * from public."Orders"', { tables: ['public."Orders"'] }));
  assert.ok(!allowed('select * from public.orders', { tables: ['public."Orders"'] }));
  assert.ok(!allowed('select nextval($1)', { tables: ['public.*'] }));
  assert.ok(!allowed('drop table public.orders cascade', { tables: ['public.orders'] }));
  assert.ok(allowed('drop table public.orders', { tables: ['public.orders'] }));
  assert.ok(!allowed("do 'x'", { tables: ['public.*'] }));
  assert.ok(allowed('select * from pg_class, pg_catalog.pg_type', { tables: ['pg_catalog.*'] }));
  assert.ok(!allowed('select * from pg_nothing', { tables: ['pg_catalog.*'] }));
  // A role or a function that is called like a schema's table is no table.
  assert.ok(!allowed('grant orders to bob', { tables: ['role.*', '*'] }));
  assert.ok(!allowed('drop function public.orders(int)', { tables: ['*'] }));
});

test('whatever is allowed at all, sessions work', () => {
  const narrow: SqlMatcher = { effects: ['Write'], tables: ['public.jobs'], unbounded: false };
  for (const sql of [
    'select 1',
    'begin',
    'commit',
    'show all',
    'set datestyle = iso',
    'discard all',
    'select version()',
  ]) {
    assert.ok(allowed(sql, narrow), sql);
  }
  assert.ok(!allowed('set role x', narrow));
  assert.ok(allowed('set role x', { effects: ['Session', 'Grant'] }));
  assert.ok(!allowed('set role x', { effects: ['Session'] }));
  assert.ok(allowed("set app.tenant = '1'", { effects: ['Session'] }));
  // set_config in a query beside SET of a harmless value under the same name
  assert.ok(
    !allowed("select set_config('search_path', 'a', true), set_config('search_path', 'a,pg_catalog', true)", narrow),
  );
});

test('an Allow of columns permits what mentions nothing else', () => {
  const ids: SqlMatcher = { columns: ['public.orders.id', 'public.orders.state'] };
  assert.ok(allowed('select id, o.state from public.orders o where id > 1 order by state', ids));
  assert.ok(allowed('select count(*) from public.orders', ids));
  assert.ok(!allowed('select id, total from public.orders', ids));
  assert.ok(!allowed('select * from public.orders', ids));
  assert.ok(!allowed('select o from public.orders o', ids));
  assert.ok(!allowed('select id from public.orders where total > 1', ids));
  assert.ok(!allowed('select x from public.orders as o (x, id)', ids));
  assert.ok(!allowed('select id from public.orders natural join (select 1) s', ids));
  assert.ok(!allowed('select id from orders', ids));
  assert.ok(!allowed('select count(*) from public.stock', ids));
  assert.ok(!allowed('drop table public.orders', ids));
  assert.ok(!allowed('delete from public.orders where id = 1', ids));
  assert.ok(!allowed('truncate public.orders', ids));
  assert.ok(allowed("update public.orders set state = 'x' where id = 1", ids));
  assert.ok(!allowed('insert into public.orders values (1)', ids));
  assert.ok(allowed('insert into public.orders (id) values (1)', ids));
  assert.ok(allowed('copy public.orders (id) to stdout', ids));
  assert.ok(!allowed('copy public.orders to stdout', ids));
  assert.ok(allowed('select * from public.orders', { columns: ['public.orders.*'] }));
  assert.ok(allowed('delete from public.orders where id = 1', { columns: ['orders.*'] }));
  assert.ok(
    allowed('select id from public.orders where id in (select s.sold from public.stock s)', ids, {
      columns: ['stock.sold'],
    }),
  );
  // Without its table, `sold` may be the outer query's.
  assert.ok(
    !allowed('select id from public.orders where id in (select sold from public.stock)', ids, {
      columns: ['stock.sold'],
    }),
  );
});

test('an Allow of functions permits exactly their execution', () => {
  assert.ok(allowed('select app.refund(1)', { functions: ['app.refund'] }));
  assert.ok(!allowed('select refund(1)', { functions: ['app.refund'] }));
  assert.ok(allowed('select refund(1)', { functions: ['refund'] }));
  assert.ok(!allowed('select refund(a) from t', { functions: ['refund'] }));
  assert.ok(allowed('select refund(a) from t', { functions: ['refund'] }, { tables: ['t'] }));
  assert.ok(allowed('call app.close()', { functions: ['app.*'] }));
  assert.ok(allowed('select pg_terminate_backend(1)', { functions: ['pg_catalog.pg_terminate_backend'] }));
  assert.ok(!allowed("copy t to program 'x'", { functions: ['*'] }, { effects: ['Read'] }));
});

test('an Allow of statements permits them and what they contain', () => {
  assert.ok(allowed('select * from t', { statements: ['SELECT'] }));
  assert.ok(allowed('select * from t', { statements: ['sel*'] }));
  assert.ok(!allowed('with d as (delete from t returning 1) select * from d', { statements: ['SELECT'] }));
  assert.ok(allowed('with d as (delete from t returning 1) select * from d', { statements: ['SELECT', 'DELETE'] }));
  assert.ok(!allowed('explain analyze delete from t', { statements: ['EXPLAIN'] }));
  assert.ok(allowed('delete from t where id = 1', { unbounded: false }));
  assert.ok(!allowed('delete from t', { unbounded: false }));
});

test('Deny and Hold match any reading', () => {
  const cards: SqlMatcher = { tables: ['public.cards'] };
  for (const sql of [
    'select * from cards',
    'select * from public.cards',
    'select 1 from orders, (select 1 from cards) s',
    'explain select * from cards',
    'select * from "Cards"',
    'drop table cards',
    'drop table orders cascade',
    "do 'x'",
    "select query_to_xml('x', true, true, '')",
    'truncate orders cascade',
    'grant select on all tables in schema public to bob',
    'vacuum',
    'copy cards to stdout',
    'insert into x select * from cards',
    'create view v as select * from cards',
    'create table c (like cards)',
    'select nextval($1)',
  ]) {
    assert.ok(restricted(sql, cards), sql);
  }
  for (const sql of [
    'select * from app.cards',
    'select * from orders',
    'select 1',
    'with cards as (select 1) select * from cards',
    'select cards from orders',
    'begin',
  ]) {
    assert.ok(!restricted(sql, cards), sql);
  }
  assert.ok(!restricted('select * from pg_type', { tables: ['public.*'] }));
  assert.ok(restricted('select * from anything', { tables: ['public.*'] }));
});

test('effects and tables of a Deny must meet in one table', () => {
  const writes: SqlMatcher = { effects: ['Write'], tables: ['cards'] };
  assert.ok(restricted('delete from cards', writes));
  assert.ok(restricted('select * from cards for update', writes));
  assert.ok(!restricted('select * from cards', writes));
  assert.ok(!restricted('insert into orders select * from cards', writes));
  assert.ok(restricted('insert into cards select * from orders', writes));
});

test('a Deny of columns matches every way to mention them', () => {
  const number: SqlMatcher = { columns: ['public.cards.number'] };
  for (const sql of [
    'select number from cards',
    'select c.number from public.cards c',
    'select * from cards',
    'select c from cards c',
    'table cards',
    'select x from cards c (x, y)',
    'select id from cards where number = 1',
    'select id from cards order by number',
    'update cards set number = 1',
    'insert into cards values (1)',
    'copy cards to stdout',
    'select (select number) from cards',
    'select 1 from cards natural join orders',
    'delete from cards returning number',
    'select (c).number from cards c',
    'select c.row_to_json from cards c',
    'select (c).to_jsonb from cards c',
    'with x as (select * from cards) select id from x',
    'select number from orders, cards',
  ]) {
    assert.ok(restricted(sql, number), sql);
  }
  for (const sql of [
    'select id from cards',
    'select number from orders',
    'select count(*) from cards',
    'select o.number from orders o, cards c',
  ]) {
    assert.ok(!restricted(sql, number), sql);
  }
});

test('a Deny of functions, statements, unbounded writes', () => {
  assert.ok(restricted('select pg_sleep(1)', { functions: ['pg_sleep'] }));
  assert.ok(restricted('select pg_sleep(1)', { effects: ['Execute'], functions: ['pg_sleep'] }));
  assert.ok(restricted('notify x', { functions: ['pg_notify'] }));
  assert.ok(restricted('select refund()', { functions: ['app.refund'] }));
  assert.ok(!restricted('select other.refund()', { functions: ['app.refund'] }));
  assert.ok(!restricted('select lower(x)', { functions: ['public.*'] }));
  assert.ok(restricted('explain analyze delete from t', { statements: ['DELETE'] }));
  assert.ok(restricted('drop table t', { statements: ['DROP *'] }));
  assert.ok(restricted('update t set a = 1', { unbounded: true }));
  assert.ok(!restricted('update t set a = 1 where b = 2', { unbounded: true }));
  assert.ok(restricted('begin', { effects: ['Session'] }));
});

test('lint tells of matchers that can never match', () => {
  const lint = (matcher: SqlMatcher) => postgresRules.lint(matcher);
  assert.deepEqual(
    lint({ effects: ['Read'], tables: ['public.orders', '"Odd.Name".*'], statements: ['DROP *', 'select'] }),
    [],
  );
  assert.match(lint({ statements: ['DORP TABLE'] })[0]!, /did you mean "DROP TABLE"/);
  assert.match(lint({ statements: ['TRUNCATE'] })[0]!, /did you mean "TRUNCATE TABLE"/);
  assert.match(lint({ tables: ['db.public.orders'] })[0]!, /3 parts and can never match/);
  assert.match(lint({ tables: ['public.'] })[0]!, /not a name/);
  assert.match(lint({ columns: ['"open.a.b'] })[0]!, /not a name/);
  assert.match(lint({ effects: ['Session'], tables: ['a'] })[0]!, /never have a table/);
  assert.match(lint({ effects: ['Read'], unbounded: true })[0]!, /add Write/);
  for (const rules of Object.values(postgresRules.presets)) {
    for (const rule of rules) assert.deepEqual(lint(rule.matcher as SqlMatcher), []);
  }
});

test('what a pattern must describe it may describe', () => {
  const name = fc.string({ unit: fc.constantFrom('a', 'B', '*', '.', '"', '_', 'é'), maxLength: 6 });
  fc.assert(
    fc.property(name, name, (pattern, value) => {
      for (const part of parsePattern(pattern) ?? []) if (mustBe(part, value)) assert.ok(mayBe(part, value));
    }),
  );
  assert.deepEqual(parsePattern('a."b""c.d".E'), [
    { text: 'a', quoted: false },
    { text: 'b"c.d', quoted: true },
    { text: 'e', quoted: false },
  ]);
});
