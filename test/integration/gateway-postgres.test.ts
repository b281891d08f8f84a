// The gateway with the real protocol before a real server: what only the two together can show.
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import pg from 'pg';
import { loadClassifier } from '../../src/protocols/postgres/classify/classify.ts';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import { type TestCertificates, testCertificates } from '../support/certificates.ts';
import { CONNECTION_UID, grantFor, type Harness, rule, startHarness, until } from '../support/gateway-harness.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';

let server: PostgresServer;
let certificates: TestCertificates;
before(async () => {
  await loadClassifier();
  certificates = await testCertificates();
  server = await startPostgres({
    setup: `create role reader login password 'svc-secret';
      create table orders (id int primary key, state text);
      insert into orders select i, 'new' from generate_series(1, 10) i;
      grant select, update on orders to reader`,
  });
});
after(() => server.stop());

async function start(t: TestContext): Promise<Harness> {
  const h = await startHarness(t, {
    bare: true,
    protocols: [createPostgresProtocol()],
    tlsFor: () => ({ current: () => certificates.server }),
  });
  Object.assign(h.credential, { username: 'reader', password: 'svc-secret', hosts: [`127.0.0.1:${server.port}`] });
  const sql = (value: object) => ({ matcher: { member: 'sql', value } });
  const rules = [
    rule('all', 'Allow'),
    rule('no-ddl', 'Deny', sql({ effects: ['Define'] })),
    rule('unbounded-write', 'Hold', {
      ...sql({ unbounded: true }),
      hold: { count: 1, approvers: [{ kind: 'Group', name: 'dba' }], timeoutMs: 60_000 },
    }),
  ];
  const postgresql = { host: '127.0.0.1', port: server.port, tls: { mode: 'VerifyFull', ca: server.ca } };
  h.policy({ rules }, { type: 'PostgreSQL', postgresql });
  h.grants(grantFor(h.clock));
  h.overlay();
  h.heartbeat();
  await until(() => h.gateway.endpoints().size === 1, 'listening');
  return h;
}

async function login(t: TestContext, h: Harness): Promise<{ client: pg.Client; errors: Error[]; notices: string[] }> {
  const errors: Error[] = [];
  const notices: string[] = [];
  const client = new pg.Client({
    host: '127.0.0.1',
    port: h.gateway.endpoints().get(CONNECTION_UID)!.port,
    user: 'alice',
    password: h.ticket(grantFor(h.clock)),
    database: 'postgres',
    ssl: { ca: certificates.ca },
  });
  client.on('error', (error) => errors.push(error));
  client.on('notice', (notice) => notices.push(notice.message ?? ''));
  t.after(() => client.end().catch(() => undefined));
  await client.connect();
  return { client, errors, notices };
}

test('INV-01: a ticket opens psql’s door; statements run, are denied and recorded', async (t) => {
  const h = await start(t);
  const { client } = await login(t, h);
  assert.equal((await client.query('select count(*)::int as n from orders')).rows[0].n, 10);
  await assert.rejects(client.query('drop table orders'), (error: pg.DatabaseError) => {
    assert.equal(error.code, '42501');
    assert.match(error.message, /Sallyport refused DROP TABLE/);
    return true;
  });
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  const [info] = h.gateway.sessions();
  assert.equal(info?.principal?.username, 'alice@corp.example');
  const kinds = h.records.of(info!.id).map(({ kind }) => kind);
  assert.equal(kinds[0], 'start');
  assert.ok(kinds.filter((kind) => kind === 'command').length >= 3);
  assert.ok(!JSON.stringify([h.records.events, h.logged]).includes('svc-secret'));
});

test('INV-03: a revoked grant cuts a running statement at client and server', async (t) => {
  const h = await start(t);
  const { client } = await login(t, h);
  const running = client.query('select pg_sleep(60)');
  const told = assert.rejects(running, (error: pg.DatabaseError) => {
    assert.match(error.message, /was revoked by lead@corp\.example/);
    return true;
  });
  const busy = async (): Promise<number> =>
    (await server.query("select count(*)::int as n from pg_stat_activity where query like 'select pg_sleep(60)%'"))
      .rows[0].n;
  while ((await busy()) === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  h.deliver({ kind: 'GrantEnded', grantUid: grantFor(h.clock).uid, phase: 'Revoked', by: 'lead@corp.example' });
  await told;
  for (let i = 0; i < 250 && (await busy()) > 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(await busy(), 0);
});

test('INV-01: a held statement runs once it is approved', async (t) => {
  const h = await start(t);
  const { client, notices } = await login(t, h);
  const running = client.query("update orders set state = 'refunded'");
  await until(() => h.holds.opened.length === 1, 'the hold is opened');
  const [hold] = h.holds.opened;
  await until(() => notices.length > 0, 'the client is told');
  assert.ok(notices[0]!.includes(hold!.name));
  assert.equal((await server.query("select count(*)::int as n from orders where state = 'refunded'")).rows[0].n, 0);
  h.releases(h.release(hold!));
  assert.equal((await running).rowCount, 10);
  assert.deepEqual(h.holds.closed, [{ name: hold!.name, event: 'Used' }]);
});
