// Attempts to get in without a right to: raw ssh-userauth messages against the server's side of a login. The gateway behind it
// grants the grant's key, certificates of two authorities and one ticket, and believes what it is told is verified; so whatever
// gets in here that should not, is this side's fault. Each attack ends refused, at the latest when its sender leaves.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Proof } from '../../../src/protocols/protocol.ts';
import { authenticateClient, type ClientLogin } from '../../../src/protocols/ssh/auth/server.ts';
import type { Signer } from '../../../src/protocols/ssh/keys/key.ts';
import { readPublicKey } from '../../../src/protocols/ssh/keys/public-key.ts';
import { certified, ed25519Signer } from '../../../src/protocols/ssh/keys/signer.ts';
import { type Field, readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { type AuthGateway, authGateway, type FakeTransport, transportPair } from '../../support/ssh-auth.ts';
import { type RawCertificate, softwareSecurityKey } from '../../support/ssh-keys.ts';
import { type LoginCast, loginAttacks, rsaAuthority } from '../../support/ssh-login-attacks.ts';
import {
  authRequest,
  certificateSigner,
  HOSTBOUND,
  type KeyRequest,
  keyOffer,
  keyRequest,
  promptRequest,
  promptAnswer as response,
  serviceRequest as service,
} from '../../support/ssh-login-messages.ts';

const USER = 'deploy';
const PERSON = 'ana@corp.example';
const grantKey = ed25519Signer(Buffer.alloc(32, 1));
const otherKey = ed25519Signer(Buffer.alloc(32, 2));
const userKey = ed25519Signer(Buffer.alloc(32, 3));
const authority = ed25519Signer(Buffer.alloc(32, 4));
const foreignAuthority = ed25519Signer(Buffer.alloc(32, 5));
const TICKET = 'the-ticket';

const cast: LoginCast = {
  user: USER,
  grantKey,
  principal: PERSON,
  authorities: [authority, rsaAuthority()],
  ownAuthorities: [ed25519Signer(Buffer.alloc(32, 6))],
  ticket: () => TICKET,
};
const AUTHORITIES = [authority, cast.authorities[1].signer].map(({ blob }) => blob.toString('base64'));

const rawOf = (signer: Signer): string => {
  const key = readPublicKey(signer.blob);
  return key.kind === 'Ed25519' ? key.raw.toString('base64url') : assert.fail();
};

const grants = (proof: Proof): 'Granted' | undefined => {
  switch (proof.kind) {
    case 'Key':
      return proof.publicKey === rawOf(grantKey) && proof.user === USER ? 'Granted' : undefined;
    case 'Certificate':
      return AUTHORITIES.includes(proof.certificate.authority) &&
        proof.certificate.principals.includes(PERSON) &&
        proof.user === USER
        ? 'Granted'
        : undefined;
    case 'Password':
      return proof.secret === TICKET && proof.once === true ? 'Granted' : undefined;
    case 'Token':
      return 'Granted';
  }
};

interface Attack {
  login: ClientLogin | undefined;
  gateway: AuthGateway;
  server: FakeTransport;
  answers: Buffer[];
}

type Script = (server: FakeTransport) => readonly Buffer[];

/** Sends all at once, waits until every answer is there, then leaves. */
async function play(script: Script, more: { first?: readonly Buffer[]; address?: string } = {}): Promise<Attack> {
  const { server, client } = transportPair();
  const gateway = authGateway({
    grants,
    recognises: () => true,
    ...(more.address === undefined ? {} : { address: more.address }),
  });
  const answers: Buffer[] = [];
  client.onMessage = (payload) => void answers.push(payload);
  let login: ClientLogin | undefined;
  const served = authenticateClient(server, gateway.context).then((done) => {
    login = done;
  });
  for (const payload of [...(more.first ?? [service()]), ...script(server)]) client.send(payload);
  // Everything is in memory: some turns of the event loop are enough for all of it.
  for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  client.destroy();
  await served;
  return { login, gateway, server, answers };
}

async function refused(script: Script, more: Parameters<typeof play>[1] = {}): Promise<Attack> {
  const attack = await play(script, more);
  assert.equal(attack.login?.kind, 'Gone');
  assert.ok(!attack.server.isAuthenticated);
  assert.ok(attack.answers.every((payload) => payload[0] !== MSG.USERAUTH_SUCCESS));
  for (const payload of attack.answers)
    if (payload[0] === MSG.USERAUTH_FAILURE) {
      const reader = readData(payload, 1);
      assert.deepEqual(reader.nameList(), ['publickey', 'keyboard-interactive']);
      assert.equal(reader.boolean(), false, 'no partial success, ever');
      reader.end();
    }
  return attack;
}

async function granted(script: Script, more: Parameters<typeof play>[1] = {}): Promise<Attack> {
  const attack = await play(script, more);
  assert.equal(attack.login?.kind, 'Granted', JSON.stringify([attack.login, attack.gateway.logs]));
  return attack;
}

const request = (server: FakeTransport, options: Partial<KeyRequest> = {}): Buffer =>
  keyRequest(server, { user: USER, signer: grantKey, ...options });
const offer = (server: FakeTransport, options: Partial<KeyRequest> = {}): Buffer =>
  keyOffer(server, { user: USER, signer: grantKey, ...options });
const plain = (method: string, ...fields: Field[]): Buffer => authRequest(USER, method, ...fields);
const interactive = promptRequest(USER);
const certificate = (options: Partial<RawCertificate> = {}, signer: Signer = userKey): Signer =>
  certificateSigner(signer, { authority, ...options });

// ---- every class, and its honest neighbours ----------------------------------------------------------------------

for (const { name, attacks, neighbours, unasked = false, told } of loginAttacks(cast))
  test(`INV-01: ${name}`, async () => {
    for (const attack of attacks) {
      const { gateway, server } = await refused(attack.script, attack);
      assert.ok(gateway.proofs.length <= (unasked ? 0 : 6), attack.name);
      if (told !== undefined) assert.match(server.disconnected?.text ?? '', told, attack.name);
    }
    for (const neighbour of neighbours) await granted(neighbour.script, neighbour);
  });

// ---- keys --------------------------------------------------------------------------------------------------------

test('INV-01: an offer proves nothing, however often it is made, and leaves nothing behind', async () => {
  const attack = await refused((server) => [
    offer(server),
    offer(server),
    offer(server, { method: HOSTBOUND, hostKey: server.hostKey }),
    plain('none'),
  ]);
  assert.deepEqual(attack.gateway.proofs, []);
  assert.equal(attack.answers.filter((payload) => payload[0] === MSG.USERAUTH_PK_OK).length, 3);
});

test('INV-01: a key that was offered is not a key that signs: A offered, B signed', async () => {
  const attack = await refused((server) => [
    offer(server),
    request(server, { signer: otherKey }),
    request(server, { blob: grantKey.blob, signer: otherKey }),
  ]);
  assert.deepEqual(
    attack.gateway.proofs.map((proof) => proof.kind === 'Key' && proof.publicKey),
    [rawOf(otherKey)],
    'the gateway hears of the key that signed',
  );
});

test('an offer under a name that does not fit, or with a boolean that is none, is not accepted', async () => {
  const scripts: Script[] = [
    (server) => [offer(server, { algorithm: 'rsa-sha2-256' })],
    (server) => [offer(server, { algorithm: 'ssh-ed25519-cert-v01@openssh.com' })],
    (server) => [offer(server, { signer: certificate(), algorithm: 'ssh-ed25519' })],
    (server) => {
      const odd = offer(server);
      odd[odd.indexOf('publickey') + 'publickey'.length] = 2;
      return [odd];
    },
  ];
  for (const script of scripts) {
    const attack = await refused(script);
    assert.ok(attack.answers.every((payload) => payload[0] !== MSG.USERAUTH_PK_OK));
    assert.deepEqual(attack.gateway.offers, []);
  }
});

test('the key of a grant is Ed25519: others are not looked up', async () => {
  for (const signer of [cast.authorities[1].signer, softwareSecurityKey('ed25519'), softwareSecurityKey('ecdsa')]) {
    const attack = await refused((server) => [offer(server, { signer }), request(server, { signer })]);
    assert.deepEqual([attack.gateway.offers, attack.gateway.proofs], [[], []]);
  }
});

test('the user name of a proof is the first request’s', async () => {
  const attack = await refused((server) => [
    writeData({ byte: 50 }, { string: 'deploy' }, { string: 'ssh-connection' }, { string: 'none' }),
    request(server, { user: 'root' }),
  ]);
  assert.match(attack.server.disconnected?.text ?? '', /user name may not change/);
  assert.deepEqual(attack.gateway.proofs, []);
});

// ---- certificates ------------------------------------------------------------------------------------------------

test('INV-01: the key inside a certificate opens nothing as a grant’s key, nor the other way', async () => {
  // A stranger's authority certifies the key of the grant: only its owner can sign, but then it is a certificate.
  const attack = await refused((server) => [
    request(server, { signer: certificate({ authority: foreignAuthority }, grantKey) }),
  ]);
  assert.deepEqual(
    attack.gateway.proofs.map(({ kind }) => kind),
    ['Certificate'],
  );
});

test('a certificate takes away what it does not permit', async () => {
  const login = async (extensions: RawCertificate['extensions']): Promise<unknown> => {
    const signer = certificate(extensions === undefined ? {} : { extensions });
    const attack = await granted((server) => [request(server, { signer })]);
    return attack.login?.kind === 'Granted' ? attack.login.rights : undefined;
  };
  const none = { pty: false, portForwarding: false, agentForwarding: false, x11Forwarding: false };
  assert.deepEqual(await login([]), none);
  assert.deepEqual(await login([['permit-everything', '']]), none);
  assert.deepEqual(await login([['permit-agent-forwarding', '']]), { ...none, agentForwarding: true });
});

test('a bound certificate opens from its address alone, and never through a tunnel', async () => {
  const signer = certificate({ critical: [['source-address', writeData({ string: '192.0.2.0/24' })]] });
  const script: Script = (server) => [request(server, { signer })];
  await granted(script, { address: '192.0.2.7' });
  await granted(script, { address: '::ffff:192.0.2.7' });
  for (const address of ['198.51.100.1', '192.0.2.7 via 10.0.0.1', '', '::1', '192.0.2'])
    await refused(script, { address });
});

test('a security key that nobody touched, or that did not ask who, proves nothing', async () => {
  const key = softwareSecurityKey('ed25519');
  const verify: Partial<RawCertificate> = { critical: [['verify-required', '']] };
  for (const [flags, options, opens] of [
    [1, {}, true],
    [0, {}, false],
    [4, {}, false],
    [1, verify, false],
    [5, verify, true],
  ] as const) {
    key.flags = flags;
    const signer = certificate(options, key);
    await (opens ? granted : refused)((server) => [request(server, { signer })]);
  }
  assert.throws(() => certified(otherKey, certificate().blob));
});

// ---- the order of things -----------------------------------------------------------------------

test('USERAUTH after SUCCESS is nothing: requests behind the one that was granted are never looked at', async () => {
  const attack = await granted((server) => [
    request(server),
    request(server, { user: 'root' }),
    request(server, { signer: otherKey }),
    interactive,
    response(TICKET),
  ]);
  assert.equal(attack.gateway.proofs.length, 1);
  assert.equal(attack.answers.length, 2);
  assert.equal(attack.login?.kind === 'Granted' && attack.login.user, 'deploy');
});

test('requests in one go are answered in order, one at a time', async () => {
  const attack = await granted((server) => [
    plain('none'),
    offer(server, { signer: otherKey }),
    request(server, { signer: otherKey }),
    interactive,
    response('wrong'),
    offer(server),
    request(server),
  ]);
  assert.deepEqual(
    attack.answers.map((payload) => payload[0]),
    [
      MSG.SERVICE_ACCEPT,
      MSG.USERAUTH_FAILURE,
      MSG.USERAUTH_PK_OK,
      MSG.USERAUTH_FAILURE,
      MSG.USERAUTH_INFO_REQUEST,
      MSG.USERAUTH_FAILURE,
      MSG.USERAUTH_PK_OK,
      MSG.USERAUTH_SUCCESS,
    ],
  );
});

// ---- limits ------------------------------------------------------------------------------------------------------

test('INV-11: floods and giants are cut off', async () => {
  const flood = await refused(() => Array.from({ length: 2_000 }, () => service()));
  assert.ok(flood.server.disconnected !== undefined);
  const giant = writeData({ byte: 50 }, { string: 'deploy' }, { string: 'ssh-connection' }, { string: 'publickey' });
  const large = writeData({ raw: giant }, { byte: 1 }, { string: 'ssh-ed25519' }, { string: Buffer.alloc(100_000) });
  assert.ok((await refused(() => [writeData({ raw: large }, { string: '' })])).server.disconnected !== undefined);
  assert.ok((await refused(() => [Buffer.alloc(600_000, 50)])).server.disconnected !== undefined);
});

test('INV-11: what waits behind a proof that is being looked at is bounded', async () => {
  const { server, client } = transportPair();
  const gateway = authGateway({ grants, recognises: () => true, wait: () => new Promise(() => undefined) });
  const served = authenticateClient(server, gateway.context);
  client.send(service());
  client.send(request(server));
  for (let count = 0; count < 100; count += 1) client.send(offer(server));
  assert.equal((await served).kind, 'Gone');
  assert.match(server.disconnected?.text ?? '', /too many messages at once/);
});

test('INV-11: whatever is cut short or bent costs its sender its own connection', async () => {
  const whole = (server: FakeTransport): Buffer => request(server, { signer: certificate() });
  const length = whole(transportPair().server).length;
  for (let cut = 1; cut < length; cut += 13) await refused((server) => [whole(server).subarray(0, cut)]);
  for (let at = 1; at < length; at += 11)
    await refused((server) => {
      const bent = whole(server);
      bent[at]! ^= 0x80;
      return [bent];
    });
});
