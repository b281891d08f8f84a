import assert from 'node:assert/strict';
import test from 'node:test';
import { collectGarbage } from './garbage.ts';

test('what nobody holds is gone, and nobody else is handed the means', async () => {
  const held = new WeakRef({ large: Array.from({ length: 1000 }, () => 'x') });
  // What was made in a turn of the loop lives until its end.
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  assert.equal(held.deref(), undefined);
  assert.equal((globalThis as { gc?: unknown }).gc, undefined);
});
