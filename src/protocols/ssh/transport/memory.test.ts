import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { BLOCK_BYTES, giveBlock, ownPayload, release, releasePayload, takeBlock } from './memory.ts';
import { deriveKeys, openerOf, sealerOf } from './packet-cipher.ts';
import { packetInput } from './packet-input.ts';

const bytes = (count: number): Buffer => Buffer.allocUnsafeSlow(count).fill(7);

test('a buffer that is all of its memory is given back; a part of one, of a pool or shared memory never is', () => {
  const whole = bytes(32_000);
  release(whole);
  assert.equal(whole.length, 0);
  const part = bytes(32_000);
  release(part.subarray(0, 31_999));
  release(part.subarray(1));
  assert.equal(part.length, 32_000);
  const pooled = Buffer.from('x'.repeat(5000));
  release(pooled);
  assert.equal(pooled.toString('latin1'), 'x'.repeat(5000));
  const shared = Buffer.from(new SharedArrayBuffer(32_000));
  release(shared);
  assert.equal(shared.length, 32_000);
});

test('a payload is given back where it was received, and once; one that was made here stays', () => {
  const body = bytes(32_000);
  ownPayload(body);
  const payload = body.subarray(1, 31_990);
  releasePayload(payload);
  assert.equal(payload.length, 0);
  assert.doesNotThrow(() => releasePayload(payload));
  const made = bytes(32_000);
  releasePayload(made);
  releasePayload(made.subarray(5));
  assert.equal(made.length, 32_000);
});

test('blocks go round; one that is larger is given back, and not kept', () => {
  const block = takeBlock(100);
  assert.equal(block.length, BLOCK_BYTES);
  giveBlock(block);
  assert.equal(takeBlock(BLOCK_BYTES), block);
  const large = takeBlock(BLOCK_BYTES + 1);
  assert.equal(large.length, BLOCK_BYTES + 1);
  giveBlock(large);
  assert.equal(large.length, 0);
  const many = Array.from({ length: 100 }, () => takeBlock(1));
  for (const one of many) giveBlock(one);
  assert.ok(many.filter((one) => one.length > 0).length < 20, 'few are kept free');
});

test('what was read from a chunk outlives the chunk, wherever the pieces end', () => {
  const keys = deriveKeys('sha256', randomBytes(32), randomBytes(32), randomBytes(32), 'ClientToServer', {
    cipher: 'aes128-gcm@openssh.com',
    mac: '',
  });
  for (const pieceBytes of [1_000, 20_000, 32_800, 65_536, 200_000]) {
    const sealer = sealerOf(keys);
    const sent: Buffer[] = [];
    const wire: Buffer[] = [];
    for (let index = 0; index < 12; index += 1) {
      const body = Buffer.concat([Buffer.from([10]), randomBytes(32_000 + 5), Buffer.alloc(10)]);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(body.length);
      assert.equal(body.length % 16, 0);
      const packet = Buffer.alloc(4 + body.length + sealer.tagBytes);
      assert.equal(sealer.seal(Buffer.concat([length, body]), index, packet, 0), packet.length);
      wire.push(packet);
      sent.push(body.subarray(1, -10));
    }
    const stream = Buffer.concat(wire);
    const input = packetInput(256 * 1024);
    input.use(openerOf(keys), true);
    const received: Buffer[] = [];
    for (let at = 0; at < stream.length; at += pieceBytes) {
      const chunk = bytes(Math.min(pieceBytes, stream.length - at));
      stream.copy(chunk, 0, at);
      input.push(chunk, true);
      for (let payload = input.next(); payload !== undefined; payload = input.next()) received.push(payload);
      if (chunk.length > 0) assert.ok(pieceBytes < 4096, 'a large chunk is given back once it is read');
    }
    assert.deepEqual(received, sent);
  }
});
