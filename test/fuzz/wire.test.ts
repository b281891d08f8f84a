// Hostile bytes against a listening gateway, before and after login: every one of them may cost its own connection and
// nothing else. The target is a port nobody listens on where nothing may be dialled.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import tls from 'node:tls';
import fc from 'fast-check';
import { createPostgresProtocol } from '../../src/protocols/postgres/protocol.ts';
import { message, SSL_REQUEST, startupMessage } from '../../src/protocols/postgres/wire/messages.ts';
import { startTestGateway, type TestGateway, transparentPolicy } from '../support/session-context.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 60);
let gateway: TestGateway;
let insecure: TestGateway;

const start = (plain: boolean): Promise<TestGateway> =>
  startTestGateway({
    protocol: createPostgresProtocol(),
    spec: {
      type: 'PostgreSQL',
      postgresql: { host: '127.0.0.1', port: 1, insecureClients: plain },
      accounts: [{ name: 'writer', secretRef: { name: 'x' } }],
    },
    credential: { kind: 'Password', username: 'writer', password: 'w', hosts: [] },
    policy: transparentPolicy(),
    insecure: plain,
    limits: { handshakeMs: 400 },
  });

before(async () => {
  gateway = await start(false);
  insecure = await start(true);
});
after(async () => {
  await gateway?.close();
  await insecure?.close();
});

/** Sends and collects until the gateway closes. */
function exchange(port: number, chunks: readonly Buffer[], end = true): Promise<Buffer> {
  return new Promise((resolve) => {
    const received: Buffer[] = [];
    const socket = net.connect(port, '127.0.0.1', () => {
      for (const chunk of chunks) socket.write(chunk);
      if (end) socket.end();
    });
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(Buffer.concat(received)));
  });
}

const noise = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 });

test('INV-11: noise in place of a handshake ends that connection, with the process and the next client unharmed', async () => {
  await fc.assert(
    fc.asyncProperty(
      noise,
      fc.boolean(),
      fc.constantFrom('', 'ssl', 'startup', 'password'),
      async (chunks, plain, prefix) => {
        const lead = {
          '': [],
          ssl: [SSL_REQUEST],
          startup: [startupMessage({ user: 'a' })],
          password: [startupMessage({ user: 'a' }), message(0x70, 'wrong')],
        }[prefix];
        await exchange((plain ? insecure : gateway).port, [...lead, ...chunks.map((chunk) => Buffer.from(chunk))]);
      },
    ),
    { numRuns: RUNS },
  );
  assert.deepEqual(
    [...gateway.logs, ...insecure.logs].filter((line) => /REJECTED|^error/.test(line)),
    [],
  );
  const answer = await exchange(insecure.port, [startupMessage({ user: 'a' }), message(0x70, 'wrong')]);
  assert.match(answer.toString('latin1'), /28P01/);
});

test('INV-11: who says nothing, or too little, is told and closed at the deadline', async () => {
  for (const chunks of [
    [],
    [Buffer.from([0])],
    [Buffer.from([0, 0, 0, 50, 0])],
    [startupMessage({ user: 'a' })],
    [startupMessage({ user: 'a' }), Buffer.from([0x70, 0, 0])],
  ]) {
    const answer = await exchange(insecure.port, chunks, false);
    assert.match(answer.toString('latin1'), /FATAL|^$/);
  }
  await exchange(gateway.port, [SSL_REQUEST], false); // and no ClientHello
});

test('INV-11: giant and negative lengths are refused at once', async () => {
  for (const length of [-1, 0, 7, 10_001, 0x7fffffff]) {
    const bytes = Buffer.alloc(8);
    bytes.writeInt32BE(length);
    assert.match((await exchange(insecure.port, [bytes], false)).toString('latin1'), /08P01/);
  }
  const password = Buffer.from([0x70, 0x3f, 0xff, 0xff, 0xff]);
  assert.match(
    (await exchange(insecure.port, [startupMessage({ user: 'a' }), password], false)).toString('latin1'),
    /08P01/,
  );
});

test('bytes smuggled in front of TLS close the connection unanswered', async () => {
  const answer = await exchange(gateway.port, [Buffer.concat([SSL_REQUEST, startupMessage({ user: 'a' })])], false);
  assert.equal(answer.length, 0);
});

test('no password is asked for without TLS, and GSS is declined first', async () => {
  const gss = Buffer.from('0000000804d21630', 'hex');
  const plain = await exchange(gateway.port, [startupMessage({ user: 'a' })], false);
  assert.match(plain.toString('latin1'), /28000.*TLS connections only/s);
  const declined = await new Promise<string>((resolve) => {
    const socket = net.connect(gateway.port, '127.0.0.1', () => socket.write(gss));
    socket.once('data', (chunk: Buffer) => {
      socket.write(SSL_REQUEST);
      socket.once('data', (next: Buffer) => {
        socket.destroy();
        resolve(chunk.toString() + next.toString());
      });
    });
  });
  assert.equal(declined, 'NS');
});

test('direct TLS needs ALPN "postgresql"', async () => {
  const attempt = (alpn: string[] | undefined): Promise<string> =>
    new Promise((resolve) => {
      const socket = tls.connect(
        {
          host: 'localhost',
          port: gateway.port,
          ca: gateway.ca,
          ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
        },
        () => socket.write(startupMessage({ user: 'a' })),
      );
      socket.on('data', (chunk: Buffer) => {
        socket.destroy();
        resolve(chunk.toString('latin1', 0, 1));
      });
      socket.on('error', () => resolve('closed'));
      socket.on('close', () => resolve('closed'));
    });
  assert.equal(await attempt(['postgresql']), 'R');
  assert.equal(await attempt(undefined), 'closed');
  assert.equal(await attempt(['http/1.1']), 'closed');
});

test('INV-01: nobody was dialled for a client without a good ticket', () => {
  assert.deepEqual([...gateway.sessions, ...insecure.sessions], []);
});
