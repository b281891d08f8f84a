// What a peer, or somebody on the way, may try. The raw client is made of the parts and obeys no rule.
import assert from 'node:assert/strict';
import type net from 'node:net';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { manualClock } from '../../../system/manual-clock.ts';
import { writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { CIPHERS, encodeKexInit, type KexInit } from './kexinit.ts';
import { SYSTEM_TOOLS, type TransportTools, transportOpener } from './open-transport.ts';
import {
  clientOptions,
  endOf,
  type Meddle,
  meddledPair,
  openPeers,
  prefixCutter,
  type RawBehaviour,
  type RawPeer,
  rawClient,
  serverOptions,
  socketPair,
} from './test-peers.ts';
import type { Transport } from './transport.ts';

type Limits = Partial<TransportTools['limits']>;

/** A server of ours, and the raw client at its other end. */
async function against(
  behaviour: RawBehaviour = {},
  more: { limits?: Limits; tools?: Partial<TransportTools> } = {},
): Promise<{ peer: RawPeer; opening: Promise<Transport>; failure: Promise<Error>; near: net.Socket; far: net.Socket }> {
  const [near, far] = await socketPair();
  const open = transportOpener({
    ...SYSTEM_TOOLS,
    ...more.tools,
    limits: { ...SYSTEM_TOOLS.limits, lingerMs: 500, ...more.limits },
  });
  const opening = open(near, serverOptions()).then((transport) => {
    transport.onMessage = () => undefined;
    return transport;
  });
  const failure = opening.then(
    () => new Error('it opened'),
    (error: Error) => error,
  );
  return { peer: await rawClient(far, behaviour), opening, failure, near, far };
}

/** As above with the handshake behind; `got` are the messages that reached the layers above. */
async function opened(behaviour: RawBehaviour = {}, more: Parameters<typeof against>[1] = {}) {
  const { peer, opening, far } = await against(behaviour, more);
  const server = await opening;
  const got: Buffer[] = [];
  server.onMessage = (payload) => got.push(payload);
  return { peer, server, got, end: endOf(server), far };
}

const IGNORE = writeData({ byte: MSG.IGNORE }, { string: 'x' });
const DEBUG = writeData({ byte: MSG.DEBUG }, { boolean: false }, { string: 'x' }, { string: '' });
const kexInit = (init: KexInit): Buffer => encodeKexInit(init, Buffer.alloc(16));
const notStrict = (init: KexInit): KexInit => ({
  ...init,
  kex: init.kex.filter((name) => !name.startsWith('kex-strict')),
});
const tick = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10));

test('the raw client gets in when it behaves, with strict key exchange and without', async () => {
  for (const behaviour of [{}, { offer: notStrict }] satisfies RawBehaviour[]) {
    const { peer, server, got } = await opened(behaviour);
    assert.equal(server.algorithms.strict, behaviour.offer === undefined);
    peer.output.send(Buffer.from([MSG.SERVICE_REQUEST, 1]));
    while (got.length === 0) await tick();
    assert.deepEqual([...got[0]!], [MSG.SERVICE_REQUEST, 1]);
    server.destroy();
  }
});

test('INV-11: strict: nothing but the exchange’s own messages comes during the first', async () => {
  for (const stray of [IGNORE, DEBUG, writeData({ byte: MSG.UNIMPLEMENTED }, { uint32: 0 })])
    for (const place of ['beforeKexInit', 'afterKexInit', 'beforeNewKeys'] as const) {
      const { peer, failure, far } = await against({ [place]: [stray], until: 'KexInit' });
      if (place !== 'beforeNewKeys')
        assert.match(await peer.refusal(), /^2: .*(first message|first key exchange)/, place);
      else peer.close();
      await failure;
      far.destroy();
    }
  const { far, failure } = await against({ beforeNewKeys: [IGNORE] }).catch(() => assert.fail());
  assert.match((await failure).message, /first key exchange/);
  far.destroy();
});

test('without strict key exchange such messages pass, but not many', async () => {
  const { server } = await opened({ offer: notStrict, afterKexInit: [IGNORE, DEBUG], beforeNewKeys: [IGNORE] });
  server.destroy();
  const { peer, failure } = await against({
    offer: notStrict,
    afterKexInit: Array.from({ length: 70 }, () => IGNORE),
    until: 'KexInit',
  });
  assert.match(await peer.refusal(), /^2: Too many messages without meaning/);
  assert.match((await failure).message, /without meaning/);
});

test('INV-11: a peer without strict key exchange that wants AES-CTR is told why not', async () => {
  const ctr = { clientToServer: ['aes128-ctr'], serverToClient: ['aes128-ctr'] };
  const { peer, failure } = await against({ offer: (init) => ({ ...notStrict(init), cipher: ctr }), until: 'KexInit' });
  assert.match(await peer.refusal(), /^3: .*only AES-GCM is safe/);
  assert.match((await failure).message, /AES-GCM/);
});

test('INV-11: a prefix cut off by somebody on the way (Terrapin) ends the handshake or the first packet', async () => {
  for (const at of ['first', 'afterKexInit'] as const) {
    const sockets = await meddledPair(undefined, prefixCutter(at, { inject: true, drop: true }));
    await assert.rejects(
      openPeers({ sockets, server: { handshakeMs: 2_000 } }),
      /first message|first key exchange|disconnected/,
    );
    for (const socket of sockets) socket.destroy();
  }
  // Without anything put in, leaving out is seen at the next packet.
  const sockets = await meddledPair(undefined, prefixCutter('first', { inject: false, drop: true }));
  const { server, client } = await openPeers({ sockets });
  const end = endOf(client);
  server.send(Buffer.from([MSG.SERVICE_ACCEPT, 0]));
  assert.match((await end).error?.message ?? '', /MAC error/);
  server.destroy();
});

test('INV-11: one bit changed in an encrypted packet, anywhere: nothing of it is handed out, and the text says MAC', async () => {
  for (let at = 4; at < 52; at += 5) {
    let armed = false;
    const flip: Meddle = (chunk, push) => {
      const bytes = Buffer.from(chunk);
      if (armed) bytes[at]! ^= 0x10;
      armed = false;
      push(bytes);
    };
    const { server, client } = await openPeers({ sockets: await meddledPair(flip) });
    await tick();
    armed = true;
    const [serverEnd, clientEnd] = [endOf(server), endOf(client)];
    let got = 0;
    server.onMessage = () => {
      got += 1;
    };
    client.send(Buffer.alloc(20, 94));
    assert.match((await serverEnd).error?.message ?? '', /MAC error/);
    assert.equal((await clientEnd).disconnect?.code, 5);
    assert.equal(got, 0);
  }
});

test('a wrong guess is thrown away, a right one is used', async () => {
  const wrong = Buffer.from([MSG.KEX_ECDH_INIT, 0, 0, 0, 1, 9]);
  const first = (kex: string) => (init: KexInit) => ({
    ...init,
    kex: [kex, ...init.kex.filter((name) => name !== kex)],
    guessFollows: true,
  });
  for (const kex of ['sntrup761x25519-sha512', 'ecdh-sha2-nistp256']) {
    const { server } = await opened({ offer: first(kex), afterKexInit: [wrong] });
    server.destroy();
  }
  // Our own first: the next message is the exchange's, and it is a bad one.
  const { peer, failure } = await against({
    offer: first('mlkem768x25519-sha256'),
    afterKexInit: [wrong],
    until: 'KexInit',
  });
  assert.match(await peer.refusal(), /^3: The key exchange value is not valid/);
  await failure;
});

test('INV-11: values of low order and messages out of turn end the exchange', async () => {
  const low = await against({
    offer: (init) => ({ ...init, kex: ['curve25519-sha256', ...init.kex.slice(-1)] }),
    init: () => Buffer.alloc(32),
    until: 'Reply',
  });
  assert.match(await low.peer.refusal(), /^3: The key exchange value is not valid/);
  await low.failure;
  for (const message of [
    Buffer.from([MSG.NEWKEYS]),
    Buffer.from([MSG.KEX_ECDH_REPLY, 0, 0, 0, 0]),
    Buffer.from([MSG.SERVICE_REQUEST]),
    Buffer.from([MSG.USERAUTH_REQUEST]),
    Buffer.from([MSG.CHANNEL_DATA]),
    Buffer.from([34]),
    Buffer.from([MSG.EXT_INFO, 0, 0, 0, 0]),
  ]) {
    const { peer, failure } = await against({ afterKexInit: [message], until: 'KexInit' });
    assert.match(await peer.refusal(), /^2: /, String(message[0]));
    await failure;
  }
  const { peer, failure } = await against({ until: 'KexInit' });
  peer.output.send(kexInit(peer.server));
  assert.match(await peer.refusal(), /^2: KEXINIT during/);
  await failure;
});

test('INV-11: who says nothing, or stops half-way, is told at the deadline', async () => {
  const { openingMs } = SYSTEM_TOOLS.limits;
  for (const { until, afterMs } of [
    { until: 'KexInit', afterMs: openingMs },
    { until: 'Reply', afterMs: 30_000 },
  ] as const) {
    const clock = manualClock();
    const { peer, failure, far } = await against({ until }, { tools: { clock } });
    if (until === 'Reply') assert.equal((await peer.next())?.[0], MSG.KEX_ECDH_REPLY);
    clock.advance(afterMs - 1);
    // Somebody may be looking at the host key: only what machines do by themselves has to come at once.
    assert.equal(await Promise.race([failure.then(() => 'over'), tick()]), undefined);
    clock.advance(1);
    // Behind the reply the server speaks by the new keys, which this peer does not have.
    if (until === 'KexInit') assert.match(await peer.refusal(), /^3: The handshake took too long/);
    clock.advance(500);
    assert.match((await failure).message, /too long/);
    far.destroy();
  }
  const clock = manualClock();
  const [near, far] = await socketPair();
  const opening = assert.rejects(transportOpener({ ...SYSTEM_TOOLS, clock })(near, serverOptions()), {
    code: 'TimedOut',
  });
  const text: Buffer[] = [];
  far.on('data', (chunk: Buffer) => text.push(chunk));
  const gone = new Promise((resolve) => far.once('end', resolve));
  clock.advance(openingMs);
  await gone;
  far.destroy();
  await opening;
  assert.match(Buffer.concat(text).toString(), /^SSH-2\.0-Sallyport\r\nThe handshake took too long\.\r\n$/);
});

test('INV-11: who speaks another protocol gets a line of text, and no key exchange', async () => {
  for (const words of ['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01', 'SSH-1.5-old\r\n']) {
    const [near, far] = await socketPair();
    const opening = transportOpener(SYSTEM_TOOLS)(near, serverOptions());
    const text: Buffer[] = [];
    far.on('data', (chunk: Buffer) => text.push(chunk));
    far.write(words);
    await assert.rejects(opening, { code: 'Malformed' });
    far.destroy();
    assert.match(Buffer.concat(text).toString('latin1'), /^SSH-2\.0-Sallyport\r\n[A-Z][ -~]+\.\r\n$/);
  }
});

test('INV-11: packets above 35,000 bytes are refused before login, and taken after it', async () => {
  const big = Buffer.alloc(36_000, MSG.CHANNEL_DATA);
  const early = await opened();
  early.peer.output.send(big);
  assert.match(await early.peer.refusal(), /^2: A packet of 36\d+ bytes is not taken/);
  const late = await opened();
  late.server.authenticated();
  late.peer.output.send(big);
  while (late.got.length === 0) await tick();
  late.peer.output.send(Buffer.alloc(264_000, MSG.CHANNEL_DATA));
  assert.match(await late.peer.refusal(), /is not taken/);
});

test('INV-11: messages of the connection do not come before login', async () => {
  for (const number of [MSG.GLOBAL_REQUEST, MSG.CHANNEL_OPEN, MSG.CHANNEL_DATA]) {
    const { peer, got, end } = await opened();
    peer.output.send(Buffer.from([number, 0]));
    assert.match(await peer.refusal(), /^2: Message \d+ came before login/);
    assert.equal(got.length, 0);
    await end;
  }
});

test('unknown messages get UNIMPLEMENTED with their number, and go no further', async () => {
  const { peer, server, got } = await opened();
  await peer.next(); // EXT_INFO
  for (const [sequence, number] of [0, 8, 19, 54, 59, 83, 101, 127, 192, 255].entries()) {
    peer.output.send(Buffer.from([number, 1, 2]));
    assert.deepEqual(await peer.next(), writeData({ byte: MSG.UNIMPLEMENTED }, { uint32: sequence }));
  }
  assert.equal(got.length, 0);
  server.destroy();
});

test('INV-11: floods of IGNORE, DEBUG and unknown messages end the connection; some are nothing', async () => {
  for (const message of [IGNORE, DEBUG, Buffer.from([200])]) {
    const early = await opened();
    for (let i = 0; i < 70; i += 1) early.peer.output.send(message);
    assert.match(await early.peer.refusal(), /^2: Too many messages without meaning/);
    const late = await opened({}, { limits: { noise: { burst: 100, everyMs: 1e9, beforeLogin: 64 } } });
    late.server.authenticated();
    for (let i = 0; i < 100; i += 1) late.peer.output.send(message);
    late.peer.output.send(Buffer.from([MSG.CHANNEL_DATA]));
    while (late.got.length === 0) await tick();
    late.peer.output.send(message);
    assert.match(await late.peer.refusal(), /^2: Too many/);
  }
});

test('INV-11: who provokes answers and reads none is not read either', async () => {
  const [near, far] = duplexPair(); // with little room between the two, unlike the kernel
  const limits = { ...SYSTEM_TOOLS.limits, noise: { burst: 1e9, everyMs: 1, beforeLogin: 64 } };
  const opening = transportOpener({ ...SYSTEM_TOOLS, limits })(near, serverOptions({ highWaterBytes: 20_000 }));
  const peer = await rawClient(far);
  const server = await opening;
  server.authenticated();
  far.pause();
  let peak = 0;
  let sent = 0;
  for (; sent < 100_000 && far.writableLength < 1_000_000; sent += 1) {
    peer.output.send(Buffer.from([200]));
    if (sent % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    peak = Math.max(peak, server.queuedBytes);
  }
  assert.ok(sent < 100_000, 'it was read all the time');
  assert.ok(peak > 20_000 && peak < 100_000, `${peak} bytes were queued`);
  far.resume();
  let answers = 0;
  while (answers < sent) if ((await peer.next())?.[0] === MSG.UNIMPLEMENTED) answers += 1;
  server.destroy();
});

test('INV-11: key exchanges without traffic are counted', async () => {
  const { peer, server } = await opened({}, { limits: { peerRekeys: { burst: 0, everyMs: 1e9, freeBytes: 100_000 } } });
  server.authenticated();
  peer.output.send(kexInit(peer.server));
  assert.match(await peer.refusal(), /^2: Too many key exchanges/);
});

test('INV-11: between KEXINIT and NEWKEYS of a later exchange nothing else comes', async () => {
  for (const number of [MSG.CHANNEL_DATA, MSG.SERVICE_REQUEST, MSG.USERAUTH_REQUEST, MSG.EXT_INFO, 200]) {
    const { peer, server, got } = await opened();
    server.authenticated();
    peer.output.send(kexInit({ ...peer.server, hostKey: ['ssh-ed25519'] }));
    peer.output.send(Buffer.from([number, 0, 0, 0, 0]));
    assert.match(await peer.refusal(), /^2: Message \d+ came during a key exchange/);
    assert.equal(got.length, 0);
  }
  // IGNORE may (RFC 4253, 7.1), and the deadline runs.
  const clock = manualClock();
  const { peer, server } = await opened({}, { tools: { clock } });
  server.authenticated();
  peer.output.send(kexInit({ ...peer.server, hostKey: ['ssh-ed25519'] }));
  peer.output.send(IGNORE);
  for (let message = await peer.next(); message?.[0] !== MSG.KEXINIT; ) message = await peer.next();
  await tick();
  clock.advance(20_000);
  assert.match(await peer.refusal(), /^3: The key exchange took too long/);
  server.destroy();
});

test('messages of an exchange outside of one end the connection', async () => {
  for (const number of [MSG.NEWKEYS, MSG.KEX_ECDH_INIT, MSG.KEX_ECDH_REPLY, 40]) {
    const { peer } = await opened();
    peer.output.send(Buffer.from([number]));
    assert.match(await peer.refusal(), /^2: Message \d+ came outside a key exchange/);
  }
});

test('a peer’s last words are made printable and short', async () => {
  const { peer, end } = await opened();
  const text = `\x1b]0;pwned\x07${'x'.repeat(5_000)}`;
  peer.output.send(writeData({ byte: MSG.DISCONNECT }, { uint32: 11 }, { string: text }, { string: '' }));
  const { disconnect } = await end;
  assert.match(disconnect!.text, /^\?\]0;pwned\?x+$/);
  assert.ok(disconnect!.text.length <= 1_000);
});

test('a connection that breaks in a packet is an error, between packets an end', async () => {
  const whole = await opened();
  whole.far.end();
  assert.deepEqual(await whole.end, {});
  const half = await opened();
  half.far.end(Buffer.from([0, 0, 0, 32, 1, 2, 3]));
  assert.match((await half.end).error?.message ?? '', /middle of something/);
});

test('INV-11: a server that says too much first, changes its key, or names none of ours is left', async () => {
  const cases: [string, RegExp][] = [
    [`${'hello\r\n'.repeat(1_200)}`, /too much/],
    ['SSH-2.0-x\r\n\x00\x00\xff\xff', /is not taken/],
    ['SSH-2.0-\x1b[2J\r\n', /not plain text/],
  ];
  for (const [words, text] of cases) {
    const [near, far] = await socketPair();
    far.resume();
    far.write(Buffer.from(words, 'latin1'));
    await assert.rejects(transportOpener(SYSTEM_TOOLS)(near, clientOptions()), text);
    far.destroy();
  }
  await assert.rejects(openPeers({ client: { hostKeyAlgorithms: ['rsa-sha2-512'] } }), /No common host key algorithm/);
  assert.ok(CIPHERS.length > 0);
});
