// The real clients at the real wire: psql 18 that is told where to log in and waits for its person to do so, and clients
// of any age that send a token for a password.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import pg from 'pg';
import { readKeySet } from '../../src/identity/oidc/key-set.ts';
import { EVERY_CONNECTION, type TrustedProvider } from '../../src/policy/bundle.ts';
import { loadClassifier } from '../../src/protocols/postgres/classify/classify.ts';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import { type TestCertificates, testCertificates } from '../support/certificates.ts';
import { CONNECTION_UID, grantFor, type Harness, rule, startHarness, until } from '../support/gateway-harness.ts';
import { type Idp, startIdp } from '../support/idp.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';
import { psql18Missing, ROOT_CERT, runPsql18 } from '../support/psql18.ts';
import { missing } from '../support/tools.ts';

let server: PostgresServer;
let certificates: TestCertificates;
let idp: Idp;
before(async () => {
  await loadClassifier();
  certificates = await testCertificates();
  [server, idp] = await Promise.all([
    startPostgres({
      setup: `create role reader login password 'svc-secret';
        create table orders (id int primary key, state text);
        insert into orders select i, 'new' from generate_series(1, 10) i;
        grant select on orders to reader`,
    }),
    startIdp(),
  ]);
});
after(async () => {
  await idp?.stop();
  await server?.stop();
});

function provider(): TrustedProvider {
  const set = readKeySet(JSON.stringify(idp.jwks()));
  assert.ok(set.kind === 'Good');
  return {
    name: 'corp',
    issuer: idp.issuer,
    algorithms: ['RS256'],
    keys: set.keys,
    keysGoodUntilMs: Date.now() + 3_600_000,
    skewMs: 30_000,
    audiences: [
      {
        audience: idp.audience,
        use: 'Access',
        clients: [idp.clients.cli, idp.clients.device],
        types: ['at+jwt'],
        marks: {},
      },
    ],
    claims: { uid: 'sub', username: 'preferred_username', groups: 'groups', email: 'email', workload: [] },
    prefix: { username: 'corp:', groups: 'corp:' },
    login: { scope: 'openid groups sallyport' },
    void: [],
  };
}

/** A gateway whose clock stands at now, with a grant for alice. */
async function start(t: TestContext, session: object = {}): Promise<Harness> {
  const h = await startHarness(t, {
    bare: true,
    protocols: [createPostgresProtocol()],
    tlsFor: () => ({ current: () => certificates.server }),
  });
  h.clock.setWall(Date.now());
  Object.assign(h.credential, { username: 'reader', password: 'svc-secret', hosts: [`127.0.0.1:${server.port}`] });
  const postgresql = { host: '127.0.0.1', port: server.port, tls: { mode: 'VerifyFull', ca: server.ca } };
  h.policy(
    {
      rules: [
        rule('all', 'Allow'),
        rule('no-ddl', 'Deny', { matcher: { member: 'sql', value: { effects: ['Define'] } } }),
      ],
      subjects: [{ kind: 'Group', name: 'corp:app-team' }],
      session: { ticketUntilExpiry: false, ...session },
    },
    { type: 'PostgreSQL', postgresql },
  );
  const alice = { username: 'corp:alice', uid: `${idp.issuer} alice`, groups: ['corp:app-team'], aliases: [] };
  h.grants(grantFor(h.clock, { principal: alice, via: 'Portal' }));
  h.overlay();
  // Nobody is sent to one whose keys could not be fetched for too long.
  const away = { ...provider(), name: 'aaa', issuer: 'https://away.invalid', keysGoodUntilMs: 0 };
  h.publish('identity', { providers: [away, provider()] }, { connectionUid: EVERY_CONNECTION });
  h.heartbeat();
  await until(() => h.gateway.endpoints().size === 1, 'listening');
  return h;
}

const portOf = (h: Harness): number => h.gateway.endpoints().get(CONNECTION_UID)!.port;

const dsn = (h: Harness, user: string, more = ''): string =>
  `host=localhost port=${portOf(h)} dbname=postgres user=${user} sslmode=verify-full sslrootcert=${ROOT_CERT} ` +
  `oauth_issuer=${idp.issuer} oauth_client_id=${idp.clients.device} require_auth=oauth ${more}`;

const skip = psql18Missing();

/** psql 18 that is told where to log in. */
function runs(t: TestContext, h: Harness, sql: string): ReturnType<typeof runPsql18> {
  const psql = runPsql18({
    args: ['-XAt', '-c', sql, dsn(h, 'reader+oauth')],
    systemCa: idp.ca,
    serverCa: certificates.ca,
  });
  t.after(psql.stop);
  return psql;
}

test('psql 18 is told where to log in, its person does, and it is in', { skip }, async (t) => {
  const h = await start(t);
  const psql = runs(t, h, 'select count(*) from orders');
  const [, url, code] = await psql.output(/Visit (https:\S+) and enter the code: (\S+)/);
  assert.ok(url!.startsWith(idp.issuer));
  assert.equal(h.gateway.sessions().length, 0, 'no connection waits for the person');
  await idp.approveDevice(code!, 'alice');
  const { code: status, stdout, stderr } = await psql.ended;
  assert.equal(status, 0, stderr);
  assert.equal(stdout, '10\n');
  const start_ = h.records.events.find(({ kind }) => kind === 'start')!.body;
  assert.deepEqual((start_['principal'] as { username: string }).username, 'corp:alice');
  assert.ok(!h.logged.some(({ message }) => message === 'a login was refused'), 'asking where is no failure');
});

test('psql 18 shows our own words where a person has no grant', { skip }, async (t) => {
  const h = await start(t);
  const psql = runs(t, h, 'select 1');
  const [, , code] = await psql.output(/Visit (https:\S+) and enter the code: (\S+)/);
  await idp.approveDevice(code!, 'bob');
  const { code: status, stderr } = await psql.ended;
  assert.equal(status, 2);
  assert.match(stderr, /FATAL:\s+You have no grant in force for the account reader of orders-db\./);
  assert.match(stderr, /HINT:\s+sallyport request orders-db --for 1h/);
});

test('psql of any age and node-postgres send a token for a password', { skip: missing('psql') }, async (t) => {
  const h = await start(t);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'oauth-login-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.writeFileSync(path.join(folder, 'ca.pem'), certificates.ca);
  const { access_token: token } = await idp.login('alice');
  const psql = await new Promise<{ stdout: string; stderr: string }>((resolve, reject) => {
    execFile(
      'psql',
      [
        '-XAt',
        '-c',
        'select current_user',
        `host=localhost port=${portOf(h)} dbname=postgres user=reader sslmode=verify-full sslrootcert=${folder}/ca.pem`,
      ],
      { env: { ...process.env, PGPASSWORD: token } },
      (error, stdout, stderr) => (error === null ? resolve({ stdout, stderr }) : reject(new Error(stderr))),
    );
  });
  assert.equal(psql.stdout, 'reader\n');
  const client = new pg.Client({
    host: 'localhost',
    port: portOf(h),
    user: 'alice',
    password: token,
    database: 'postgres',
    ssl: { ca: certificates.ca },
  });
  await assert.rejects(client.connect(), (error: pg.DatabaseError) => {
    assert.equal(error.code, '28000');
    assert.match(error.message, /^The user name says which account a token is for, and you have no grant for "alice"/);
    assert.match(error.hint ?? '', /^Log in as reader, or ask/);
    return true;
  });
});

test('a session that must prove itself again is told so, idle or busy, and renewed', async (t) => {
  const h = await start(t, { reauthenticateMs: 3_600_000 });
  const notices: string[] = [];
  const client = new pg.Client({
    host: 'localhost',
    port: portOf(h),
    user: 'reader',
    password: await idp.tokenFor('alice', { expiresIn: 300 }),
    database: 'postgres',
    ssl: { ca: certificates.ca },
  });
  client.on('error', () => undefined);
  client.on('notice', ({ message }) => notices.push(message ?? ''));
  t.after(() => client.end().catch(() => undefined));
  await client.connect();
  const id = h.gateway.sessions()[0]!.id;
  h.clock.advance(245_000);
  await until(() => notices.length === 1, 'told while idle');
  assert.match(notices[0]!, /^Sallyport: this session ends within a minute/);
  const newer = await idp.tokenFor('alice', { issuedIn: 100, expiresIn: 400 });
  assert.equal((await h.gateway.renew(id, { token: newer }, '127.0.0.1')).kind, 'Renewed');
  h.heartbeat();
  h.clock.advance(60_000);
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  idp.removeFromGroup('alice', 'app-team');
  t.after(() => idp.setUser('alice', { groups: ['app-team', 'staff'] }));
  const running = assert.rejects(client.query('select pg_sleep(30)'), (error: pg.DatabaseError) => {
    assert.match(error.message, /policy payments\/orders-team does not name corp:alice or a group of theirs any more/);
    return true;
  });
  await until(() => h.records.of(id, 'command').length === 2, 'it runs');
  const without = await idp.tokenFor('alice', { issuedIn: 200, expiresIn: 500 });
  assert.equal((await h.gateway.renew(id, { token: without }, '127.0.0.1')).kind, 'Cut');
  await running;
});

test('INV-09: the notice comes between two messages of a long result, and nothing of that is lost', async (t) => {
  const h = await start(t, { reauthenticateMs: 3_600_000 });
  const client = new pg.Client({
    host: 'localhost',
    port: portOf(h),
    user: 'reader',
    password: await idp.tokenFor('alice', { expiresIn: 300 }),
    database: 'postgres',
    ssl: { ca: certificates.ca },
  });
  const notices: string[] = [];
  client.on('error', () => undefined);
  client.on('notice', ({ message }) => notices.push(message ?? ''));
  t.after(() => client.end().catch(() => undefined));
  await client.connect();
  let rows = 0;
  let sum = 0;
  const query = new pg.Query("select i, repeat('x', 200) as pad from generate_series(1, 100000) i");
  query.on('row', (row: { i: number; pad: string }) => {
    if (rows === 0) h.clock.advance(245_000);
    rows += 1;
    sum += row.i;
    assert.equal(row.pad.length, 200);
  });
  const done = new Promise<number>((resolve, reject) => {
    query.on('end', () => resolve(notices.length));
    query.on('error', reject);
  });
  client.query(query);
  assert.equal(await done, 1, 'it came before the end');
  assert.equal(rows, 100_000);
  assert.equal(sum, 5_000_050_000);
});
