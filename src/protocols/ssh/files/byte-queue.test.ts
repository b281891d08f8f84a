import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createByteQueue } from './byte-queue.ts';
import { createOutlet } from './outlet.ts';

test('bytes leave a queue as they came, however they are taken', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 30 }),
      fc.array(fc.tuple(fc.constantFrom('peek', 'take', 'some'), fc.integer({ min: 1, max: 30 })), { maxLength: 60 }),
      (pieces, moves) => {
        const queue = createByteQueue();
        const all = Buffer.concat(pieces);
        let at = 0;
        for (const piece of pieces) queue.push(Buffer.from(piece));
        for (const [how, count] of moves) {
          assert.equal(queue.length, all.length - at);
          const most = Math.min(count, queue.length);
          if (most === 0) continue;
          const got = how === 'peek' ? queue.peek(most) : how === 'take' ? queue.take(most) : queue.some(most);
          if (how !== 'some') assert.equal(got.length, most);
          assert.deepEqual(Buffer.from(got), all.subarray(at, at + got.length));
          if (how !== 'peek') at += got.length;
        }
      },
    ),
  );
});

test('an outlet keeps order and joins what lies together', async () => {
  const out: Buffer[] = [];
  const outlet = createOutlet((data) => out.push(data));
  const whole = Buffer.from('abcdef');
  outlet.push(whole.subarray(0, 2));
  outlet.push(whole.subarray(2, 4));
  outlet.push(Buffer.from('xy'));
  outlet.push(whole.subarray(4));
  await Promise.resolve();
  assert.deepEqual(out.map(String), ['abcd', 'xy', 'ef']);
});
