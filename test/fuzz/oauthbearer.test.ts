// Hostile SASL messages against a listening gateway, inside TLS: each may cost its own connection and nothing else, none of
// them gets in, and what is read as a token is one.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import fc from 'fast-check';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import { int32, message, SSL_REQUEST, startupMessage } from '../../src/protocols/postgres/wire/messages.ts';
import { startTestGateway, type TestGateway, transparentPolicy } from '../support/session-context.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 60);
let gateway: TestGateway;
before(async () => {
  gateway = await startTestGateway({
    protocol: createPostgresProtocol(),
    spec: {
      type: 'PostgreSQL',
      postgresql: { host: '127.0.0.1', port: 1 },
      accounts: [{ name: 'writer', secretRef: { name: 'x' } }],
    },
    credential: { kind: 'Password', username: 'writer', password: 'w', hosts: [] },
    policy: transparentPolicy(),
    limits: { handshakeMs: 400 },
  });
  gateway.tokenSource = { discovery: 'https://id.corp.example/.well-known/openid-configuration', scope: 'openid' };
});
after(() => gateway?.close());

/** Sends all of it behind the startup packet and collects until the gateway closes. */
function exchange(chunks: readonly Buffer[]): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = net.connect(gateway.port, '127.0.0.1', () => socket.write(SSL_REQUEST));
    socket.once('data', () => {
      const received: Buffer[] = [];
      const stream = tls.connect({ socket, host: 'localhost', servername: 'localhost', ca: gateway.ca }, () => {
        for (const chunk of [startupMessage({ user: 'writer+oauth' }), ...chunks]) stream.write(chunk);
      });
      stream.on('data', (chunk: Buffer) => received.push(chunk));
      stream.on('error', () => undefined);
      stream.on('close', () => resolve(Buffer.concat(received)));
    });
    socket.on('error', () => undefined);
  });
}

const piece = fc.constantFrom(
  'n,,',
  'y,,',
  'p=x,,',
  'n,a=root,',
  '\x01',
  'auth=',
  'Bearer ',
  'bad.token',
  'a=b',
  '=',
  ',',
  '\0',
  '\xff',
);
const data = fc.oneof(
  fc.array(piece, { maxLength: 12 }).map((parts) => Buffer.from(parts.join(''), 'latin1')),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
);
const sasl = fc
  .tuple(data, fc.constantFrom('OAUTHBEARER', 'OAUTHBEARER', 'SCRAM-SHA-256', ''), fc.integer({ min: -3, max: 3 }))
  .map(([bytes, mechanism, off]) => message(0x70, mechanism, int32(bytes.length + off), bytes));
const raw = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
const response = data.map((bytes) => message(0x70, bytes));

test('INV-11: noise in place of a SASL exchange ends that connection and lets nobody in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(sasl, response, raw), { minLength: 1, maxLength: 3 }), async (chunks) => {
      const answer = await exchange(chunks);
      assert.ok(!answer.includes(Buffer.from('520000000800000000', 'hex')), 'no AuthenticationOk');
    }),
    { numRuns: RUNS },
  );
  assert.deepEqual(
    gateway.logs.filter((line) => /REJECTED|^error/.test(line)),
    [],
  );
  for (const proof of gateway.proofs) {
    assert.equal(proof.kind, 'Token');
    if (proof.kind === 'Token') assert.match(proof.token, /^[A-Za-z0-9\-._~+/]+=*$/);
  }
  const token = Buffer.from('n,,\x01auth=Bearer bad.token\x01\x01');
  const last = await exchange([
    message(0x70, 'OAUTHBEARER', int32(token.length), token),
    message(0x70, Buffer.from([1])),
  ]);
  assert.match(last.toString('latin1'), /invalid_token.*28000/s, 'the next client is served');
});
