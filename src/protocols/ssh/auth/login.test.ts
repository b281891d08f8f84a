// Both halves of a login against each other, and each against a peer that does odd things, over transports in memory.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import {
  type AuthGatewayOptions,
  authGateway,
  type FakeTransport,
  transportPair,
  upstreamLogin,
} from '../../../../test/support/ssh-auth.ts';
import { type ManualClock, manualClock } from '../../../system/manual-clock.ts';
import type { Credential } from '../../credential.ts';
import { readData, writeData } from '../wire/data.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import { LoginError, logIn, type UpstreamLogin } from './client.ts';
import { infoRequest } from './messages.ts';
import { authenticateClient } from './server.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const raw = publicKey.export({ format: 'jwk' }).x!;
const keyCredential: Credential = { kind: 'Key', username: 'deploy', privateKey: pem, hosts: [] };
const passwordCredential: Credential = { kind: 'Password', username: 'deploy', password: 'pass word', hosts: [] };
const authority = { seed: randomBytes(32), certificates: () => [] };

const grantsKey: AuthGatewayOptions['grants'] = (proof) =>
  proof.kind === 'Key' && proof.publicKey === raw ? 'Granted' : undefined;

test('the key of a grant opens it; user and grant are told apart', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({ grants: grantsKey });
  const [login] = await Promise.all([
    authenticateClient(server, gateway.context),
    logIn(client, upstreamLogin(keyCredential, { user: 'deploy+bastion-7fk2p+x' })),
  ]);
  assert.equal(login.kind, 'Granted');
  if (login.kind !== 'Granted') return;
  assert.equal(login.user, 'deploy');
  assert.equal(login.login, 'deploy+bastion-7fk2p+x');
  assert.deepEqual(gateway.proofs, [{ kind: 'Key', publicKey: raw, user: 'deploy+bastion-7fk2p+x' }]);
  assert.ok(Object.values(login.rights).every(Boolean));
  assert.match(login.by, /^publickey SHA256:/);
});

test('a certificate that was minted opens what believes its authority, with the rights it was given', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({ grants: (proof) => (proof.kind === 'Certificate' ? 'Granted' : undefined) });
  const credential: Credential = { kind: 'Authority', users: ['deploy'] };
  const [login] = await Promise.all([
    authenticateClient(server, gateway.context),
    logIn(client, upstreamLogin(credential, { keys: authority, permits: { pty: true } })),
  ]);
  assert.equal(login.kind, 'Granted');
  if (login.kind !== 'Granted') return;
  assert.deepEqual(login.rights, { pty: true, portForwarding: false, agentForwarding: false, x11Forwarding: false });
  assert.ok(server.isAuthenticated && client.isAuthenticated);
  assert.match(login.by, /^publickey SHA256:\S+ certificate "sallyport session=s-1 grant=g user=ana@corp.example"$/);
});

test('what comes between SUCCESS and its owner waits, in order, and so does the end', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({ grants: grantsKey });
  const [, { handOver }] = await Promise.all([
    authenticateClient(server, gateway.context).then(() => {
      for (const number of [1, 2, 3]) server.send(Buffer.from([MSG.GLOBAL_REQUEST, number]));
      server.disconnect(DISCONNECT.BY_APPLICATION, 'bye');
    }),
    logIn(client, upstreamLogin(keyCredential)),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const seen: string[] = [];
  handOver({
    onMessage: (payload) => void seen.push(payload.toString('hex')),
    onClose: (end) => void seen.push(end.disconnect?.text ?? ''),
  });
  assert.deepEqual(seen, ['5001', '5002', '5003', 'bye']);
});

test('a user that is none of the account’s is told which are, and the session that was granted ends', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({ grants: grantsKey });
  const told: string[] = [];
  const original = server.send.bind(server);
  server.send = (payload) => {
    if (payload[0] === MSG.USERAUTH_BANNER) told.push(readData(payload, 1).text());
    return original(payload);
  };
  const [login] = await Promise.all([
    authenticateClient(server, gateway.context, {
      refuses: async (_session, user) => ({ message: `no user ${user}`, hint: 'Log in as ops.\u001b[2J' }),
    }),
    assert.rejects(logIn(client, upstreamLogin(keyCredential)), LoginError),
  ]);
  assert.equal(login.kind, 'Gone');
  assert.deepEqual(told, ['no user deploy\r\nLog in as ops. [2J\r\n']);
  assert.deepEqual(gateway.ended, ['Refused']);
  assert.ok(!server.isAuthenticated);
});

test('INV-11: a client that says nothing is told after the deadline, and so is one that stops halfway', async () => {
  for (const step of [undefined, writeData({ byte: MSG.SERVICE_REQUEST }, { string: 'ssh-userauth' })]) {
    const clock: ManualClock = manualClock();
    const { server, client } = transportPair();
    const gateway = authGateway({ grants: grantsKey, clock, limits: { handshakeMs: 10_000 } });
    const pending = authenticateClient(server, gateway.context);
    if (step !== undefined) client.send(step);
    await new Promise((resolve) => setTimeout(resolve, 5));
    clock.advance(10_001);
    assert.equal((await pending).kind, 'Gone');
    assert.match(server.disconnected?.text ?? '', /took too long/);
  }
});

test('a client that leaves while the gateway thinks leaves no session behind', async () => {
  for (const how of ['leaves', 'is shut down'] as const) {
    const { server, client } = transportPair();
    const waiting = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    const gateway = authGateway({
      grants: grantsKey,
      wait: () => {
        asked.resolve();
        return waiting.promise;
      },
    });
    const pending = authenticateClient(server, gateway.context, {
      refuses: () => assert.fail('nobody is there to be refused'),
    });
    const up = logIn(client, upstreamLogin(keyCredential)).catch(() => undefined);
    await asked.promise;
    if (how === 'leaves') client.destroy();
    else gateway.abort();
    assert.equal((await pending).kind, 'Gone');
    waiting.resolve();
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(gateway.ended, ['ClientClosed']);
    assert.ok(!server.isAuthenticated);
    if (how === 'is shut down') await up;
  }
});

// ---- the other half: a target that does odd things ---------------------------------------------------------------

const accept = writeData({ byte: MSG.SERVICE_ACCEPT }, { string: 'ssh-userauth' });
const success = Buffer.from([MSG.USERAUTH_SUCCESS]);
const failure = (methods: string[], partial = false): Buffer =>
  writeData({ byte: MSG.USERAUTH_FAILURE }, { names: methods }, { boolean: partial });

/** Answers the n-th message with the n-th list. */
function target(server: FakeTransport, answers: readonly (readonly Buffer[])[]): Buffer[] {
  const seen: Buffer[] = [];
  server.onMessage = (payload) => {
    for (const answer of answers[seen.length] ?? []) server.send(answer);
    seen.push(payload);
  };
  return seen;
}

async function against(
  answers: readonly (readonly Buffer[])[],
  credential: Credential = passwordCredential,
  options: { peerSignatureAlgorithms?: readonly string[]; more?: Partial<UpstreamLogin> } = {},
): Promise<{ code: string; seen: Buffer[]; client: FakeTransport; error?: LoginError }> {
  const { server, client } = transportPair(options);
  const seen = target(server, answers);
  try {
    await logIn(client, upstreamLogin(credential, options.more));
    return { code: 'in', seen, client };
  } catch (error) {
    assert.ok(error instanceof LoginError, String(error));
    assert.ok(client.disconnected !== undefined || error.code === 'Closed');
    assert.ok(!client.isAuthenticated);
    assert.ok(!`${error.message} ${error.hint} ${error.stack}`.includes('pass word'));
    return { code: error.code, seen, client, error };
  }
}
const secrets = (seen: readonly Buffer[]): number => seen.filter((payload) => payload.includes('pass word')).length;
const hidden = (...texts: string[]): Buffer =>
  infoRequest(
    '',
    '',
    texts.map((text) => ({ text, echo: false })),
  );

test('a password goes by `password` where the target takes it, and to one prompt where it does not', async () => {
  const plain = await against([[accept], [failure(['publickey', 'password', 'keyboard-interactive'])], [success]]);
  assert.equal(plain.code, 'in');
  assert.equal(secrets(plain.seen), 1);
  const prompted = await against([
    [accept],
    [failure(['keyboard-interactive'])],
    [hidden('Password: ')],
    [infoRequest('', 'Last login: never', [])],
    [success],
  ]);
  assert.equal(prompted.code, 'in');
  assert.equal(secrets(prompted.seen), 1);
});

test('INV-05: a password is answered to one hidden prompt, once, and to nothing else', async () => {
  for (const [prompts, expected] of [
    [[infoRequest('', '', [{ text: 'Password: ', echo: true }])], 0],
    [[hidden('Password: ', 'Token: ')], 0],
    [[hidden('Password: ', 'Again: ')], 0],
  ] as const) {
    const { code, seen } = await against([[accept], [failure(['keyboard-interactive'])], prompts]);
    assert.equal(code, 'MoreWanted');
    assert.equal(secrets(seen), expected);
  }
  const again = await against([
    [accept],
    [failure(['keyboard-interactive'])],
    [hidden('Password: ')],
    [hidden('Password: ')],
  ]);
  assert.equal(again.code, 'MoreWanted');
  assert.equal(secrets(again.seen), 1);
  const refused = await against([
    [accept],
    [failure(['password', 'keyboard-interactive'])],
    [failure(['password', 'keyboard-interactive'])],
    [success],
  ]);
  assert.equal(refused.code, 'Refused');
  assert.equal(secrets(refused.seen), 1);
  const expired = await against([[accept], [failure(['password'])], [hidden('New password: ')]]);
  assert.equal(expired.code, 'Refused');
  const none = await against([[accept], [failure(['publickey'])]]);
  assert.equal(none.code, 'NoCommonMethod');
  assert.equal(secrets(none.seen), 0);
});

test('INV-05: nothing secret is sent before the service is accepted, and nothing for a success nobody asked for', async () => {
  for (const answers of [
    [[success]],
    [[failure(['password'])]],
    [[hidden('Password: ')]],
    [[accept, accept]],
    [[writeData({ byte: MSG.SERVICE_ACCEPT }, { string: 'ssh-connection' })]],
    [[accept], [Buffer.from([MSG.USERAUTH_SUCCESS, 0])]],
    [[accept], [Buffer.from([MSG.CHANNEL_OPEN])]],
    [[accept], [Buffer.from([MSG.USERAUTH_FAILURE, 1])]],
    [[accept], [failure(['keyboard-interactive'])], [writeData({ byte: 60 }, { string: '' }, { uint32: 0 })]],
    [[accept], [failure(['keyboard-interactive'])], Array.from({ length: 10 }, () => infoRequest('', '', []))],
    [Array.from({ length: 300 }, () => writeData({ byte: MSG.USERAUTH_BANNER }, { string: 'x' }, { string: '' }))],
  ]) {
    const { code, seen } = await against(answers);
    assert.equal(code, 'Protocol');
    assert.equal(secrets(seen), 0);
  }
});

test('a target that wants more, or closes, or never answers', async () => {
  const more = await against([[accept], [failure(['password'], true)]], keyCredential);
  assert.equal(more.code, 'MoreWanted');
  const partial = await against([[accept], [failure(['password'])], [failure(['publickey'], true)]]);
  assert.equal(partial.code, 'MoreWanted');
  assert.equal((await against([], keyCredential, { more: { deadlineMs: 20 } })).code, 'TimedOut');
  const { server, client } = transportPair();
  server.onMessage = () => server.disconnect(2, 'Too many authentication failures \u001b[2J');
  const error: unknown = await logIn(client, upstreamLogin(keyCredential)).catch((caught: unknown) => caught);
  assert.ok(error instanceof LoginError);
  assert.equal(error.code, 'Closed');
  assert.doesNotMatch(error.message, /Too many|\u001b/);
});

test('RSA signs by what the target lists; other keys do not depend on the list', async () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const credential: Credential = { kind: 'Key', username: 'deploy', privateKey: rsa.toString(), hosts: [] };
  const algorithmOf = (payload: Buffer): string => {
    const reader = readData(payload, 1);
    for (const expected of ['deploy', 'ssh-connection', 'publickey']) assert.equal(reader.text(), expected);
    assert.ok(reader.boolean());
    return reader.text();
  };
  for (const [peerSignatureAlgorithms, expected] of [
    [['ssh-ed25519', 'rsa-sha2-256', 'rsa-sha2-512'], 'rsa-sha2-512'],
    [['rsa-sha2-256'], 'rsa-sha2-256'],
    [undefined, 'rsa-sha2-512'],
  ] as const) {
    const list = peerSignatureAlgorithms === undefined ? {} : { peerSignatureAlgorithms };
    const { code, seen } = await against([[accept], [success]], credential, list);
    assert.equal(code, 'in');
    assert.equal(algorithmOf(seen[1]!), expected);
  }
  const none = await against([[accept], [success]], credential, {
    peerSignatureAlgorithms: ['ssh-rsa', 'ssh-ed25519'],
  });
  assert.equal(none.code, 'NoCommonAlgorithm');
  assert.equal(none.seen.length, 1);
  const ed = await against([[accept], [success]], keyCredential, { peerSignatureAlgorithms: ['rsa-sha2-256'] });
  assert.equal(ed.code, 'in');
});

test('what can not work is refused before a word is said', async () => {
  const past = { id: 's', grant: 'g', person: 'p', grantExpiresAtMs: Date.now() - 1 };
  for (const [credential, more, code] of [
    [{ kind: 'Authority', users: ['deploy'] }, { keys: undefined }, 'BadCredential'],
    [{ kind: 'Authority', users: ['other'] }, { keys: authority }, 'BadCredential'],
    [{ kind: 'Authority', users: ['deploy'] }, { keys: authority, session: past }, 'GrantEnded'],
    [{ ...keyCredential, privateKey: 'nonsense' }, {}, 'BadCredential'],
  ] as [Credential, Partial<UpstreamLogin>, string][]) {
    const { code: answered, seen } = await against([[accept], [success]], credential, { more });
    assert.equal(answered, code);
    assert.deepEqual(seen, []);
  }
});

test('a session that ends meanwhile: the target still gets its whole login, then a goodbye', async () => {
  const abort = new AbortController();
  const { server, client } = transportPair();
  const gateway = authGateway({ grants: grantsKey });
  const served = authenticateClient(server, gateway.context);
  const pending = logIn(client, upstreamLogin(keyCredential, { signal: abort.signal }));
  abort.abort();
  await assert.rejects(pending, (error) => error instanceof LoginError && error.code === 'Aborted');
  assert.equal((await served).kind, 'Granted');
  assert.equal(client.disconnected?.code, DISCONNECT.BY_APPLICATION);
});
