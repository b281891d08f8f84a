import 'reflect-metadata'; // x509's injector needs it loaded first
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto';
import { test } from 'node:test';
import * as x509 from '@peculiar/x509';
import { certificateRequest } from './csr.ts';

x509.cryptoProvider.set(webcrypto as never);

test('a request is one that others read: its key, its name, its signature', async () => {
  for (const name of ['sallyport-orders-db-0', 'a', 'n'.repeat(100), 'ö'.repeat(70)]) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const request = new x509.Pkcs10CertificateRequest(certificateRequest(privateKey, name));
    assert.equal(await request.verify(), true);
    assert.deepEqual(
      Buffer.from(request.publicKey.rawData),
      createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
    );
    assert.equal(request.subjectName.getField('CN')[0], name.slice(0, 64));
  }
});

test('a request whose name was changed does not verify', async () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const bytes = Buffer.from(new x509.Pkcs10CertificateRequest(certificateRequest(privateKey, 'honest')).rawData);
  bytes[bytes.indexOf('honest')] = 0x48;
  assert.equal(await new x509.Pkcs10CertificateRequest(bytes).verify(), false);
});

test('other keys are refused', () => {
  assert.throws(() => certificateRequest(generateKeyPairSync('ed25519').privateKey, 'a'), TypeError);
  assert.throws(
    () => certificateRequest(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey, 'a'),
    TypeError,
  );
});
