import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createUnknownKeys, MOST_PROVIDERS, TELL_EVERY_MS } from './unknown-keys.ts';

test('INV-11: unknown keys are told of once a minute each, however many tokens come', () => {
  let now = 0;
  const keys = createUnknownKeys({ now: () => now, monotonic: () => now });
  let told = 0;
  for (; now < 10 * TELL_EVERY_MS; now += 100) if (keys.saw('corp')) told += 1;
  assert.equal(told, 10);
  assert.equal(keys.saw('ci'), true, 'each provider by itself');
  assert.deepEqual(
    keys.told().map(({ provider }) => provider),
    ['ci', 'corp'],
  );
  assert.equal(keys.told()[1]?.at, new Date(9 * TELL_EVERY_MS).toISOString());
});

test('INV-11: what is remembered of them is bounded, and names that come later find room in time', () => {
  let now = 0;
  const keys = createUnknownKeys({ now: () => now, monotonic: () => now });
  for (let count = 0; count < 100; count += 1) keys.saw(`p${count}`);
  assert.equal(keys.told().length, MOST_PROVIDERS);
  assert.equal(keys.saw('p99'), false);
  now += TELL_EVERY_MS;
  assert.equal(keys.saw('p99'), true);
  assert.equal(keys.told().length, MOST_PROVIDERS);
});
