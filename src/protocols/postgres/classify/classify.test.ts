import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { ClassifiedStatement, SqlFacts } from '../statement.ts';
import { classify, loadClassifier, STATEMENT_BYTES } from './classify.ts';

before(loadClassifier);

function all(sql: string): readonly ClassifiedStatement[] {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') assert.fail(`${sql}: ${result.reason}`);
  return result.statements;
}
const facts = (sql: string): SqlFacts => all(sql)[0]!.command.facts;
const columns = (sql: string): string[] =>
  facts(sql)
    .columns.map(({ schema, relation, column }) => [schema, relation, column].filter(Boolean).join('.'))
    .sort();
const functions = (sql: string): string[] =>
  facts(sql).functions.map(({ schema, name }) => (schema === undefined ? name : `${schema}.${name}`));
function reason(input: string | Uint8Array, limits?: { statementBytes?: number }): string {
  const result = classify(input, limits);
  assert.equal(result.kind, 'NotUnderstood');
  return result.kind === 'NotUnderstood' ? result.reason : '';
}

test('several statements come with their own text and byte range', () => {
  const sql = 'select \'é€😀\' ; -- é\n delete from a;; update "ä" set x=1 where y=2';
  const bytes = Buffer.from(sql);
  const statements = all(sql);
  assert.deepEqual(
    statements.map(({ command }) => command.verb),
    ['SELECT', 'DELETE', 'UPDATE'],
  );
  for (const { command } of statements) {
    assert.equal(bytes.toString('utf8', command.facts.start, command.facts.end), command.text);
  }
  assert.ok(statements[0]!.command.text.trim().startsWith("select 'é€😀'"));
  assert.ok(statements[1]!.command.text.includes('delete from a'));
  assert.equal(statements[2]!.command.text.trim(), 'update "ä" set x=1 where y=2');
  assert.deepEqual(all(''), []);
  assert.deepEqual(all(' ;; -- nothing\n/* at all */'), []);
});

test('a Buffer is read as UTF-8', () => {
  const result = classify(Buffer.from('select 1 from "ä"'));
  assert.ok(result.kind === 'Statements' && result.statements[0]!.command.facts.relations[0]!.name === 'ä');
});

test('INV-02: text that cannot be what the server reads is not understood', () => {
  assert.match(reason('select 1\0; drop table a'), /NUL/);
  assert.match(reason(Buffer.from([0x73, 0xff])), /UTF-8/);
  assert.match(reason("select '\ud800'"), /UTF-8/);
  assert.match(reason('selec 1'), /syntax error/);
  assert.match(reason('select 1; selec 2'), /syntax error/);
  assert.match(reason("select 'open"), /unterminated/);
  assert.match(reason('begin;'.repeat(10_001)), /more than 10000 statements/);
  assert.match(reason('select 1', { statementBytes: 4 }), /longer than 4 bytes/);
  assert.match(reason(Buffer.from('select 1'), { statementBytes: 4 }), /longer than 4 bytes/);
  assert.match(reason(`select '${'é'.repeat(600_000)}'`), /longer than 262144 bytes/);
});

/** A spare takes over at once; after two in a row the next is made within milliseconds. */
async function parserBack(): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (classify('select 1 from a').kind === 'NotUnderstood') {
    assert.ok(Date.now() < deadline, 'the parser did not come back');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What a Connection's owners may allow at their own risk. */
const WIDE = { statementBytes: 1024 * 1024 };

test('INV-11: nesting that exhausts a stack costs one statement, and the parser goes on', async () => {
  const deep = [
    `select 1${'+1'.repeat(200_000)}`,
    `select ${'('.repeat(400_000)}`,
    `select ${'(select '.repeat(50_000)}`,
    `select ${'case when '.repeat(50_000)}`,
    `select 1${'+1'.repeat(8_000)}`,
    `select 1${' union select 1'.repeat(4_000)}`,
    `select ${'-'.repeat(5)}${'- '.repeat(100_000)}1`,
    `select ${'a.'.repeat(300_000)}b`,
    `select x${'[1]'.repeat(100_000)}`,
  ];
  for (const sql of deep) {
    classify(sql, WIDE);
    await parserBack();
    assert.equal(facts('select 1 from a').relations[0]!.name, 'a');
  }
  assert.match(reason(`select 1${'+1'.repeat(200_000)}`, WIDE), /nested too deeply|starting again/);
});

test('statements of a usual depth are understood', () => {
  assert.equal(all(`select ${'('.repeat(200)}1${')'.repeat(200)}`).length, 1);
  assert.equal(all(`select ${Array.from({ length: 300 }, (_, i) => `'x' || c${i}`).join(' || ')} from a`).length, 1);
  assert.equal(all(`select 1${' union all select 1'.repeat(500)}`).length, 1);
  assert.equal(
    all(`insert into a values ${Array.from({ length: 5000 }, (_, i) => `(${i}, 'x')`).join(', ')}`).length,
    1,
  );
  assert.equal(
    all(`select 1 from a where ${Array.from({ length: 5000 }, (_, i) => `x = ${i}`).join(' or ')}`).length,
    1,
  );
});

test('columns are told of the relations that they may belong to', () => {
  assert.deepEqual(columns('select id, o.total from app.orders o'), ['app.orders.id', 'app.orders.total']);
  assert.deepEqual(columns('select id from orders join stock on true'), ['orders.id', 'stock.id']);
  assert.deepEqual(columns('select * from orders o, stock'), ['orders.*', 'stock.*']);
  assert.deepEqual(columns('select o.* from orders o, stock'), ['orders.*']);
  assert.deepEqual(columns('select app.orders.id from app.orders'), ['app.orders.id']);
  assert.deepEqual(columns('select count(*) from orders'), []);
  assert.deepEqual(columns('select x from (select id as x from orders) s'), ['orders.id']);
  assert.deepEqual(columns('select id as x from orders order by x'), ['orders.id']);
  assert.deepEqual(columns('select 1 from a natural join b'), ['a.*', 'b.*']);
  assert.deepEqual(columns('select 1 from a join b using (id)'), ['a.id', 'b.id']);
  assert.deepEqual(columns('select (select o.id) from orders o'), ['orders.id']);
  assert.deepEqual(columns('insert into a (x) select y from b'), ['a.x', 'b.y']);
  assert.deepEqual(columns('insert into a values (1)'), ['a.*']);
  assert.deepEqual(columns('insert into a (x) values (1) on conflict (w) do update set y = excluded.z'), [
    'a.w',
    'a.x',
    'a.y',
    'a.z',
  ]);
  assert.deepEqual(columns('update a set x = y where z = 1 returning w'), ['a.w', 'a.x', 'a.y', 'a.z']);
  assert.deepEqual(columns('update a set x = 1 returning old.y, new.z'), ['a.x', 'a.y', 'a.z']);
  assert.deepEqual(columns('update a set x = 1 returning with (old as o) o.y'), ['a.x', 'a.y']);
  assert.deepEqual(columns('delete from a returning *'), ['a.*']);
  assert.deepEqual(columns('copy a (x, y) to stdout'), ['a.x', 'a.y']);
  assert.deepEqual(columns('copy a to stdout'), ['a.*']);
  assert.deepEqual(columns('with o as (select id from orders) select id, o.z from o'), ['orders.id']);
});

test('whole rows and renamed columns mean every column', () => {
  assert.deepEqual(columns('select c from cards c'), ['cards.*', 'cards.c']);
  assert.deepEqual(columns('select row_to_json(c) from cards c'), ['cards.*', 'cards.c']);
  assert.deepEqual(columns('select (c).number from cards c'), ['cards.*', 'cards.c']);
  assert.deepEqual(columns('select a from cards c (x, a)'), ['cards.*']);
  assert.deepEqual(columns('select j.a from (cards join holders on true) as j (x, a)'), ['cards.*', 'holders.*']);
  assert.deepEqual(columns('select j.a from (cards join holders using (id)) as j'), [
    'cards.a',
    'cards.id',
    'holders.a',
    'holders.id',
  ]);
  assert.deepEqual(columns('table cards'), ['cards.*']);
  assert.deepEqual(columns('select number(c) from cards c'), ['cards.*', 'cards.c']);
  // An alias that an outer query has too may be either.
  assert.ok(columns('select (select 1 from orders a, (select a.number) s) from cards a').includes('cards.number'));
});

test('unbounded writes are found wherever they stand', () => {
  for (const sql of [
    'update a set x = 1',
    'delete from a where true',
    'delete from a where 1 = 1 and $1',
    'delete from a where id = id',
    'delete from a as b where b.id = b.id or x > 1',
    "delete from a where name like '%'",
    'delete from a where x is null or x is not null',
    'delete from a where exists (select 1)',
    'delete from a where random() < 2',
    'delete from a where id in (id)',
    'update a set x = 1 from b',
    'truncate a',
    'with d as (delete from a returning 1) select 1 from d',
    'explain analyze delete from a',
    'prepare p as delete from a',
    'merge into a using b on true when matched then delete',
    'create rule r as on insert to b do delete from a',
    'copy (delete from a returning 1) to stdout',
  ]) {
    assert.equal(facts(sql).unbounded, true, sql);
  }
  for (const sql of [
    'update a set x = 1 where id = 1',
    'delete from a where id > 0',
    'delete from a where not (x = 1)',
    'delete from a where current of c',
    'delete from a where true and id = 1',
    "delete from a where name not like '%'",
    'explain delete from a',
    'insert into a select 1',
    'merge into a using b on a.id = b.id when matched then delete',
    'select 1',
  ]) {
    assert.equal(facts(sql).unbounded, false, sql);
  }
});

test('functions are mentioned with the schema that the text gives', () => {
  assert.deepEqual(functions('select lower(x), pg_catalog.now(), app.f() from a'), [
    'lower',
    'pg_catalog.now',
    'app.f',
  ]);
  assert.deepEqual(functions("select 'x'::app.mood, 'y'::mood, 1::int, '{}'::text[]"), ['app.mood', 'mood']);
  assert.deepEqual(functions('select extract(year from x), current_date from a'), ['pg_catalog.extract']);
});

test('session effects follow the session', () => {
  assert.deepEqual(facts('begin').session, { kind: 'Begin' });
  assert.deepEqual(facts('set local a.b to 1, 2').session, { kind: 'Set', name: 'a.b', value: '1, 2', local: true });
  assert.deepEqual(facts('set search_path to default').session, { kind: 'Reset', name: 'search_path' });
  assert.deepEqual(facts('reset all').session, { kind: 'Reset', name: undefined });
  assert.deepEqual(facts('prepare p as select 1').session, { kind: 'Prepare', name: 'p' });
  assert.deepEqual(facts('explain execute p').session, { kind: 'Execute', name: 'p' });
  assert.deepEqual(facts('create table a as execute p').session, { kind: 'Execute', name: 'p' });
  assert.deepEqual(facts('deallocate all').session, { kind: 'Deallocate', name: undefined });
  assert.deepEqual(facts('declare c cursor for select 1').session, { kind: 'Declare', cursor: 'c' });
  assert.deepEqual(facts('fetch c').session, { kind: 'Fetch', cursor: 'c' });
  assert.deepEqual(facts('close all').session, { kind: 'CloseCursor', cursor: undefined });
  assert.deepEqual(facts('discard all').session, { kind: 'DiscardAll' });
  assert.deepEqual(facts('rollback to a').session, { kind: 'Savepoint' });
});

test('COPY says where to and from', () => {
  assert.deepEqual(facts('copy app.a from stdin').copy, {
    direction: 'In',
    place: 'Client',
    query: false,
    relation: { schema: 'app', name: 'a' },
  });
  assert.equal(facts('copy (select 1) to stdout').copy?.query, true);
  assert.equal(facts("copy a to program 'x'").copy?.place, 'Program');
  assert.equal(facts("copy a to 'x'").copy?.place, 'File');
  assert.deepEqual(facts('copy (select 1) to stdout').inner, ['SELECT']);
});

test('INV-11: a statement of the largest size takes bounded time, whatever it is made of', async () => {
  const size = STATEMENT_BYTES - 200;
  const fill = (piece: (index: number) => string, separator: string) => {
    const pieces: string[] = [];
    for (let length = 0, i = 0; ; i++) {
      const next = piece(i);
      length += next.length + separator.length;
      if (length > size / 2) return pieces.join(separator);
      pieces.push(next);
    }
  };
  for (const sql of [
    `select ${fill(() => 'a', ',')} from ${fill(() => 't', ',')}`,
    `select ${fill((i) => `a${i}`, ',')} from ${fill((i) => `t${i}`, ',')}`,
    `select ${fill(() => 't', ',')} from ${fill(() => 't', ',')}`,
    `select ${fill((i) => `f${i}()`, ',')}`,
    `delete from a where ${fill((i) => `x${i} is null`, ' or ')}`,
    `with ${fill((i) => `c${i} as (select 1)`, ',')} select 1`,
    `truncate ${fill((i) => `t${i}`, ',')}`,
    `select 1${fill(() => ' from a natural join b', ' union select 1')}`,
    fill((i) => `set a.b${i}=1`, ';'),
    fill(() => 'begin', ';'),
  ]) {
    const started = performance.now();
    classify(sql);
    assert.ok(performance.now() - started < 10_000, `${sql.slice(0, 60)}: ${performance.now() - started} ms`);
    if (process.env.SHOW)
      console.log(sql.slice(0, 40), (performance.now() - started).toFixed(0), 'ms', classify(sql).kind);
  }
});

test('what PostgreSQL refuses to parse carries its message and the character it points at', () => {
  for (const [sql, message, position] of [
    ['selec 1', 'syntax error at or near "selec"', 1],
    ['select 1 +', 'syntax error at end of input', 11],
    ["select 'éé' 1 2", 'syntax error at or near "1"', 13],
    ["select '\u{1f600}' 1 2", 'syntax error at or near "1"', 12],
    ["select 'a", `unterminated quoted string at or near "'a"`, 8],
  ] as const) {
    assert.deepEqual(classify(sql), { kind: 'NotUnderstood', reason: message, syntax: { position } });
  }
  const long = classify('select 1', { statementBytes: 4 });
  assert.ok(long.kind === 'NotUnderstood' && long.syntax === undefined);
});

test('what a statement makes is told from what it changes', () => {
  const relations = (sql: string) => facts(sql).relations.filter(({ access }) => access === 'Define');
  for (const [sql, creates] of [
    ['create temp table t as select * from a', 'Temporary'],
    ['create temp sequence t', 'Temporary'],
    ['create temp view t as select 1', 'Temporary'],
    ['select * into temp t from a', 'Temporary'],
    ['create table t (a int)', 'Permanent'],
    ['create unlogged table t (a int)', 'Permanent'],
    ['create materialized view t as select 1', 'Permanent'],
  ] as const) {
    assert.deepEqual(relations(sql), [{ name: 't', access: 'Define', creates }], sql);
  }
  // The parent is looked up before the child hides it.
  for (const sql of ['create temp table t () inherits (t)', 'drop table t', 'alter table t add a int']) {
    assert.deepEqual(relations(sql), [{ name: 't', access: 'Define' }], sql);
  }
});
