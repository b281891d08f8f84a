import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../../../system/manual-clock.ts';
import { createNamesCatalog, NAMES_FRESH_MS } from './catalog.ts';

function fakeServer() {
  const state = { token: 'a', tokens: 0, loads: 0, fail: false, held: undefined as Promise<void> | undefined };
  const query = async (sql: string): Promise<(string | null)[][]> => {
    await state.held;
    if (state.fail) throw new Error('the side connection is gone');
    if (sql.includes('md5(')) {
      state.tokens += 1;
      return [[state.token, 'app', '["public"]']];
    }
    state.loads += 1;
    return [['r', 'orders', '["public"]']];
  };
  return { state, query };
}

test('names are read when first asked for, and again only when they changed', async () => {
  const { state, query } = fakeServer();
  const clock = manualClock();
  const catalog = createNamesCatalog({ query, clock });
  assert.equal(catalog.stale, true);
  assert.equal(catalog.current(), undefined);
  await catalog.refresh();
  const first = catalog.current();
  assert.deepEqual(first?.relations.get('orders'), ['public']);
  clock.advance(NAMES_FRESH_MS);
  assert.equal(catalog.stale, true);
  assert.equal(catalog.current(), undefined);
  await catalog.refresh();
  assert.equal(catalog.current(), first);
  assert.deepEqual([state.tokens, state.loads], [2, 1]);
  state.token = 'b';
  clock.advance(NAMES_FRESH_MS);
  await catalog.refresh();
  assert.notEqual(catalog.current(), first);
});

test('INV-02: what was read before somebody told of a change does not count', async () => {
  const { state, query } = fakeServer();
  const catalog = createNamesCatalog({ query, clock: manualClock() });
  const gate = Promise.withResolvers<void>();
  state.held = gate.promise;
  const early = catalog.refresh();
  catalog.invalidate();
  state.held = undefined;
  const late = catalog.refresh();
  gate.resolve();
  await early;
  await late;
  assert.equal(state.tokens, 2);
  assert.equal(catalog.stale, false);
  catalog.invalidate();
  assert.equal(catalog.stale, true);
  assert.equal(catalog.current(), undefined);
});

test('INV-04: names that cannot be read are not known, and nobody waits for them again and again', async () => {
  const { state, query } = fakeServer();
  const clock = manualClock();
  const failures: unknown[] = [];
  const catalog = createNamesCatalog({ query, clock, failed: (error) => failures.push(error) });
  state.fail = true;
  await catalog.refresh();
  assert.equal(failures.length, 1);
  assert.equal(catalog.stale, false);
  assert.equal(catalog.current(), undefined);
  state.fail = false;
  clock.advance(60_000);
  assert.equal(catalog.stale, true);
  await catalog.refresh();
  assert.ok(catalog.current());
});

test('INV-11: a catalog that does not answer is given up', async () => {
  const clock = manualClock();
  const catalog = createNamesCatalog({ query: () => new Promise(() => undefined), clock });
  const reading = catalog.refresh();
  clock.advance(60_000);
  await reading;
  assert.equal(catalog.current(), undefined);
});

test('contexts are the same objects while the names are the same', async () => {
  const { state, query } = fakeServer();
  const clock = manualClock();
  const catalog = createNamesCatalog({ query, clock });
  await catalog.refresh();
  const before = catalog.context(catalog.current()!, ['public'], false);
  assert.equal(catalog.context(catalog.current()!, ['public'], false), before);
  assert.notEqual(catalog.context(catalog.current()!, undefined, false), before);
  state.token = 'b';
  catalog.invalidate();
  await catalog.refresh();
  assert.notEqual(catalog.context(catalog.current()!, ['public'], false), before);
});
