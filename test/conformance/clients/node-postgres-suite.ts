// What node-postgres and its companions do in earnest, one line a behaviour: name, tab, result.
import fs from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';

const ssl = { ca: fs.readFileSync(process.env.PGSSLROOTCERT!, 'utf8'), servername: 'localhost' };
const report = (name: string, value: unknown): void => console.log(`${name}\t${JSON.stringify(value)}`);
const client = new pg.Client({ ssl });
await client.connect();

report('simple', (await client.query("select 1 as one, 'ü' as umlaut, null as nothing")).rows);
await client.query('drop table if exists node_t');
await client.query('create table node_t (id int primary key, t text, j jsonb, b bytea, a int[])');
await client.query('insert into node_t values ($1, $2, $3, $4, $5)', [
  1,
  "it's",
  { a: [1, null] },
  Buffer.from([0, 255]),
  [1, 2],
]);
report('types', (await client.query('select * from node_t')).rows);
for (let index = 0; index < 5; index += 1) {
  report(
    `named-${index}`,
    (await client.query({ name: 'plus', text: 'select $1::int + 1 as n', values: [index] })).rows,
  );
}
for (const [name, text] of [
  ['syntax', 'selec 1'],
  ['division', 'select 1/0'],
  ['missing', 'select * from there_is_none'],
] as const) {
  await client
    .query(text)
    .catch((error: pg.DatabaseError) => report(name, [error.code, error.message, error.position ?? null]));
  await client.query({ text, values: [] }).catch((error: pg.DatabaseError) => report(`${name}-again`, error.code));
}
report(
  'multi',
  ((await client.query('select 1 as a; select 2 as b')) as unknown as pg.QueryResult[]).map((each) => each.rows),
);
await client.query('begin');
await client.query("insert into node_t (id, t) values (2, 'two')");
await client.query('select 1/0').catch(() => undefined);
await client.query('select 1').catch((error: pg.DatabaseError) => report('aborted', error.code));
await client.query('rollback');
report('rolled-back', (await client.query('select count(*)::int as n from node_t')).rows);

const queued = await Promise.allSettled([
  client.query('select 1 as n'),
  client.query('select 1/0'),
  client.query('select 3 as n'),
]);
report(
  'queued',
  queued.map((each) =>
    each.status === 'fulfilled' ? (each.value.rows as unknown) : (each.reason as pg.DatabaseError).code,
  ),
);

await pipeline(
  Readable.from(Array.from({ length: 20_000 }, (_, index) => `${index + 10}\trow ${index}\n`)),
  client.query(copyFrom('copy node_t (id, t) from stdin')),
);
let bytes = 0;
await pipeline(
  client.query(copyTo('copy node_t (id, t) to stdout')),
  new Writable({ write: (chunk: Buffer, _encoding, done) => ((bytes += chunk.length), done()) }),
);
report('copied', bytes);

const cursor = client.query(new Cursor('select id from node_t order by id'));
let rows = 0;
for (;;) {
  const part = await cursor.read(777);
  if (part.length === 0) break;
  rows += part.length;
}
await cursor.close();
report('cursor', rows);

const other = new pg.Client({ ssl });
await other.connect();
const { rows: backends } = await other.query<{ n: number }>('select 1 as n');
report('second-connection', backends);
const notified = new Promise((resolve) =>
  other.once('notification', (message) => resolve([message.channel, message.payload])),
);
await other.query('listen node_channel');
await client.query("notify node_channel, 'hello'");
await other.query('select 1');
report('notify', await notified);
await other.end();

report('big', (await client.query('select length($1) as n', ['x'.repeat(900_000)])).rows);
report('wide', (await client.query("select repeat('y', 3000000) as y")).rows[0].y.length);
report(
  'binary',
  (
    await client.query({
      text: 'select 1::int8 as n, now() > $1 as late',
      values: [new Date(0)],
      binary: true,
    } as pg.QueryConfig)
  ).rows,
);
await client.query('drop table node_t');
await client.end();
