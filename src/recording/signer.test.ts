import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { testControllerKey } from '../../test/support/records.ts';
import { trustedKeyOf } from '../policy/bundle-signing.ts';
import { keyringOf } from './keyring.ts';
import { decodeSignedLine, encodeSignedLine } from './signed-line.ts';
import { checkCertificate, openRecordSigner } from './signer.ts';

const NOW = Date.parse('2026-01-31T00:00:00Z');
const controllerKey = testControllerKey();
const roots = [trustedKeyOf(controllerKey)];

test('a certificate holds for its key, its time and its root alone', async () => {
  const signer = openRecordSigner({ controllerKey, nowMs: NOW, validForMs: 1000 });
  const { certificate } = signer;
  assert.equal(checkCertificate(certificate, roots).kind, 'Good');
  assert.deepEqual(checkCertificate(certificate, [trustedKeyOf(testControllerKey())]), {
    kind: 'Bad',
    reason: 'UnknownIssuer',
  });
  assert.deepEqual(checkCertificate({ ...certificate, notAfter: '2036-01-01T00:00:00.000Z' }, roots), {
    kind: 'Bad',
    reason: 'Signature',
  });
  assert.deepEqual(checkCertificate({ ...certificate, keyId: '0'.repeat(16) }, roots), {
    kind: 'Bad',
    reason: 'Format',
  });
  assert.deepEqual(checkCertificate({ ...certificate, signature: `${certificate.signature}=` }, roots), {
    kind: 'Bad',
    reason: 'Format',
  });
  const keys = keyringOf([certificate], roots);
  const bytes = Buffer.from('x');
  const signature = await signer.sign(bytes);
  assert.equal(keys.check(signer.keyId, '2026-01-31T00:00:01.000Z', bytes, signature), 'Good');
  assert.equal(keys.check(signer.keyId, '2026-01-31T00:00:01.001Z', bytes, signature), 'OutOfTime');
  assert.equal(keys.check(signer.keyId, '2026-01-30T23:00:00.000Z', bytes, signature), 'OutOfTime');
  assert.equal(keys.check('f'.repeat(16), '2026-01-31T00:00:01.000Z', bytes, signature), 'UnknownKey');
  assert.equal(keys.check(signer.keyId, '2026-01-31T00:00:01.000Z', Buffer.from('y'), signature), 'BadSignature');
});

test('a kept key is the same key again; other kinds of keys are refused', () => {
  const pem = (kind: 'ed25519' | 'ed448'): string => {
    const { privateKey } = kind === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ed448');
    return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  };
  const kept = pem('ed25519');
  const ids = [1, 2].map(() => openRecordSigner({ controllerKey, nowMs: NOW, privateKeyPem: kept }).keyId);
  assert.equal(ids[0], ids[1]);
  assert.throws(() => openRecordSigner({ controllerKey, nowMs: NOW, privateKeyPem: pem('ed448') }), TypeError);
});

test('a signed line has one spelling and one purpose', async () => {
  const signer = openRecordSigner({ controllerKey, nowMs: NOW });
  const keys = keyringOf([signer.certificate], roots);
  const line = (
    await encodeSignedLine(signer, { format: 'a/1', keyId: signer.keyId, at: '2026-01-31T00:00:01.000Z' })
  ).subarray(0, -1);
  assert.equal(decodeSignedLine(line, 'a/1', keys).kind, 'Good');
  assert.deepEqual(decodeSignedLine(line, 'b/1', keys), { kind: 'Bad', reason: 'Format' });
  for (let at = 0; at < line.length; at += 1) {
    const flipped = Buffer.from(line);
    flipped[at]! ^= 1;
    assert.equal(decodeSignedLine(flipped, 'a/1', keys).kind, 'Bad', `flipped at ${at}`);
  }
});
