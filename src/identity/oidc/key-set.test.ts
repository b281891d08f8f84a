import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { KEY_SET_BYTES, MOST_KEYS, readKeySet } from './key-set.ts';

type Jwk = Record<string, unknown>;
const jwk = (key: KeyObject, more: object = {}): Jwk => ({ ...key.export({ format: 'jwk' }), ...more });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const good = jwk(ec.publicKey, { kid: 'e1', use: 'sig', alg: 'ES256', x5c: ['MIIB'], x5t: 'abc' });

const read = (...keys: unknown[]) => readKeySet(JSON.stringify({ keys }));
const reason = (...keys: unknown[]): string => {
  const set = read(...keys);
  return set.kind === 'Bad' ? set.reason : 'Good';
};

test('a set as issuers publish it is read down to what makes up its keys', () => {
  const set = read(
    good,
    jwk(rsa.publicKey, { kid: 'r1', use: 'sig', key_ops: ['verify'] }),
    jwk(rsa.publicKey, { kid: 'r2', use: 'enc', alg: 'RSA-OAEP' }),
    jwk(ed.publicKey),
    { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AA' },
    jwk(generateKeyPairSync('x25519').publicKey, { use: 'enc' }),
  );
  assert.equal(set.kind, 'Good');
  const keys = set.kind === 'Good' ? set.keys : [];
  assert.deepEqual(
    keys.map((key) => [key.kty, key.kid, Object.keys(key).sort().join()]),
    [
      ['EC', 'e1', 'alg,crv,kid,kty,x,y'],
      ['RSA', 'r1', 'e,kid,kty,n'],
      ['OKP', undefined, 'crv,kty,x'],
    ],
  );
});

test('one key that should not be there makes the whole set worthless', () => {
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const huge = Buffer.alloc(2048, 0xff).toString('base64url');
  const cases: [unknown, RegExp][] = [
    [jwk(rsa.privateKey, { kid: 'r1' }), /^key 2 is a private key/],
    [jwk(rsa.privateKey, { use: 'enc' }), /private key/],
    [jwk(ec.privateKey), /private key/],
    [jwk(ed.privateKey), /private key/],
    [{ kty: 'AKP', alg: 'ML-DSA-44', pub: 'AA', priv: 'AA' }, /private key/],
    [{ kty: 'oct', k: 'AAAA' }, /symmetric/],
    [{ kty: 'oct' }, /symmetric/],
    [jwk(small.publicKey), /RSA of 1024 bits/],
    [jwk(rsa.publicKey, { n: huge }), /RSA of 16384 bits/],
    [jwk(rsa.publicKey, { e: 'AQ' }), /proves nothing/],
    [jwk(rsa.publicKey, { e: 'Ag' }), /proves nothing/],
    [jwk(rsa.publicKey, { e: undefined }), /e is missing/],
    [jwk(rsa.publicKey, { n: 'not base64!' }), /n is missing or not base64url/],
    [jwk(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey), /not supported/],
    [jwk(generateKeyPairSync('ed448').publicKey), /not supported/],
    [jwk(ec.publicKey, { crv: 'constructor' }), /not supported/],
    [jwk(ec.publicKey, { x: 'AAAA' }), /wrong length/],
    [
      jwk(ed.publicKey, { x: Buffer.concat([Buffer.from([1]), Buffer.alloc(31)]).toString('base64url') }),
      /proves anything/,
    ],
    [jwk(ec.publicKey, { kid: 7 }), /kid that is no text/],
    [jwk(ec.publicKey, { kid: 'k'.repeat(300) }), /kid that is no text/],
    [jwk(ec.publicKey, { alg: ['ES256'] }), /alg that is no text/],
    [{ kid: 'x' }, /kty/],
    ['key', /no object/],
    [null, /no object/],
  ];
  for (const [key, expected] of cases) assert.match(reason(good, key), expected);
});

test('what is no key set says so', () => {
  assert.match(reason(), /no key to check/);
  assert.match(reason(...Array.from({ length: MOST_KEYS + 1 }, () => good)), /at most 64/);
  for (const [text, expected] of [
    ['{}', /no list "keys"/],
    ['[]', /no list "keys"/],
    ['<html>', /not JSON/],
    ['{"keys":[],"keys":[]}', /twice/],
    [`{"keys":[],"x":"${'x'.repeat(KEY_SET_BYTES)}"}`, /larger than/],
  ] as const) {
    const set = readKeySet(text);
    assert.ok(set.kind === 'Bad');
    assert.match(set.reason, expected);
  }
  assert.equal(readKeySet(Buffer.from([0xff])).kind, 'Bad');
});

test('INV-11: no document makes it throw, and nothing private comes out of it', () => {
  const member = fc.constantFrom('kty', 'kid', 'alg', 'use', 'crv', 'x', 'y', 'n', 'e', 'd', 'k', 'key_ops');
  const value = fc.oneof(
    fc.constantFrom('RSA', 'EC', 'OKP', 'oct', 'Ed25519', 'P-256', 'AQAB', 'sig', 'enc'),
    fc.jsonValue(),
  );
  fc.assert(
    fc.property(fc.array(fc.dictionary(member, value), { maxLength: 3 }), (keys) => {
      const set = read(good, ...keys);
      if (set.kind === 'Good') for (const key of set.keys) assert.ok(!('d' in key) && !('k' in key));
    }),
    { numRuns: 300 },
  );
});
