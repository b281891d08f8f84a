// OAUTHBEARER as it is on the wire (RFC 7628, libpq's fe-auth-oauth.c), message by message.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import tls from 'node:tls';
import { int32, message, query, SSL_REQUEST, startupMessage } from '../../../src/protocols/postgres/wire/messages.ts';
import type { PostgresServer } from '../../support/postgres.ts';
import { gatewayFor, startTarget } from '../../support/postgres-gateway.ts';
import { fields, type RawClient, type RawMessage, wrap } from '../../support/raw-postgres.ts';
import type { TestGateway } from '../../support/session-context.ts';

const SOURCE = { discovery: 'https://id.corp.example/.well-known/openid-configuration', scope: 'openid sallyport' };
let server: PostgresServer;
let secure: TestGateway;
let plain: TestGateway;
const clients: RawClient[] = [];
before(async () => {
  server = await startTarget(18);
  secure = await gatewayFor(server, { tls: true });
  plain = await gatewayFor(server);
  secure.tokenSource = SOURCE;
});
afterEach(() => {
  for (const client of clients.splice(0)) client.socket.destroy();
  secure.proofs = [];
});
after(async () => {
  await secure?.close();
  await plain?.close();
  await server?.stop();
});

/** Up to the gateway's first message. */
async function begin(user = 'writer+oauth'): Promise<{ client: RawClient; first: RawMessage }> {
  const socket = net.connect(secure.port, '127.0.0.1');
  await new Promise((resolve) => {
    socket.write(SSL_REQUEST);
    socket.once('data', resolve);
  });
  const stream = tls.connect({ socket, host: 'localhost', servername: 'localhost', ca: secure.ca });
  await new Promise((resolve) => stream.once('secureConnect', resolve));
  const client = wrap(stream);
  clients.push(client);
  stream.write(startupMessage({ user, database: 'postgres' }));
  return { client, first: (await client.until(() => true))[0]! };
}

const initial = (text: string | undefined): Buffer =>
  text === undefined
    ? message(0x70, 'OAUTHBEARER', int32(-1))
    : message(0x70, 'OAUTHBEARER', int32(Buffer.byteLength(text)), Buffer.from(text));
const DUMMY = message(0x70, Buffer.from([1]));
const next = async (client: RawClient): Promise<RawMessage> => (await client.until(() => true))[0]!;
const code = (one: RawMessage): string => fields(one)['C']!;

test('the mechanism alone is offered, and only to who asks by the user name', async () => {
  const { first } = await begin();
  assert.equal(first.type, 'R');
  assert.equal(first.body.toString('latin1'), '\0\0\0\x0aOAUTHBEARER\0\0');
  assert.equal((await begin('writer')).first.body.readInt32BE(0), 3, 'cleartext, as ever');
  assert.equal((await begin('oauth')).first.body.readInt32BE(0), 3);
});

test('an empty token is answered with where to get one, then closed; nothing is tried', async () => {
  const { client } = await begin();
  client.send(initial('n,,\x01auth=\x01\x01'));
  const told = await next(client);
  assert.equal(told.body.readInt32BE(0), 11);
  assert.deepEqual(JSON.parse(told.body.toString('utf8', 4)), {
    status: 'invalid_token',
    'openid-configuration': SOURCE.discovery,
    scope: SOURCE.scope,
  });
  client.send(DUMMY);
  const error = await next(client);
  assert.equal(error.type, 'E');
  assert.equal(fields(error)['S'], 'FATAL');
  assert.equal(code(error), '28000');
  await client.closed;
  assert.deepEqual(secure.proofs, []);
});

test('a good token is answered AuthenticationOk and no SASLFinal; the user is what is before the suffix', async () => {
  const { client } = await begin('writer+some-grant+oauth');
  client.send(initial('n,,\x01host=localhost\x01auth=bearer good.token\x01\x01'));
  const ok = await next(client);
  assert.equal(ok.body.readInt32BE(0), 0);
  await client.ready();
  client.send(query('select 1'));
  await client.ready();
  assert.deepEqual(secure.proofs, [{ kind: 'Token', token: 'good.token', user: 'writer+some-grant' }]);
});

test('a client that waits for a challenge first gets an empty one', async () => {
  const { client } = await begin();
  client.send(initial(undefined));
  const challenge = await next(client);
  assert.equal(challenge.body.readInt32BE(0), 11);
  assert.equal(challenge.body.length, 4);
  client.send(message(0x70, Buffer.from('n,,\x01auth=Bearer good.token\x01\x01')));
  assert.equal((await next(client)).body.readInt32BE(0), 0);
});

test('INV-01: a bad token gets the JSON again, then our own words under 28000', async () => {
  const { client } = await begin();
  client.send(initial('n,,\x01auth=Bearer bad.token\x01\x01'));
  assert.equal(JSON.parse((await next(client)).body.toString('utf8', 4)).status, 'invalid_token');
  client.send(DUMMY);
  const error = await next(client);
  assert.equal(code(error), '28000', 'a password would be asked for again');
  assert.match(fields(error)['M']!, /not valid/);
  await client.closed;
});

test('INV-11: malformed messages are violations of the protocol', async () => {
  const right = 'n,,\x01auth=Bearer good.token\x01\x01';
  for (const bytes of [
    initial('p=tls-server-end-point,,\x01auth=Bearer good.token\x01\x01'),
    initial('n,a=root,\x01auth=Bearer good.token\x01\x01'),
    initial('n,,\x01auth=Bearer good.token\x01auth=Bearer good.token\x01\x01'),
    initial(right.slice(0, -1)),
    initial('n,,\x01auth=Bearer good token\x01\x01'),
    initial('n,,\x01auth=Bearer good.token\u00e4\x01\x01'),
    message(0x70, 'SCRAM-SHA-256', int32(right.length), Buffer.from(right)),
    message(0x70, 'good.token'),
    query('select 1'),
  ]) {
    const { client } = await begin();
    client.send(bytes);
    assert.equal(code(await next(client)), '08P01', bytes.toString('latin1'));
    await client.closed;
  }
  for (const answer of [message(0x70, Buffer.from([1, 1])), message(0x70, ''), initial(right), query('select 1')]) {
    const { client } = await begin();
    client.send(initial('n,,\x01auth=\x01\x01'));
    await next(client);
    client.send(answer);
    assert.equal(code(await next(client)), '08P01', 'only \\x01 answers a refusal');
    await client.closed;
  }
  const { client } = await begin();
  client.send(Buffer.from([0x70, 0, 1, 0, 0]));
  assert.equal(code(await next(client)), '08P01', 'far too long');
  assert.deepEqual(secure.proofs, []);
});

test('INV-01: commands behind a refused token are never read', async () => {
  const { client } = await begin();
  client.send(initial('n,,\x01auth=Bearer bad.token\x01\x01'), DUMMY, query('create table smuggled ()'));
  await client.closed;
  assert.deepEqual((await server.query("select 1 from pg_class where relname = 'smuggled'")).rows, []);
});

test('tokens are taken inside TLS only, whatever the Connection puts up with', async () => {
  const token = `${Buffer.from('{"alg":"RS256","kid":"k"}').toString('base64url')}.e30.AAAA`;
  const refusal = async (user: string, password?: string): Promise<RawMessage> => {
    const client = wrap(net.connect(plain.port, '127.0.0.1'));
    clients.push(client);
    client.send(startupMessage({ user, database: 'postgres' }));
    if (password !== undefined) {
      await next(client);
      client.send(message(0x70, password));
    }
    return next(client);
  };
  for (const error of [await refusal('writer+oauth'), await refusal('writer', token)]) {
    assert.equal(error.type, 'E');
    assert.equal(code(error), '28000');
    assert.match(fields(error)['M']!, /inside TLS only/);
  }
  assert.deepEqual(plain.proofs, []);
});

test('where no provider can be named, the error says so', async () => {
  secure.tokenSource = undefined;
  try {
    const { client } = await begin();
    client.send(initial('n,,\x01auth=\x01\x01'));
    assert.deepEqual(JSON.parse((await next(client)).body.toString('utf8', 4)), { status: 'invalid_token' });
    client.send(DUMMY);
    assert.match(fields(await next(client))['M']!, /no identity provider is known/);
  } finally {
    secure.tokenSource = SOURCE;
  }
});
