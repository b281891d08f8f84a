// Masks as a session applies them: through psql's own protocol, node-postgres's extended one, cursors and cached
// statements. What may and may not be asked is the masking's own business and tested there.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import { bindMessage, executeMessage, parseMessage, rawConnect, shown } from '../../support/raw-postgres.ts';
import { rulesPolicy, type TestGateway } from '../../support/session-context.ts';

const CANARY = '4111111111111111';
let server: PostgresServer;
let gateway: TestGateway;

before(async () => {
  server = await startTarget(18);
  await server.query(`
    create table cards (id int primary key, number text not null unique, owner text);
    insert into cards select i, '${CANARY}' || i, 'owner ' || i from generate_series(1, 2000) i;
    grant select, insert, update on cards to writer;
  `);
  gateway = await gatewayFor(server, {
    policy: rulesPolicy(postgresRules, {
      masks: [
        {
          ref: { policy: 'test/rules', rule: 'card-numbers' },
          columns: ['*.cards.number'],
          detectors: [],
          with: 'Redact',
          predicates: 'Deny',
          exempt: [],
        },
      ],
    }),
  });
});
after(async () => {
  await gateway?.close();
  await server?.stop();
});

const connect = async (): Promise<pg.Client> => {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: gateway.port,
    user: 'writer',
    password: 'ticket',
    database: 'postgres',
  });
  client.on('error', () => undefined);
  await client.connect();
  return client;
};

test('INV-06: a masked column is masked in simple and extended queries, text and binary, cursors and suspended portals', async () => {
  const client = await connect();
  try {
    const check = (rows: { number: string; id: number; owner: string }[]): void => {
      for (const row of rows) {
        assert.match(row.number, /^\*+$/);
        assert.equal(row.owner, `owner ${row.id}`);
      }
    };
    check((await client.query('select * from cards')).rows);
    check((await client.query({ text: 'select * from cards where id < $1', values: [50] })).rows);
    check((await client.query({ name: 'again', text: 'select * from cards where id < $1', values: [5] })).rows);
    check((await client.query({ name: 'again', text: 'select * from cards where id < $1', values: [9] })).rows);
    check(
      (
        await client.query({ text: 'select * from cards limit 3', binary: true, values: [] } as pg.QueryConfig)
      ).rows.map((row) => ({ ...row })),
    );
    const cursor = client.query(new Cursor('select * from cards order by id'));
    check(await cursor.read(10));
    check(await cursor.read(10));
    await cursor.close();
    await client.query('begin');
    await client.query('declare c cursor for select * from cards');
    check((await client.query('fetch 10 from c')).rows);
    await client.query('commit');
    await client.query('prepare p as select * from cards');
    check((await client.query('execute p')).rows);
    assert.equal((await client.query('select count(*)::int as n from cards')).rows[0].n, 2000);
  } finally {
    await client.end();
  }
});

test('INV-06: a client that asks for no description gets masked rows all the same', async () => {
  const raw = await rawConnect({ port: gateway.port, password: 'ticket' });
  try {
    raw.send(
      parseMessage('', 'select number from cards order by id'),
      bindMessage('', ''),
      executeMessage('', 2),
      executeMessage('', 1),
      SYNC,
    );
    const replies = shown(await raw.ready());
    assert.deepEqual(
      replies.map((reply) => reply[0]),
      ['1', '2', 'D', 'D', 's', 'D', 's', 'Z'],
    );
    assert.equal(replies.join(' ').includes('4111'), false);
    raw.send(query('select number from cards limit 1; select owner from cards where id = 1'));
    const both = shown(await raw.ready()).join(' ');
    assert.equal(both.includes('4111'), false);
    assert.ok(both.includes('owner 1'));
  } finally {
    raw.end();
  }
});

test('INV-06, INV-09: what can not be masked is refused before the server sees it, errors tell no value, the session goes on', async () => {
  const client = await connect();
  try {
    for (const sql of [
      'select substr(number, 1, 8) from cards',
      `select id from cards where number = '${CANARY}1'`,
      'copy cards to stdout',
      'create table stolen as select * from cards',
      'select 1; create table x (a int); select * from x',
    ]) {
      await assert.rejects(client.query(sql), { code: '42501' }, sql);
    }
    await assert.rejects(client.query(`insert into cards values (1, 'x', 'y')`), (error: pg.DatabaseError) => {
      assert.equal(error.code, '23505');
      assert.equal(error.message, 'unique_violation');
      assert.equal(error.detail, undefined);
      return true;
    });
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  } finally {
    await client.end();
  }
});

test('INV-06: the schema may change under a running session', async () => {
  const client = await connect();
  try {
    await client.query('select * from cards limit 1');
    await server.query(
      "create table late_cards () inherits (cards); grant select on late_cards to writer; insert into late_cards values (9001, '4111111111119001', 'late')",
    );
    const { rows } = await client.query('select number from late_cards').catch(() => ({ rows: [] }));
    for (const row of rows) assert.match(row.number, /^\*+$/);
    const all = await client.query('select number, id from cards where id > 2000');
    for (const row of all.rows) assert.match(row.number, /^\*+$/);
  } finally {
    await client.end();
  }
});

test('INV-06: records hold no masked value either', () => {
  const text = JSON.stringify(gateway.records);
  assert.equal(text.includes('411111'), false);
  assert.ok(gateway.records.some((one) => one.kind === 'result' && (one.body.masked as number) > 0));
  assert.ok(JSON.stringify(gateway.records.filter((one) => one.kind === 'result')).includes('cards.number'));
});
