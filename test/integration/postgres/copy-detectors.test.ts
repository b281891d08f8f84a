// COPY TO STDOUT beside detectors: its rows are searched as those of a SELECT are, with psql, COPY streams and pg_dump.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import copyStreams from 'pg-copy-streams';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import { rulesPolicy, type TestGateway } from '../../support/session-context.ts';

const CARD = '4111111111111111';
const STARS = '*'.repeat(16);
const ROWS = 500;
let server: PostgresServer;
let gateway: TestGateway;
let folder: string;
const mask = (more: object) => ({
  ref: { policy: 'test/rules', rule: 'stray' },
  columns: [],
  detectors: [],
  with: 'Redact' as const,
  predicates: 'Deny' as const,
  exempt: [],
  ...more,
});

before(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-copy-'));
  server = await startTarget(15);
  await server.query(`
    create domain remark as text;
    create table notes (id bigint primary key, dropped text, at timestamptz not null default '2026-01-02 03:04:05.678901+00',
      body text, aside remark, twice text generated always as ('x') stored);
    alter table notes drop column dropped;
    insert into notes (id, body, aside)
      select 4111111111111111 + (i - 1) * 10, E'line\\n${CARD}\\tand "quoted", \\\\ back', 'ana' || i || '@corp.example'
      from generate_series(1, ${ROWS}) i;
    create table vault (id int, secret text);
    insert into vault values (1, 'hush');
    alter table orders owner to writer; alter table notes owner to writer; alter table vault owner to writer;
    alter table deferred owner to writer; alter table scratch owner to writer;
  `);
  gateway = await gatewayFor(server, {
    policy: rulesPolicy(postgresRules, { masks: [mask({ detectors: ['Card', 'Email'] })] }),
  });
});
after(async () => {
  await gateway?.close();
  await server?.stop();
  fs.rmSync(folder, { recursive: true, force: true });
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
const copied = async (client: pg.Client, sql: string): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of client.query(copyStreams.to(sql))) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
};

test('INV-06: rows are searched behind escapes and quotes; numbers and times stay as they are', async () => {
  const client = await connect();
  try {
    const text = (await copied(client, 'copy notes to stdout')).trimEnd().split('\n');
    assert.equal(text.length, ROWS);
    assert.equal(
      text[0],
      `${CARD}\t2026-01-02 03:04:05.678901+00\tline\\n${STARS}\\tand "quoted", \\\\ back\t*****************`.replace(
        '*****************',
        '*'.repeat('ana1@corp.example'.length),
      ),
    );
    const csv = await copied(client, `copy notes (aside, body) to stdout (format csv, header, delimiter ';')`);
    assert.match(csv, /^aside;body\n\*{17};"line\n\*{16}\tand ""quoted"", \\ back"\n/);
    assert.ok(!/@corp|4111/.test(csv));
    const result = gateway.records.findLast((one) => one.kind === 'result');
    assert.equal(result?.body.masked, 2 * ROWS);
    // A column that came since the catalog was read is searched like all others.
    await server.query(`alter table notes add column late text default '${CARD}'`);
    const late = await copied(client, 'copy notes to stdout');
    assert.ok(late.split('\n')[0]!.endsWith(`\t${STARS}`));
    await server.query('alter table notes drop column late');
  } finally {
    await client.end();
  }
});

test('INV-06, INV-09: what can not be searched is refused before it is sent, and the session goes on', async () => {
  const client = await connect();
  try {
    for (const sql of [
      'copy notes to stdout binary',
      'copy notes to stdout (format binary)',
      `copy notes to stdout (delimiter '1')`,
      `copy notes to stdout (format csv, quote '1')`,
      `copy notes to stdout (encoding 'LATIN1')`,
      'copy (select reverse(body) from notes) to stdout',
      `copy notes to '/tmp/notes'`,
      `copy notes to program 'cat'`,
    ]) {
      await assert.rejects(
        client.query(sql),
        { code: '42501', message: /COPY TO is refused while contents are masked/ },
        sql,
      );
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    }
  } finally {
    await client.end();
  }
});

test('INV-06: beside masked columns both hold: the column is refused, the rest is searched', async () => {
  const policy = gateway.policy;
  gateway.policy = rulesPolicy(postgresRules, {
    generation: 2,
    masks: [mask({ detectors: ['Card', 'Email'] }), mask({ columns: ['*.vault.secret'] })],
  });
  const client = await connect();
  try {
    await assert.rejects(client.query('copy vault to stdout'), { code: '42501', message: /vault\.secret is masked/ });
    assert.equal(await copied(client, 'copy vault (id) to stdout'), '1\n');
    assert.ok(!(await copied(client, 'copy notes (body) to stdout')).includes('4111'));
  } finally {
    await client.end();
    gateway.policy = { ...policy, generation: 3 };
  }
});

test('INV-06: pg_dump works beside detectors, and what it wrote restores with its stars', async () => {
  const run = promisify(execFile);
  const dump = path.join(folder, 'dump.sql');
  const gate = { ...process.env, PGPASSWORD: 'ticket', PGSSLMODE: 'disable' };
  await run('pg_dump', ['-h', '127.0.0.1', '-p', String(gateway.port), '-U', 'writer', '-f', dump, 'postgres'], {
    env: gate,
  });
  const written = fs.readFileSync(dump, 'utf8');
  assert.ok(!written.includes('@corp.example'));
  assert.match(written, /COPY public\.notes \(id, at, body, aside\) FROM stdin;/);
  await server.query('create database restored');
  const { username, password } = server.superuser;
  await run(
    'psql',
    [
      '-X',
      '-q',
      '-v',
      'ON_ERROR_STOP=1',
      '-h',
      '127.0.0.1',
      '-p',
      String(server.port),
      '-U',
      username,
      '-f',
      dump,
      'restored',
    ],
    { env: { ...process.env, PGPASSWORD: password, PGSSLMODE: 'require' } },
  );
  const { rows } = await server.query(
    `select count(*)::int as all, count(distinct id)::int as ids, min(body) as body from notes where aside ~ '^[*]+$'`,
    undefined,
    { database: 'restored' },
  );
  assert.deepEqual(rows[0], { all: ROWS, ids: ROWS, body: `line\n${STARS}\tand "quoted", \\ back` });
});
