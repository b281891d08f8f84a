import assert from 'node:assert/strict';
import https from 'node:https';
import net from 'node:net';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import fc from 'fast-check';
import { testCertificates } from '../../test/support/certificates.ts';
import { type AdmissionServer, readReview, startAdmissionServer } from './admission-server.ts';

let server: AdmissionServer;
let ca: string;
const logged: string[] = [];
before(async () => {
  const certificates = await testCertificates();
  ca = certificates.ca;
  server = await startAdmissionServer({
    host: '127.0.0.1',
    port: 0,
    tls: certificates.server,
    handlerMs: 300,
    log: (_level, message, fields) => logged.push(`${message} ${JSON.stringify(fields)}`),
    handlers: {
      '/stamp': ({ userInfo }) => ({
        kind: 'Allow',
        patch: [{ op: 'add', path: '/spec/requester', value: userInfo.username }],
        warnings: ['x'.repeat(400)],
      }),
      '/deny': () => ({ kind: 'Deny', message: 'Sallyport refused it.', code: 422, reason: 'Invalid' }),
      '/throws': () => {
        throw new Error('the secret reason');
      },
      '/hangs': () => new Promise(() => undefined),
    },
  });
});
after(() => server.close(100));

interface Review {
  response: {
    uid: string;
    allowed: boolean;
    patch?: string;
    warnings?: string[];
    status?: { code: number; message: string };
  };
}
function post(
  path: string,
  body: string | Buffer,
  options: { method?: string; headers?: Record<string, string>; ca?: string } = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port: server.port,
        path,
        method: options.method ?? 'POST',
        ca: options.ca ?? ca,
        servername: 'localhost',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...options.headers },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}
const review = (request: Record<string, unknown> = {}): string =>
  JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u1',
      kind: { group: 'sallyport.dev', version: 'v1alpha1', kind: 'AccessGrant' },
      resource: { group: 'sallyport.dev', version: 'v1alpha1', resource: 'accessgrants' },
      operation: 'CREATE',
      userInfo: { username: 'alice', groups: ['payments'] },
      object: { spec: {} },
      ...request,
    },
  });
const ask = async (path: string, body = review()): Promise<Review['response']> =>
  (JSON.parse((await post(path, body)).text) as Review).response;

test('a handler allows with a patch, or denies with a sentence', async () => {
  const allowed = await ask('/stamp');
  assert.equal(allowed.uid, 'u1');
  assert.equal(allowed.allowed, true);
  assert.deepEqual(JSON.parse(Buffer.from(allowed.patch ?? '', 'base64').toString()), [
    { op: 'add', path: '/spec/requester', value: 'alice' },
  ]);
  assert.equal(allowed.warnings?.[0]?.length, 256);
  const denied = await ask('/deny');
  assert.deepEqual(
    [denied.allowed, denied.status?.code, denied.status?.message],
    [false, 422, 'Sallyport refused it.'],
  );
});

test('INV-04: a handler that throws or hangs denies, and tells its reason to the log alone', async () => {
  for (const path of ['/throws', '/hangs']) {
    const answer = await ask(path);
    assert.deepEqual([answer.allowed, answer.status?.code], [false, 500], path);
    assert.ok(!JSON.stringify(answer).includes('secret'));
  }
  assert.ok(logged.some((line) => line.includes('the secret reason')));
});

test('nonsense is refused with a 4xx', async () => {
  const status = async (...args: Parameters<typeof post>): Promise<number> => (await post(...args)).status;
  assert.equal(await status('/nowhere', review()), 404);
  assert.equal(await status('/__proto__', review()), 404);
  assert.equal(await status('/stamp', '', { method: 'GET' }), 405);
  assert.equal(await status('/stamp', review(), { headers: { 'content-type': 'text/plain' } }), 415);
  assert.equal(await status('/stamp', review(), { headers: { 'content-encoding': 'gzip' } }), 415);
  assert.equal(await status('/stamp', 'x'), 400);
  assert.equal(await status('/stamp', '[]'), 400);
  assert.equal(await status('/stamp', review({ userInfo: { groups: [] } })), 400);
  assert.equal(await status('/stamp', review({ operation: 'STEAL' })), 400);
  assert.equal(await status('/stamp', review({ userInfo: { username: 'a', groups: 'system:masters' } })), 400);
});

test('INV-11: a body that is too large is not read, declared or not', async () => {
  const refused = await post('/stamp', '', { headers: { 'content-length': String(4 * 2 ** 20) } });
  assert.equal(refused.status, 413);
  // In pieces the connection is cut while we still write; what matters is where.
  const outcome = await new Promise<{ kind: 'Answered'; status: number } | { kind: 'Cut' }>((resolve) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port: server.port,
        path: '/stamp',
        method: 'POST',
        ca,
        servername: 'localhost',
        agent: false,
      },
      (response) => {
        resolve({ kind: 'Answered', status: response.statusCode ?? 0 });
        response.resume().on('error', () => undefined);
      },
    );
    request.setHeader('content-type', 'application/json');
    request.on('error', () => resolve({ kind: 'Cut' }));
    const piece = Buffer.alloc(65_536, ' ');
    const more = (left: number): void => {
      if (left === 0) request.end(review());
      else if (!request.destroyed) request.write(piece, () => more(left - 1));
    };
    more(64);
  });
  assert.ok(outcome.kind === 'Cut' || outcome.status === 413, JSON.stringify(outcome));
  assert.equal((await ask('/deny')).allowed, false, 'it goes on serving');
});

test('INV-11: whatever is said to it, it goes on', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, secure) => {
      await new Promise<void>((resolve) => {
        const socket = secure
          ? tls.connect({ port: server.port, host: '127.0.0.1', ca, servername: 'localhost' })
          : net.connect(server.port, '127.0.0.1');
        const head =
          bytes.length % 2 === 0 ? 'POST /stamp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n' : '';
        socket.on('error', () => undefined).on('close', () => resolve());
        socket.end(Buffer.concat([Buffer.from(head), bytes]));
        socket.resume();
        setTimeout(() => socket.destroy(), 50);
      });
    }),
    { numRuns: 30 },
  );
  assert.equal((await ask('/stamp')).allowed, true);
});

test('INV-11: any JSON is either a request with what a handler relies on, or a sentence', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 3 }), (text) => {
      assert.equal(typeof readReview(text), 'string');
    }),
  );
  const member = fc.constantFrom(
    'uid',
    'kind',
    'resource',
    'operation',
    'userInfo',
    'object',
    'oldObject',
    'name',
    'dryRun',
  );
  fc.assert(
    fc.property(fc.dictionary(member, fc.jsonValue({ maxDepth: 2 })), (changed) => {
      const request = readReview(review(changed));
      if (typeof request === 'string') return;
      assert.equal(typeof request.uid, 'string');
      assert.equal(typeof request.userInfo.username, 'string');
      assert.ok(
        request.userInfo.groups === undefined || request.userInfo.groups.every((each) => typeof each === 'string'),
      );
      assert.equal(typeof request.dryRun, 'boolean');
      assert.equal(typeof request.kind.kind, 'string');
    }),
  );
});

test('a new certificate serves without a restart, a wrong one changes nothing', async () => {
  const next = await testCertificates();
  server.swapTls(next.server);
  await assert.rejects(post('/stamp', review()), 'the old authority did not sign it');
  assert.equal((await post('/stamp', review(), { ca: next.ca })).status, 200);
  assert.throws(() => server.swapTls({ cert: next.server.cert, key: 'nonsense' }));
  assert.equal((await post('/stamp', review(), { ca: next.ca })).status, 200);
  ca = next.ca;
});

test('whoever retires answers on, and keeps no connection', async () => {
  const certificates = await testCertificates();
  const own = await startAdmissionServer({
    host: '127.0.0.1',
    port: 0,
    tls: certificates.server,
    log: () => undefined,
    handlers: { '/stamp': () => ({ kind: 'Allow' }) },
  });
  const agent = new https.Agent({ keepAlive: true, ca: certificates.ca, servername: 'localhost' });
  const asked = (): Promise<(string | number | undefined)[]> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      https
        .request({ host: '127.0.0.1', port: own.port, path: '/stamp', method: 'POST', headers, agent }, (response) => {
          response.resume().on('end', () => resolve([response.statusCode, response.headers.connection]));
        })
        .on('error', reject)
        .end(review());
    });
  assert.deepEqual(await asked(), [200, 'keep-alive']);
  own.retire();
  assert.deepEqual(await asked(), [200, 'close']);
  assert.deepEqual(await asked(), [200, 'close']);
  agent.destroy();
  await own.close(100);
});
