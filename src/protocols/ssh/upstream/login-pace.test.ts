import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../../../system/manual-clock.ts';
import { createLoginPace } from './login-pace.ts';

const NEVER = new AbortController().signal;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('INV-11: so many at once and no more, in the order in which they came, each target by itself', async () => {
  const pace = createLoginPace(manualClock(), { atOnce: 2, waitMs: 1_000 });
  const places: (() => void)[] = [];
  const order: number[] = [];
  for (let at = 0; at < 5; at++)
    void pace.place('a:22', NEVER).then((giveBack) => {
      order.push(at);
      places.push(giveBack);
    });
  await turn();
  assert.deepEqual(order, [0, 1]);
  (await pace.place('b:22', NEVER))();
  places[0]!();
  places[0]!();
  await turn();
  assert.deepEqual(order, [0, 1, 2], 'a place is given back once');
  for (const at of [1, 2, 3, 4]) {
    places[at]!();
    await turn();
  }
  assert.deepEqual(order, [0, 1, 2, 3, 4]);
  assert.equal(pace.size, 0);
});

test('who waits too long, or is wanted no more, leaves the queue and takes no place', async () => {
  const clock = manualClock();
  const pace = createLoginPace(clock, { atOnce: 1, waitMs: 1_000 });
  const first = await pace.place('a:22', NEVER);
  const abort = new AbortController();
  const gone = assert.rejects(pace.place('a:22', abort.signal), { code: 'Ended' });
  const late = assert.rejects(pace.place('a:22', NEVER), { code: 'Busy' });
  abort.abort();
  await gone;
  clock.advance(1_000);
  await late;
  first();
  assert.equal(pace.size, 0);
  (await pace.place('a:22', NEVER))();
  await assert.rejects(pace.place('a:22', abort.signal), { code: 'Ended' });
  assert.equal(pace.size, 0);
});
