import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import { createCancelRegistry } from './cancel-registry.ts';
import { createFailureLimiter, keyedCount } from './limits.ts';

test('INV-11: failures refill with time, wall clock or not, and memory is bounded', () => {
  const clock = manualClock();
  const limiter = createFailureLimiter(clock, { failureBurst: 2, failureRefillMs: 1_000 }, 100);
  limiter.failed('10.0.0.1');
  assert.ok(limiter.allows('10.0.0.1'));
  limiter.failed('::ffff:10.0.0.1');
  assert.ok(!limiter.allows('10.0.0.1'), 'the mapped form is the same address');
  assert.ok(limiter.allows('10.0.0.2'));
  clock.setWall(clock.now() + 3_600_000);
  assert.ok(!limiter.allows('10.0.0.1'));
  clock.advance(1_000);
  assert.ok(limiter.allows('10.0.0.1'));
  for (let i = 0; i < 100_000; i++) limiter.failed(`2001:db8:${(i >> 8).toString(16)}:${(i & 255).toString(16)}::1`);
  assert.equal(limiter.size, 100);
});

test('places are counted per key, given back once, and forgotten at zero', () => {
  const count = keyedCount();
  const first = count.take('a', 2)!;
  const second = count.take('a', 2)!;
  assert.equal(count.take('a', 2), undefined);
  assert.ok(count.take('b', 1));
  first();
  first();
  assert.equal(count.of('a'), 1);
  second();
  assert.equal(count.of('a'), 0);
  assert.equal(count.take('a', 0), undefined);
});

test('INV-11: a cancel key reaches its own session only; the registry is bounded', () => {
  const registry = createCancelRegistry(systemRandom, 3);
  const cancelled: string[] = [];
  const a = randomBytes(8);
  const b = randomBytes(32);
  const removeA = registry.register(a, () => cancelled.push('a'));
  registry.register(b, () => cancelled.push('b'));
  assert.throws(() => registry.register(Buffer.from(a), () => {}), RangeError, 'a key has one owner');
  assert.throws(() => registry.register(Buffer.alloc(3), () => {}), RangeError);
  assert.equal(registry.cancel(randomBytes(8)), false);
  assert.equal(registry.cancel(a.subarray(0, 7)), false);
  assert.equal(registry.cancel(Buffer.concat([a, Buffer.alloc(1)])), false);
  assert.equal(registry.cancel(Buffer.from(a)), true);
  assert.deepEqual(cancelled, ['a']);
  registry.register(randomBytes(8), () => {});
  assert.throws(() => registry.register(randomBytes(8), () => {}), RangeError);
  removeA();
  removeA();
  assert.equal(registry.cancel(a), false);
  assert.equal(registry.size, 2);
});
