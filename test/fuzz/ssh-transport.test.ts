// Hostile bytes against SSH's transport, in clear, inside the encryption and in place of a server: every one of them may
// cost its own connection and nothing else. FUZZ_RUNS for more.
import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { Fault } from '../../src/protocols/ssh/transport/fault.ts';
import {
  encodeKexInit,
  FULL_OFFER,
  ownKexInit,
  parseExtInfo,
  parseKexInit,
  serverExtInfo,
} from '../../src/protocols/ssh/transport/kexinit.ts';
import { SYSTEM_TOOLS, transportOpener } from '../../src/protocols/ssh/transport/open-transport.ts';
import { clientOptions, endOf, rawClient, serverOptions } from '../../src/protocols/ssh/transport/test-peers.ts';
import { type Transport, TransportError } from '../../src/protocols/ssh/transport/transport.ts';
import { MalformedData } from '../../src/protocols/ssh/wire/data.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 100);
const open = transportOpener({ ...SYSTEM_TOOLS, limits: { ...SYSTEM_TOOLS.limits, lingerMs: 20 } });

const bytes = (most: number) => fc.uint8Array({ maxLength: most }).map((array) => Buffer.from(array));
/** A valid thing with a piece of it overwritten, cut out or doubled. */
const mutated = (valid: Buffer) =>
  fc
    .tuple(fc.nat(valid.length), fc.nat(16), bytes(12), fc.boolean())
    .map(([at, gone, put, twice]) =>
      Buffer.concat([valid.subarray(0, at), put, valid.subarray(twice ? Math.max(0, at - gone) : at + gone)]),
    );

const clientInit = encodeKexInit(ownKexInit('Client', FULL_OFFER, ['ssh-ed25519'], true), Buffer.alloc(16));

/** In clear: length, padding length, payload, padding. */
function plain(payload: Buffer): Buffer {
  const padding = 4 + ((8 - ((5 + payload.length + 4) % 8)) % 8);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(1 + payload.length + padding, 0);
  head[4] = padding;
  return Buffer.concat([head, payload, Buffer.alloc(padding)]);
}

async function outcome(opening: Promise<Transport>): Promise<void> {
  try {
    const transport = await opening;
    transport.destroy();
    assert.fail('it opened');
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
  }
}

test('INV-11: noise and mutated messages in clear end the handshake with an error of its own kind', async () => {
  const piece = fc.oneof(
    bytes(300),
    bytes(100).map(plain),
    mutated(clientInit).map(plain),
    mutated(plain(clientInit)),
    fc.constant(plain(clientInit)),
    fc
      .tuple(fc.constantFrom(1, 2, 4, 5, 7, 20, 21, 30, 31, 50), bytes(60))
      .map(([number, rest]) => plain(Buffer.concat([Buffer.from([number]), rest]))),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 6 }),
      fc.boolean(),
      fc.boolean(),
      async (pieces, version, asServer) => {
        const [near, far] = duplexPair();
        far.on('error', () => undefined);
        far.resume();
        const opening = asServer ? open(near, serverOptions()) : open(near, clientOptions());
        const settled = outcome(opening);
        if (version) far.write('SSH-2.0-Fuzz\r\n');
        for (const one of pieces) far.write(one);
        far.end();
        await settled;
        assert.ok(near.destroyed);
      },
    ),
    { numRuns: RUNS },
  );
});

test('INV-11: any messages inside the encryption: each is handed up, answered or the end, and nothing else', async () => {
  const message = fc.oneof(
    bytes(80),
    fc.tuple(fc.nat(255), bytes(40)).map(([number, rest]) => Buffer.concat([Buffer.from([number]), rest])),
    mutated(clientInit),
    mutated(serverExtInfo()),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 12 }), fc.boolean(), async (messages, loggedIn) => {
      const [near, far] = duplexPair();
      far.on('error', () => undefined);
      const opening = open(near, serverOptions());
      const peer = await rawClient(far);
      const server = await opening;
      if (loggedIn) server.authenticated();
      const got: Buffer[] = [];
      server.onMessage = (payload) => got.push(payload);
      const end = endOf(server);
      for (const one of messages) peer.output.send(one);
      peer.output.flush();
      far.end();
      await end;
      const sent = messages.map((one) => one.toString('hex'));
      for (const payload of got) {
        assert.ok(sent.includes(payload.toString('hex')));
        const number = payload[0]!;
        assert.ok(number === 5 || number === 6 || (number >= 50 && number <= 100));
        assert.ok(loggedIn || number < 80);
      }
    }),
    { numRuns: RUNS },
  );
});

test('parsers of what comes first throw what they may, and nothing else', () => {
  const only = (parse: () => unknown): void => {
    try {
      parse();
    } catch (error) {
      if (!(error instanceof MalformedData) && !(error instanceof Fault)) throw error;
    }
  };
  fc.assert(
    fc.property(
      fc.oneof(bytes(200), mutated(clientInit)),
      fc.oneof(bytes(60), mutated(serverExtInfo())),
      (init, info) => {
        only(() => parseKexInit(init));
        only(() => parseExtInfo(info));
      },
    ),
    { numRuns: RUNS * 20 },
  );
});
