// Unqualified names through bin/sallyport with real servers: what a rule about a schema means for a statement that names none.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import { connectionYaml, type Local, postgresEnvironment, startLocal } from '../../support/local.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';
import { gatewayFor } from '../../support/postgres-gateway.ts';
import { bindMessage, executeMessage, fields, parseMessage, rawConnect } from '../../support/raw-postgres.ts';
import { rulesPolicy } from '../../support/session-context.ts';

const SETUP = `
create role app login password 'app-password';
create role writer login password 'writer-secret';
create role dba login password 'dba-password';
alter database shop owner to dba;
create schema secret; create schema closed; create schema open;
create table public.orders (id int primary key, state text default 'new');
create table public.notes (id int, note text);
create table public.shared (id int); create table secret.shared (id int);
create table secret.cards (number text);
insert into public.orders values (1); insert into secret.cards values ('4111'); insert into secret.shared values (1);
create table open.twice (id int); create table closed.twice (id int);
create function public.total(int) returns int language sql as 'select $1';
create function secret.leak() returns text language sql as 'select number from secret.cards';
create type public.mood as enum ('good');
create domain public.quantity as int;
create function public.upper(public.quantity) returns text language sql as $$ select 'own code' $$;
grant usage on schema secret, open to app; grant create on schema secret to app;
grant all on all tables in schema public, secret, open, closed to app, writer;
grant usage on schema secret to writer;
grant create, temporary on database shop to app; grant temporary on database shop to writer; grant create on schema public to app;
grant usage on schema public to dba; alter table public.notes owner to dba;
`;

const policy = (name: string, rules: string): string => `---
apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ${name}, namespace: shops}
spec:
  connectionSelector: {names: [${name}]}
  subjects: [{kind: User, name: alice}]
  accounts: [app]
  access: Standing
  session: {ticketUntilExpiry: true}
  rules:
${rules}
`;
/** Everything but one schema. */
const DENY = `  - {name: all, action: Allow, sql: {effects: [Read, Write, Define, Execute, Session]}}
  - {name: no-secrets, action: Deny, sql: {tables: ["secret.*"]}}
  - {name: no-secret-code, action: Deny, sql: {functions: ["secret.*"]}}`;
/** One table and nothing else. */
const ALLOW = `  - {name: orders, action: Allow, sql: {effects: [Read, Write], tables: [public.orders, open.twice]}}
  - {name: total, action: Allow, sql: {effects: [Execute], functions: [public.total]}}`;

for (const major of [15, 18] as const) {
  describe(`PostgreSQL ${major}`, { concurrency: 1 }, () => {
    let server: PostgresServer;
    let local: Local;
    let folder: { deny: Record<string, string>; allow: Record<string, string> };
    const clients: pg.Client[] = [];

    before(async () => {
      server = await startPostgres({ major, database: 'shop', setup: SETUP });
      const accounts = { app: { username: 'app', password: 'app-password' } };
      const yaml = (name: string): string =>
        connectionYaml(server, { name, namespace: 'shops', database: 'shop', accounts });
      local = await startLocal({
        'deny.yaml': yaml('deny-db') + policy('deny-db', DENY),
        'allow.yaml': yaml('allow-db') + policy('allow-db', ALLOW),
      });
      const environment = async (name: string): Promise<Record<string, string>> => {
        const answer = await local.cli(['dsn', name, '--until-expiry', '-n', 'shops'], { as: 'alice' });
        assert.equal(answer.code, 0, answer.stderr);
        return postgresEnvironment(/postgres(ql)?:\/\/\S+/.exec(answer.stdout)![0]);
      };
      folder = { deny: await environment('deny-db'), allow: await environment('allow-db') };
    });
    after(async () => {
      for (const client of clients) await client.end().catch(() => undefined);
      await local?.stop();
      await server?.stop();
    });

    const connect = async (env: Record<string, string>): Promise<pg.Client> => {
      const { readFileSync } = await import('node:fs');
      const client = new pg.Client({
        host: env.PGHOST!,
        port: Number(env.PGPORT),
        user: env.PGUSER!,
        password: env.PGPASSWORD!,
        database: env.PGDATABASE!,
        ssl: { ca: readFileSync(env.PGSSLROOTCERT!, 'utf8') },
      });
      client.on('error', () => undefined);
      await client.connect();
      clients.push(client);
      return client;
    };
    const passes = async (client: pg.Client, ...statements: string[]): Promise<void> => {
      for (const sql of statements) {
        await client.query(sql).catch((error: Error) => assert.fail(`${sql}: ${error.message}`));
      }
    };
    const denied = async (client: pg.Client, ...statements: string[]): Promise<void> => {
      for (const sql of statements) {
        const answer = await client.query(sql).then(
          () => undefined,
          (error: pg.DatabaseError) => error,
        );
        assert.ok(answer !== undefined, `${sql} passed`);
        assert.match(answer.message, /^Sallyport refused /, `${sql}: ${answer.message}`);
      }
    };

    test('INV-02: a Deny on a schema is about what an unqualified name can mean, and about nothing else', async () => {
      const client = await connect(folder.deny);
      await passes(
        client,
        'select * from orders',
        "update orders set state = 'paid' where id = 1",
        'select total(1)',
        "select 'good'::mood",
        'select count(*) from notes n join orders o using (id)',
      );
      await denied(client, 'select * from cards', 'select * from secret.cards', 'select leak()', 'drop table cards');
      // Bound parameters go another way through the gateway.
      await client.query('select * from orders where id = $1', [1]);
      await assert.rejects(client.query('select * from cards where number = $1', ['x']), /^error: Sallyport refused/);
    });

    test('INV-02: an Allow on a table permits its unqualified name where no other schema has one', async () => {
      const client = await connect(folder.allow);
      await passes(client, 'select * from orders', "update orders set state = 'paid' where id = 1", 'select total(1)');
      await denied(client, 'select * from notes', 'select * from cards', 'select * from shared', 'select leak()');
    });

    test('INV-02: a name in two schemas is whichever the search_path says, where the server reports it', async () => {
      const client = await connect(folder.deny);
      if (major < 18) {
        await denied(client, 'select * from shared');
        return;
      }
      await passes(client, 'select * from shared', 'set search_path = public, secret', 'select * from shared');
      await passes(client, 'set search_path = secret, public');
      await denied(client, 'select * from shared', 'insert into shared values (2)');
      await passes(client, 'set search_path to default', 'insert into shared values (2)');
      // One text: the first statement moves what the second one means.
      await denied(client, 'set search_path = secret; select * from shared');
      await passes(client, 'begin', 'set local search_path = secret');
      await denied(client, 'select * from shared');
      await passes(client, 'rollback', 'select * from shared');
      await denied(client, "select set_config('search_path', 'secret', false); select * from shared");
    });

    test('INV-02: a schema of the path that the account may not look into is passed over, as the server does', async () => {
      const client = await connect(folder.allow);
      if (major < 18) return denied(client, 'select * from twice');
      await passes(client, 'set search_path = closed, open', 'select * from twice');
      await server.query('grant usage on schema closed to app', [], { database: 'shop' });
      await denied(await connect(folder.allow), 'select * from closed.twice');
      await new Promise((resolve) => setTimeout(resolve, 2500)); // somebody else's change is seen within two seconds
      await denied(client, 'select * from twice');
    });

    test('INV-02: temporary tables are their session’s own', async () => {
      const [one, other] = [await connect(folder.deny), await connect(folder.allow)];
      await passes(one, 'create temp table cards (number text)', 'create temp table orders (id int, state text)');
      // It may still be secret.cards: the temporary one can be dropped behind the gateway's back.
      await denied(one, 'select * from cards');
      await passes(one, 'insert into orders values (1)', 'select * from orders');
      await passes(other, 'select * from orders');
      await passes(one, 'begin', 'create temp table shared_too (id int)', 'rollback');
      await passes(one, 'drop table pg_temp.orders', 'select * from orders');
    });

    test('INV-02: what a session defines counts at once, in its own transaction too', async () => {
      const client = await connect(folder.deny);
      await denied(client, 'alter table secret.cards set schema public', 'alter table orders set schema secret');
      await passes(client, 'create table public.fresh (id int)', 'select * from fresh');
      await passes(client, 'begin');
      await passes(client, 'create table public.newest (id int)');
      await passes(client, 'select * from newest', 'alter table newest add column note text');
      await passes(client, 'rollback', 'create table public.newest (id int)', 'select * from newest');
      await passes(client, 'drop table public.newest, public.fresh');
      // Where it goes is up to the search_path.
      await (major < 18 ? denied : passes)(client, 'create table unsaid (id int)');
      if (major === 18) {
        await passes(client, 'drop table unsaid', 'set search_path = secret, public');
        await denied(client, 'create table unsaid (id int)', 'create table orders (id int)');
      }
    });

    test('INV-02: a function that shares the name of a built-in one is an Execute effect', async () => {
      const client = await connect(folder.allow);
      await denied(client, 'select upper(1::quantity)');
      await passes(client, 'select lower(state) from orders', 'select pg_catalog.upper(state) from orders');
      const free = await connect(folder.deny);
      await passes(free, 'select upper(1::quantity)');
    });

    test('INV-02: a pipeline is judged by what its first half may do to the second', async () => {
      const gateway = await gatewayFor(server, {
        policy: rulesPolicy(postgresRules, { deny: { 'no-secrets': { tables: ['secret.*'] } } }),
        target: { databases: ['shop'] },
      });
      try {
        const outcomes = async (...sqls: string[]): Promise<string[]> => {
          const client = await rawConnect({ port: gateway.port, password: gateway.password, database: 'shop' });
          client.send(query('select * from public.orders'));
          await client.ready();
          client.send(...sqls.map((sql) => query(sql)));
          const answers = await client.ready(sqls.length);
          client.end();
          return answers.filter(({ type }) => type === 'E').map((one) => fields(one).M!);
        };
        const refused = ['Sallyport refused SELECT on shared'];
        assert.deepEqual(await outcomes('set search_path = secret', 'select * from shared'), refused);
        assert.deepEqual(await outcomes('select * from notes', 'select * from shared'), refused);
        assert.deepEqual(await outcomes('show search_path', 'select * from shared'), major < 18 ? refused : []);
        assert.deepEqual(await outcomes('create temp table t (id int)', 'select * from t', 'select * from orders'), []);
        // TRUNCATE looks its table up when it is executed: bound before the path moves, run behind it.
        if (major === 18) {
          const late = await rawConnect({ port: gateway.port, password: gateway.password, database: 'shop' });
          late.send(query('begin'));
          await late.ready();
          late.send(parseMessage('t', 'truncate shared'), bindMessage('t', 't'), SYNC);
          const bound = await late.ready();
          assert.equal(bound.filter(({ type }) => type === 'E').length, 0);
          late.send(query('set search_path = secret'));
          await late.ready();
          late.send(executeMessage('t'), SYNC);
          const ran = await late.ready();
          late.end();
          assert.deepEqual(
            ran.filter(({ type }) => type === 'E').map((one) => fields(one).M),
            ['Sallyport refused TRUNCATE TABLE on shared'],
          );
        }
        // The same by Parse and Bind, before the first Sync.
        const client = await rawConnect({ port: gateway.port, password: gateway.password, database: 'shop' });
        client.send(
          ...['set search_path = secret', 'select * from shared'].flatMap((sql) => [
            parseMessage('', sql),
            bindMessage('', ''),
            executeMessage(''),
          ]),
          SYNC,
        );
        const answers = await client.ready();
        client.end();
        assert.deepEqual(
          answers.filter(({ type }) => type === 'E').map((one) => fields(one).M),
          refused,
        );
      } finally {
        await gateway.close();
      }
    });

    test('psql shows a syntax error as it does without a gateway', async () => {
      const run = (env: Record<string, string>): Promise<{ code: number | null; err: string }> =>
        new Promise((resolve, reject) => {
          const child = spawn('psql', ['-X', '-c', "select 'é' as a, selec 1 from t u v"], {
            env: { ...process.env, ...env, PGCLIENTENCODING: 'UTF8' },
          });
          let err = '';
          child.stderr.on('data', (bytes: Buffer) => (err += bytes.toString()));
          child.on('error', reject);
          child.on('close', (code) => resolve({ code, err }));
        });
      const { code, err } = await run(folder.deny);
      assert.equal(code, 1);
      const lines = err.split('\n');
      assert.equal(lines[0], 'ERROR:  syntax error at or near "1"');
      assert.equal(lines[1], "LINE 1: select 'é' as a, selec 1 from t u v");
      assert.equal(lines[2]!.indexOf('^'), lines[1]!.indexOf('1 from'));
      assert.match(
        lines[3]!,
        /^DETAIL:  Sallyport could not parse it; nothing reached the database \(denial d-\w+\)\.$/,
      );
      const client = await connect(folder.deny);
      await client.query('begin');
      const error = await client.query('select $1 +', [1]).catch((caught: pg.DatabaseError) => caught);
      assert.ok(error instanceof pg.DatabaseError);
      assert.deepEqual([error.code, error.position], ['42601', '12']);
      await assert.rejects(client.query('select 1'), /current transaction is aborted/);
      await client.query('rollback');
    });
  });
}
