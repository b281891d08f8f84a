import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { afterEach, test } from 'node:test';
import * as undici from 'undici';
import request from 'undici/lib/api/api-request.js';
import buildConnector from 'undici/lib/core/connect.js';
import Agent from 'undici/lib/dispatcher/agent.js';
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js';
import { testCertificates } from '../../test/support/certificates.ts';
import { sendJson, startTestServer, type TestServer } from '../../test/support/cluster/http-server.ts';
import { type KubeAccess, tokenAccess } from './access.ts';
import { KubeConnectionError, type WatchLine } from './answer.ts';
import { createKubeClient, type KubeClient, type KubeClientOptions } from './client.ts';
import type { KubeObject } from './object.ts';
import { listPages } from './pages.ts';

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function serve(
  answer: Parameters<typeof startTestServer>[0],
  options?: KubeClientOptions,
  access?: (url: string) => KubeAccess,
): Promise<{ server: TestServer; client: KubeClient }> {
  const server = await startTestServer(answer);
  const client = createKubeClient(access?.(server.url) ?? tokenAccess(server.url, 'secret'), options);
  ends.push(
    () => client.close(),
    () => server.close(),
  );
  return { server, client };
}
const rejects = (promise: Promise<unknown>, code: KubeConnectionError['code']): Promise<void> =>
  assert.rejects(promise, (error: unknown) => error instanceof KubeConnectionError && error.code === code);
async function collect<T>(lines: AsyncIterable<WatchLine<T>>): Promise<WatchLine<T>[]> {
  const all: WatchLine<T>[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

test('what the server says is a value', async () => {
  const { client } = await serve((_request, response) =>
    sendJson(response, 422, {
      kind: 'Status',
      code: 422,
      reason: 'Invalid',
      message: 'spec.x is wrong',
      details: { causes: [{ field: 'spec.x', message: 'is wrong' }] },
    }),
  );
  const answer = await client.get('/x');
  assert.deepEqual(answer, {
    kind: 'Failed',
    status: 422,
    reason: 'Invalid',
    message: 'spec.x is wrong',
    details: { causes: [{ field: 'spec.x', message: 'is wrong' }] },
  });
});

test('an HTML page from something in between still is a failure with its status', async () => {
  const { client } = await serve((_request, response) => {
    response.writeHead(502, { 'content-type': 'text/html' });
    response.end('<html>bad gateway</html>');
  });
  const answer = await client.get('/x');
  assert.ok(answer.kind === 'Failed' && answer.status === 502 && answer.message.includes('bad gateway'));
});

test('what is no JSON, too long or too late is a typed error', async () => {
  const { client } = await serve(({ path }, response) => {
    if (path === '/garbage') response.end('ok');
    if (path === '/large') response.end(JSON.stringify('x'.repeat(5000)));
    if (path === '/slow') response.write('{');
    if (path === '/reset') response.destroy();
  });
  await rejects(client.get('/garbage'), 'Garbage');
  await rejects(client.get('/large', { maxBytes: 1000 }), 'TooLarge');
  await rejects(client.get('/slow', { deadlineMs: 100 }), 'Timeout');
  await rejects(client.get('/never', { deadlineMs: 100 }), 'Timeout');
  await rejects(client.get('/reset'), 'Unreachable');
  await rejects(client.create('/reset', {}), 'Unreachable');
  await rejects(client.get('/never', { signal: AbortSignal.timeout(50) }), 'Aborted');
  await rejects(client.get('/never', { signal: AbortSignal.abort() }), 'Aborted');
});

test('nobody listens: unreachable; closed: closed', async () => {
  const { client, server } = await serve(() => undefined);
  const waiting = client.get('/never');
  const closed = rejects(waiting, 'Closed');
  await new Promise((resolve) => setTimeout(resolve, 20));
  await client.close();
  await closed;
  await rejects(client.get('/x'), 'Closed');
  await server.close();
  const other = createKubeClient(tokenAccess(server.url, 'secret'));
  await rejects(other.get('/x'), 'Unreachable');
  await other.close();
});

test('a read is sent again after a reset, a write never', async () => {
  const { client, server } = await serve((_request, response, count) => {
    if (count % 2 === 1) response.destroy();
    else sendJson(response, 200, { metadata: {} });
  });
  assert.equal((await client.get('/x')).kind, 'Ok');
  assert.equal(server.requests.length, 2);
  await rejects(client.create('/x', {}), 'Unreachable');
  assert.equal(server.requests.length, 3);
});

test('a busy server is waited for as it asks, within the deadline', async () => {
  const { client, server } = await serve(({ path }, response, count) => {
    if (path === '/busy' && count === 1) sendJson(response, 429, { reason: 'TooManyRequests' }, { 'retry-after': '1' });
    else if (path === '/later') sendJson(response, 429, { reason: 'TooManyRequests' }, { 'retry-after': '30' });
    else sendJson(response, 200, { fine: true });
  });
  assert.deepEqual(await client.create('/busy', {}), { kind: 'Ok', value: { fine: true } });
  assert.equal(server.requests.length, 2);
  const later = await client.get('/later', { deadlineMs: 5000 });
  assert.ok(later.kind === 'Failed' && later.status === 429 && later.retryAfterMs === 30_000);
});

test('tokens are asked for anew and never stand in an error', async () => {
  let token = 0;
  const { client, server } = await serve(
    ({ path }, response) => (path === '/behind/reset' ? response.destroy() : sendJson(response, 200, {})),
    {},
    (url) => ({ server: `${url}/behind/`, headers: () => ({ authorization: `Bearer token-${++token}` }) }),
  );
  await client.get('/x');
  await client.get('/x');
  assert.deepEqual(
    server.requests.map(({ path, headers }) => `${path} ${headers.authorization}`),
    ['/behind/x Bearer token-1', '/behind/x Bearer token-2'],
  );
  await assert.rejects(client.create('/reset', { a: 1 }), (error: Error) => !error.message.includes('token-'));
});

test('writes say who they are, what they expect, and whether they are meant', async () => {
  const { client, server } = await serve((_request, response) => sendJson(response, 200, {}));
  await client.patch('/x', { a: 1 }, 'apply', { fieldManager: 'sallyport', force: true });
  await client.patch('/x', [], 'json', { dryRun: true });
  await client.delete('/x', { uid: 'u1', resourceVersion: '5', propagationPolicy: 'Background' });
  const [apply, json, remove] = server.requests;
  assert.equal(apply?.headers['content-type'], 'application/apply-patch+yaml');
  assert.equal(apply?.query.toString(), 'fieldManager=sallyport&force=true');
  assert.equal(json?.headers['content-type'], 'application/json-patch+json');
  assert.equal(json?.query.get('dryRun'), 'All');
  assert.deepEqual(JSON.parse(remove?.body ?? ''), {
    kind: 'DeleteOptions',
    apiVersion: 'v1',
    preconditions: { uid: 'u1', resourceVersion: '5' },
    propagationPolicy: 'Background',
  });
});

test('a watch gives whole lines, however they are cut, and not the half one before a reset', async () => {
  const text = [1, 2, 3].map((n) => `${JSON.stringify({ type: 'ADDED', object: { n, text: 'ä€😀' } })}\n`).join('');
  const bytes = Buffer.from(text);
  const { client } = await serve(({ path }, response) => {
    if (path === '/cut') {
      for (const byte of bytes) response.write(Buffer.of(byte));
      response.end();
    }
    if (path === '/half') {
      response.write(bytes.subarray(0, bytes.length - 5));
      response.end();
    }
    if (path === '/reset') response.write(bytes, () => response.destroy());
    if (path === '/garbage') response.end(`${text}nonsense\n`);
    if (path === '/noevent') response.end('{"type":"ADDED"}\n');
    if (path === '/refused') sendJson(response, 410, { code: 410, reason: 'Expired', message: 'too old' });
    if (path === '/error') response.end('{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"old"}}\n');
  });
  assert.deepEqual(
    (await collect(client.watch<{ n: number }>('/cut'))).map((line) => line.type === 'ADDED' && line.object.n),
    [1, 2, 3],
  );
  assert.equal((await collect(client.watch('/half'))).length, 2);
  await rejects(collect(client.watch('/reset')), 'Unreachable');
  await rejects(collect(client.watch('/garbage')), 'Garbage');
  await rejects(collect(client.watch('/noevent')), 'Garbage');
  for (const path of ['/refused', '/error']) {
    const [line] = await collect(client.watch(path));
    assert.ok(line?.type === 'ERROR' && line.failure.status === 410, path);
  }
});

test('a silent watch ends, a watch that is not begun too, and both give their connection back', async () => {
  const { client, server } = await serve(({ path }, response) => {
    if (path === '/silent') {
      response.writeHead(200);
      response.write('{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}\n');
    }
  });
  await rejects(collect(client.watch('/silent', { silenceMs: 100 })), 'Timeout');
  await rejects(collect(client.watch('/never', { deadlineMs: 100 })), 'Timeout');
  await rejects(collect(client.watch('/silent', { signal: AbortSignal.timeout(100) })), 'Aborted');
  for await (const _line of client.watch('/silent')) break;
  for (let tries = 0; (await server.connections()) > 0; tries++) {
    assert.ok(tries < 200, 'a connection stays open');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test('watches never starve requests', async () => {
  const { client } = await serve(
    ({ path }, response) => {
      if (path === '/watch') response.writeHead(200).flushHeaders();
      else sendJson(response, 200, {});
    },
    { connections: 2 },
  );
  const stop = new AbortController();
  const watches = Array.from({ length: 40 }, () =>
    collect(client.watch('/watch', { signal: stop.signal })).catch(() => 0),
  );
  const answers = await Promise.all(Array.from({ length: 10 }, () => client.get('/x')));
  assert.ok(answers.every(({ kind }) => kind === 'Ok'));
  stop.abort();
  await Promise.all(watches);
});

test('a list whose moment passed begins anew', async () => {
  const item = (n: number): KubeObject => ({ metadata: { name: `n${n}`, resourceVersion: '1' } });
  let expire = true;
  const { client, server } = await serve(({ query }, response) => {
    const from = Number(query.get('continue') ?? 0);
    if (from === 4 && expire) {
      expire = false;
      sendJson(response, 410, { code: 410, reason: 'Expired', message: 'the token is too old' });
      return;
    }
    const limit = Number(query.get('limit'));
    const to = Math.min(10, from + limit);
    sendJson(response, 200, {
      kind: 'ThingList',
      apiVersion: 'v1',
      metadata: { resourceVersion: '7', ...(to < 10 ? { continue: String(to) } : {}) },
      items: Array.from({ length: to - from }, (_, index) => item(from + index)),
    });
  });
  const pages: string[] = [];
  const end = await listPages(client, '/things', { pageSize: 4 }, (items, { restarted }) => {
    pages.push(`${restarted} ${items.map(({ metadata, kind }) => `${kind}/${metadata.name}`).join()}`);
  });
  assert.deepEqual(end, { kind: 'Listed', resourceVersion: '7' });
  assert.equal(pages.length, 4);
  assert.equal(pages[1], 'true Thing/n0,Thing/n1,Thing/n2,Thing/n3');
  assert.deepEqual(
    server.requests.map(({ query }) => query.get('continue') ?? ''),
    ['', '4', '', '4', '8'],
  );
});

test('pages shrink where objects are large', async () => {
  const { client, server } = await serve(({ query }, response) => {
    const from = Number(query.get('continue') ?? 0);
    const to = Math.min(8, from + Number(query.get('limit')));
    sendJson(response, 200, {
      metadata: { resourceVersion: '7', ...(to < 8 ? { continue: String(to) } : {}) },
      items: Array.from({ length: to - from }, (_, index) => ({
        metadata: { name: `n${from + index}`, resourceVersion: '1' },
        text: 'x'.repeat(1000),
      })),
    });
  });
  const names: string[] = [];
  const end = await listPages(client, '/things', { pageSize: 8, maxBytes: 3000 }, (items) => {
    for (const { metadata } of items) names.push(metadata.name);
  });
  assert.equal(end.kind, 'Listed');
  assert.deepEqual(names, ['n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7']);
  assert.equal(server.requests.length, 5, 'one that was too large, four of two');
  await rejects(
    listPages(client, '/things', { pageSize: 8, maxBytes: 500 }, () => undefined),
    'TooLarge',
  );
});

test('the parts of the HTTP library are those that its index gives', () => {
  assert.equal(Agent, undici.Agent);
  assert.equal(ProxyAgent, undici.ProxyAgent);
  assert.equal(buildConnector, undici.buildConnector);
  assert.equal(request, (undici.Dispatcher.prototype as unknown as { request: unknown }).request);
});

test('through a proxy the tunnel is asked for, and TLS is with the server', async () => {
  const certificates = await testCertificates(['api.test']);
  const target = https.createServer(certificates.server, (request, response) =>
    sendJson(response, 200, { host: request.headers.host, authorization: request.headers.authorization }),
  );
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const asked: string[] = [];
  const proxy = http.createServer();
  proxy.on('connect', (request, socket) => {
    asked.push(`${request.url} ${request.headers.authorization ?? 'without credentials'}`);
    const through = net.connect((target.address() as net.AddressInfo).port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      through.pipe(socket).pipe(through);
    });
    through.on('error', () => socket.destroy());
    socket.on('error', () => through.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const client = createKubeClient({
    ...tokenAccess('https://api.test:6443', 'secret', certificates.ca),
    tlsServerName: 'api.test',
    proxyUrl: `http://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`,
  });
  ends.push(
    () => client.close(),
    async () => {
      target.closeAllConnections();
      await new Promise((resolve) => target.close(resolve));
      await new Promise((resolve) => proxy.close(resolve));
    },
  );
  assert.deepEqual(await client.get('/x'), {
    kind: 'Ok',
    value: { host: 'api.test:6443', authorization: 'Bearer secret' },
  });
  assert.deepEqual(asked, ['api.test:6443 without credentials']);
});

test('a server that the authority did not sign is not spoken to', async () => {
  const [mine, other] = await Promise.all([testCertificates(), testCertificates()]);
  let heard = 0;
  const target = https.createServer(mine.server, (_request, response) => {
    heard++;
    sendJson(response, 200, {});
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  const url = `https://127.0.0.1:${(target.address() as net.AddressInfo).port}`;
  let { ca } = other;
  const client = createKubeClient({
    server: url,
    get ca() {
      return ca;
    },
    headers: () => ({ authorization: 'Bearer secret' }),
  });
  ends.push(
    () => client.close(),
    () => {
      target.closeAllConnections();
      return new Promise((resolve) => target.close(() => resolve()));
    },
  );
  await rejects(client.get('/x'), 'Unreachable');
  assert.equal(heard, 0);
  ca = mine.ca;
  assert.equal((await client.get('/x')).kind, 'Ok', 'a rotated authority is taken up by the same client');
});
