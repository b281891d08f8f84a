import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { createMeter } from './digest.ts';

const piece = Buffer.from('some bytes of a file');
const digest = createHash('sha256').update(piece).digest('hex');

test('a file that is made as long as its bytes keeps its digest; any other length takes it away', async () => {
  for (const [size, expected] of [
    [BigInt(piece.length), { bytes: piece.length, sha256: digest }],
    [BigInt(piece.length - 1), { bytes: piece.length, scattered: true }],
    [2n ** 64n - 1n, { bytes: piece.length, scattered: true }],
  ] as const) {
    const meter = createMeter();
    meter.seek(0);
    meter.take(piece);
    meter.resized(size);
    assert.deepEqual(await meter.end(), expected);
  }
});
