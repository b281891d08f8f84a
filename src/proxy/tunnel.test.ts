import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:https';
import net, { type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { WebSocket } from 'ws';
import { testCertificates } from '../../test/support/certificates.ts';
import { systemClock } from '../system/clock.ts';
import { systemRandom } from '../system/random.ts';
import { bridge } from './bridge.ts';
import { startTunnels, type TunnelLimits, type TunnelOptions, type TunnelServer } from './tunnel.ts';
import { RENEW_BYTES, REPLICA_HEADER, SESSION_HEADER, TUNNEL_PROTOCOL } from './tunnel-protocol.ts';

const certificates = await testCertificates();
const UID = 'uid-orders';

interface Bed {
  tunnels: TunnelServer;
  clients: { address: string; port: number }[];
  open(options?: { headers?: Record<string, string>; path?: string; protocols?: string[]; ca?: string }): WebSocket;
}

async function bed(
  t: TestContext,
  serve: (socket: Socket) => void,
  limits: Partial<TunnelLimits> = {},
  current = () => certificates.server,
  renew: TunnelOptions['renew'] = () => Promise.reject(new Error('nobody renews here')),
): Promise<Bed> {
  const clients: Bed['clients'] = [];
  const tunnels = await startTunnels({
    host: '127.0.0.1',
    port: 0,
    tls: { current },
    replica: 'sallyport-orders-db-1',
    find: (name) => (name === 'orders-db' ? UID : undefined),
    accept(uid, socket, client) {
      assert.equal(uid, UID);
      clients.push(client);
      socket.on('error', () => {});
      serve(socket);
      return `s-${clients.length}`;
    },
    renew,
    clock: systemClock,
    random: systemRandom,
    log: () => {},
    limits,
  });
  t.after(() => tunnels.close());
  return {
    tunnels,
    clients,
    open: ({ headers = {}, path = '/connect/orders-db', protocols = [TUNNEL_PROTOCOL], ca = certificates.ca } = {}) =>
      new WebSocket(`wss://localhost:${tunnels.port}${path}`, protocols, {
        ca,
        headers,
        perMessageDeflate: false,
      }),
  };
}

/** The status the upgrade is refused with. */
function refusal(web: WebSocket): Promise<number> {
  web.on('error', () => {});
  return new Promise((resolve, reject) => {
    web.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    web.on('open', () => reject(new Error('it was let in')));
  });
}

/** A loopback socket whose bytes go through the tunnel, as the CLI has it. */
async function through(t: TestContext, web: WebSocket): Promise<Socket> {
  await once(web, 'open');
  web.pause();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => void bridge(web, socket, systemClock));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const socket = net.connect({
    port: (server.address() as net.AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

const digestOf = async (socket: Socket): Promise<{ hash: string; bytes: number }> => {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { hash: hash.digest('hex'), bytes };
};

test('bytes come out as they went in, both ways, and each direction ends by itself', async (t) => {
  const sent = randomBytes(3_000_001);
  const { open } = await bed(t, (socket) => {
    // Half-close: it answers only once everything has come.
    const chunks: Buffer[] = [];
    socket.allowHalfOpen = true;
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => socket.end(Buffer.concat(chunks)));
  });
  const socket = await through(t, open());
  socket.end(sent);
  const got = await digestOf(socket);
  assert.deepEqual(got, { hash: createHash('sha256').update(sent).digest('hex'), bytes: sent.length });
});

test('INV-11: a reader that stops holds the writer up instead of filling memory', async (t) => {
  let written = 0;
  let stopped = false;
  const { open } = await bed(t, (socket) => {
    const chunk = Buffer.alloc(64 * 1024);
    const more = (): void => {
      while (!socket.destroyed && socket.write(chunk)) written += chunk.length;
      written += chunk.length;
      if (!socket.destroyed) socket.once('drain', more);
    };
    more();
    t.after(() => socket.destroy());
  });
  const socket = await through(t, open());
  socket.once('data', () => socket.pause());
  for (let last = -1; !stopped; ) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    stopped = written === last;
    last = written;
  }
  assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken although nobody reads`);
  socket.resume();
  const before = written;
  await once(socket, 'data');
  for (let i = 0; i < 100 && written === before; i += 1) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(written > before, 'it goes on once somebody reads');
});

test('INV-11: what is no tunnel to a served Connection is refused with its own status', async (t) => {
  const { open, clients } = await bed(t, (socket) => void socket.destroy());
  assert.equal(await refusal(open({ headers: { origin: 'https://evil.example' } })), 403);
  assert.equal(await refusal(open({ path: '/connect/other-db' })), 404);
  assert.equal(await refusal(open({ path: '/connect/../orders-db' })), 404);
  assert.equal(await refusal(open({ path: '/' })), 404);
  assert.equal(await refusal(open({ protocols: ['v2.tunnel.sallyport.dev'] })), 400);
  assert.equal(await refusal(open({ protocols: [] })), 400);
  assert.deepEqual(clients, []);
});

test('a plain request is told what this is', async (t) => {
  const { tunnels } = await bed(t, (socket) => void socket.destroy());
  const asked = request({ host: 'localhost', port: tunnels.port, ca: certificates.ca, path: '/connect/orders-db' });
  asked.end();
  const [response] = (await once(asked, 'response')) as [import('node:http').IncomingMessage];
  response.resume();
  assert.equal(response.statusCode, 426);
});

test('INV-11: clients are counted apart, by what the peer says and who the peer is', async (t) => {
  const { open, clients, tunnels } = await bed(t, (socket) => void socket.resume(), {
    tunnelsPerClient: 2,
    tunnels: 4,
  });
  const from = (address: string) => open({ headers: { 'x-forwarded-for': `10.9.9.9, ${address}` } });
  const live: WebSocket[] = [];
  const let_in = async (web: WebSocket): Promise<void> => {
    await once(web, 'open');
    live.push(web);
  };
  await let_in(from('203.0.113.7'));
  await let_in(from('203.0.113.7'));
  assert.equal(await refusal(from('203.0.113.7')), 429);
  await let_in(from('203.0.113.8'));
  await let_in(open());
  assert.equal(await refusal(from('203.0.113.9')), 503);
  assert.equal(tunnels.count(), 4);
  assert.deepEqual(
    clients.map(({ address }) => address),
    [
      'tunnel/203.0.113.7@127.0.0.1',
      'tunnel/203.0.113.7@127.0.0.1',
      'tunnel/203.0.113.8@127.0.0.1',
      'tunnel/127.0.0.1',
    ],
  );
  live[0]!.terminate();
  for (let i = 0; i < 100 && tunnels.count() === 4; i += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  await let_in(from('203.0.113.9'));
});

test('INV-11: connections that never become tunnels are closed and counted', async (t) => {
  const { tunnels, open } = await bed(t, (socket) => void socket.resume(), { openingPerPeer: 2, openMs: 300 });
  const idle = [1, 2].map(() => net.connect(tunnels.port, '127.0.0.1'));
  t.after(() => idle.forEach((socket) => socket.destroy()));
  for (const socket of idle) socket.on('error', () => {});
  await Promise.all(idle.map((socket) => once(socket, 'connect')));
  const third = net.connect(tunnels.port, '127.0.0.1');
  third.on('error', () => {});
  await once(third, 'close');
  for (const socket of idle) if (!socket.destroyed) await once(socket.resume(), 'close');
  await once(open(), 'open');
});

test('a session of the tunnel takes a newer token here; the gateway’s word is passed on, nothing else is', async (t) => {
  const asked: unknown[] = [];
  const answers: Awaited<ReturnType<TunnelOptions['renew']>>[] = [
    { kind: 'Renewed', endsAtMs: 1_000 },
    { kind: 'Refused', code: 'InvalidProof', message: 'no' },
    { kind: 'Refused', code: 'NoSession', message: 'no' },
    { kind: 'Refused', code: 'NotNewer', message: 'no' },
    { kind: 'Refused', code: 'LimitReached', message: 'no' },
    { kind: 'Cut', message: 'cut' },
  ];
  const { open, tunnels } = await bed(
    t,
    (socket) => void socket.resume(),
    {},
    () => certificates.server,
    async (...given) => {
      asked.push(given);
      return answers.shift()!;
    },
  );
  const web = open();
  const [upgrade] = (await once(web, 'upgrade')) as [{ headers: Record<string, string> }];
  const session = upgrade.headers[SESSION_HEADER];
  assert.equal(session, 's-1');
  const post = async (
    given: { path?: string; method?: string; headers?: Record<string, string>; body?: string } = {},
  ): Promise<{ status: number; body: unknown }> => {
    const { path = `/renew/${session}`, method = 'POST', headers = {}, body = '{"token":"t","ticket":"x"}' } = given;
    const asking = request({ host: 'localhost', port: tunnels.port, ca: certificates.ca, path, method, headers });
    asking.on('error', () => {});
    asking.end(body);
    const [response] = (await once(asking, 'response')) as [import('node:http').IncomingMessage];
    let text = '';
    for await (const part of response) text += String(part);
    return { status: response.statusCode ?? 0, body: JSON.parse(text) };
  };
  const from = { 'x-forwarded-for': '203.0.113.7', [REPLICA_HEADER]: 'sallyport-orders-db-1' };
  assert.deepEqual(await post({ headers: from }), { status: 200, body: { kind: 'Renewed', endsAtMs: 1_000 } });
  assert.deepEqual(asked, [['s-1', { token: 't', ticket: 'x' }, 'tunnel/203.0.113.7@127.0.0.1']]);
  for (const status of [403, 404, 409, 429, 200]) assert.equal((await post()).status, status);
  assert.equal(asked.length, 6);

  assert.equal((await post({ headers: { origin: 'https://evil.example' } })).status, 403);
  assert.equal((await post({ headers: { [REPLICA_HEADER]: 'sallyport-orders-db-0' } })).status, 421);
  assert.equal((await post({ method: 'PUT' })).status, 405);
  for (const path of ['/renew/', '/renew/x', '/renew/../s-1', '/renew/s-1/more', '/renew/s-%31']) {
    assert.equal((await post({ path })).status, 400, path);
  }
  for (const body of ['', '[]', 'null', '{}', '{"token":1}', '{"token":"t","ticket":null}', '{"token":"t"']) {
    assert.equal((await post({ body })).status, 400, body);
  }
  assert.equal((await post({ body: JSON.stringify({ token: 'x'.repeat(RENEW_BYTES) }) })).status, 413);
  assert.equal(asked.length, 6, 'none of these came to the gateway');
});

test('a gateway that takes no more sessions says so before the tunnel opens', async (t) => {
  const full = await startTunnels({
    host: '127.0.0.1',
    port: 0,
    tls: { current: () => certificates.server },
    replica: 'r',
    find: () => UID,
    accept: (_uid, socket) => void socket.destroy(),
    renew: () => Promise.reject(new Error('nobody renews here')),
    clock: systemClock,
    random: systemRandom,
    log: () => {},
  });
  t.after(() => full.close());
  const web = new WebSocket(`wss://localhost:${full.port}/connect/orders-db`, [TUNNEL_PROTOCOL], {
    ca: certificates.ca,
  });
  assert.equal(await refusal(web), 503);
  for (let i = 0; i < 100 && full.count() > 0; i += 1) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(full.count(), 0, 'its place is given back');
});

test('a message that is text, or larger than agreed, ends its tunnel', async (t) => {
  const { open } = await bed(t, (socket) => void socket.resume());
  for (const [message, code] of [
    ['text', 1003],
    [Buffer.alloc(1024 * 1024 + 1), 1009],
  ] as const) {
    const web = open();
    await once(web, 'open');
    web.send(message);
    const [closed] = (await once(web, 'close')) as [number];
    assert.equal(closed, code);
  }
});

test('when a session is cut, what it said last still comes, then the tunnel ends', async (t) => {
  const { open } = await bed(t, (socket) => void socket.end('FATAL: the grant was revoked'));
  const socket = await through(t, open());
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  assert.equal(Buffer.concat(chunks).toString(), 'FATAL: the grant was revoked');
});

test('a certificate is replaced for new tunnels while old ones go on', async (t) => {
  const other = await testCertificates();
  let now = certificates.server;
  const { open, tunnels } = await bed(
    t,
    (socket) => void socket.pipe(socket),
    {},
    () => now,
  );
  const old = await through(t, open());
  now = other.server;
  tunnels.certificateChanged();
  await once(open({ ca: other.ca }), 'open');
  const refusedWeb = open();
  const [error] = (await once(refusedWeb, 'error')) as [Error];
  assert.match(error.message, /certificate|signature/i);
  old.write('still here');
  const [echo] = (await once(old, 'data')) as [Buffer];
  assert.equal(echo.toString(), 'still here');
});

test('a tunnel names its replica; one that is meant for another is refused before it is counted', async (t) => {
  const { open, clients, tunnels } = await bed(t, (socket) => socket.resume());
  assert.equal(await refusal(open({ headers: { [REPLICA_HEADER]: 'sallyport-orders-db-0' } })), 421);
  assert.equal(tunnels.count(), 0);
  assert.equal(clients.length, 0);
  const web = open({ headers: { [REPLICA_HEADER]: 'sallyport-orders-db-1' } });
  const [response] = (await once(web, 'upgrade')) as [{ headers: Record<string, string> }];
  assert.equal(response.headers[REPLICA_HEADER], 'sallyport-orders-db-1');
  web.terminate();
});
