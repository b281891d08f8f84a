import 'reflect-metadata'; // x509's injector needs it loaded first
import assert from 'node:assert/strict';
import { generateKeyPairSync, verify, webcrypto } from 'node:crypto';
import { test } from 'node:test';
import * as x509 from '@peculiar/x509';
import { sealSeed } from '../identity/seed-sealing.ts';
import { keyIdOf, type SigningKey, trustedKeyOf } from '../policy/bundle-signing.ts';
import { issueRecordCertificate, publicKeyFromRaw } from '../recording/signer.ts';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import { createIdentity, type ProxyIdentity } from './identity.ts';

x509.cryptoProvider.set(webcrypto as never);
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const START = Date.parse('2026-01-01T00:00:00Z');
const HOUR = 3_600_000;

function signingKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { keyId: keyIdOf(publicKey), privateKey };
}

async function certificate(csr: string, fromMs: number, toMs: number): Promise<string> {
  const ca = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const made = await x509.X509CertificateGenerator.create({
    subject: 'CN=localhost',
    issuer: 'CN=Test CA',
    notBefore: new Date(fromMs),
    notAfter: new Date(toMs),
    signingAlgorithm: ALGORITHM,
    publicKey: new x509.Pkcs10CertificateRequest(csr).publicKey,
    signingKey: ca.privateKey,
  });
  return made.toString('pem');
}

function bed() {
  const key = signingKey();
  const clock = manualClock(START);
  const make = (): ProxyIdentity => createIdentity({ name: 'p-0', trustedKeys: () => [trustedKeyOf(key)], clock });
  const record = (identity: ProxyIdentity, by = key, fromMs = START - 60_000): string =>
    JSON.stringify(
      issueRecordCertificate(by, publicKeyFromRaw(identity.recordKey)!, {
        notBeforeMs: fromMs,
        notAfterMs: fromMs + 400 * 24 * HOUR,
      }),
    );
  return { key, clock, make, record };
}

test('it serves once both keys are certified, and not before', async () => {
  const { clock, make, record } = bed();
  const identity = make();
  assert.equal(identity.problems().length, 2);
  assert.throws(() => identity.tls.current());
  const cert = await certificate(identity.csr, START - HOUR, START + HOUR);
  identity.learn({ certificate: cert });
  assert.equal(identity.tls.current().cert, cert);
  assert.equal(identity.signer(), undefined);
  identity.learn({ certificate: cert, recordCertificate: record(identity) });
  assert.deepEqual(identity.problems(), []);
  const signer = identity.signer()!;
  const signature = await signer.sign(Buffer.from('bytes'));
  assert.equal(verify(null, Buffer.from('bytes'), publicKeyFromRaw(identity.recordKey)!, signature), true);
  clock.setWall(START + 2 * HOUR);
  assert.match(identity.problems()[0]!, /ended at 2026-01-01T01:00:00/);
  clock.setWall(START - 2 * HOUR);
  assert.match(identity.problems().join(), /clock of this machine is behind/);
});

test('INV-04: what certifies another key, or comes from nobody who is trusted, is not used', async () => {
  const { make, record } = bed();
  const [identity, other] = [make(), make()];
  identity.learn({
    certificate: await certificate(other.csr, START, START + HOUR),
    recordCertificate: record(other),
  });
  assert.match(identity.problems().join(), /for another key.*for another key/s);
  identity.learn({ certificate: 'nonsense', recordCertificate: '{' });
  assert.match(identity.problems().join(), /not readable/);
  identity.learn({ recordCertificate: record(identity, signingKey()) });
  assert.match(identity.problems().join(), /does not hold \(UnknownIssuer\)/);
  assert.equal(identity.hasChain(), false);
  assert.equal(identity.signer(), undefined);
});

test('a bad certificate that comes later leaves the good one in use; a newer one replaces it, and both stay known', async () => {
  const { make, record } = bed();
  const identity = make();
  const cert = await certificate(identity.csr, START - HOUR, START + HOUR);
  identity.learn({ certificate: cert, recordCertificate: record(identity) });
  const first = identity.signer()!.certificate;
  let told = 0;
  identity.onRecordCertificate(() => (told += 1));
  identity.learn({ certificate: 'nonsense', recordCertificate: record(make()) });
  assert.equal(identity.tls.current().cert, cert);
  assert.deepEqual(identity.problems(), []);
  const next = await certificate(identity.csr, START - HOUR, START + 9 * HOUR);
  identity.learn({ certificate: next, recordCertificate: record(identity, undefined, START) });
  assert.equal(identity.tls.current().cert, next);
  assert.equal(told, 1);
  const signer = identity.signer()!;
  assert.notEqual(signer.certificate.signature, first.signature);
  assert.deepEqual(
    signer.issued?.map(({ signature }) => signature),
    [first.signature, signer.certificate.signature],
  );
});

test('INV-12: keys of a listener are taken if the operator sealed them for this process; they stay until others come', () => {
  const { key, make } = bed();
  const identity = make();
  const seal = (seed: number, recipient = identity.keyAgreement, connectionUid = 'u-1', by = key) => ({
    ...sealSeed(Buffer.alloc(32, seed), { connectionUid, recipient, key: by, random: systemRandom })!,
    certificates: [`certificate ${seed}`],
    for: 'x',
    renewAt: '2026-02-01T00:00:00Z',
  });
  const learn = (keys?: ReturnType<typeof seal>): void =>
    identity.learn({
      connections: [{ uid: 'u-1', name: 'web1', port: 2222, bundles: [], ...(keys === undefined ? {} : { keys }) }],
    });
  learn();
  assert.equal(identity.keysOf('u-1'), undefined);
  for (const bad of [
    seal(1, make().keyAgreement),
    seal(1, undefined, 'u-2'),
    seal(1, undefined, 'u-1', signingKey()),
  ]) {
    learn(bad);
    assert.equal(identity.keysOf('u-1'), undefined);
  }
  learn(seal(1));
  const keys = identity.keysOf('u-1')!;
  assert.deepEqual(keys.seed, Buffer.alloc(32, 1));
  assert.deepEqual(keys.certificates(), ['certificate 1']);
  learn(seal(2, make().keyAgreement));
  assert.deepEqual(identity.keysOf('u-1')?.seed, Buffer.alloc(32, 1));
  learn(seal(3));
  assert.deepEqual(identity.keysOf('u-1')?.seed, Buffer.alloc(32, 3));
  assert.deepEqual(keys.certificates(), ['certificate 3'], 'read at each use');
  assert.equal(identity.keysOf('u-2'), undefined);
  identity.learn({ connections: [] });
  assert.equal(identity.keysOf('u-1'), undefined);
});
