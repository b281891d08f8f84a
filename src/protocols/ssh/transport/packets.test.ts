// Sealing and opening, without a socket: PacketOutput's bytes are caught as they would be written.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Duplex, Writable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { systemRandom } from '../../../system/random.ts';
import { CIPHERS, type Cipher, isAead, MACS, type Mac } from './kexinit.ts';
import { type DirectionKeys, deriveKeys, NO_OPENER, openerOf, sealerOf } from './packet-cipher.ts';
import { type PacketInput, packetInput } from './packet-input.ts';
import { packetOutput } from './packet-output.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 40);

const SUITES: [Cipher, Mac | ''][] = CIPHERS.flatMap((cipher): [Cipher, Mac | ''][] =>
  isAead(cipher) ? [[cipher, '']] : MACS.map((mac) => [cipher, mac]),
);
const keysOf = (cipher: Cipher, mac: Mac | ''): DirectionKeys =>
  deriveKeys('sha256', Buffer.from('secret'), Buffer.alloc(32, 1), Buffer.alloc(32, 2), 'ClientToServer', {
    cipher,
    mac,
  });

/** What goes over the wire for these messages. */
async function sealed(keys: DirectionKeys | undefined, messages: readonly Buffer[]): Promise<Buffer> {
  const written: Buffer[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk);
      done();
    },
  });
  const output = packetOutput(Duplex.from({ writable: sink, readable: undefined }), systemRandom, () => undefined);
  if (keys !== undefined) output.use(sealerOf(keys), false);
  for (const message of messages) output.send(message);
  output.flush();
  while (output.queuedBytes > 0) await new Promise((resolve) => setImmediate(resolve));
  return Buffer.concat(written);
}

function opened(input: PacketInput, chunks: Iterable<Buffer>): Buffer[] {
  const messages: Buffer[] = [];
  for (const chunk of chunks) {
    input.push(chunk);
    for (let message = input.next(); message !== undefined; message = input.next()) messages.push(message);
  }
  return messages;
}

function inputOf(keys: DirectionKeys | undefined, most = 300_000): PacketInput {
  const input = packetInput(most);
  if (keys !== undefined) input.use(openerOf(keys), false);
  return input;
}

function* pieces(bytes: Buffer, sizes: readonly number[]): Iterable<Buffer> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes.length === 0 ? bytes.length : sizes[i % sizes.length]!;
    // A copy of its own, so that nothing can be kept by being next to it.
    yield Buffer.from(bytes.subarray(at, at + size));
    at += size;
  }
}

for (const [cipher, mac] of [...SUITES, ['none', '']] as [Cipher, Mac | ''][]) {
  const keys = (cipher as string) === 'none' ? undefined : keysOf(cipher, mac);
  test(`${cipher} ${mac}: any chunking gives the same messages`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 40_000 })), { maxLength: 6 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 70_000 })), { maxLength: 6 }),
        async (lengths, sizes) => {
          const messages = lengths.map((length) => randomBytes(length));
          const wire = await sealed(keys, messages);
          assert.deepEqual(opened(inputOf(keys), pieces(wire, sizes)), messages);
        },
      ),
      { numRuns: RUNS },
    );
  });
}

for (const [cipher, mac] of SUITES)
  test(`INV-11: ${cipher} ${mac}: one changed bit anywhere, and nothing from there on is taken`, async () => {
    const keys = keysOf(cipher, mac);
    const messages = [randomBytes(5), randomBytes(300), randomBytes(17)];
    const wire = await sealed(keys, messages);
    const ends: number[] = [];
    for (let at = 0; at < wire.length; ) ends.push((at += 4 + wire.readUInt32BE(at) + inputTag(cipher, mac)));
    for (let bit = 0; bit < wire.length * 8; bit += 7) {
      const changed = Buffer.from(wire);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const whole = ends.filter((end) => end <= bit >> 3).length;
      const got: Buffer[] = [];
      const input = inputOf(keys, 35_000);
      input.push(changed);
      let error: unknown;
      try {
        for (let message = input.next(); message !== undefined; message = input.next()) got.push(message);
      } catch (caught) {
        error = caught;
      }
      assert.deepEqual(got, messages.slice(0, whole));
      // A length made longer may just wait for the rest, which the next packet's bytes are then taken for.
      assert.ok(error !== undefined || input.partial, `bit ${bit} passed`);
    }
  });

const inputTag = (cipher: Cipher, mac: Mac | ''): number => openerOf(keysOf(cipher, mac)).tagBytes;

test('INV-11: packets left out, repeated or swapped are MAC errors', async () => {
  for (const [cipher, mac] of SUITES) {
    const keys = keysOf(cipher, mac);
    const [a, b] = [randomBytes(40), randomBytes(40)];
    const wire = await sealed(keys, [a, b]);
    const [first, second] = [wire.subarray(0, wire.length / 2), wire.subarray(wire.length / 2)];
    for (const order of [[second], [first, first], [second, first]])
      assert.throws(() => opened(inputOf(keys), order), /MAC error/, cipher);
  }
});

test('INV-11: lengths beyond the limit, of no block, or shorter than a packet are refused from their four bytes', () => {
  const length = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  for (const value of [0, 1, 4, 5, 13, 35_004, 0x7fffffff, 0xffffffff])
    assert.throws(() => opened(packetInput(35_000), [length(value)]), /is not taken/, String(value));
  const keys = keysOf('aes128-gcm@openssh.com', '');
  for (const value of [0, 8, 12, 17, 35_008])
    assert.throws(() => opened(inputOf(keys, 35_000), [length(value)]), /is not taken/, String(value));
  assert.deepEqual(opened(inputOf(keys, 35_008), [length(35_008)]), []);
});

test('INV-11: empty payloads and paddings that do not fit are refused, whoever made the MAC', async () => {
  const body = (padding: number, bytes: number): Buffer => {
    const packet = Buffer.alloc(4 + bytes);
    packet.writeUInt32BE(bytes, 0);
    packet[4] = padding;
    return packet;
  };
  for (const padding of [0, 3, 11, 12, 255])
    assert.throws(() => opened(packetInput(35_000), [body(padding, 12)]), /without payload|bad padding/);
  assert.equal(opened(packetInput(35_000), [body(10, 12)])[0]!.length, 1);
  const keys = keysOf('aes256-ctr', 'hmac-sha2-512-etm@openssh.com');
  const into = Buffer.alloc(200);
  const size = sealerOf(keys).seal(body(15, 16), 0, into, 0);
  assert.throws(() => opened(inputOf(keys), [into.subarray(0, size)]), /without payload/);
});

test('the nonce of AES-GCM carries into its upper half, and keys fill any size', async () => {
  const keys = { ...keysOf('aes256-gcm@openssh.com', ''), iv: Buffer.from('0102030400000000ffffffff', 'hex') };
  const messages = [randomBytes(9), randomBytes(9), randomBytes(9)];
  const wire = await sealed(keys, messages);
  assert.deepEqual(opened(inputOf(keys), [wire]), messages);
  const later = { ...keys, iv: Buffer.from('010203040000000100000000', 'hex') };
  assert.deepEqual(opened(inputOf(later), [wire.subarray(wire.length / 3)]), messages.slice(1));
  const macKey = keysOf('aes256-ctr', 'hmac-sha2-512-etm@openssh.com').macKey;
  assert.equal(macKey.length, 64);
  assert.notDeepEqual(macKey.subarray(0, 32), macKey.subarray(32));
});

test('payloads are memory of their own: the chunk may change afterwards', () => {
  const packet = Buffer.from([0, 0, 0, 12, 10, 42, ...Array.from({ length: 10 }, () => 0)]);
  const input = packetInput(35_000);
  input.push(packet);
  const payload = input.next()!;
  packet.fill(1);
  assert.deepEqual([...payload], [42]);
  assert.equal(NO_OPENER.tagBytes, 0);
});
