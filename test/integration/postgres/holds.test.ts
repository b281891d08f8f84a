// A statement that waits for consent: what its client hears meanwhile, and how long it may wait in a transaction.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { createPostgresProtocol } from '../../../src/protocols/postgres/protocol.ts';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { systemClock } from '../../../src/system/clock.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { startTarget } from '../../support/postgres-gateway.ts';
import { rulesPolicy, startTestGateway, type TestGateway } from '../../support/session-context.ts';

const REMINDER_MS = 20_000;
let server: PostgresServer;
let gateway: TestGateway;
before(async () => {
  server = await startTarget(18);
  const protocol = createPostgresProtocol();
  gateway = await startTestGateway({
    protocol: {
      ...protocol,
      // Twenty seconds pass in twenty milliseconds here; every other time is the machine's.
      accept: (socket, context) =>
        protocol.accept(socket, {
          ...context,
          clock: {
            ...systemClock,
            after: (ms, callback) => systemClock.after(ms === REMINDER_MS ? 20 : ms, callback),
          },
        }),
    },
    spec: {
      type: 'PostgreSQL',
      postgresql: {
        host: '127.0.0.1',
        port: server.port,
        tls: { ca: server.ca },
        insecureAuthentication: ['Trust'],
        insecureClients: true,
      },
      accounts: [{ name: 'writer', secretRef: { name: 'orders-db-writer' } }],
    },
    credential: { kind: 'Password', username: 'writer', password: 'writer-secret', hosts: ['127.0.0.1'] },
    policy: rulesPolicy(postgresRules, { hold: { 'unbounded-write': { unbounded: true } } }),
    insecure: true,
  });
});
after(async () => {
  await gateway?.close();
  await server?.stop();
});

const connect = async (): Promise<{ client: pg.Client; notices: string[]; told(count: number): Promise<void> }> => {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: gateway.port,
    user: 'writer',
    password: gateway.password,
    database: 'postgres',
  });
  const notices: string[] = [];
  let wake = (): void => undefined;
  client.on('error', () => undefined);
  client.on('notice', (notice) => {
    notices.push(notice.message ?? '');
    wake();
  });
  await client.connect();
  return {
    client,
    notices,
    async told(count) {
      while (notices.length < count) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
};

for (const extended of [false, true]) {
  test(`a waiting client is reminded until the hold ends, and no longer (${extended ? 'extended' : 'simple'})`, async () => {
    const { client, notices, told } = await connect();
    try {
      const opened = gateway.nextHold();
      const running = extended
        ? client.query({ text: 'update orders set state = $1', values: ['x'] })
        : client.query("update orders set state = 'x'");
      const refused = assert.rejects(running, { code: '42501', message: /Denied by an approver/ });
      const hold = await opened;
      await told(4);
      for (const notice of notices) {
        assert.match(
          notice,
          /^Held as h-\d+ by rule "unbounded-write": needs 1 of group dba within (60|5\d) s\. Ctrl-C withdraws\.$/,
        );
      }
      hold.resolve({ kind: 'Denied', by: ['dba@corp.example'] });
      await refused;
      const heard = notices.length;
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(notices.length, heard);
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    } finally {
      await client.end();
    }
  });
}

test('INV-09: in a transaction a hold ends before the server would end the idle session', async () => {
  await server.query("alter role writer set idle_in_transaction_session_timeout = '30s'");
  // The side connection that answers is shared and may be of before: a database of its own gets its own.
  await server.query('create database timed');
  const client = new pg.Client({
    host: '127.0.0.1',
    port: gateway.port,
    user: 'writer',
    password: gateway.password,
    database: 'timed',
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query('create temp table t (a int)');
    for (const [begin, longestMs] of [
      [undefined, undefined],
      ['begin', 28_000],
    ] as const) {
      if (begin !== undefined) await client.query(begin);
      const opened = gateway.nextHold();
      const running = client.query('delete from t');
      const refused = assert.rejects(running, { code: '42501', message: /nobody consented in time/ });
      const hold = await opened;
      assert.equal(hold.request.longestMs, longestMs);
      hold.resolve({ kind: 'TimedOut' });
      await refused;
    }
    await assert.rejects(client.query('select 1'), { code: '25P02' });
    await client.query('rollback');
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
  } finally {
    await client.end();
    await server.query('alter role writer reset idle_in_transaction_session_timeout');
  }
});
