import assert from 'node:assert/strict';
import net from 'node:net';
import { type TestContext, test } from 'node:test';
import { connectThrough, proxyOf } from './http-proxy.ts';

test('the proxy of the environment is used unless NO_PROXY names the host, its domain, its range or port', () => {
  const via = (url: string, env: Record<string, string>): string | undefined => proxyOf(new URL(url), env)?.host;
  const HTTPS_PROXY = 'http://proxy.example:3128';
  assert.equal(via('https://id.corp.example', {}), undefined);
  assert.equal(via('https://id.corp.example', { HTTPS_PROXY }), 'proxy.example:3128');
  assert.equal(via('https://id.corp.example', { https_proxy: 'proxy.example:3128' }), 'proxy.example:3128');
  assert.equal(via('https://id.corp.example', { HTTPS_PROXY, NO_PROXY: '.corp.example' }), undefined);
  assert.equal(via('https://id.corp.example', { HTTPS_PROXY, no_proxy: 'other,id.corp.example:443' }), undefined);
  assert.equal(via('https://id.corp.example', { HTTPS_PROXY, NO_PROXY: 'id.corp.example:8443' }), 'proxy.example:3128');
  assert.equal(via('https://10.96.0.1', { HTTPS_PROXY, NO_PROXY: '10.96.0.0/12' }), undefined);
  assert.equal(via('https://localhost:9', { HTTPS_PROXY }), undefined);
  assert.throws(
    () => via('https://a.example', { HTTPS_PROXY: 'socks5://ana:secret@p:1' }),
    (error: Error) => {
      return error instanceof TypeError && !error.message.includes('secret');
    },
  );
});

/** A proxy that answers each CONNECT with these bytes; resolves with its port and what it was asked. */
async function proxy(context: TestContext, answer: string): Promise<{ url: URL; asked: string[] }> {
  const asked: string[] = [];
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      asked.push(bytes.toString());
      if (asked.length === 1) socket.write(answer);
      else socket.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => server.close());
  return { url: new URL(`http://ana:pa%20ss@127.0.0.1:${(server.address() as net.AddressInfo).port}`), asked };
}

test('a tunnel carries bytes both ways, and the proxy hears where to and who asks', async (context) => {
  const { url, asked } = await proxy(context, 'HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n');
  const socket = await connectThrough(url, { host: 'id.corp.example', port: 443 }, AbortSignal.timeout(5_000));
  context.after(() => socket.destroy());
  socket.write('hello');
  const back = await new Promise<Buffer>((resolve) => void socket.once('data', resolve).resume());
  assert.equal(back.toString(), 'hello');
  assert.equal(
    asked[0],
    `CONNECT id.corp.example:443 HTTP/1.1\r\nHost: id.corp.example:443\r\nProxy-Authorization: Basic ${Buffer.from('ana:pa ss').toString('base64')}\r\n\r\n`,
  );
});

test('INV-11: a proxy that refuses, talks otherwise, early or without end, or is silent gives no tunnel', async (context) => {
  for (const [answer, expected] of [
    ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', /refuses id\.corp\.example:443 \(407\)/],
    ['SSH-2.0-OpenSSH_9.2\r\n\r\n', /nothing that is HTTP/],
    ['HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}', /nothing that is HTTP/],
    [`HTTP/1.1 200 OK\r\n${'x'.repeat(20_000)}`, /nothing that is HTTP/],
    ['HTTP/1.1 200 OK\r\n', /timeout|aborted/i],
  ] as const) {
    const { url } = await proxy(context, answer);
    const asking = connectThrough(url, { host: 'id.corp.example', port: 443 }, AbortSignal.timeout(300));
    await assert.rejects(
      asking,
      (error: Error) => expected.test(error.message) && !/pa ss|pa%20ss/.test(error.message),
    );
  }
  const gone = new URL('http://127.0.0.1:1');
  const target = { host: 'id.corp.example', port: 443 };
  await assert.rejects(connectThrough(gone, target, AbortSignal.timeout(2_000)), /can not be reached: ECONNREFUSED/);
  await assert.rejects(connectThrough(gone, { ...target, host: 'a b' }, AbortSignal.timeout(2_000)), TypeError);
});
