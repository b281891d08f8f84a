// The gateway's own login at the database: which proofs it gives, which it demands, and what it tells when it will not.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ConnectionSpec } from '../../../src/api/connection.ts';
import { createPostgresProtocol } from '../../../src/protocols/postgres/protocol.ts';
import { connectUpstream, UpstreamError } from '../../../src/protocols/postgres/upstream/connect.ts';
import { ScramKeyCache } from '../../../src/protocols/postgres/upstream/scram.ts';
import { int32, message } from '../../../src/protocols/postgres/wire/messages.ts';
import { testCertificates } from '../../support/certificates.ts';
import { CONNECTION_UID, grantFor, rule, startHarness, until } from '../../support/gateway-harness.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';
import { rawConnect } from '../../support/raw-postgres.ts';
import { startTlsRelay, type TlsRelay } from '../../support/tls-relay.ts';

type Target = NonNullable<ConnectionSpec['postgresql']>;

const logIn = async (target: Target, username = 'writer', password = 'writer-secret'): Promise<Map<string, string>> => {
  const upstream = await connectUpstream({
    target,
    credential: { kind: 'Password', username, password, hosts: [] },
    dial: ({ host, port }, signal) =>
      new Promise((resolve, reject) => {
        const socket = net.connect({ host, port, signal });
        socket.once('connect', () => resolve(socket));
        socket.once('error', reject);
      }),
    database: 'postgres',
    settings: {},
    applicationName: 'test',
    signal: AbortSignal.timeout(20_000),
    keys: new ScramKeyCache(),
  });
  upstream.stream.destroy();
  return upstream.parameters;
};

const refused = async (attempt: Promise<unknown>, text: RegExp, hint?: RegExp): Promise<void> => {
  await assert.rejects(attempt, (error: unknown) => {
    assert.ok(error instanceof UpstreamError, String(error));
    assert.match(error.native.message, text);
    if (hint !== undefined) assert.match(error.native.hint ?? '', hint);
    assert.ok(!JSON.stringify([error.native, String(error.stack)]).includes('writer-secret'));
    return true;
  });
};

describe('a real server', { concurrency: 1 }, () => {
  let server: PostgresServer;
  let own: { key: string; cert: string };
  const target = (more: Partial<Target> = {}): Target => ({
    host: '127.0.0.1',
    port: server.port,
    tls: { ca: server.ca },
    ...more,
  });
  before(async () => {
    server = await startPostgres({
      setup: `create role writer login password 'writer-secret';
        create role in_clear login password 'writer-secret';
        create role trusted login password 'writer-secret';
        set password_encryption = 'md5';
        create role hashed login password 'writer-secret'`,
      settings: { log_connections: 'on' },
    });
    own = {
      key: fs.readFileSync(path.join(server.folder, 'server.key'), 'utf8'),
      cert: fs.readFileSync(path.join(server.folder, 'server.crt'), 'utf8'),
    };
    const hba = path.join(server.folder, 'data/pg_hba.conf');
    const lines = ['hashed all md5', 'in_clear all password', 'trusted all trust', 'all all scram-sha-256'].map(
      (line) => `host all ${line}`,
    );
    fs.writeFileSync(hba, `${lines.join('\n')}\n`);
    await server.query('select pg_reload_conf()');
    await until(() => server.log().includes('reloading configuration files'), 'the rules are read');
  });
  after(() => server.stop());

  for (const [role, method, setting] of [
    ['hashed', 'an MD5 hash', 'MD5'],
    ['in_clear', 'the password in clear', 'Cleartext'],
    ['trusted', 'no password at all', 'Trust'],
  ] as const) {
    test(`INV-05: a server that asks for ${method} gets no answer unless the Connection opts in`, async () => {
      const others = (['MD5', 'Cleartext', 'Trust'] as const).filter((one) => one !== setting);
      const hint = new RegExp(`add ${setting} to spec\\.postgresql\\.insecureAuthentication`);
      await refused(logIn(target(), role), new RegExp(`asks for ${method}`), hint);
      await refused(logIn(target({ insecureAuthentication: others }), role), new RegExp(`asks for ${method}`), hint);
      const parameters = await logIn(target({ insecureAuthentication: [setting] }), role);
      assert.match(parameters.get('server_version') ?? '', /^18/);
    });
  }

  const relayed = async (
    use: (relay: TlsRelay) => Promise<void>,
    material: { key: string; cert: string },
    change?: (chunk: Buffer) => Buffer,
  ): Promise<void> => {
    const relay = await startTlsRelay({
      target: { port: server.port, ca: server.ca },
      material,
      ...(change === undefined ? {} : { change }),
    });
    try {
      await use(relay);
    } finally {
      await relay.close();
    }
  };
  /** Rewrites the list of SASL mechanisms to the one without channel binding. */
  const withoutPlus = (chunk: Buffer): Buffer =>
    chunk.includes('SCRAM-SHA-256-PLUS\0') ? message(0x52, int32(10), 'SCRAM-SHA-256', Buffer.from([0])) : chunk;

  test('over TLS the login is bound to the certificate: SCRAM-SHA-256-PLUS is what is sent, and the server takes it', async () => {
    await relayed(async (relay) => {
      await logIn(target({ port: relay.port }));
      assert.match(relay.sent(), /SCRAM-SHA-256-PLUS\0[^]*p=tls-server-end-point,,n=,r=/);
      assert.ok(!relay.sent().includes('writer-secret'));
    }, own);
  });

  test('INV-05: a certificate that is trusted and not the server’s can not relay the login', async () => {
    const other = await testCertificates();
    await relayed(async (relay) => {
      await refused(
        logIn(target({ port: relay.port, tls: { ca: other.ca } })),
        /refused the Connection's own account|could not trust/,
      );
      assert.match(relay.sent(), /SCRAM-SHA-256-PLUS\0/);
    }, other.server);
  });

  test('INV-05: an offer with channel binding struck out is noticed by the server', async () => {
    await relayed(
      async (relay) => {
        await refused(logIn(target({ port: relay.port })), /database|account/);
        assert.match(relay.sent(), /SCRAM-SHA-256\0[^]*y,,n=,r=/);
      },
      own,
      withoutPlus,
    );
    assert.match(server.log(), /SCRAM channel binding negotiation error/);
  });

  test('INV-05: without TLS the password is proven, never sent; a wrong one is told without its name', async () => {
    await logIn(target({ tls: { mode: 'InsecureDisable' } }));
    await refused(
      logIn(target(), 'writer', 'wrong'),
      /the database refused the Connection's own account/,
      /Nothing is wrong with your login/,
    );
  });

  test('INV-01: certificates that are not trusted or name another host end it before a byte of the login', async () => {
    const relay = await startTlsRelay({ material: own });
    try {
      const other = await testCertificates();
      for (const [tls, text, hint] of [
        [
          { ca: other.ca },
          /could not secure the connection to the database at 127\.0\.0\.1:[0-9]+: its certificate is signed by no CA/,
          /spec\.postgresql\.tls\.ca\./,
        ],
        [{}, /its certificate is signed by no CA that the Connection trusts/, /spec\.postgresql\.tls\.ca\./],
        [
          { ca: server.ca, serverName: 'orders.example' },
          /its certificate is not for orders\.example/,
          /spec\.postgresql\.tls\.serverName/,
        ],
      ] as const) {
        await refused(logIn(target({ port: relay.port, tls })), text, hint);
      }
      assert.equal(relay.sent(), '');
      const log = server.log();
      // VerifyCA forgives the name only, InsecureSkipVerify everything; both are spelled out in the Connection.
      await logIn(target({ tls: { mode: 'VerifyCA', ca: server.ca, serverName: 'orders.example' } }));
      await logIn(target({ tls: { mode: 'InsecureSkipVerify' } }));
      await refused(logIn(target({ tls: { mode: 'VerifyCA', ca: other.ca } })), /could not secure/);
      assert.equal(server.log().slice(log.length).split('connection authorized').length - 1, 2);
    } finally {
      await relay.close();
    }
  });
});

/** Says what it is told after each message of the client; without TLS. */
async function liar(answers: ((received: string) => Buffer)[]): Promise<{ port: number; close(): void }> {
  const server = net.createServer((socket) => {
    let turn = 0;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      const answer = answers[turn]?.(chunk.toString('latin1'));
      turn += 1;
      if (answer !== undefined) socket.write(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as net.AddressInfo).port, close: () => void server.close() };
}

const sasl = (code: number, text: string): Buffer => message(0x52, int32(code), Buffer.from(text));
const offer = (): Buffer => sasl(10, 'SCRAM-SHA-256\0\0');
const challenge =
  (iterations: number, salt = 'c2FsdA==') =>
  (received: string): Buffer =>
    sasl(11, `r=${/r=([^,]*)$/.exec(received)![1]}server,s=${salt},i=${iterations}`);
const accepted = (): Buffer =>
  Buffer.concat([message(0x52, int32(0)), message(0x53, 'server_version', '18.4'), message(0x5a, Buffer.from('I'))]);

describe('a server that only pretends', () => {
  for (const [name, answers, text] of [
    [
      'a wrong signature',
      [offer, challenge(4096), () => Buffer.concat([sasl(12, `v=${Buffer.alloc(32).toString('base64')}`), accepted()])],
      /could not trust the database at 127\.0\.0\.1:[0-9]+: the server did not prove that it knows the password/,
    ],
    ['no signature', [offer, challenge(4096), accepted], /asks for no password at all/],
    ['no challenge', [accepted], /asks for no password at all/],
    ['the clear password after a challenge', [offer, () => message(0x52, int32(3))], /asks for the password in clear/],
    ['200,001 iterations', [offer, challenge(200_001)], /asks for 200001 iterations; 4096 to 200000 are accepted/],
    ['2 billion iterations', [offer, challenge(2_000_000_000)], /iterations/],
    ['few iterations', [offer, challenge(1)], /asks for 1 iterations/],
  ] as [string, ((received: string) => Buffer)[], RegExp][]) {
    test(`INV-05: ${name} is not believed`, async () => {
      const server = await liar(answers);
      try {
        const optedIn: Target['insecureAuthentication'] = name.startsWith('the clear') ? ['Cleartext'] : ['MD5'];
        await refused(
          logIn({
            host: '127.0.0.1',
            port: server.port,
            tls: { mode: 'InsecureDisable' },
            insecureAuthentication: name === 'no signature' ? ['Trust'] : optedIn,
          }),
          text,
        );
      } finally {
        server.close();
      }
    });
  }
});

test('INV-05: a target that the Secret does not list is refused before it is dialled', async (t) => {
  let dialled = 0;
  const target = net.createServer((socket) => {
    dialled += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  t.after(() => target.close());
  const { port } = target.address() as net.AddressInfo;
  const h = await startHarness(t, { bare: true, protocols: [createPostgresProtocol()], tlsFor: () => undefined });
  h.policy(
    { rules: [rule('all', 'Allow')] },
    { type: 'PostgreSQL', postgresql: { host: '127.0.0.1', port, insecureClients: true } },
  );
  h.grants(grantFor(h.clock));
  h.overlay();
  h.heartbeat();
  await until(() => h.gateway.endpoints().size === 1, 'listening');
  for (const hosts of [[], ['db.example'], [`127.0.0.1:${port + 1}`], ['127.0.0.*']]) {
    Object.assign(h.credential, { hosts });
    await assert.rejects(
      rawConnect({ port: h.gateway.endpoints().get(CONNECTION_UID)!.port, password: h.ticket(grantFor(h.clock)) }),
      /does not list 127\.0\.0\.1:[0-9]+ in its key sallyport-hosts/,
    );
  }
  assert.equal(dialled, 0);
  Object.assign(h.credential, { hosts: [`127.0.0.1:${port}`] });
  await assert.rejects(
    rawConnect({ port: h.gateway.endpoints().get(CONNECTION_UID)!.port, password: h.ticket(grantFor(h.clock)) }),
  );
  assert.equal(dialled, 1);
});
