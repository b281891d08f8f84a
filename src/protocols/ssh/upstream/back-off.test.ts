import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBackOff } from './back-off.ts';
import { UpstreamError } from './error.ts';

test('the second refused login makes its account wait, longer each time, and no other', () => {
  let nowMs = 1_000;
  const backOff = createBackOff({ monotonic: () => nowMs });
  backOff.failed('a');
  backOff.check('a');
  const waits: number[] = [];
  for (let at = 0; at < 8; at += 1) {
    backOff.failed('a');
    const startedMs = nowMs;
    while (refused(() => backOff.check('a'))) nowMs += 500;
    waits.push(nowMs - startedMs);
    backOff.check('b');
  }
  assert.deepEqual(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  backOff.failed('a');
  backOff.succeeded('a');
  backOff.check('a');
});

function refused(act: () => void): boolean {
  try {
    act();
    return false;
  } catch (error) {
    assert.ok(error instanceof UpstreamError && error.code === 'Busy');
    return true;
  }
}
