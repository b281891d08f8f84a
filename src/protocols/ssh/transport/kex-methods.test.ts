import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KEX_METHODS } from './kex-methods.ts';

for (const [name, method] of Object.entries(KEX_METHODS)) {
  test(`${name}: both sides get one secret, every time another`, () => {
    const seen = new Set<string>();
    for (let i = 0; i < 8; i += 1) {
      const half = method.begin();
      const { reply, secret } = method.answer(half.init);
      assert.deepEqual(half.finish(reply), secret);
      seen.add(secret.toString('hex'));
    }
    assert.equal(seen.size, 8);
  });

  test(`INV-11: ${name}: values of another length, off the curve or of low order are refused`, () => {
    const { init } = method.begin();
    const { reply } = method.answer(init);
    const zeros = (right: Buffer): Buffer => Buffer.alloc(right.length);
    const badLength = (right: Buffer): Buffer[] => [
      Buffer.alloc(0),
      right.subarray(1),
      Buffer.concat([right, Buffer.from([0])]),
    ];
    for (const value of [...badLength(init), zeros(init)]) assert.throws(() => method.answer(value), /not valid/);
    for (const value of [...badLength(reply), zeros(reply)])
      assert.throws(() => method.begin().finish(value), /not valid/);
    // Any 32 bytes are a point of curve25519; a point of the others, and a key of ML-KEM, have to be one.
    const ones = Buffer.alloc(init.length, 0xff);
    if (!name.startsWith('curve25519')) assert.throws(() => method.answer(ones), /not valid/);
    const offCurve = Buffer.from(init);
    offCurve[offCurve.length - 1]! ^= 1;
    if (name.startsWith('ecdh')) assert.throws(() => method.answer(offCurve), /not valid/);
  });
}

test('a secret with leading zeros is an mpint without them, and the hybrid one is a string of 32 bytes', () => {
  for (let i = 0; i < 20; i += 1) {
    const { secret } = KEX_METHODS['mlkem768x25519-sha256'].answer(KEX_METHODS['mlkem768x25519-sha256'].begin().init);
    assert.equal(secret.length, 36);
  }
  const lengths = new Set<number>();
  for (let i = 0; i < 40; i += 1) {
    const { secret } = KEX_METHODS['curve25519-sha256'].answer(KEX_METHODS['curve25519-sha256'].begin().init);
    assert.equal(secret.readUInt32BE(0), secret.length - 4);
    if (secret[4] === 0) assert.ok(secret[5]! >= 0x80);
    else assert.ok(secret[4]! < 0x80);
    lengths.add(secret.length);
  }
  assert.ok(lengths.size > 1);
});
