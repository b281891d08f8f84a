import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { keyIdOf, trustedKeyOf } from '../policy/bundle-signing.ts';
import { systemRandom } from '../system/random.ts';
import { makeAgreementKey, openSeed, sealSeed } from './seed-sealing.ts';

const signing = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { keyId: keyIdOf(publicKey), privateKey };
};
const seed = Buffer.alloc(32, 5);

test('INV-05, INV-12: a seed is read by the process it is for, for its Connection, if the operator signed it; by nobody else', () => {
  const key = signing();
  const own = makeAgreementKey();
  const given = { connectionUid: 'u-1', recipient: own.publicKey, key, random: systemRandom };
  const sealed = sealSeed(seed, given)!;
  const good = { connectionUid: 'u-1', own, trusted: [trustedKeyOf(key)] };
  assert.deepEqual(openSeed(sealed, good), seed);
  assert.notEqual(sealSeed(seed, given)!.sealed, sealed.sealed);
  assert.ok(!Buffer.from(sealed.sealed, 'base64url').includes(seed.subarray(0, 8)));

  assert.equal(openSeed(sealed, { ...good, connectionUid: 'u-2' }), undefined);
  assert.equal(openSeed(sealed, { ...good, own: makeAgreementKey() }), undefined);
  assert.equal(openSeed(sealed, { ...good, trusted: [trustedKeyOf(signing())] }), undefined);
  const forged = signing();
  const theirs = sealSeed(seed, { ...given, key: forged })!;
  assert.equal(openSeed(theirs, good), undefined);
  assert.equal(openSeed({ ...theirs, keyId: key.keyId }, good), undefined);
  assert.equal(openSeed({ ...sealed, sealed: theirs.sealed }, good), undefined);
  for (let at = 0; at < sealed.sealed.length; at += 7) {
    const flipped = `${sealed.sealed.slice(0, at)}${sealed.sealed[at] === 'A' ? 'B' : 'A'}${sealed.sealed.slice(at + 1)}`;
    assert.equal(openSeed({ ...sealed, sealed: flipped }, good), undefined);
  }
  for (const bad of ['', 'A', '=', sealed.sealed.slice(4)])
    assert.equal(openSeed({ ...sealed, sealed: bad }, good), undefined);
});

test('INV-11: what is no X25519 key, or one that everybody shares, gets nothing', () => {
  const key = signing();
  const low = [Buffer.alloc(32), Buffer.concat([Buffer.from([1]), Buffer.alloc(31)])].map((raw) =>
    raw.toString('base64url'),
  );
  for (const recipient of ['', 'AAAA', `${'A'.repeat(42)}!`, ...low]) {
    assert.equal(sealSeed(seed, { connectionUid: 'u', recipient, key, random: systemRandom }), undefined, recipient);
  }
});
