// Sessions end to end with real servers and real clients: psql, node-postgres, cursors, COPY streams.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import copyStreams from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { cancelRequest, query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import {
  bindMessage,
  executeMessage,
  fields,
  parseMessage,
  rawConnect,
  show,
  shown,
} from '../../support/raw-postgres.ts';
import { rulesPolicy, type TestGateway } from '../../support/session-context.ts';

const RULES = {
  deny: { 'no-drop': { statements: ['DROP *'] } },
  hold: { 'unbounded-write': { unbounded: true } },
};

for (const major of [15, 18] as const) {
  describe(`PostgreSQL ${major}`, { concurrency: 1 }, () => {
    let server: PostgresServer;
    let ruled: TestGateway;
    let open: TestGateway;
    let folder: string;
    before(async () => {
      server = await startTarget(major, false);
      ruled = await gatewayFor(server, { tls: true, policy: rulesPolicy(postgresRules, RULES) });
      open = await gatewayFor(server, { tls: true });
      folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-session-'));
    });
    after(async () => {
      await ruled?.close();
      await open?.close();
      await server?.stop();
      if (folder) fs.rmSync(folder, { recursive: true, force: true });
    });

    const connect = async (gateway: TestGateway, more: pg.ClientConfig = {}): Promise<pg.Client> => {
      const client = new pg.Client({
        host: 'localhost',
        port: gateway.port,
        user: 'writer',
        password: gateway.password,
        database: 'postgres',
        ssl: { ca: gateway.ca },
        ...more,
      });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    const psql = async (
      gateway: TestGateway,
      input: string,
      password = gateway.password,
    ): Promise<{ out: string; err: string; code: number | null }> => {
      const ca = path.join(folder, `${gateway.port}.pem`);
      fs.writeFileSync(ca, gateway.ca);
      const child = spawn(
        'psql',
        [
          '-X',
          '-A',
          '-t',
          `host=localhost port=${gateway.port} user=writer dbname=postgres sslmode=verify-full sslrootcert=${ca}`,
        ],
        { env: { ...process.env, PGPASSWORD: password } },
      );
      let out = '';
      let err = '';
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
      child.stdin.end(input);
      const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
      return { out, err, code };
    };

    test('INV-01 psql: a wrong ticket gets a FATAL with what to do, and the database is never dialled', async () => {
      const before = (await server.query("select count(*)::int as n from pg_stat_activity where usename = 'writer'"))
        .rows[0].n;
      const { err, code } = await psql(ruled, 'select 1', 'wrong');
      assert.equal(code, 2);
      assert.match(err, /FATAL: {2}Sallyport: the ticket is not valid/);
      assert.equal(
        (await server.query("select count(*)::int as n from pg_stat_activity where usename = 'writer'")).rows[0].n,
        before,
      );
    });

    test('INV-09 psql: a denial reads as an error of the database, aborts its transaction and leaves the session usable', async () => {
      const { out, err } = await psql(
        ruled,
        "begin;\ninsert into scratch values (1, 'x');\ndrop table orders;\nselect 1;\nrollback;\nselect count(*) from orders;\n\\d orders\n",
      );
      assert.match(
        err,
        /ERROR: {2}Sallyport refused DROP TABLE orders\nDETAIL: {2}Policy test\/rules, rule "no-drop" \(denial d-[0-9a-f]+\)\. Nothing reached the database\.\nHINT: {2}sallyport why d-/,
      );
      assert.match(err, /current transaction is aborted/);
      assert.match(out, /100/);
      assert.match(out, /state\|text/);
    });

    test('INV-09: prepared and pipelined denials roll back what came before them in the same implicit transaction', async () => {
      const client = await connect(ruled);
      try {
        await client.query({ text: 'insert into scratch values ($1, $2)', values: [7, 'kept'] });
        await assert.rejects(client.query({ name: 'd', text: 'drop table orders', values: [] }), { code: '42501' });
        await assert.rejects(client.query("insert into scratch values (8, 'x'); drop table scratch"), {
          code: '42501',
        });
        const { rows } = await client.query('select count(*)::int as n from scratch where id = 8');
        assert.equal(rows[0].n, 0);
        await client.query('begin');
        await assert.rejects(client.query('drop table orders'), { code: '42501' });
        await assert.rejects(client.query('select 1'), { code: '25P02' });
        await client.query('rollback');
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      } finally {
        await client.end();
      }
    });

    test('INV-01: nothing reaches the server before its record is written, and nothing at all when records fail', async () => {
      const client = await connect(ruled);
      try {
        ruled.holdRecords = true;
        const insert = client.query("insert into scratch values (50, 'late')");
        await new Promise((resolve) => setTimeout(resolve, 150));
        assert.equal((await server.query('select count(*)::int as n from scratch where id = 50')).rows[0].n, 0);
        ruled.releaseRecords();
        await insert;
        assert.equal((await server.query('select count(*)::int as n from scratch where id = 50')).rows[0].n, 1);
        ruled.recordsFail = true;
        await assert.rejects(client.query("insert into scratch values (51, 'never')"), { code: '53100' });
        await assert.rejects(client.query({ text: 'insert into scratch values ($1)', values: [52] }), {
          code: '53100',
        });
        ruled.recordsFail = false;
        assert.equal((await client.query('select count(*)::int as n from scratch where id in (51, 52)')).rows[0].n, 0);
      } finally {
        ruled.recordsFail = false;
        ruled.releaseRecords();
        await client.end();
      }
    });

    test('a hold tells its name, and approval, denial, timeout and the client’s cancel each end it natively', async () => {
      const client = await connect(ruled);
      const notices: string[] = [];
      client.on('notice', (notice) => void notices.push(notice.message ?? ''));
      try {
        for (const [outcome, expected] of [
          [
            { kind: 'Denied', by: ['dba@corp.example'], reason: 'add a WHERE' },
            { code: '42501', message: /Denied by an approver \(dba@corp.example\): "add a WHERE" \(hold h-/ },
          ],
          [{ kind: 'TimedOut' }, { code: '42501', message: /nobody consented in time/ }],
          [{ kind: 'Withdrawn' }, { code: '57014', message: /canceling statement/ }],
        ] as const) {
          const next = ruled.nextHold();
          const running = client.query("update orders set state = 'refunded'");
          const hold = await next;
          assert.equal(hold.request.command.verb, 'UPDATE');
          assert.match(hold.request.commandHash, /^[0-9a-f]{64}$/);
          hold.resolve(outcome);
          await assert.rejects(running, expected);
        }
        assert.match(
          notices[0] ?? '',
          /^Held as h-\d+ by rule "unbounded-write": needs 1 of group dba within \d+ s\. Ctrl-C withdraws\.$/,
        );
        assert.equal(
          (await server.query("select count(*)::int as n from orders where state = 'refunded'")).rows[0].n,
          0,
        );
        const next = ruled.nextHold();
        const running = client.query({ text: 'update orders set state = $1', values: ['approved'] });
        (await next).resolve({ kind: 'Approved', by: ['dba@corp.example'] });
        assert.equal((await running).rowCount, 100);
        const allowed = ruled.records.findLast((one) => one.kind === 'command' && one.body.hold !== undefined);
        assert.deepEqual(allowed?.body.approvedBy, ['dba@corp.example']);
        assert.deepEqual(allowed?.body.parameters, ['approved']);
      } finally {
        await client.end();
      }
    });

    test('INV-01: a hold that is approved when the gate has closed does not run', async () => {
      const client = await connect(ruled);
      try {
        const next = ruled.nextHold();
        const running = client.query("update orders set state = 'too late'");
        const hold = await next;
        ruled.gate = { code: 'GrantEnded', message: 'Sallyport refused the command: the grant has ended' };
        hold.resolve({ kind: 'Approved', by: ['dba@corp.example'] });
        await assert.rejects(running, { code: '42501', message: /grant has ended/ });
        ruled.gate = undefined;
        assert.equal(
          (await server.query("select count(*)::int as n from orders where state = 'too late'")).rows[0].n,
          0,
        );
      } finally {
        ruled.gate = undefined;
        await client.end();
      }
    });

    test('a client that leaves withdraws its hold', async () => {
      const client = await connect(ruled);
      const next = ruled.nextHold();
      client.query("update orders set state = 'gone'").catch(() => undefined);
      const hold = await next;
      (client as unknown as { connection: { stream: net.Socket } }).connection.stream.destroy();
      await hold.handle.outcome;
      assert.equal(hold.withdrawn, true);
    });

    test('INV-06: a statement prepared under one policy is decided anew under the next', async () => {
      const client = await connect(ruled);
      try {
        await client.query({ name: 'upd', text: 'update orders set state = $1 where id = $2', values: ['a', 1] });
        const policy = ruled.policy;
        ruled.policy = rulesPolicy(postgresRules, { deny: { 'no-writes': { effects: ['Write'] } }, generation: 2 });
        await assert.rejects(
          client.query({ name: 'upd', text: 'update orders set state = $1 where id = $2', values: ['b', 1] }),
          {
            code: '42501',
          },
        );
        ruled.policy = { ...policy, generation: 3 };
        await client.query({ name: 'upd', text: 'update orders set state = $1 where id = $2', values: ['c', 1] });
      } finally {
        await client.end();
      }
    });

    test('INV-02: a name that may mean another statement than it says is judged by all it may mean', async () => {
      const gateway = await gatewayFor(server, {
        policy: rulesPolicy(postgresRules, RULES),
      });
      const raw = await rawConnect({ port: gateway.port, password: 'ticket' });
      try {
        // n is held when bound. The second Parse of n fails at the server; a Bind judged by it alone would run the first.
        raw.send(parseMessage('n', "update orders set state = 'sneaked'"), SYNC);
        await raw.ready();
        raw.send(parseMessage('n', 'select 1'), SYNC, bindMessage('', 'n'), executeMessage(''), SYNC);
        // The failed Parse is answered before or after the hold is told of.
        const early = await raw.until((one) => one.type === 'N');
        assert.equal(gateway.holds.length, 1);
        gateway.holds[0]!.resolve({ kind: 'TimedOut' });
        const late = await raw.ready(2 - early.filter((one) => one.type === 'Z').length);
        assert.match(shown(late).join(' '), /E\(42501/);
        assert.equal(
          (await server.query("select count(*)::int as n from orders where state = 'sneaked'")).rows[0].n,
          0,
        );
      } finally {
        raw.end();
        await gateway.close();
      }
    });

    test('a cancel reaches only the running statement, and an unknown key nothing', async () => {
      const client = await connect(open);
      try {
        const sleeping = client.query('select pg_sleep(30)');
        await new Promise((resolve) => setTimeout(resolve, 100));
        const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
        const secret = Buffer.alloc(4);
        secret.writeInt32BE(secretKey | 0);
        const send = (key: Buffer): Promise<void> =>
          new Promise((resolve) => {
            const socket = net.connect(open.port, '127.0.0.1', () => socket.write(cancelRequest(processID, key)));
            socket.on('close', () => resolve());
            socket.on('error', () => undefined);
            socket.resume();
          });
        await send(Buffer.from([1, 2, 3, 4]));
        await send(secret);
        await assert.rejects(sleeping, { code: '57014' });
        await send(secret); // idle: dropped
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      } finally {
        await client.end();
      }
    });

    test('INV-03: a cut ends sleeping, busy and idle sessions with a native FATAL and stops what ran at the server', async () => {
      for (const sql of ['select pg_sleep(60)', 'select count(*) from generate_series(1, 1e12::bigint)', undefined]) {
        const client = await connect(open);
        const session = open.sessions.at(-1)!;
        const { rows } = await client.query('select pg_backend_pid() as pid');
        const fatal = new Promise<pg.DatabaseError>((resolve) =>
          client.on('error', (error) => resolve(error as pg.DatabaseError)),
        );
        const running = sql === undefined ? undefined : client.query(sql);
        const failed = running?.then(
          () => undefined,
          (error: pg.DatabaseError) => error,
        );
        await new Promise((resolve) => setTimeout(resolve, 100));
        session.cut({
          code: 'Expired',
          message: 'grant orders-db-7fk2p expired at 15:04:00Z',
          hint: 'sallyport request orders-db --for 1h',
        });
        const error = failed === undefined ? await fatal : await failed;
        assert.equal(error?.code, '57P01');
        assert.equal(
          error?.message,
          `Sallyport: grant orders-db-7fk2p expired at 15:04:00Z${sql === undefined ? '.' : '; the statement was cancelled.'}`,
        );
        assert.equal(error?.hint, 'sallyport request orders-db --for 1h');
        await session.endedPromise;
        assert.equal(session.ended?.reason, 'Expired');
        let alive = 1;
        for (let i = 0; i < 100 && alive > 0; i += 1) {
          alive = (await server.query('select count(*)::int as n from pg_stat_activity where pid = $1', [rows[0].pid]))
            .rows[0].n;
          if (alive > 0) await new Promise((resolve) => setTimeout(resolve, 50));
        }
        assert.equal(alive, 0, `the backend of ${sql ?? 'an idle session'} lives on`);
      }
    });

    test('INV-03: a cut works while a command is held, while COPY data is awaited, and before the database has answered', async () => {
      const client = await connect(ruled);
      const next = ruled.nextHold();
      const failed = client
        .query("update orders set state = 'cut'")
        .catch((error: unknown) => error as pg.DatabaseError);
      const hold = await next;
      const own = ruled.sessions.at(-1)!;
      own.cut({ code: 'Revoked', message: 'grant orders-db-7fk2p was revoked by lead@corp.example' });
      const error = (await failed) as pg.DatabaseError;
      assert.equal(error.code, '57P01');
      assert.match(error.message, /was revoked by lead@corp\.example/);
      await own.endedPromise;
      assert.equal(hold.withdrawn, true);

      const gateway = await gatewayFor(server);
      const raw = await rawConnect({ port: gateway.port, password: 'ticket' });
      raw.send(query('copy scratch from stdin'));
      await raw.until((one) => one.type === 'G');
      gateway.sessions.at(-1)!.cut({ code: 'Locked', message: 'locked by security' });
      assert.match(show((await raw.until((one) => one.type === 'E')).at(-1)!), /57P01 Sallyport: locked by security/);
      await raw.closed;
      await gateway.close();

      const silent = net.createServer(() => undefined);
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      const waiting = await gatewayFor(server, { target: { port: (silent.address() as net.AddressInfo).port } });
      const login = rawConnect({ port: waiting.port, password: 'ticket' }).catch((reason: Error) => reason.message);
      while (waiting.sessions.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      await new Promise((resolve) => setTimeout(resolve, 50));
      waiting.sessions[0]!.cut({ code: 'Killed', message: 'killed by ops' });
      assert.match(String(await login), /57P01.*killed by ops/);
      await waiting.sessions[0]!.endedPromise;
      assert.equal(waiting.sessions[0]!.ended?.reason, 'Killed');
      await waiting.close();
      silent.close();
    });

    test('a database that is not there, or is another than it should be, is told natively without the credential', async () => {
      for (const target of [
        { port: 1 },
        { tls: { mode: 'VerifyFull' as const } },
        { insecureAuthentication: [] as never[], databases: ['other'] },
      ]) {
        const gateway = await gatewayFor(server, { target });
        const reason = await rawConnect({ port: gateway.port, password: 'ticket' }).then(
          () => 'connected',
          (error: Error) => error.message,
        );
        assert.match(reason, /08006|3D000/);
        assert.equal(reason.includes('writer-secret'), false);
        assert.equal(gateway.sessions[0]?.ended?.reason, 'TargetUnavailable');
        await gateway.close();
      }
    });

    test('INV-03: a cut works on a client that reads nothing while rows stream', async () => {
      const gateway = await gatewayFor(server);
      const raw = await rawConnect({ port: gateway.port, password: 'ticket' });
      try {
        raw.send(query("select repeat('x', 1000) from generate_series(1, 1000000)"));
        await raw.until((one) => one.type === 'D');
        raw.socket.pause();
        await new Promise((resolve) => setTimeout(resolve, 200));
        const session = gateway.sessions.at(-1)!;
        session.cut({ code: 'Killed', message: 'killed by ops' });
        await session.endedPromise;
        let alive = 1;
        for (let i = 0; i < 100 && alive > 0; i += 1) {
          alive = (
            await server.query(
              "select count(*)::int as n from pg_stat_activity where query like 'select repeat%' and state = 'active'",
            )
          ).rows[0].n;
          if (alive > 0) await new Promise((resolve) => setTimeout(resolve, 50));
        }
        assert.equal(alive, 0);
      } finally {
        raw.end();
        await gateway.close();
      }
    });

    test('COPY in and out, cursors and a result far larger than memory bounds pass unchanged', async () => {
      const client = await connect(ruled);
      try {
        await client.query('create table if not exists bulk (id int, note text)');
        const lines = 200_000;
        let at = 0;
        const source = new Readable({
          read() {
            let chunk = '';
            for (let i = 0; i < 1000 && at < lines; i += 1, at += 1) chunk += `${at}\tnote number ${at}\n`;
            this.push(chunk === '' ? null : chunk);
          },
        });
        await pipeline(source, client.query(copyStreams.from('copy bulk from stdin')));
        assert.equal((await client.query('select count(*)::int as n from bulk')).rows[0].n, lines);
        let bytes = 0;
        await pipeline(
          client.query(copyStreams.to('copy bulk to stdout')),
          new Writable({
            write(chunk: Buffer, _encoding, done) {
              bytes += chunk.length;
              done();
            },
          }),
        );
        assert.ok(bytes > lines * 15, `${bytes}`);
        await client.query('select 1');
        const copied = ruled.records.filter((one) => one.kind === 'result' && one.body.tag === `COPY ${lines}`);
        assert.deepEqual(
          copied.map((one) => one.body.rows),
          [lines, lines],
          'both ways are recorded with their rows',
        );
        const cursor = client.query(new Cursor('select id from bulk order by id'));
        assert.equal((await cursor.read(10)).length, 10);
        assert.equal((await cursor.read(5))[4].id, 14);
        await cursor.close();
        const before = process.memoryUsage().rss;
        let rows = 0;
        let peak = 0;
        const raw = client.query(
          copyStreams.to("copy (select repeat('y', 3000) from generate_series(1, 100000)) to stdout"),
        );
        for await (const chunk of raw as AsyncIterable<Buffer>) {
          rows += chunk.length;
          peak = Math.max(peak, process.memoryUsage().rss);
        }
        assert.ok(rows > 300_000_000, `${rows}`);
        assert.ok(peak - before < 200 * 1024 * 1024, `memory grew by ${Math.round((peak - before) / 1e6)} MB`);
      } finally {
        await client.end();
      }
    });

    test('INV-11: a statement over the limit is refused and the session goes on', async () => {
      const client = await connect(ruled);
      try {
        await assert.rejects(client.query(`select '${'x'.repeat(1_100_000)}'`), { code: '54000' });
        await assert.rejects(client.query({ text: 'select $1::text', values: ['x'.repeat(2_000_000)] }), {
          code: '54000',
        });
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      } finally {
        await client.end();
      }
    });

    test('INV-02: standard_conforming_strings and client-only encodings can not be changed, by any way', async () => {
      for (const gateway of [ruled, open]) {
        for (const sql of [
          'set standard_conforming_strings = off',
          "select set_config('standard_conforming_strings', 'off', false)",
          "set client_encoding = 'SJIS'",
        ]) {
          const client = await connect(gateway);
          await assert.rejects(
            (async () => {
              await client.query(sql);
              await client.query('select 1');
            })(),
          );
          await client.end().catch(() => undefined);
        }
      }
    });

    test('every command has its record before its result, and denials carry their id', async () => {
      const gateway = await gatewayFor(server, { policy: rulesPolicy(postgresRules, RULES) });
      const raw = await rawConnect({ port: gateway.port, password: 'ticket' });
      try {
        raw.send(
          query('select 1'),
          parseMessage('', 'select $1::text'),
          bindMessage('', '', ['hello']),
          executeMessage(''),
          SYNC,
          query('drop table orders'),
        );
        const messages = await raw.ready(3);
        const error = messages.find((one) => one.type === 'E')!;
        const kinds = gateway.records.map((one) => `${one.kind}${one.body.id as number}`);
        assert.deepEqual(
          kinds.filter((kind) => kind.startsWith('command')),
          ['command0', 'command1', 'command2'],
        );
        assert.ok(kinds.indexOf('command1') < kinds.indexOf('result1'));
        const denied = gateway.records.find((one) => one.body.decision === 'Deny')!;
        assert.match(fields(error).D!, new RegExp(`denial ${denied.body.denial as string}`));
        assert.deepEqual(gateway.records.find((one) => one.kind === 'command' && one.body.id === 1)?.body.parameters, [
          'hello',
        ]);
        assert.deepEqual(gateway.records.find((one) => one.kind === 'result' && one.body.id === 1)?.body.sample, [
          ['hello'],
        ]);
        assert.equal(messages.map(show).filter((text) => text === 'Z(I)').length, 3);
      } finally {
        raw.end();
        await gateway.close();
      }
    });

    test('INV-05: the credential is in no record, log or message', async () => {
      const all = JSON.stringify([ruled.records, ruled.logs, open.records, open.logs]);
      assert.equal(all.includes('writer-secret'), false);
      assert.ok(ruled.records.length > 10);
    });
  });
}
