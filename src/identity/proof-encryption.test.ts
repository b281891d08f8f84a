import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { CompactEncrypt } from 'jose';
import { signingKeyFromPem } from '../policy/bundle-signing.ts';
import {
  decryptProof,
  encryptProof,
  isEncryptedProof,
  proofKeyOf,
  publishedProofKey,
  readProofKey,
} from './proof-encryption.ts';

const operatorKey = () =>
  signingKeyFromPem(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
const own = operatorKey();
const key = proofKeyOf(own);

test('a proof comes out as it went in, for the operator that it was encrypted to, and for nobody else', async () => {
  const published = readProofKey(JSON.stringify(publishedProofKey(proofKeyOf(own))))!;
  for (const proof of ['a.b.c', 'salt.a.b.c', 'x'.repeat(12_000)]) {
    const sent = await encryptProof(proof, published);
    assert.ok(isEncryptedProof(sent) && !isEncryptedProof(proof));
    assert.notEqual(sent, await encryptProof(proof, published));
    assert.equal(await decryptProof(sent, key), proof);
    assert.equal(await decryptProof(sent, proofKeyOf(operatorKey())), undefined);
  }
});

test('what was altered, is for another key id, or is no proof at all is nothing', async () => {
  const sent = await encryptProof('a.b.c', publishedProofKey(key));
  const parts = sent.split('.');
  for (const index of [0, 2, 3, 4]) {
    const part = parts[index]!;
    const changed = parts.with(index, `${part.startsWith('A') ? 'B' : 'A'}${part.slice(1)}`).join('.');
    assert.equal(await decryptProof(changed, key), undefined, String(index));
  }
  const renamed = await encryptProof('a.b.c', { ...publishedProofKey(key), kid: 'another' });
  assert.equal(await decryptProof(renamed, key), undefined);
  for (const text of ['', '....', 'a.b.c.d.e', 'x'.repeat(100_000)])
    assert.equal(await decryptProof(text, key), undefined);
});

test('INV-11: the sender chooses no other algorithm and no compression', async () => {
  const recipient = createPublicKey(key.privateKey);
  const made = (header: { alg: string; enc: string; zip?: string }): Promise<string> =>
    new CompactEncrypt(Buffer.alloc(5_000_000, 'x'))
      .setProtectedHeader({ ...header, kid: key.keyId })
      .encrypt(recipient);
  const small = await made({ alg: 'ECDH-ES', enc: 'A256GCM', zip: 'DEF' });
  assert.ok(small.length < 16_384);
  assert.equal(await decryptProof(small, key), undefined);
  const wrapped = await new CompactEncrypt(Buffer.from('a.b.c'))
    .setProtectedHeader({ alg: 'ECDH-ES+A256KW', enc: 'A256GCM', kid: key.keyId })
    .encrypt(recipient);
  assert.equal(await decryptProof(wrapped, key), undefined);
  const weaker = await new CompactEncrypt(Buffer.from('a.b.c'))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A128CBC-HS256', kid: key.keyId })
    .encrypt(recipient);
  assert.equal(await decryptProof(weaker, key), undefined);
});

test('only a published X25519 key is one', () => {
  const published = publishedProofKey(key);
  assert.deepEqual(readProofKey(JSON.stringify(published)), published);
  for (const other of [undefined, '', 'null', '7', '{}', JSON.stringify({ ...published, crv: 'Ed25519' })]) {
    assert.equal(readProofKey(other), undefined);
  }
  assert.equal(readProofKey(JSON.stringify({ ...published, x: 'short' })), undefined);
});
