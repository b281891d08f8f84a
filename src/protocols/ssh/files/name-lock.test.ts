import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNameLock } from './name-lock.ts';

test('many may use names, or one may change them', async () => {
  const lock = createNameLock();
  const log: string[] = [];
  const first = await lock.shared();
  const second = await lock.shared();
  const before = lock.generation;
  const changing = lock.exclusive().then((release) => {
    log.push('exclusive');
    return release;
  });
  // Whoever comes behind a change waits for it: a change is never starved.
  const third = lock.shared().then((release) => {
    log.push('shared');
    return release;
  });
  first();
  first();
  await Promise.resolve();
  assert.deepEqual(log, []);
  second();
  const release = await changing;
  assert.deepEqual(log, ['exclusive']);
  assert.equal(lock.generation, before + 1);
  release();
  (await third)();
  assert.deepEqual(log, ['exclusive', 'shared']);
  assert.equal(lock.generation, before + 2);
});
