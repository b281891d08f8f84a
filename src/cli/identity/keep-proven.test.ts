import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dueAt, type Handed, type KeepProvenOptions, keepProven, lastsUntil, REFRESH_APART_MS } from './keep-proven.ts';

class Over extends Error {}

/** Time that passes by pauses alone, a provider that keeps its minute, and what happened when. */
function world(options: {
  reauthenticateMs?: number;
  lifeMs: number;
  hand?: (at: number, count: number) => Handed;
  freshFails?: (at: number) => boolean;
  wanted?: (at: number) => boolean;
  untilMs: number;
}) {
  let now = 0;
  let issued = { obtainedAtMs: 0, expiresAtMs: options.lifeMs };
  const log = { refreshes: [] as number[], handed: [] as number[], problems: [] as string[] };
  const given: KeepProvenOptions = {
    reauthenticateMs: options.reauthenticateMs,
    first: issued,
    fresh(after) {
      if (options.freshFails?.(now)) return Promise.reject(new Error('the provider is away'));
      if (issued.obtainedAtMs <= after && now - issued.obtainedAtMs >= REFRESH_APART_MS) {
        issued = { obtainedAtMs: now, expiresAtMs: now + options.lifeMs };
        log.refreshes.push(now);
      }
      return Promise.resolve({ token: String(issued.obtainedAtMs), ...issued });
    },
    wanted: () => Promise.resolve(options.wanted?.(now) ?? true),
    hand(token) {
      log.handed.push(now);
      return Promise.resolve(
        options.hand?.(now, log.handed.length) ?? {
          kind: 'Renewed',
          endsAtMs: lastsUntil(
            { obtainedAtMs: Number(token), expiresAtMs: Number(token) + options.lifeMs },
            options.reauthenticateMs,
          ),
        },
      );
    },
    now: () => now,
    pause(ms) {
      now += Math.max(ms, 1);
      return now > options.untilMs ? Promise.reject(new Over()) : Promise.resolve();
    },
    onProblem: (message) => log.problems.push(message),
  };
  return { given, log };
}

test('a session is proven again in time, and the provider asked at most once a minute', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 130_000, max: 3_600_000 }),
      fc.integer({ min: 130_000, max: 3_600_000 }),
      async (reauthenticateMs, lifeMs) => {
        const { given, log } = world({ reauthenticateMs, lifeMs, untilMs: 20_000_000 });
        await assert.rejects(keepProven(given), Over);
        let last = 0;
        for (const at of log.handed) {
          assert.ok(at - last <= Math.min(reauthenticateMs, lifeMs) - 1, `${last} ${at}`);
          assert.ok(at - last >= REFRESH_APART_MS);
          last = at;
        }
        assert.ok(log.handed.length > 0);
      },
    ),
    { numRuns: 50 },
  );
});

test('a provider that is away for a while is asked again, and told of once', async () => {
  const { given, log } = world({
    reauthenticateMs: 600_000,
    lifeMs: 600_000,
    freshFails: (at) => at < 400_000,
    untilMs: 900_000,
  });
  await assert.rejects(keepProven(given), Over);
  assert.deepEqual(log.problems, ['the provider is away']);
  assert.ok(log.handed[0]! >= 400_000 && log.handed[0]! < 420_000);
});

test('where the policy wants none, it ends; where the gateway says never, too', async () => {
  const none = world({ lifeMs: 300_000, hand: () => ({ kind: 'Renewed' }), untilMs: 9e9 });
  await keepProven(none.given);
  assert.equal(none.log.handed.length, 1);
  const never = world({
    lifeMs: 300_000,
    hand: () => ({ kind: 'Failed', message: 'no', final: true }),
    untilMs: 9e9,
  });
  await keepProven(never.given);
  assert.deepEqual(never.log.problems, ['no']);
});

test('half of what is left, and a minute at least', () => {
  assert.equal(dueAt(0, 600_000), 300_000);
  assert.equal(dueAt(5, 60_005), 60_005);
  assert.equal(lastsUntil({ obtainedAtMs: 0, expiresAtMs: 300_000 }, undefined), 300_000);
  assert.equal(lastsUntil({ obtainedAtMs: 0, expiresAtMs: 300_000 }, 120_000), 120_000);
});

test('for nobody the provider is not asked; a session that began with the newest token is proven again in time', async () => {
  const lifeMs = 300_000;
  const { given, log } = world({
    reauthenticateMs: 600_000,
    lifeMs,
    wanted: (at) => at > 3_000_000,
    hand: (_at, count) => (count === 1 ? { kind: 'Known' } : { kind: 'Renewed', endsAtMs: 9e9 }),
    untilMs: 3_400_000,
  });
  await assert.rejects(keepProven(given), Over);
  assert.ok(log.refreshes.every((at) => at > 3_000_000));
  assert.equal(log.handed.length, 2);
  assert.ok(log.handed[1]! - log.handed[0]! <= lifeMs / 2);
});

test('a session that ended just then is looked for again, with the token that was made for it', async () => {
  const { given, log } = world({
    reauthenticateMs: 600_000,
    lifeMs: 600_000,
    hand: (_at, count) => (count < 4 ? { kind: 'Nobody' } : { kind: 'Renewed', endsAtMs: 9e9 }),
    untilMs: 500_000,
  });
  await assert.rejects(keepProven(given), Over);
  assert.equal(log.handed.length, 4);
  assert.equal(log.refreshes.length, 1);
});
