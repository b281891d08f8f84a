// Two transports of ours over loopback: what they agree on, what they carry, how they change keys and how they end.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { manualClock } from '../../../system/manual-clock.ts';
import { type Random, systemRandom } from '../../../system/random.ts';
import { signerOfKeyObject } from '../keys/signer.ts';
import { MalformedData } from '../wire/data.ts';
import { CIPHERS, FULL_OFFER, isAead, KEX_ALGORITHMS, MACS, type Offer } from './kexinit.ts';
import { SYSTEM_TOOLS, type TransportTools, transportOpener } from './open-transport.ts';
import {
  clientOptions,
  ed25519Signer,
  endOf,
  type Meddle,
  meddledPair,
  openPeers,
  serverOptions,
  socketPair,
} from './test-peers.ts';
import type { OpenTransport, Transport } from './transport.ts';

const offering = (offer: Partial<Offer>): OpenTransport =>
  transportOpener({ ...SYSTEM_TOOLS, offer: { ...FULL_OFFER, ...offer } });
const limited = (limits: Partial<TransportTools['limits']>, more: Partial<TransportTools> = {}): OpenTransport =>
  transportOpener({ ...SYSTEM_TOOLS, ...more, limits: { ...SYSTEM_TOOLS.limits, ...limits } });
const SYSTEM_OPEN = transportOpener(SYSTEM_TOOLS);
/** Counts key exchanges: each takes one cookie. */
const countingRandom = (): Random & { cookies: number } => {
  const random = {
    cookies: 0,
    bytes(length: number) {
      if (length === 16) random.cookies += 1;
      return systemRandom.bytes(length);
    },
  };
  return random;
};
const closeBoth = ({ server, client }: { server: Transport; client: Transport }): void => {
  server.destroy();
  client.destroy();
};
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await soon();
}
/** Sends one message and waits for its echo. */
const echo = (from: Transport, to: Transport, message: Buffer): Promise<Buffer> =>
  new Promise((resolve) => {
    to.onMessage = (payload) => to.send(payload);
    from.onMessage = resolve;
    from.send(Buffer.from(message));
  });

test('every key exchange and every cipher with every MAC: both sides agree, and messages pass both ways', async () => {
  const offers: Partial<Offer>[] = [
    ...KEX_ALGORITHMS.map((kex) => ({ kex: [kex] })),
    ...CIPHERS.flatMap((cipher) => (isAead(cipher) ? [undefined] : MACS).map((mac) => ({ cipher, mac }))).map(
      ({ cipher, mac }) => ({ ciphers: [cipher], ...(mac === undefined ? {} : { macs: [mac] }) }),
    ),
  ];
  for (const offer of offers) {
    const peers = await openPeers({ openClient: offering(offer) });
    assert.deepEqual(peers.server.algorithms, peers.client.algorithms);
    assert.deepEqual(peers.server.sessionId, peers.client.sessionId);
    assert.deepEqual(peers.server.hostKey, peers.client.hostKey);
    assert.equal(peers.server.algorithms.kex, offer.kex?.[0] ?? 'mlkem768x25519-sha256');
    assert.equal(peers.server.algorithms.cipher.clientToServer, offer.ciphers?.[0] ?? 'aes128-gcm@openssh.com');
    assert.equal(peers.server.algorithms.mac.serverToClient, offer.macs?.[0] ?? '');
    assert.ok(peers.server.algorithms.strict);
    for (const size of [1, 15, 16, 17, 1_000, 32_768, 200_000]) {
      const message = Buffer.concat([Buffer.from([94]), randomBytes(size)]);
      assert.deepEqual(await echo(peers.client, peers.server, message), message);
    }
    closeBoth(peers);
  }
});

test('each direction may have its own cipher', async () => {
  const peers = await openPeers({
    openServer: offering({ ciphers: ['aes256-ctr'] }),
    openClient: offering({ ciphers: ['aes128-gcm@openssh.com', 'aes256-ctr'] }),
  });
  assert.deepEqual(peers.client.algorithms.cipher, { clientToServer: 'aes256-ctr', serverToClient: 'aes256-ctr' });
  closeBoth(peers);
});

test('every type of host key signs, and the client is told which it was', async () => {
  const keys = [
    ed25519Signer(),
    ...['P-256', 'P-384', 'P-521'].map((namedCurve) =>
      signerOfKeyObject(generateKeyPairSync('ec', { namedCurve }).privateKey),
    ),
    signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
  ];
  const algorithms = keys.flatMap((key) => key.algorithms);
  assert.ok(algorithms.includes('rsa-sha2-256') && algorithms.includes('ecdsa-sha2-nistp521'));
  for (const algorithm of algorithms) {
    const shown: Buffer[] = [];
    const peers = await openPeers({
      server: { hostKeys: keys },
      client: { hostKeyAlgorithms: [algorithm], verifyHostKey: (blob) => void shown.push(blob) },
    });
    assert.equal(peers.client.algorithms.hostKey, algorithm);
    assert.deepEqual(shown, [keys.find((key) => key.algorithms.includes(algorithm))!.blob]);
    closeBoth(peers);
  }
});

test('a host key that is not the host’s, and a signature that is not the key’s, end it before anything is sent', async () => {
  const good = ed25519Signer();
  const forged = { ...good, sign: (data: Buffer, algorithm: string) => ed25519Signer().sign(data, algorithm) };
  const cases = [
    { hostKeys: [good], verifyHostKey: () => 'It is another host.', code: 'HostKey', text: /another host/ },
    { hostKeys: [forged], verifyHostKey: () => undefined, code: 'Signature', text: /not made the signature/ },
  ];
  for (const { hostKeys, verifyHostKey, code, text } of cases) {
    const [near, far] = await socketPair();
    const server = SYSTEM_OPEN(near, serverOptions({ hostKeys }));
    const client = SYSTEM_OPEN(far, clientOptions({ verifyHostKey }));
    await assert.rejects(
      client,
      (error: { code: string; message: string }) => error.code === code && text.test(error.message),
    );
    await assert.rejects(server, { code: 'Disconnected', message: new RegExp(text) });
    assert.ok(near.destroyed && far.destroyed);
  }
});

test('the server names its signature algorithms before its first other message', async () => {
  const peers = await openPeers();
  await echo(peers.client, peers.server, Buffer.from([5, 0]));
  assert.equal(peers.client.peerSignatureAlgorithms?.[0], 'ssh-ed25519');
  assert.equal(peers.server.peerSignatureAlgorithms, undefined);
  assert.equal(peers.server.peerVersion, 'SSH-2.0-Client_1');
  closeBoth(peers);
});

/** Numbered messages of any size, checked for order and content on the other side. */
function pour(from: Transport, to: Transport, count: number, sizes: () => number): Promise<void> {
  return new Promise((resolve, reject) => {
    let sent = 0;
    let received = 0;
    to.onMessage = (payload) => {
      if (payload.readUInt32BE(1) !== received || payload.subarray(5).some((byte) => byte !== (received & 0xff)))
        reject(new Error(`message ${received} is not what was sent`));
      received += 1;
      if (received === count) resolve();
    };
    const go = (): void => {
      while (sent < count) {
        const message = Buffer.alloc(5 + sizes(), sent & 0xff);
        message[0] = 94;
        message.writeUInt32BE(sent, 1);
        sent += 1;
        if (!from.send(message)) return;
      }
    };
    from.onDrain = go;
    go();
  });
}

test('keys change under load both ways, by either side and by both at once, and no message is lost or moved', async () => {
  const sizes = (): number => Math.floor(Math.random() ** 4 * 60_000);
  for (const [serverBytes, clientBytes] of [
    [150_000, 2 ** 40],
    [2 ** 40, 150_000],
    [150_000, 150_000],
  ] as const) {
    const random = countingRandom();
    const free = { heldBytes: 100_000, peerRekeys: { burst: 1_000, everyMs: 1, freeBytes: 0 } };
    const peers = await openPeers({
      sockets: duplexPair(), // with little room between the two, unlike the kernel
      openServer: limited({ rekeyBytes: serverBytes, ...free }, { random }),
      openClient: limited({ rekeyBytes: clientBytes, ...free }),
    });
    const before = peers.server.sessionId;
    await Promise.all([pour(peers.server, peers.client, 400, sizes), pour(peers.client, peers.server, 400, sizes)]);
    assert.ok(random.cookies >= 8, `${random.cookies} key exchanges`);
    assert.deepEqual(peers.server.sessionId, before);
    closeBoth(peers);
  }
});

test('an hour is enough for a key, from the next message on; a peer that does not answer has 20 seconds', async () => {
  const clock = manualClock();
  const random = countingRandom();
  const peers = await openPeers({ openServer: limited({}, { clock, random }) });
  clock.advance(3_600_000);
  await soon();
  assert.equal(random.cookies, 1); // Nobody spoke.
  const message = Buffer.from([94, 1]);
  assert.deepEqual(await echo(peers.client, peers.server, message), message);
  await until(() => random.cookies === 2);
  assert.deepEqual(await echo(peers.client, peers.server, message), message);

  peers.client.pause();
  clock.advance(3_600_000);
  const ended = endOf(peers.server);
  peers.server.send(Buffer.from([94, 2]));
  assert.equal(random.cookies, 3);
  clock.advance(20_000);
  clock.advance(2_000);
  assert.match((await ended).error?.message ?? '', /key exchange took too long/);
  closeBoth(peers);
});

test('what is sent while keys change waits, is counted, and goes out in order', async () => {
  const peers = await openPeers({
    openServer: limited({ rekeyPackets: 3, highWaterBytes: 10_000, heldBytes: 10_000 }),
  });
  const got: number[] = [];
  peers.client.onMessage = (payload) => got.push(payload[1]!);
  peers.client.pause();
  for (let i = 0; i < 20; i += 1) peers.server.send(Buffer.from([94, i]));
  assert.equal(peers.server.send(Buffer.alloc(11_000, 94)), false);
  assert.ok(peers.server.queuedBytes > 11_000);
  const drained = new Promise<void>((resolve) => {
    peers.server.onDrain = resolve;
  });
  peers.client.resume();
  await drained;
  await until(() => got.length === 21);
  assert.deepEqual(
    got.slice(0, 20),
    Array.from({ length: 20 }, (_, i) => i),
  );
  closeBoth(peers);
});

test('two transports of a relay change keys at once, full both ways, and neither waits for the other', async () => {
  const open = limited({ rekeyBytes: 400_000, peerRekeys: { burst: 1_000, everyMs: 1, freeBytes: 0 } });
  const near = await openPeers({ sockets: duplexPair(), openServer: open, openClient: open });
  const far = await openPeers({ sockets: duplexPair(), openServer: open, openClient: open });
  const relay = (from: Transport, to: Transport): void => {
    from.onMessage = (payload) => {
      if (!to.send(payload)) from.pause();
    };
    to.onDrain = () => from.resume();
  };
  relay(near.server, far.client);
  relay(far.client, near.server);
  const ends = [pour(near.client, far.server, 300, () => 30_000), pour(far.server, near.client, 300, () => 30_000)];
  await Promise.all(ends);
  closeBoth(near);
  closeBoth(far);
});

test('INV-11: a peer that does not read makes send answer false, and is given up beyond a bound', async () => {
  const peers = await openPeers({ openServer: limited({ queuedBytes: 20 * 1024 * 1024 }) });
  peers.client.pause();
  const ended = endOf(peers.server);
  let refused = false;
  for (let i = 0; i < 2_000; i += 1) {
    if (!peers.server.send(Buffer.alloc(32_768, 94))) refused = true;
    assert.ok(peers.server.queuedBytes < 21 * 1024 * 1024);
    if (i % 64 === 0) await soon();
  }
  assert.ok(refused);
  assert.match((await ended).error?.message ?? '', /Too much waits/);
  closeBoth(peers);
});

test('pause stops messages at once, those already here too; resume gives them in order', async () => {
  const peers = await openPeers();
  const got: number[] = [];
  peers.server.onMessage = (payload) => {
    got.push(payload[1]!);
    if (got.length === 3) peers.server.pause();
  };
  for (let i = 0; i < 10; i += 1) peers.client.send(Buffer.from([94, i]));
  await until(() => got.length === 3);
  await soon();
  assert.equal(got.length, 3);
  peers.server.resume();
  await until(() => got.length === 10);
  assert.deepEqual(got, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  closeBoth(peers);
});

test('what came before the peer closed is handed out after a pause, and only then the end', async () => {
  const peers = await openPeers();
  const got: number[] = [];
  let ended = false;
  peers.server.onClose = () => {
    ended = true;
  };
  peers.server.onMessage = (payload) => {
    got.push(payload[1]!);
    if (got.length === 1) peers.server.pause();
  };
  for (let i = 0; i < 3; i += 1) peers.client.send(Buffer.from([94, i]));
  await until(() => got.length === 1);
  peers.client.disconnect(11, 'done');
  await soon();
  assert.ok(!ended);
  peers.server.resume();
  await until(() => ended);
  assert.deepEqual(got, [0, 1, 2]);
});

test('what one turn sends is one write', async () => {
  const [near, far] = await socketPair();
  const peers = await openPeers({ sockets: [near, far] });
  await soon();
  let writes = 0;
  const write = near.write.bind(near);
  near.write = ((...args: Parameters<typeof write>) => {
    writes += 1;
    return write(...args);
  }) as typeof near.write;
  for (let i = 0; i < 50; i += 1) peers.server.send(Buffer.from([94, i]));
  await soon();
  assert.equal(writes, 1);
  closeBoth(peers);
});

test('disconnect tells why, once, and both sides hear of the end', async () => {
  const peers = await openPeers();
  const [server, client] = [endOf(peers.server), endOf(peers.client)];
  peers.server.disconnect(11, 'The grant was revoked.');
  peers.server.disconnect(2, 'again');
  assert.deepEqual(await client, { disconnect: { code: 11, text: 'The grant was revoked.' } });
  assert.deepEqual(await server, {});
  assert.equal(peers.server.send(Buffer.from([94])), true);
});

test('the owner’s signal ends it, at any time', async () => {
  const aborted = AbortSignal.abort(new Error('gone'));
  const [near, far] = await socketPair();
  await assert.rejects(SYSTEM_OPEN(near, serverOptions({ signal: aborted })), { code: 'Closed' });
  assert.ok(near.destroyed);
  far.destroy();

  const early = new AbortController();
  const [nearer, farther] = await socketPair();
  const opening = limited({ lingerMs: 20 })(nearer, serverOptions({ signal: early.signal }));
  early.abort();
  await assert.rejects(opening, { code: 'Closed' });
  farther.destroy();

  const late = new AbortController();
  const peers = await openPeers({ server: { signal: late.signal } });
  const [server, client] = [endOf(peers.server), endOf(peers.client)];
  late.abort();
  assert.equal((await client).disconnect?.code, 11);
  assert.match((await server).error?.message ?? '', /given up/);
});

test('a handler that throws ends its own connection: MalformedData is the peer’s fault, the rest ours', async () => {
  for (const [error, text] of [
    [new MalformedData('5 bytes wanted'), /malformed message: 5 bytes wanted/],
    [new Error('secret detail'), /^An internal error\.$/],
  ] as const) {
    const peers = await openPeers();
    const [server, client] = [endOf(peers.server), endOf(peers.client)];
    peers.server.onMessage = () => {
      throw error;
    };
    peers.client.send(Buffer.from([94]));
    assert.match((await client).disconnect?.text ?? '', text);
    assert.ok((await server).error);
  }
});

test('messages that come with the last of the handshake wait for the handler', async () => {
  // A server's NEWKEYS, EXT_INFO and whatever it says next may be one segment.
  for (let i = 0; i < 10; i += 1) {
    const [near, far] = await socketPair();
    const opening = SYSTEM_OPEN(near, serverOptions());
    const client = await SYSTEM_OPEN(far, clientOptions());
    client.onMessage = () => undefined;
    client.send(Buffer.from([5, i]));
    const wrapped = (async () => await (async () => await opening)())();
    const server = await wrapped;
    const first = await new Promise<Buffer>((resolve) => {
      server.onMessage = resolve;
    });
    assert.deepEqual([...first], [5, i]);
    closeBoth({ server, client });
  }
});

test('any chunking of the bytes between two transports gives the same messages', async () => {
  let seed = 7;
  const next = (): number => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff);
  const chop: Meddle = (chunk, push) => {
    for (let at = 0; at < chunk.length; ) {
      const size = 1 + (next() % (next() % 5 === 0 ? 5_000 : 9));
      push(chunk.subarray(at, at + size));
      at += size;
    }
  };
  for (let i = 0; i < 4; i += 1) {
    const peers = await openPeers({
      sockets: await meddledPair(chop, chop),
      openServer: limited({ rekeyBytes: 10_000, peerRekeys: { burst: 99, everyMs: 1, freeBytes: 0 } }),
    });
    await Promise.all([
      pour(peers.server, peers.client, 30, () => next() % 2_000),
      pour(peers.client, peers.server, 30, () => next() % 2_000),
    ]);
    closeBoth(peers);
  }
});

test('a client that would rather have CTR gets GCM; one that waits for the server’s offer gets it all the same', async () => {
  const peers = await openPeers({
    openServer: offering({}),
    openClient: offering({ ciphers: ['aes128-ctr', 'aes256-gcm@openssh.com'] }),
  });
  assert.equal(peers.client.algorithms.cipher.clientToServer, 'aes256-gcm@openssh.com');
  peers.client.destroy();
  peers.server.destroy();
  const clock = manualClock();
  const [near, far] = await socketPair();
  const opening = transportOpener({ ...SYSTEM_TOOLS, clock })(near, serverOptions());
  const heard: Buffer[] = [];
  far.on('data', (chunk: Buffer) => heard.push(chunk));
  const said = async (pattern: RegExp): Promise<void> => {
    for (let step = 0; !pattern.test(Buffer.concat(heard).toString('latin1')); step += 1) {
      assert.ok(step < 400, Buffer.concat(heard).toString('latin1'));
      await new Promise((go) => setTimeout(go, 5));
    }
  };
  far.write('SSH-2.0-patient\r\n');
  await said(/^SSH-2\.0-Sallyport\r\n$/);
  await new Promise((go) => setTimeout(go, 50));
  clock.advance(500);
  await said(/aes128-gcm@openssh\.com,aes256-gcm@openssh\.com,aes128-ctr/);
  far.destroy();
  await assert.rejects(opening);
});
