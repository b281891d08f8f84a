// Attempts to get in without a right to: raw ssh-userauth messages against the server's side of a login. The gateway behind it
// grants the grant's key, certificates of one authority and one ticket, and believes what it is told is verified; so whatever
// gets in here that should not, is this side's fault. Each attack ends refused, at the latest when its sender leaves.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import type { Proof } from '../../../src/protocols/protocol.ts';
import { authenticateClient, type ClientLogin } from '../../../src/protocols/ssh/auth/server.ts';
import type { Signer } from '../../../src/protocols/ssh/keys/key.ts';
import { readPublicKey } from '../../../src/protocols/ssh/keys/public-key.ts';
import { certified, ed25519Signer, signerOfKeyObject } from '../../../src/protocols/ssh/keys/signer.ts';
import { type Field, readData, writeData } from '../../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../../src/protocols/ssh/wire/message-numbers.ts';
import { type AuthGateway, authGateway, type FakeTransport, transportPair } from '../../support/ssh-auth.ts';
import { type RawCertificate, rawCertificate, softwareSecurityKey } from '../../support/ssh-keys.ts';

const HOSTBOUND = 'publickey-hostbound-v00@openssh.com';
const grantKey = ed25519Signer(Buffer.alloc(32, 1));
const otherKey = ed25519Signer(Buffer.alloc(32, 2));
const userKey = ed25519Signer(Buffer.alloc(32, 3));
const authority = ed25519Signer(Buffer.alloc(32, 4));
const foreignAuthority = ed25519Signer(Buffer.alloc(32, 5));
const rsaKey = signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
const ecKey = signerOfKeyObject(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
const TICKET = 'the-ticket';

const rawOf = (signer: Signer): string => {
  const key = readPublicKey(signer.blob);
  return key.kind === 'Ed25519' ? key.raw.toString('base64url') : assert.fail();
};

const grants = (proof: Proof): 'Granted' | undefined => {
  switch (proof.kind) {
    case 'Key':
      return proof.publicKey === rawOf(grantKey) && proof.user === 'deploy' ? 'Granted' : undefined;
    case 'Certificate':
      return proof.certificate.authority === authority.blob.toString('base64') &&
        proof.certificate.principals.includes('ana@corp.example')
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

const service = (name = 'ssh-userauth'): Buffer => writeData({ byte: MSG.SERVICE_REQUEST }, { string: name });

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

interface Request {
  user?: string;
  service?: string;
  method?: string;
  hasSignature?: number;
  algorithm?: string;
  /** What is shown. */
  blob?: Buffer;
  hostKey?: Buffer;
  /** Signs, in place of the shown key. */
  signer?: Signer;
  sessionId?: Buffer;
  /** The signature's own name. */
  signs?: string;
  /** What is signed, in place of the request as sent. */
  signed?: (request: Buffer) => Buffer;
  signature?: (signature: Buffer) => Buffer;
  trailing?: Buffer;
}

/** A signed request; what is not given is right. */
function request(server: FakeTransport, options: Request = {}): Buffer {
  const signer = options.signer ?? grantKey;
  const algorithm = options.algorithm ?? signer.algorithms[0]!;
  const fields = (hasSignature: number): Field[] => [
    { byte: MSG.USERAUTH_REQUEST },
    { string: options.user ?? 'deploy' },
    { string: options.service ?? 'ssh-connection' },
    { string: options.method ?? 'publickey' },
    { byte: hasSignature },
    { string: algorithm },
    { string: options.blob ?? signer.blob },
    ...(options.hostKey === undefined ? [] : [{ string: options.hostKey }]),
  ];
  const body = writeData(...fields(options.hasSignature ?? 1));
  if (options.hasSignature === 0) return writeData({ raw: body }, { raw: options.trailing ?? Buffer.alloc(0) });
  const covered = options.signed?.(body) ?? body;
  const data = writeData({ string: options.sessionId ?? server.sessionId }, { raw: covered });
  const name = options.signs ?? (signer.algorithms.includes(algorithm) ? algorithm : signer.algorithms[0]!);
  const signature = signer.sign(data, name);
  return writeData(
    { raw: body },
    { string: options.signature?.(signature) ?? signature },
    { raw: options.trailing ?? Buffer.alloc(0) },
  );
}

const offer = (server: FakeTransport, options: Request = {}): Buffer =>
  request(server, { hasSignature: 0, ...options });
const plain = (method: string, ...fields: Field[]): Buffer =>
  writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: 'deploy' },
    { string: 'ssh-connection' },
    { string: method },
    ...fields,
  );
const interactive = plain('keyboard-interactive', { string: '' }, { string: '' });
const response = (...answers: string[]): Buffer =>
  writeData(
    { byte: MSG.USERAUTH_INFO_RESPONSE },
    { uint32: answers.length },
    ...answers.map((answer) => ({ string: answer })),
  );

// ---- the right ways, so that the wrong ones mean something -------------------------------------------------------

test('the right ways in are open', async () => {
  await granted((server) => [request(server)]);
  await granted((server) => [request(server, { method: HOSTBOUND, hostKey: server.hostKey })]);
  await granted((server) => [offer(server), request(server)]);
  await granted((server) => [request(server, { signer: certificateSigner() })]);
  await granted(() => [interactive, response(TICKET)]);
  await granted((server) => [plain('none'), request(server, { signer: otherKey }), request(server)]);
  await granted((server) => [service(), plain('none'), service(), request(server)], { first: [] });
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

test('INV-01: a signature is over this session and this very request', async () => {
  const other = transportPair().server.sessionId;
  const replaced =
    (from: string, to: string) =>
    (body: Buffer): Buffer =>
      Buffer.from(body.toString('latin1').replace(from, to), 'latin1');
  const attack = await refused((server) => [
    request(server, { sessionId: other }),
    request(server, { sessionId: Buffer.alloc(0) }),
    request(server, { signed: replaced('deploy', 'deploz') }),
    request(server, { signed: replaced('ssh-connection', 'ssh-connectiom') }),
    request(server, { signed: (body) => body.subarray(1) }),
    request(server, { signed: () => Buffer.alloc(0) }),
  ]);
  assert.deepEqual(attack.gateway.proofs, []);
});

test('INV-01: a signature for one method is none for the other, nor for another host key', async () => {
  const unsigned = (server: FakeTransport, options: Request): Buffer => {
    const body = request(server, { ...options, hasSignature: 0 });
    body[body.indexOf(options.method ?? 'publickey') + (options.method ?? 'publickey').length] = 1;
    return body;
  };
  const attack = await refused((server) => {
    const bound = { method: HOSTBOUND, hostKey: server.hostKey };
    return [
      request(server, { ...bound, signed: () => unsigned(server, {}) }),
      request(server, { signed: () => unsigned(server, bound) }),
      request(server, { method: HOSTBOUND, hostKey: otherKey.blob }),
      request(server, { method: HOSTBOUND, hostKey: Buffer.alloc(0) }),
      request(server, { method: HOSTBOUND, hostKey: Buffer.concat([server.hostKey, Buffer.from([0])]) }),
    ];
  });
  assert.deepEqual(attack.gateway.proofs, []);
  await granted((server) => {
    const bound = { method: HOSTBOUND, hostKey: server.hostKey };
    return [request(server, { ...bound, signed: () => unsigned(server, bound) })];
  });
});

test('INV-01: the algorithm fits the key and the signature, and nothing trails', async () => {
  const rename = (signature: Buffer, name: string): Buffer => {
    const reader = readData(signature);
    reader.string();
    return writeData({ string: name }, { raw: reader.rest() });
  };
  const scripts: Script[] = [
    (server) => [request(server, { algorithm: 'rsa-sha2-256' })],
    (server) => [request(server, { algorithm: 'ssh-ed25519-cert-v01@openssh.com' })],
    (server) => [request(server, { algorithm: 'sk-ssh-ed25519@openssh.com' })],
    (server) => [request(server, { algorithm: '' })],
    (server) => [request(server, { signature: (signature) => rename(signature, 'rsa-sha2-256') })],
    (server) => [request(server, { signature: (signature) => rename(signature, '') })],
    (server) => [request(server, { signature: (signature) => Buffer.concat([signature, Buffer.from([0])]) })],
    (server) => [request(server, { signature: (signature) => signature.subarray(0, -1) })],
    (server) => [request(server, { signature: () => Buffer.alloc(0) })],
    (server) => [request(server, { blob: Buffer.concat([grantKey.blob, Buffer.from([0])]) })],
    (server) => [request(server, { blob: Buffer.alloc(0) })],
    (server) => [request(server, { trailing: Buffer.from([0]) })],
    (server) => [request(server, { hasSignature: 2 })],
    (server) => [request(server, { hasSignature: 255 })],
    (server) => [request(server, { hasSignature: 0, trailing: Buffer.from([0]) })],
    (server) => [request(server).subarray(0, -1)],
  ];
  for (const script of scripts) assert.deepEqual((await refused(script)).gateway.proofs, []);
});

test('an offer under a name that does not fit, or with a boolean that is none, is not accepted', async () => {
  const scripts: Script[] = [
    (server) => [offer(server, { algorithm: 'rsa-sha2-256' })],
    (server) => [offer(server, { algorithm: 'ssh-ed25519-cert-v01@openssh.com' })],
    (server) => [offer(server, { signer: certificateSigner(), algorithm: 'ssh-ed25519' })],
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
  for (const signer of [rsaKey, ecKey, softwareSecurityKey('ed25519'), softwareSecurityKey('ecdsa')]) {
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
  for (const users of [
    ['deploy', 'deploy+grant'],
    ['root', 'deploy'],
    ['deploy', 'deploy\0'],
    ['', 'deploy'],
  ] as const)
    await refused((server) => [offer(server, { user: users[0] }), request(server, { user: users[1] })]);
  for (const user of ['root', 'deploy\0', 'deploy ', 'Deploy', '', 'deploy\nroot'])
    await refused((server) => [request(server, { user })]);
  await refused((server) => [request(server, { user: 'd'.repeat(600) })]);
});

// ---- certificates ------------------------------------------------------------------------------------------------

function certificateSigner(options: Partial<RawCertificate> = {}, signer: Signer = userKey): Signer {
  const blob = rawCertificate({ key: signer.blob, authority, ...options });
  return {
    blob,
    algorithms: signer.algorithms.map((name) => `${name.replace('@openssh.com', '')}-cert-v01@openssh.com`),
    sign: (data) => signer.sign(data, signer.algorithms[0]!),
  };
}

const now = BigInt(Math.floor(Date.now() / 1000));
const text = (value: string): Buffer => writeData({ string: value });
const CERTIFICATES: Record<string, Partial<RawCertificate>> = {
  'of a foreign authority': { authority: foreignAuthority },
  'of a foreign authority that names ours': { authority: foreignAuthority, authorityBlob: authority.blob },
  'of ours that names a foreign one': { authorityBlob: foreignAuthority.blob },
  'by an authority that is a certificate itself': {
    authorityBlob: rawCertificate({ key: authority.blob, authority: foreignAuthority }),
  },
  'by the certified key itself': { authority: userKey },
  'for a host': { role: 2 },
  'for nobody': { role: 0 },
  'without principals': { principals: [] },
  'with an empty principal': { principals: ['', 'ana@corp.example'] },
  'with principals in one string': { principals: ['ana@corp.example,root'] },
  'with a wildcard': { principals: ['*'] },
  'with a pattern': { principals: ['ana@*', '!x', 'an?@corp.example'] },
  'with a NUL in its principal': { principals: ['ana@corp.example\0'] },
  'with a NUL and a tail': { principals: ['ana@corp.example\0.evil.example'] },
  'with bytes that are no text': { principals: [Buffer.from([0x61, 0xff])] },
  'with another case': { principals: ['ANA@corp.example'] },
  'with blanks around': { principals: [' ana@corp.example', 'ana@corp.example '] },
  'that has expired': { validBefore: now },
  'that is not valid yet': { validAfter: now + 60n },
  'whose time is negative if it were signed': { validAfter: 2n ** 63n, validBefore: 2n ** 64n - 1n },
  'whose time ends before it begins': { validAfter: now + 10n, validBefore: now - 10n },
  'with force-command': { critical: [['force-command', text('/bin/sh')]] },
  'with an unknown critical option': { critical: [['be-nice@corp.example', '']] },
  'with a permit among its critical options': { critical: [['permit-pty', '']] },
  'for another address': { critical: [['source-address', text('198.51.100.0/24')]] },
  'for an address that can not be read': { critical: [['source-address', text('everywhere')]] },
  'for no address': { critical: [['source-address', text('')]] },
  'with an address twice': {
    critical: [
      ['source-address', text('198.51.100.0/24')],
      ['source-address', text('192.0.2.0/24')],
    ],
  },
  'with options out of order': {
    critical: [
      ['verify-required', ''],
      ['source-address', text('192.0.2.0/24')],
    ],
  },
  'that wants a user verified and has a plain key': { critical: [['verify-required', '']] },
  'with something behind its end': { trailing: Buffer.from([0]) },
  'of another type than its key': { type: 'ssh-rsa-cert-v01@openssh.com' },
  'of a type that is not known': { type: 'ssh-ed25519-cert-v02@openssh.com' },
  'of a plain type': { type: 'ssh-ed25519' },
  'with a permit that has a value': { extensions: [['permit-pty', 'no']] },
  'with a permit twice': {
    extensions: [
      ['permit-pty', ''],
      ['permit-pty', ''],
    ],
  },
  'whose signature is empty': { signature: () => Buffer.alloc(0) },
  'whose signature is over another certificate': {
    signature: (signed) => authority.sign(Buffer.concat([signed, signed]), 'ssh-ed25519'),
  },
  'whose signature has a tail': {
    signature: (signed) => Buffer.concat([authority.sign(signed, 'ssh-ed25519'), Buffer.from([0])]),
  },
};
for (const [name, options] of Object.entries(CERTIFICATES))
  test(`INV-01: a certificate ${name}`, async () => {
    const signer = certificateSigner(options);
    await refused((server) => [offer(server, { signer }), request(server, { signer })]);
  });

test('INV-01: the proof is by the certified key, under the certificate’s name, over this session', async () => {
  const signer = certificateSigner();
  const by = (key: Signer): Signer => ({ ...signer, sign: (data) => key.sign(data, key.algorithms[0]!) });
  const attack = await refused((server) => [
    request(server, { signer: by(otherKey) }),
    request(server, { signer: by(authority) }),
    request(server, { signer: by(grantKey) }),
    request(server, { signer, algorithm: 'ssh-ed25519', signs: 'ssh-ed25519' }),
    request(server, { signer: userKey, algorithm: 'ssh-ed25519-cert-v01@openssh.com' }),
  ]);
  assert.deepEqual(attack.gateway.proofs, []);
  await refused((server) => [request(server, { signer, sessionId: Buffer.alloc(32) })]);
});

test('INV-01: the key inside a certificate opens nothing as a grant’s key, nor the other way', async () => {
  // A stranger's authority certifies the key of the grant: only its owner can sign, but then it is a certificate.
  const attack = await refused((server) => [
    request(server, { signer: certificateSigner({ authority: foreignAuthority }, grantKey) }),
  ]);
  assert.deepEqual(
    attack.gateway.proofs.map(({ kind }) => kind),
    ['Certificate'],
  );
});

test('a certificate takes away what it does not permit', async () => {
  const login = async (extensions: RawCertificate['extensions']): Promise<unknown> => {
    const signer = certificateSigner(extensions === undefined ? {} : { extensions });
    const attack = await granted((server) => [request(server, { signer })]);
    return attack.login?.kind === 'Granted' ? attack.login.rights : undefined;
  };
  const none = { pty: false, portForwarding: false, agentForwarding: false, x11Forwarding: false };
  assert.deepEqual(await login([]), none);
  assert.deepEqual(await login([['permit-everything', '']]), none);
  assert.deepEqual(await login([['permit-agent-forwarding', '']]), { ...none, agentForwarding: true });
});

test('a bound certificate opens from its address alone, and never through a tunnel', async () => {
  const signer = certificateSigner({ critical: [['source-address', text('192.0.2.0/24')]] });
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
    const signer = certificateSigner(options, key);
    await (opens ? granted : refused)((server) => [request(server, { signer })]);
  }
  assert.throws(() => certified(otherKey, certificateSigner().blob));
});

// ---- other methods and the order of things -----------------------------------------------------------------------

test('none, password, hostbased and what nobody knows let nobody in', async () => {
  const attack = await refused(() => [
    plain('none'),
    plain('password', { boolean: false }, { string: TICKET }),
    plain('password', { boolean: true }, { string: TICKET }, { string: TICKET }),
    plain('hostbased', { string: 'ssh-ed25519' }, { string: grantKey.blob }, { string: 'h' }, { string: 'u' }),
    plain('gssapi-with-mic', { uint32: 1 }),
    plain('gssapi-keyex', { string: '' }),
    plain('keyboard-interactive@corp.example'),
    plain(''),
    plain('PUBLICKEY'),
  ]);
  assert.deepEqual(attack.gateway.proofs, []);
});

test('empty, several and unasked answers', async () => {
  const scripts: [Script, number][] = [
    [() => [interactive, response('')], 0],
    [() => [interactive, response()], 0],
    [() => [interactive, response(TICKET, TICKET)], 0],
    [() => [interactive, Buffer.concat([response(TICKET), Buffer.from([0])])], 0],
    [() => [interactive, response('x'.repeat(20_000))], 0],
    [() => [response(TICKET)], 0],
    [() => [interactive, plain('none'), response(TICKET)], 0],
    [() => [interactive, service(), response(TICKET)], 0],
    [() => [interactive, response('wrong'), response(TICKET)], 1],
    [() => [interactive, response(`${TICKET}\0`)], 1],
    [() => [interactive, response(` ${TICKET}`)], 1],
  ];
  for (const [script, proofs] of scripts) assert.equal((await refused(script)).gateway.proofs.length, proofs);
});

test('only ssh-userauth before a login, only ssh-connection after it', async () => {
  for (const first of [
    [service('ssh-connection')],
    [service('')],
    [service('ssh-userauth\0')],
    [Buffer.concat([service(), Buffer.from([0])])],
    [],
  ])
    assert.deepEqual((await refused((server) => [request(server)], { first })).gateway.proofs, []);
  for (const name of ['ssh-userauth', '', 'ssh-connection ', 'shell@corp.example'])
    assert.deepEqual((await refused((server) => [request(server, { service: name })])).gateway.proofs, []);
  const changed = await refused((server) => [plain('none'), request(server, { service: 'ssh-connection2' })]);
  assert.deepEqual(changed.gateway.proofs, []);
});

test('INV-01: no message of another layer is taken before SUCCESS', async () => {
  const session = writeData({ byte: 90 }, { string: 'session' }, { uint32: 0 }, { uint32: 1 }, { uint32: 1 });
  for (const payload of [
    session,
    writeData({ byte: 80 }, { string: 'tcpip-forward' }, { boolean: true }),
    writeData({ byte: 98 }, { uint32: 0 }, { string: 'exec' }, { boolean: true }, { string: 'id' }),
    writeData({ byte: 94 }, { uint32: 0 }, { string: 'id' }),
    Buffer.from([MSG.USERAUTH_SUCCESS]),
    Buffer.from([MSG.USERAUTH_FAILURE]),
    Buffer.from([MSG.USERAUTH_PK_OK]),
    Buffer.from([MSG.SERVICE_ACCEPT]),
    Buffer.from([255]),
  ]) {
    const alone = await refused(() => [payload]);
    assert.ok(alone.server.disconnected !== undefined);
    // In one go with the right request: the order that was promised is broken, and nobody gets in.
    await refused((server) => [payload, request(server)]);
    assert.ok((await refused((server) => [offer(server), payload])).server.disconnected !== undefined);
  }
});

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

test('INV-11: six failed proofs and no more, of whatever kind', async () => {
  const wrong: Script[] = [
    (server) => Array.from({ length: 6 }, () => request(server, { signer: otherKey })),
    (server) => Array.from({ length: 6 }, () => request(server, { blob: grantKey.blob, signer: otherKey })),
    () => Array.from({ length: 6 }, () => [interactive, response('wrong')]).flat(),
    () => Array.from({ length: 6 }, () => [interactive, response('')]).flat(),
    (server) => Array.from({ length: 6 }, () => request(server, { signer: rsaKey })),
  ];
  for (const script of wrong) {
    const attack = await refused((server) => [...script(server), request(server)]);
    assert.match(attack.server.disconnected?.text ?? '', /too many failed/);
    assert.ok(attack.gateway.proofs.length <= 6);
  }
  for (const script of wrong) await granted((server) => [...script(server).slice(0, -2), request(server)]);
});

test('INV-11: twenty offers and no more', async () => {
  const offers = (server: FakeTransport, count: number): Buffer[] =>
    Array.from({ length: count }, (_, at) => (at % 2 === 0 ? offer(server, { signer: otherKey }) : plain('none')));
  await granted((server) => [...offers(server, 20), request(server)]);
  const attack = await refused((server) => [...offers(server, 21), request(server)]);
  assert.match(attack.server.disconnected?.text ?? '', /too many/);
  const prompts = await refused(() => Array.from({ length: 21 }, () => interactive));
  assert.match(prompts.server.disconnected?.text ?? '', /too many/);
});

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
  const whole = (server: FakeTransport): Buffer => request(server, { signer: certificateSigner() });
  const length = whole(transportPair().server).length;
  for (let cut = 1; cut < length; cut += 13) await refused((server) => [whole(server).subarray(0, cut)]);
  for (let at = 1; at < length; at += 11)
    await refused((server) => {
      const bent = whole(server);
      bent[at]! ^= 0x80;
      return [bent];
    });
});
