// No controller at all: what goes on, what ends, what is refused, and that it all comes back by itself.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { until } from '../../support/cluster/sallyport.ts';
import type { CriteriaGroup } from '../criterion.ts';
import { type HostScene, type Session, startHostScene } from './host-scene.ts';

/** The product's is 5 minutes; ACCEPT_FULL waits for that, otherwise the proxy is given a shorter one. */
const LIMIT_MS = process.env['ACCEPT_FULL'] === '1' ? 300_000 : 45_000;
const SHORT = '15s';

let scene: HostScene;
let session: Session;
let stoppedAt = 0;

const ask = async (): Promise<number> =>
  (await session.client.query<{ n: number }>('select count(*)::int as n from orders')).rows[0]!.n;

export const outage: CriteriaGroup = {
  name: 'outage',
  async start() {
    scene = await startHostScene({ proxyLimits: { heartbeatMs: LIMIT_MS } });
    session = await scene.loginSoon(await scene.held({ duration: '2h' }));
  },
  async stop() {
    await session?.client.end().catch(() => undefined);
    await scene?.stop();
  },
  criteria: [
    {
      claim: 'INV-03: controller stopped: sessions go on, new ones log in, and expiry fires',
      async check() {
        const lasting = await scene.held();
        const short = await scene.held({ duration: SHORT });
        const { status } = (await scene.grant(short.grant.metadata.name))!;
        const dying = await scene.loginSoon(short);
        const told = dying.client.query('select pg_sleep(120)').then(
          () => undefined,
          (error: Error) => error,
        );
        for (const operator of scene.sallyport.operators) await operator.end('SIGKILL');
        stoppedAt = performance.now();
        assert.equal(await ask(), 20);
        const later = await scene.login(lasting);
        await later.client.end();
        await dying.closed;
        const lateMs = Date.now() - Date.parse(status!.expiresAt!);
        assert.match((await told)?.message ?? 'nothing', /expired/);
        assert.ok(lateMs >= 0 && lateMs < 2_000, `cut ${lateMs} ms after its end`);
        assert.ok(!(await scene.alive(dying.backend)));
        assert.equal(await ask(), 20);
        return `cut ${lateMs} ms after its end, while nobody led`;
      },
    },
    {
      claim: `INV-10: past the heartbeat limit (${LIMIT_MS / 1000} s here) new commands are refused natively, and it recovers by itself`,
      async check() {
        let asked = 0;
        const refusal = await until(
          'a refusal',
          async () => {
            try {
              await ask();
              asked += 1;
              await sleep(500);
              return undefined;
            } catch (error) {
              return error as pg.DatabaseError;
            }
          },
          LIMIT_MS + 60_000,
          10,
        );
        const silent = performance.now() - stoppedAt;
        assert.match(refusal.message, /controller/);
        assert.match(refusal.code ?? '', /^[0-9A-Z]{5}$/);
        assert.ok(silent >= LIMIT_MS - 31_000, `refused after ${silent} ms`);
        assert.ok(await scene.alive(session.backend), 'the session itself lives');
        for (const operator of scene.sallyport.operators) operator.spawn();
        const began = performance.now();
        const back = await until(
          'commands to run again',
          async () => (await ask()) === 20 && performance.now(),
          60_000,
        );
        return `${asked} commands ran without a controller, then SQLSTATE ${refusal.code}: ${refusal.message}; the same session went on ${((back - began) / 1000).toFixed(1)} s after the controller was started`;
      },
    },
  ],
};
