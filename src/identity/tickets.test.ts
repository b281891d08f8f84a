import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BundleGrant } from '../policy/bundle.ts';
import { systemRandom } from '../system/random.ts';
import { readClientKey } from './ed25519.ts';
import { generateClientKey } from './keys.ts';
import { claimedGrant, issueTicket, TICKET_BYTES, TICKET_HEADER, type TicketCheck, verifyTicket } from './tickets.ts';

const NOW = Date.parse('2026-03-01T12:00:00Z');
const CONNECTION = '3f2b7c1e-1111-4222-8333-444455556666';
const alice = generateClientKey();
const mallory = generateClientKey();

function grantOf(key: string, more: Partial<BundleGrant> = {}): BundleGrant {
  return {
    name: 'orders-db-7fk2p',
    uid: 'aaaaaaaa-0000-4000-8000-000000000001',
    specHash: 'h',
    principal: { username: 'alice', groups: [], aliases: [] },
    via: 'Local',
    account: 'reader',
    policy: 'payments/orders-team',
    clientKey: key,
    commandHashes: [],
    notBeforeMs: NOW - 60_000,
    expiresAtMs: NOW + 3_600_000,
    ticketUntilExpiry: false,
    ...more,
  };
}
const grants = [
  grantOf(alice.publicKey),
  grantOf(mallory.publicKey, { uid: 'bbbbbbbb-0000-4000-8000-000000000002', name: 'other' }),
];
const check = (more: Partial<TicketCheck> = {}): TicketCheck => ({
  connectionUid: CONNECTION,
  nowMs: NOW,
  grant: (uid) => grants.find((grant) => grant.uid === uid),
  isVoid: () => false,
  ...more,
});
const ticket = (more: Partial<Parameters<typeof issueTicket>[0]> = {}): string =>
  issueTicket({
    privateKey: alice.privateKey,
    grantUid: grants[0]!.uid,
    connectionUid: CONNECTION,
    nowMs: NOW,
    random: systemRandom,
    ...more,
  });

/** Signs whatever it is given, as an attacker with a key of their own would. */
function forge(header: string, payload: string, key = alice.privateKey): string {
  const signed = `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`;
  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`;
}
const claims = (more: object = {}): string =>
  JSON.stringify({
    sub: grants[0]!.uid,
    aud: CONNECTION,
    iat: NOW / 1000,
    exp: NOW / 1000 + 300,
    jti: 'abcdefghijkl',
    ...more,
  });
const fault = (secret: string, more: Partial<TicketCheck> = {}): string => {
  const verdict = verifyTicket(secret, check(more));
  return verdict.kind === 'Good' ? 'Good' : verdict.fault;
};

test('a fresh ticket proves its grant and is short', () => {
  const secret = ticket();
  const verdict = verifyTicket(secret, check());
  assert.equal(verdict.kind, 'Good');
  assert.equal(verdict.kind === 'Good' && verdict.grant.name, 'orders-db-7fk2p');
  assert.ok(secret.length < TICKET_BYTES, `${secret.length} bytes`);
  assert.equal(claimedGrant(secret), grants[0]!.uid);
  assert.equal(fault(secret), 'Good', 'reusable until it expires');
});

test('INV-01: a ticket whose header is not the one constant is refused, whatever it says', () => {
  for (const header of [
    '{"alg":"none","typ":"sallyport-ticket+jwt"}',
    '{"alg":"HS256","typ":"sallyport-ticket+jwt"}',
    '{"alg":"EdDSA","typ":"sallyport-ticket+jwt"}',
    '{"typ":"sallyport-ticket+jwt","alg":"Ed25519"}',
    '{"alg":"Ed25519", "typ":"sallyport-ticket+jwt"}',
    '{"alg":"Ed25519","typ":"JWT"}',
    '{"alg":"Ed25519","typ":"sallyport-ticket+jwt","kid":"x"}',
    `{"alg":"Ed25519","typ":"sallyport-ticket+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"${mallory.publicKey}"}}`,
  ]) {
    assert.equal(fault(forge(header, claims())), 'Header', header);
  }
  const [, payload] = ticket().split('.');
  assert.equal(fault(`${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`), 'Header');
});

test('INV-01: another grant’s key, another Connection, a void, old, future or long-lived ticket is refused', () => {
  assert.equal(fault(ticket({ privateKey: mallory.privateKey })), 'Signature');
  assert.equal(fault(ticket({ grantUid: 'cccccccc-0000-4000-8000-000000000003' })), 'UnknownGrant');
  assert.equal(fault(ticket({ connectionUid: 'another' })), 'Audience');
  assert.equal(fault(ticket(), { isVoid: () => true }), 'Void');
  assert.equal(fault(ticket(), { nowMs: NOW + 300_000 + 29_000 }), 'Good', 'within the skew');
  assert.equal(fault(ticket(), { nowMs: NOW + 300_000 + 30_000 }), 'Expired');
  assert.equal(fault(ticket(), { nowMs: NOW - 30_000 }), 'Good', 'within the skew');
  assert.equal(fault(ticket(), { nowMs: NOW - 31_000 }), 'FromTheFuture');
  assert.equal(fault(ticket({ lifetimeMs: 301_000 })), 'LivesTooLong');
  assert.equal(fault(forge(TICKET_HEADER, claims({ exp: NOW / 1000 - 10, iat: NOW / 1000 - 5 }))), 'LivesTooLong');
});

test('a ticket may live to the grant’s end, no longer, and only where the grant says so', () => {
  const lasting = check({ grant: () => grantOf(alice.publicKey, { ticketUntilExpiry: true }) });
  assert.equal(verifyTicket(ticket({ lifetimeMs: 3_600_000 }), lasting).kind, 'Good');
  assert.equal(verifyTicket(ticket({ lifetimeMs: 3_601_000 }), lasting).kind, 'Bad');
  assert.equal(fault(ticket({ lifetimeMs: 3_600_000 })), 'LivesTooLong');
});

test('INV-01: payloads that two readers could understand differently are refused', () => {
  const good = claims();
  assert.equal(fault(forge(TICKET_HEADER, good)), 'Good', 'the forger’s own spelling is right');
  for (const payload of [
    good.replace('{', `{"sub":"${grants[1]!.uid}",`), // JSON.parse would keep the last
    `${good.slice(0, -1)},"aud":"x"}`,
    `${good.slice(0, -1)},"adm":"x"}`,
    good.replace(',', ', '),
    ` ${good}`,
    `${good} `,
    `${good}{}`,
    good.replace('"sub"', '"\\u0073ub"'),
    good.replace(/"iat":\d+/, '"iat":"1"'),
    good.replace(/"iat":(\d+)/, '"iat":$1.0'),
    good.replace(/"iat":(\d+)/, '"iat":0$1'),
    good.replace(/"iat":\d+/, '"iat":-1'),
    good.replace(/"iat":\d+/, '"iat":1e9'),
    good.replace(/,"iat":\d+/, ''),
    good.replace('abcdefghijkl', 'a'),
    good.replace('abcdefghijkl', 'é€bcdefgh'),
    '[]',
    'null',
    '',
    '{}',
  ]) {
    assert.equal(fault(forge(TICKET_HEADER, payload)), 'Malformed', payload);
  }
});

test('INV-11: texts that are no ticket at all are refused before any cryptography', () => {
  const secret = ticket();
  for (const text of [
    '',
    '.',
    '..',
    '...',
    'a.b',
    'x'.repeat(1_000_000),
    `${secret}.`,
    `${secret}=`,
    ` ${secret}`,
    `${secret}\n`,
  ]) {
    const verdict = verifyTicket(text, check({ grant: () => assert.fail('looked a grant up') }));
    assert.equal(verdict.kind, 'Bad');
  }
});

test('INV-01: other spellings of a good signature or payload are refused', () => {
  const secret = ticket();
  const [header, payload, signature] = secret.split('.') as [string, string, string];
  const bytes = Buffer.from(signature, 'base64url');
  // s + L verifies under the curve's equation; RFC 8032 5.1.7 wants it refused.
  const L = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = BigInt(`0x${Buffer.from(bytes.subarray(32)).reverse().toString('hex')}`) + L;
  const malleable = Buffer.concat([
    bytes.subarray(0, 32),
    Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse(),
  ]);
  assert.equal(fault(`${header}.${payload}.${malleable.toString('base64url')}`), 'Signature');
  // 86 characters carry 516 bits: the last one's spare bits must be zero.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet[alphabet.indexOf(signature.at(-1)!) + 1]!;
  assert.equal(fault(`${header}.${payload}.${signature.slice(0, -1)}${last}`), 'Malformed');
  assert.equal(fault(`${header}.${payload}.${bytes.toString('base64')}`), 'Malformed');
});

// The eight points of small order, all encodings that decoders are known to accept.
const P = 2n ** 255n - 19n;
const Y8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
function encodings(): string[] {
  const ys = [0n, 1n, P - 1n, P, P + 1n, Y8, P - Y8];
  return ys.flatMap((y) =>
    [y, y | (1n << 255n)].map((value) =>
      Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse().toString('base64url'),
    ),
  );
}

test('INV-01: low-order public keys prove nothing, in no encoding', () => {
  for (const key of encodings()) assert.deepEqual(readClientKey(key), { kind: 'Unusable', reason: 'LowOrder' }, key);
  assert.equal(readClientKey(alice.publicKey).kind, 'Usable');
  for (const text of ['', 'x', `${alice.publicKey}=`, `${alice.publicKey}A`, alice.publicKey.slice(1)]) {
    assert.deepEqual(readClientKey(text), { kind: 'Unusable', reason: 'Malformed' });
  }
});

test('INV-01: the signature that anybody can make under the identity point is refused', () => {
  // R = identity, s = 0 satisfies s·B = R + k·A for A = identity, whatever is signed.
  const identity = Buffer.concat([Buffer.from([1]), Buffer.alloc(31)]);
  const universal = Buffer.concat([identity, Buffer.alloc(32)]).toString('base64url');
  const secret = `${Buffer.from(TICKET_HEADER).toString('base64url')}.${Buffer.from(claims()).toString('base64url')}.${universal}`;
  assert.equal(fault(secret, { grant: () => grantOf(identity.toString('base64url')) }), 'NoKey');
  assert.equal(fault(secret, { grant: () => grantOf(alice.publicKey) }), 'Signature');
});

test('INV-01: any flipped character of a ticket makes it worthless', () => {
  const secret = ticket();
  fc.assert(
    fc.property(fc.nat(secret.length - 1), fc.nat(255), (at, code) => {
      const changed = secret.slice(0, at) + String.fromCharCode(code) + secret.slice(at + 1);
      return changed === secret || verifyTicket(changed, check()).kind === 'Bad';
    }),
    { numRuns: 300 },
  );
});

test('arbitrary text never throws and never proves anything', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ maxLength: 700 }), fc.base64String()), (text) => {
      return verifyTicket(text, check()).kind === 'Bad';
    }),
    { numRuns: 200 },
  );
});

test('an RSA or EC key can not make tickets that pass', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signed = `${Buffer.from(TICKET_HEADER).toString('base64url')}.${Buffer.from(claims()).toString('base64url')}`;
  const signature = sign(
    'sha256',
    Buffer.from(signed),
    createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })),
  );
  assert.notEqual(fault(`${signed}.${signature.toString('base64url')}`), 'Good');
});
