// The whole story through bin/sallyport, as people use it: a real daemon over a directory of YAML, a real PostgreSQL,
// real psql.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { type CliResult, type Local, SALLYPORT } from '../support/local.ts';
import { ORDERS_WITH_STATES, type Orders, startOrders } from '../support/orders.ts';
import type { PostgresServer } from '../support/postgres.ts';

const PASSWORD = 'writer-secret-8d1f';
const alice = { as: 'alice@corp.example', groups: ['orders-team'] };
const dana = { as: 'dana@corp.example', groups: ['dba'] };
const eve = { as: 'eve@corp.example', groups: ['orders-team', 'dba'] };

const POLICIES = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: orders-team, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: orders-team}]
  accounts: [writer]
  maxDuration: 4h
  approval:
    timeout: 10m
    steps:
    - {name: dba, approvers: [{kind: Group, name: dba}]}
  breakGlass:
    subjects: [{kind: User, name: eve@corp.example}]
    maxDuration: 30m
    reviewers: [{kind: Group, name: dba}]
  rules:
  - {name: read-write, preset: ReadWrite}
  - {name: no-ddl, action: Deny, sql: {effects: [Define, Grant]}, message: Schema changes go through migrations.}
  - name: unbounded-write
    action: Hold
    sql: {unbounded: true}
    hold: {approvers: [{kind: Group, name: dba}], timeout: 60s}
---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: reports, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects: [{kind: Group, name: reporters}]
  accounts: [writer]
  access: Standing
  session: {ticketUntilExpiry: true}
  rules:
  - {name: read-only, preset: ReadOnly}
`;

let orders: Orders;
let server: PostgresServer;
let local: Local;

before(async () => {
  orders = await startOrders({
    account: 'writer',
    role: 'orders_writer',
    password: PASSWORD,
    table: ORDERS_WITH_STATES,
    setup: 'alter table orders owner to orders_writer;',
    files: { 'policy.yaml': POLICIES },
  });
  ({ server, local } = orders);
});
after(async () => {
  await orders?.stop();
});

const psql = (...statements: string[]): string[] => [
  '--',
  'psql',
  '-X',
  '-At',
  '-v',
  'VERBOSITY=default',
  ...statements.flatMap((statement) => ['-c', statement]),
];
const shown = (result: CliResult): string => `${result.code}\n${result.stdout}\n${result.stderr}`;
const expectCode = (result: CliResult, code: number): CliResult => {
  assert.equal(result.code, code, shown(result));
  return result;
};
const nameIn = (result: CliResult): string => /orders-db-[a-z0-9]+/.exec(result.stdout)![0];

async function granted(who: typeof alice, ...options: string[]): Promise<string> {
  const asked = expectCode(await local.cli(['request', 'orders-db', '--reason', 'INC-1', ...options], who), 75);
  const name = nameIn(asked);
  expectCode(await local.cli(['approve', name, '--yes'], dana), 0);
  return name;
}

interface Grant {
  metadata: { name: string; uid: string };
  status: { phase: string; expiresAt?: string; notBefore?: string; message?: string };
}
const grantOf = (name: string): Promise<Grant> => local.json<Grant>(['status', name]);

async function until<T>(what: string, look: () => Promise<T | undefined>, ms = 30_000): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}\n${local.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

interface SessionView {
  id: string;
  state: string;
  principal?: { username: string };
}
const sessions = async (): Promise<SessionView[]> => (await local.json<{ items: SessionView[] }>(['sessions'])).items;

/** A psql that sleeps, once its session is live. */
async function sleeper(who: typeof alice, ...options: string[]): Promise<{ id: string; done: Promise<CliResult> }> {
  const before = new Set((await sessions()).map((each) => each.id));
  const done = local.cli(['connect', 'orders-db', ...options, ...psql('select pg_sleep(600)')], who);
  const id = await until('the sleeping session', async () => {
    const busy = await server.query(
      "select 1 from pg_stat_activity where query like 'select pg_sleep(600)%' and pid <> pg_backend_pid()",
    );
    const mine = (await sessions()).find((each) => !before.has(each.id) && each.principal?.username === who.as);
    return busy.rowCount === 0 ? undefined : mine?.id;
  });
  return { id, done };
}

const nobodySleeps = (): Promise<true> =>
  until('the backend to go', async () => {
    const busy = await server.query(
      "select 1 from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()",
    );
    return busy.rowCount === 0 ? true : undefined;
  });

test('INV-08: self-approval is refused, by name and in disguise; an approver’s word counts', async () => {
  const asked = expectCode(await local.cli(['request', 'orders-db', '--for', '1h', '--reason', 'INC-1'], eve), 75);
  const name = nameIn(asked);
  assert.match(asked.stdout, /Pending: it needs 1 of group dba/);
  assert.match(asked.stdout, new RegExp(`sallyport approve ${name}`));
  const self = expectCode(await local.cli(['approve', name, '--yes'], eve), 77);
  assert.match(self.stderr, /Nobody approves their own request/);
  const disguised = await local.cli(['approve', name, '--yes'], { as: 'EVE@corp.example', groups: ['dba'] });
  assert.equal(disguised.code, 77, shown(disguised));
  expectCode(await local.cli(['approve', name, '--yes'], alice), 77);
  const early = expectCode(await local.cli(['connect', 'orders-db', ...psql('select 1')], eve), 75);
  assert.match(early.stderr, /Pending/);
  const approved = expectCode(await local.cli(['approve', name, '--yes'], dana), 0);
  assert.match(approved.stderr, /eve@corp\.example/);
  assert.match(approved.stdout, /Active until/);
  const result = expectCode(await local.cli(['connect', 'orders-db', ...psql('select count(*) from orders')], eve), 0);
  assert.equal(result.stdout.trim(), '20');
  expectCode(await local.cli(['withdraw', name, '--yes'], eve), 0);
  assert.equal((await grantOf(name)).status.phase, 'Revoked');
});

test('what nobody allows is refused at once, with what to ask for', async () => {
  const stranger = expectCode(
    await local.cli(['request', 'orders-db', '--reason', 'x'], { as: 'mallory', groups: [] }),
    77,
  );
  assert.match(stranger.stderr, /No policy gives mallory access to payments\/orders-db/);
  const long = expectCode(await local.cli(['request', 'orders-db', '--for', '9h', '--reason', 'x'], alice), 77);
  assert.match(long.stderr, /at most 4h/);
  expectCode(await local.cli(['request', 'no-such-db'], alice), 78);
  const none = expectCode(
    await local.cli(['connect', 'orders-db', ...psql('select 1')], { as: 'arthur', groups: ['orders-team'] }),
    77,
  );
  assert.match(none.stderr, /sallyport request orders-db/);
});

test('INV-09: a denial names policy and rule, and the client’s exit code comes through', async () => {
  const name = await granted(alice);
  const result = await local.cli(
    ['connect', 'orders-db', ...psql('drop table orders', 'select count(*) from orders')],
    alice,
  );
  assert.match(result.stderr, /Sallyport refused DROP TABLE/);
  assert.match(result.stderr, /payments\/orders-team, rule "no-ddl"/);
  assert.match(result.stdout, /20/);
  expectCode(await local.cli(['connect', 'orders-db', '--', 'sh', '-c', 'exit 42'], alice), 42);
  expectCode(await local.cli(['revoke', name, '--yes'], dana), 0);
});

test('INV-03: expiry cuts the running statement with a native error', async () => {
  const name = await granted(alice, '--for', '12s');
  const { done } = await sleeper(alice, '--grant', name);
  const result = await done;
  assert.equal(result.code, 2, shown(result));
  assert.match(result.stderr, /FATAL:\s+Sallyport: grant .* expired/);
  await nobodySleeps();
  assert.equal(
    await until('Expired', async () => ((await grantOf(name)).status.phase === 'Expired' ? true : undefined)),
    true,
  );
  expectCode(await local.cli(['connect', 'orders-db', '--grant', name, ...psql('select 1')], alice), 77);
});

test('INV-03: revoke, kill and lock cut a live session', async () => {
  const revoked = await granted(alice);
  const first = await sleeper(alice, '--grant', revoked);
  expectCode(await local.cli(['revoke', revoked, '--yes', '--reason', 'enough'], dana), 0);
  assert.match((await first.done).stderr, /FATAL:.*revoked/i);
  await nobodySleeps();

  const name = await granted(alice);
  const second = await sleeper(alice);
  expectCode(await local.cli(['kill', second.id], dana), 0);
  assert.match((await second.done).stderr, /FATAL/);
  expectCode(await local.cli(['kill', second.id], dana), 1);
  await nobodySleeps();

  const third = await sleeper(alice);
  const locked = expectCode(
    await local.cli(['lock', '--user', 'ALICE@corp.example', '--reason', 'laptop stolen'], dana),
    0,
  );
  assert.match((await third.done).stderr, /FATAL/);
  await nobodySleeps();
  const refused = await local.cli(['connect', 'orders-db', ...psql('select 1')], alice);
  assert.notEqual(refused.code, 0);
  expectCode(await local.cli(['unlock', /lock-[a-z0-9]+/.exec(locked.stdout)![0]], dana), 0);
  const again = await until('access again', async () => {
    const result = await local.cli(['connect', 'orders-db', ...psql('select 7')], alice);
    return result.code === 0 ? result : undefined;
  });
  assert.equal(again.stdout.trim(), '7');
  expectCode(await local.cli(['withdraw', name, '--yes'], alice), 0);
});

test('an extension carries a live session over its parent’s end', async () => {
  const parent = await granted(alice, '--for', '12s');
  const live = await sleeper(alice, '--grant', parent);
  const asked = expectCode(
    await local.cli(['request', 'orders-db', '--extend', parent, '--for', '1h', '--reason', 'not done'], alice),
    75,
  );
  const extension = nameIn(asked);
  expectCode(await local.cli(['approve', extension, '--yes'], dana), 0);
  const scheduled = await grantOf(extension);
  assert.equal(scheduled.status.notBefore, (await grantOf(parent)).status.expiresAt);
  await until('the parent’s end', async () => ((await grantOf(parent)).status.phase === 'Expired' ? true : undefined));
  await until('the extension', async () => ((await grantOf(extension)).status.phase === 'Active' ? true : undefined));
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.ok(
    (await sessions()).some((each) => each.id === live.id),
    'the session lives on',
  );
  expectCode(await local.cli(['connect', 'orders-db', ...psql('select 1')], alice), 0);
  expectCode(await local.cli(['revoke', extension, '--yes'], dana), 0);
  assert.match((await live.done).stderr, /FATAL/);
  await nobodySleeps();
});

test('INV-01: a held statement waits for an approver who is shown it, and runs in the session that waited', async () => {
  const name = await granted(alice);
  const heldOne = (): Promise<string> =>
    until('a hold', async () => {
      const items = (
        await local.json<{ items: { metadata: { name: string }; status?: { phase: string } }[] }>(['holds'])
      ).items;
      return items.find((each) => (each.status?.phase ?? 'Waiting') === 'Waiting')?.metadata.name;
    });
  const denied = local.cli(['connect', 'orders-db', ...psql('delete from orders')], alice);
  const first = await heldOne();
  expectCode(await local.cli(['approve', first, '--yes'], alice), 77);
  const told = expectCode(await local.cli(['deny', first, '--yes', '--reason', 'add a WHERE'], dana), 0);
  assert.match(told.stderr, /delete from orders/);
  assert.match((await denied).stderr, /add a WHERE/);
  assert.equal((await server.query('select count(*)::int as n from orders')).rows[0].n, 20);

  const running = local.cli(['connect', 'orders-db', ...psql("update orders set state = 'seen'")], alice);
  expectCode(await local.cli(['approve', await heldOne(), '--yes'], dana), 0);
  expectCode(await running, 0);
  assert.equal((await server.query("select count(*)::int as n from orders where state = 'seen'")).rows[0].n, 20);
  expectCode(await local.cli(['withdraw', name, '--yes'], alice), 0);
});

test('Standing access needs no request; dsn and --listen serve other clients', async () => {
  const rita = { as: 'rita@corp.example', groups: ['reporters'] };
  const direct = expectCode(await local.cli(['connect', 'orders-db', ...psql('select count(*) from orders')], rita), 0);
  assert.equal(direct.stdout.trim(), '20');
  const dsn = expectCode(await local.cli(['dsn', 'orders-db', '--until-expiry'], rita), 0).stdout.trim();
  assert.match(dsn, /^postgresql:\/\/writer:[^@]+@localhost:\d+\/orders\?sslmode=verify-full/);
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  await client.end();

  const listener = spawn(SALLYPORT, ['connect', 'orders-db', '--listen', '--as', rita.as, '--groups', 'reporters'], {
    env: local.environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    let out = '';
    listener.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
    const uri = await until('the DSN', async () => (out.includes('\n') ? out.trim() : undefined));
    for (let round = 0; round < 2; round += 1) {
      const pooled = new pg.Client({ connectionString: uri });
      await pooled.connect();
      assert.equal((await pooled.query('select count(*)::int as n from orders')).rows[0].n, 20);
      await pooled.end();
    }
    const wrong = new pg.Client({ connectionString: uri.replace(/:[^:@]+@/, ':wrong@') });
    wrong.on('error', () => undefined);
    await assert.rejects(wrong.connect(), /not the password/);
  } finally {
    listener.kill('SIGINT');
    const code = await new Promise((resolve) => listener.once('exit', resolve));
    assert.equal(code, 0);
  }
});

test('break-glass skips the steps for whom the policy names, and stays due for review', async () => {
  const asked = expectCode(
    await local.cli(['request', 'orders-db', '--break-glass', '--for', '10m', '--reason', 'outage'], eve),
    0,
  );
  const name = nameIn(asked);
  expectCode(await local.cli(['connect', 'orders-db', ...psql('select 1')], eve), 0);
  expectCode(await local.cli(['sign-off', name, '--yes'], eve), 77);
  assert.match((await local.cli(['pending'], dana)).stdout, new RegExp(`not signed off: .*${name}`));
  expectCode(await local.cli(['sign-off', name, '--yes'], dana), 0);
  assert.doesNotMatch((await local.cli(['pending'], dana)).stdout, new RegExp(name));
  expectCode(await local.cli(['request', 'orders-db', '--break-glass', '--reason', 'outage'], alice), 77);
  expectCode(await local.cli(['withdraw', name, '--yes'], eve), 0);
});

test('a broken file is told by line and closes what it selects; mended, access is back', async () => {
  const name = await granted(alice);
  local.write('policy.yaml', POLICIES.replace('action: Deny', 'action: Denny'));
  await until('the problem', async () => (/policy\.yaml:\d+.*Denny/s.test(local.output()) ? true : undefined));
  const refused = await until('denial', async () => {
    const result = await local.cli(['connect', 'orders-db', ...psql('select 1')], alice);
    return result.code === 0 ? undefined : result;
  });
  assert.match(refused.stderr, /orders-team/);
  local.write('policy.yaml', POLICIES);
  await until('access again', async () => {
    const result = await local.cli(['connect', 'orders-db', ...psql('select 1')], alice);
    return result.code === 0 ? true : undefined;
  });
  expectCode(await local.cli(['withdraw', name, '--yes'], alice), 0);
});

test('INV-07: a denial is explained, a session replayed, the records verify, and reading them is on record', async () => {
  const name = await granted(alice);
  const denied = await local.cli(['connect', 'orders-db', ...psql('drop table orders')], alice);
  const denial = /d-[0-9a-z]{4,}/.exec(denied.stderr)![0];
  const why = expectCode(await local.cli(['why', denial], alice), 0);
  assert.match(why.stdout, /rule "no-ddl"/);
  const statement = expectCode(await local.cli(['why', '--connection', 'orders-db', 'drop table orders'], alice), 0);
  assert.match(statement.stdout, /no-ddl/);
  const session = /session (s-[a-z0-9]{13})\b/.exec(why.stdout)![1]!;
  assert.match(expectCode(await local.cli(['records', 'ls'], dana), 0).stdout, new RegExp(session));
  assert.match(expectCode(await local.cli(['replay', session], dana), 0).stdout, /drop table orders/);
  expectCode(await local.cli(['verify'], dana), 0);
  const control = expectCode(await local.cli(['records', 'show', 'control', '-o', 'json'], dana), 0).stdout;
  for (const act of ['grant.request', 'approval.approve', 'grant.active', 'policy.create', 'records.ReplayRecord']) {
    assert.ok(control.includes(`"act":"${act}"`), `${act} is on record`);
  }
  const catalog = await local.json<{ relations: { name: string; columns: { name: string }[] }[] }>([
    'catalog',
    'export',
    'orders-db',
  ]);
  assert.deepEqual(
    catalog.relations.find((each) => each.name === 'orders')?.columns.map((each) => each.name),
    ['id', 'state'],
  );
  expectCode(await local.cli(['withdraw', name, '--yes'], alice), 0);
});

test('INV-10: kill -9 of the daemon keeps grants, decisions and endpoints', async () => {
  const active = await granted(alice);
  const pending = nameIn(
    expectCode(
      await local.cli(['request', 'orders-db', '--reason', 'INC-2'], { ...alice, as: 'adam@corp.example' }),
      75,
    ),
  );
  const dsnBefore = expectCode(await local.cli(['dsn', 'orders-db'], alice), 0).stdout;
  await local.kill();
  const away = expectCode(await local.cli(['ls'], alice), 78);
  assert.match(away.stderr, /No Sallyport is running/);
  await local.start();
  assert.equal((await grantOf(active)).status.phase, 'Active');
  const result = await local.cli(['connect', 'orders-db', ...psql('select 5')], alice);
  assert.equal(result.stdout.trim(), '5', shown(result));
  const port = (dsn: string): string => /:(\d+)\//.exec(dsn.slice(dsn.indexOf('@')))![1]!;
  assert.equal(port(expectCode(await local.cli(['dsn', 'orders-db'], alice), 0).stdout), port(dsnBefore));
  expectCode(await local.cli(['approve', pending, '--yes'], dana), 0);
});

test('INV-03: told to stop, the daemon lets sessions end for a while and cuts the rest natively', async () => {
  await granted(alice);
  const live = await sleeper(alice);
  process.kill(local.pid, 'SIGTERM');
  const result = await live.done;
  assert.match(result.stderr, /FATAL:.*Sallyport/);
  await nobodySleeps();
  await until('the end of the daemon', async () => ((await local.cli(['ls'])).code === 78 ? true : undefined));
  await until('its exit', async () => {
    try {
      process.kill(local.pid, 0);
      return undefined;
    } catch {
      return true;
    }
  });
  await local.start();
  expectCode(await local.cli(['verify'], dana), 0);
});

test('INV-05: the service password is in no file of the state, no output, no client', async () => {
  const { execFileSync } = await import('node:child_process');
  assert.ok(!local.output().includes(PASSWORD));
  let found = '';
  try {
    found = execFileSync('grep', ['-rl', PASSWORD, local.state, local.home], { encoding: 'utf8' });
  } catch {
    // grep exits with 1 when there is no match
  }
  assert.equal(found, '');
});
