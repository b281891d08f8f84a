// A client's way in as it is on the wire: encryption requests, direct TLS, protocol versions, cancel keys.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import {
  cancelRequest,
  int32,
  message,
  query,
  SSL_REQUEST,
  startupMessage,
} from '../../../src/protocols/postgres/wire/messages.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import { fields, type RawClient, rawConnect, shown, wrap } from '../../support/raw-postgres.ts';
import type { TestGateway } from '../../support/session-context.ts';

const GSS_REQUEST = Buffer.concat([int32(8), int32(80877104)]);
const PROTOCOL_3_2 = 196610;
let server: PostgresServer;
let secure: TestGateway;
let plain: TestGateway;
before(async () => {
  server = await startTarget(18);
  secure = await gatewayFor(server, { tls: true });
  plain = await gatewayFor(server);
});
after(async () => {
  await secure?.close();
  await plain?.close();
  await server?.stop();
});

/** Everything received until the other side closes, at most 5 s. */
async function conversation(port: number, ...writes: Buffer[]): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  const received: Buffer[] = [];
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => received.push(chunk));
  const closed = new Promise<boolean>((resolve) => socket.on('close', () => resolve(true)));
  for (const bytes of writes) socket.write(bytes);
  const late = new Promise<boolean>((resolve) => setTimeout(resolve, 4_000, false).unref());
  assert.equal(await Promise.race([closed, late]), true, 'the connection is closed long before its deadline');
  return Buffer.concat(received).toString('latin1');
}

async function answerTo(socket: net.Socket, request: Buffer): Promise<string> {
  const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
  socket.write(request);
  return (await answer).toString('latin1');
}

async function secured(socket: net.Socket | undefined, options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const stream = tls.connect({
    ...(socket === undefined ? { port: secure.port } : { socket }),
    host: 'localhost',
    ca: secure.ca,
    ...options,
  });
  await new Promise<void>((resolve, reject) => {
    stream.once('secureConnect', resolve);
    stream.once('error', reject);
  });
  stream.on('error', () => undefined);
  return stream;
}

async function logIn(socket: net.Socket): Promise<RawClient> {
  const client = wrap(socket);
  client.send(startupMessage({ user: 'writer', database: 'postgres' }));
  await client.until((one) => one.type === 'R');
  client.send(message(0x70, 'ticket'));
  await client.ready();
  return client;
}

async function speaks(client: RawClient): Promise<void> {
  client.send(query('select 40 + 2 as answer'));
  assert.match(shown(await client.ready()).join(' '), /D\(.*42\) C\(SELECT 1\) Z\(I\)/);
}

test('TLS after SSLRequest, and GSS encryption is answered N before it', async () => {
  const socket = net.connect(secure.port, '127.0.0.1');
  assert.equal(await answerTo(socket, GSS_REQUEST), 'N');
  assert.equal(await answerTo(socket, SSL_REQUEST), 'S');
  const client = await logIn(await secured(socket, {}));
  await speaks(client);
  client.end();
  assert.match(await conversation(secure.port, GSS_REQUEST, GSS_REQUEST), /^N?$/);
});

test('direct TLS with ALPN postgresql; without it, or with another, the connection is closed', async () => {
  const stream = await secured(undefined, { ALPNProtocols: ['postgresql'] });
  assert.equal(stream.alpnProtocol, 'postgresql');
  const client = await logIn(stream);
  await speaks(client);
  client.end();
  for (const ALPNProtocols of [undefined, ['http/1.1']]) {
    const outcome = secured(undefined, ALPNProtocols === undefined ? {} : { ALPNProtocols }).then(async (bare) => {
      let received = '';
      bare.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
      const closed = new Promise<void>((resolve) => bare.on('close', resolve));
      bare.write(startupMessage({ user: 'writer' }));
      await closed;
      return received;
    });
    assert.equal(await outcome.catch(() => ''), '');
  }
  // After SSLRequest ALPN is the client's choice, as it is for clients older than 17.
  const socket = net.connect(secure.port, '127.0.0.1');
  assert.equal(await answerTo(socket, SSL_REQUEST), 'S');
  (await secured(socket, { ALPNProtocols: ['postgresql'] })).destroy();
});

test('INV-11: bytes behind an encryption request came before it was agreed on, and close the connection', async () => {
  const smuggled = startupMessage({ user: 'writer' });
  assert.equal(await conversation(secure.port, Buffer.concat([SSL_REQUEST, smuggled])), '');
  assert.equal(await conversation(secure.port, Buffer.concat([GSS_REQUEST, smuggled])), '');
  assert.equal(await conversation(secure.port, Buffer.concat([SSL_REQUEST, Buffer.from([0x16])])), '');
});

test('INV-01: without TLS nobody is even asked for a password', async () => {
  const said = await conversation(secure.port, startupMessage({ user: 'writer' }));
  assert.match(said, /^E.*Sallyport accepts TLS connections only/s);
  assert.ok(!said.includes('R\0\0\0\x08'));
});

test('protocol 3.2: cancel keys are longer, and cancel', async () => {
  const client = await rawConnect({ port: plain.port, password: 'ticket', version: PROTOCOL_3_2 });
  try {
    assert.equal(client.secret.length, 32);
    const cancel = (secret: Buffer): Promise<string> =>
      conversation(plain.port, cancelRequest(client.processId, secret));
    client.send(query('select pg_sleep(30)'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    // The first bytes of the key alone are no key.
    assert.equal(await cancel(client.secret.subarray(0, 4)), '');
    assert.equal(
      await cancel(Buffer.concat([client.secret.subarray(0, 31), Buffer.from([client.secret[31]! ^ 1])])),
      '',
    );
    const busy = await server.query("select 1 from pg_stat_activity where query like 'select pg_sleep(30)%'");
    assert.equal(busy.rowCount, 1);
    assert.equal(await cancel(client.secret), '');
    assert.match(shown(await client.ready()).join(' '), /E\(57014 /);
    await speaks(client);
  } finally {
    client.end();
  }
  const older = await rawConnect({ port: plain.port, password: 'ticket' });
  assert.equal(older.secret.length, 4);
  older.end();
});

test('newer minor versions and unknown _pq_ options are negotiated, other majors refused', async () => {
  for (const [version, parameters, expected] of [
    [PROTOCOL_3_2, { '_pq_.mystery': '1', '_pq_.other': 'x' }, { minor: 2, unknown: ['_pq_.mystery', '_pq_.other'] }],
    [196608, { '_pq_.mystery': '1' }, { minor: 0, unknown: ['_pq_.mystery'] }],
    [196608 + 9999, {}, { minor: 2, unknown: [] }],
    [196609, {}, { minor: 0, unknown: [] }],
    [PROTOCOL_3_2, {}, undefined],
    [196608, {}, undefined],
  ] as [number, Record<string, string>, { minor: number; unknown: string[] } | undefined][]) {
    const client = wrap(net.connect(plain.port, '127.0.0.1'));
    client.send(startupMessage({ user: 'writer', database: 'postgres', ...parameters }, version));
    const [first, second] = await client.until((one) => one.type === 'R');
    if (expected === undefined) assert.equal(first?.type, 'R');
    else {
      assert.equal(first?.type, 'v');
      assert.equal(second?.type, 'R');
      assert.equal(first.body.readInt32BE(0), expected.minor);
      assert.equal(first.body.readInt32BE(4), expected.unknown.length);
      assert.deepEqual(first.body.toString('latin1', 8).split('\0').slice(0, -1), expected.unknown);
    }
    client.send(message(0x70, 'ticket'));
    await client.ready();
    await speaks(client);
    client.end();
  }
  const client = wrap(net.connect(plain.port, '127.0.0.1'));
  client.send(startupMessage({ user: 'writer' }, 4 * 65536));
  const [error] = await client.until((one) => one.type === 'E');
  assert.match(fields(error!).M ?? '', /unsupported frontend protocol 4\.0: Sallyport speaks 3\.0 and 3\.2/);
  await client.closed;
});
