import 'reflect-metadata'; // x509's injector needs it loaded first
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import test from 'node:test';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import fc from 'fast-check';
import type { ProxyReplicaStatus } from '../../api/replica.ts';
import { type SigningKey, signingKeyFromPem, trustedKeyOf } from '../../policy/bundle-signing.ts';
import { rawPublicKey } from '../../recording/signer.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import { authorityOf, makeAuthorityKeys } from '../pki/authority.ts';
import { CERTIFICATE_LIFE_MS, type CertifyOptions, certify, RECORD_LIFE_MS } from './certify.ts';
import { readCsr } from './csr.ts';
import { createCertificateIssuer } from './issuer.ts';

const clock = manualClock();
const authority = await authorityOf(await makeAuthorityKeys('test', { clock, random: systemRandom }), {
  clock,
  random: systemRandom,
});
const issuer = createCertificateIssuer(authority);

async function csrOf(algorithm: EcKeyGenParams | RsaHashedKeyGenParams | { name: string }): Promise<string> {
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as CryptoKeyPair;
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=admin',
    keys: keys as never,
    signingAlgorithm: 'hash' in algorithm ? algorithm : { ...algorithm, hash: 'SHA-256' },
  });
  return request.toString('pem');
}
type CryptoKeyPair = { privateKey: webcrypto.CryptoKey; publicKey: webcrypto.CryptoKey };
type EcKeyGenParams = { name: string; namedCurve: string };
type RsaHashedKeyGenParams = { name: string; modulusLength: number; publicExponent: Uint8Array; hash: string };

const p256 = await csrOf({ name: 'ECDSA', namedCurve: 'P-256' });
const newKey = (): SigningKey =>
  signingKeyFromPem(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
const key = newKey();
const recordKey = (): string => rawPublicKey(generateKeyPairSync('ed25519').publicKey as KeyObject);
const mine = recordKey();

const ask = (more: Partial<CertifyOptions> = {}): ReturnType<typeof certify> =>
  certify({
    spec: { csr: p256, recordKey: mine },
    status: undefined,
    names: ['a.svc', 'localhost'],
    issuer,
    key,
    trusted: [trustedKeyOf(key)],
    nowMs: clock.now(),
    ...more,
  });

test('P-256 and Ed25519 keys are taken, others are not', async () => {
  assert.equal((await readCsr(p256)).kind, 'Good');
  assert.equal((await readCsr(await csrOf({ name: 'Ed25519' }))).kind, 'Good');
  const rsa = {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  };
  for (const csr of [await csrOf(rsa), await csrOf({ name: 'ECDSA', namedCurve: 'P-384' })]) {
    const verdict = await readCsr(csr);
    assert.match(verdict.kind === 'Bad' ? verdict.problem : '', /neither P-256 nor Ed25519/);
  }
});

test('no changed request brings another key in', async () => {
  const good = await readCsr(p256);
  assert.equal(good.kind, 'Good');
  const der = Buffer.from(p256.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const changed = Buffer.from(der);
      changed[at]! ^= flip;
      const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${changed.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
      const verdict = await readCsr(pem);
      if (verdict.kind === 'Bad') refused += 1;
      // A frame that is spelled otherwise (BER) leaves what is signed as it was.
      else assert.deepEqual(verdict, good, `byte ${at}`);
    }),
    { numRuns: 60 },
  );
  assert.ok(refused > 40, `${refused} of 60`);
  for (const nonsense of ['', 'x', authority.caPem, `-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END X-----`])
    assert.equal((await readCsr(nonsense)).kind, 'Bad');
});

test('names and subject are the operator’s, and both certificates are kept while they fit', async () => {
  const first = await ask();
  const certificate = new X509Certificate(first.certificate!);
  assert.equal(certificate.subjectAltName, 'DNS:a.svc, DNS:localhost');
  assert.equal(certificate.subject, 'CN=a.svc');
  assert.equal(Date.parse(certificate.validTo), clock.now() + CERTIFICATE_LIFE_MS);
  const status: ProxyReplicaStatus = first;
  assert.deepEqual(await ask({ status }), first, 'steady state signs nothing');
  const soon = Date.parse(first.renewAt!) - 1000;
  assert.deepEqual(await ask({ status, nowMs: soon }), first);
});

test('a certificate is made anew for other names, another key, another authority, and in time', async () => {
  const status: ProxyReplicaStatus = await ask();
  const otherCa = await authorityOf(await makeAuthorityKeys('other', { clock, random: systemRandom }), {
    clock,
    random: systemRandom,
  });
  const changes: Partial<CertifyOptions>[] = [
    { names: ['b.svc'] },
    { spec: { csr: await csrOf({ name: 'ECDSA', namedCurve: 'P-256' }), recordKey: mine } },
    { issuer: createCertificateIssuer(otherCa) },
    { nowMs: Date.parse(status.renewAt!) + 1000 },
  ];
  for (const change of changes) {
    const next = await ask({ status, ...change });
    assert.notEqual(next.certificate, status.certificate, JSON.stringify(Object.keys(change)));
    assert.equal(next.recordCertificate, status.recordCertificate);
  }
});

test('a record key is vouched for once, anew for another key or signer and at half of its life', async () => {
  const status: ProxyReplicaStatus = await ask();
  const other = newKey();
  const changes: Partial<CertifyOptions>[] = [
    { spec: { csr: p256, recordKey: recordKey() } },
    { key: other, trusted: [trustedKeyOf(other)] },
    { nowMs: clock.now() + RECORD_LIFE_MS / 2 + 1000 },
  ];
  for (const change of changes)
    assert.notEqual((await ask({ status, ...change })).recordCertificate, status.recordCertificate);
  // Ed25519 gives the same bytes for the same words.
  assert.deepEqual(await ask({ status: { ...status, recordCertificate: '{' } }), status);
  const rotating = await ask({ status, key: other, trusted: [trustedKeyOf(other), trustedKeyOf(key)] });
  assert.equal(rotating.recordCertificate, status.recordCertificate, 'an older key still counts');
});

test('a bad request costs the listener’s certificate only', async () => {
  const answer = await ask({ spec: { csr: 'nonsense', recordKey: mine } });
  assert.match(answer.problem ?? '', /refused/);
  assert.equal(answer.certificate, undefined);
  assert.notEqual(answer.recordCertificate, undefined);
  assert.deepEqual(await ask({ spec: {} }), {});
});
