// The client's view through the gateway is the view it would have without: random pipelines are sent to the server
// directly and through gateways, and every message that comes back is compared.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { postgresRules } from '../../../src/protocols/postgres/rules.ts';
import { FLUSH, query, SYNC } from '../../../src/protocols/postgres/wire/messages.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import {
  bindMessage,
  closeMessage,
  copyData,
  copyDone,
  copyFail,
  describeMessage,
  executeMessage,
  parseMessage,
  rawConnect,
  shown,
} from '../../support/raw-postgres.ts';
import { rulesPolicy, type TestGateway, transparentPolicy } from '../../support/session-context.ts';

const STEPS: Record<string, Buffer[]> = {
  select: [query('select 1')],
  two: [query('select 1; select 2')],
  empty: [query('')],
  failing: [query('select 1/0')],
  unparseable: [query('selec 1')],
  begin: [query('begin')],
  commit: [query('commit')],
  savepoint: [query('savepoint s')],
  deferred: [query('insert into deferred values (1, 100000)')],
  notice: [query("do $$ begin raise notice 'hello'; end $$")],
  copyOut: [query('copy (select 1) to stdout')],
  copyIn: [query('copy scratch from stdin'), copyData('1\tx\n'), copyData('2\ty\n'), copyDone()],
  copyInBad: [query('copy scratch from stdin'), copyData('x\ty\n'), copyDone()],
  copyInFail: [query('copy scratch from stdin'), copyData('1\tx\n'), copyFail('no')],
  copyExtended: [
    parseMessage('', 'copy scratch from stdin'),
    bindMessage('', ''),
    executeMessage(''),
    SYNC,
    copyData('1\tx\n'),
    copyDone(),
    SYNC,
  ],
  parseUnnamed: [parseMessage('', 'select id from orders order by id')],
  parseNamed: [parseMessage('a', 'select $1::int', [23])],
  parseBad: [parseMessage('a', 'selec')],
  parseDeferred: [parseMessage('', 'insert into deferred values (2, 200000)')],
  bindUnnamed: [bindMessage('', '')],
  bindNamed: [bindMessage('p', 'a', ['7'])],
  bindBad: [bindMessage('', 'a', ['x'])],
  describeStatement: [describeMessage('S', 'a')],
  describeUnnamed: [describeMessage('S', '')],
  describePortal: [describeMessage('P', '')],
  execute: [executeMessage('')],
  executeSome: [executeMessage('', 2)],
  executeNamed: [executeMessage('p')],
  closeStatement: [closeMessage('S', 'a')],
  closePortal: [closeMessage('P', 'p')],
  flush: [FLUSH],
  sync: [SYNC],
  prepare: [query('prepare q as select 3')],
  executeSql: [query('execute q')],
  deallocate: [query('deallocate all')],
};

for (const major of [15, 18] as const) {
  describe(`PostgreSQL ${major}`, { concurrency: 1 }, () => {
    let server: PostgresServer;
    let transparent: TestGateway;
    let ruled: TestGateway;
    before(async () => {
      server = await startTarget(major);
      transparent = await gatewayFor(server, { policy: transparentPolicy() });
      ruled = await gatewayFor(server, {
        policy: rulesPolicy(postgresRules, { deny: { 'no-drop': { statements: ['DROP *'] } } }),
      });
    });
    after(async () => {
      await transparent?.close();
      await ruled?.close();
      await server?.stop();
    });

    const replies = async (
      port: number,
      steps: readonly string[],
      chunk: number,
      palette = STEPS,
    ): Promise<string[]> => {
      const client = await rawConnect({ port, password: 'ticket' });
      try {
        const bytes = Buffer.concat([
          ...steps.flatMap((step) => palette[step]!),
          SYNC,
          query('rollback'),
          query("select 'the end'"),
        ]);
        for (let at = 0; at < bytes.length; at += chunk) {
          client.send(bytes.subarray(at, at + chunk));
          if (chunk < bytes.length) await new Promise((resolve) => setImmediate(resolve));
        }
        const received = await client
          .until((one) => one.type === 'D' && one.body.includes('the end'))
          .catch(() => undefined);
        if (received === undefined) return ['closed'];
        return shown([...received, ...(await client.ready())]);
      } finally {
        client.end();
      }
    };

    test('random pipelines get the same replies through a transparent gateway as without', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...Object.keys(STEPS)), { maxLength: 14 }),
          fc.constantFrom(1 << 20, 64, 7),
          async (steps, chunk) => {
            const direct = await replies(server.port, steps, 1 << 20);
            // Queries in the middle of COPY data end the connection, in words of its own on each side.
            assert.deepEqual(await replies(transparent.port, steps, chunk), direct);
          },
        ),
        { numRuns: Number(process.env.FUZZ_RUNS ?? 60) },
      );
    });

    test('random pipelines of understood statements get the same replies through a gateway with rules', async () => {
      const understood = Object.keys(STEPS).filter((name) => !['unparseable', 'parseBad', 'executeSql'].includes(name));
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...understood), { maxLength: 14 }),
          fc.constantFrom(1 << 20, 64, 7),
          async (steps, chunk) => {
            // A Bind of a name that is not there is refused in other words: those pipelines are compared elsewhere.
            const direct = await replies(server.port, steps, 1 << 20);
            fc.pre(!direct.some((reply) => /does not exist|already exists/.test(reply)));
            const got = await replies(ruled.port, steps, chunk);
            // In an aborted transaction the server does not even look for the name.
            fc.pre(!got.some((reply) => reply.includes('is not known here')));
            assert.deepEqual(got, direct);
          },
        ),
        { numRuns: Number(process.env.FUZZ_RUNS ?? 60) },
      );
    });

    test('INV-09: in random pipelines with denials the transaction state is the server’s own and the session goes on', async () => {
      const denied: Record<string, Buffer[]> = {
        deniedQuery: [query('drop table orders')],
        deniedMany: [query('select 1; drop table orders')],
        deniedParse: [parseMessage('', 'drop table orders')],
        deniedFunctionCall: [Buffer.from([0x46, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
      };
      const steps = { ...STEPS, ...denied };
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...Object.keys(steps)), { maxLength: 12 }),
          fc.constantFrom(1 << 20, 11),
          async (names, chunk) => {
            const got = await replies(ruled.port, names, chunk, steps);
            if (got[0] === 'closed') return; // a query inside COPY data, as without a gateway
            assert.match(got.at(-3)!, /the end/);
            assert.equal(got.at(-1), 'Z(I)');
            assert.equal(ruled.logs.filter((line) => line.startsWith('error')).length, 0, ruled.logs.join('\n'));
          },
        ),
        { numRuns: Number(process.env.FUZZ_RUNS ?? 60), examples: [[['begin', 'deniedQuery'], 1 << 20]] },
      );
      const { rows } = await server.query('select count(*)::int as n from orders');
      assert.equal(rows[0].n, 100);
    });
  });
}
