import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { makeAgreementKey, openSeed } from '../../identity/seed-sealing.ts';
import { keyIdOf, trustedKeyOf } from '../../policy/bundle-signing.ts';
import type { OwnKeys } from '../../protocols/protocol.ts';
import { manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import { seedsOf } from '../pki/connection-keys.ts';
import { handKeys } from './hand-keys.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const key = { keyId: keyIdOf(publicKey), privateKey };
const ownKeys: OwnKeys = { publish: () => ({}), certify: (_seeds, names) => [`for ${names[0]?.host}`] };

test('INV-10: keys are handed once to a process, again to the next, for other names and when due; steady state makes none', () => {
  const clock = manualClock(Date.parse('2026-01-01T00:00:00Z'));
  const own = makeAgreementKey();
  const given = {
    spec: { keyAgreement: own.publicKey },
    known: undefined,
    definition: { ownKeys },
    connectionUid: 'u-1',
    names: [{ host: 'web1.payments.sallyport' }],
    key,
    clock,
    random: systemRandom,
  };
  const first = handKeys(given)!;
  assert.deepEqual(first.certificates, ['for web1.payments.sallyport']);
  const opened = openSeed(first, { connectionUid: 'u-1', own, trusted: [trustedKeyOf(key)] });
  assert.deepEqual(opened, seedsOf(key, 'u-1').connection);
  assert.equal(handKeys({ ...given, known: first }), first);
  assert.notEqual(handKeys({ ...given, known: first, names: [{ host: 'other' }] })?.for, first.for);
  const next = makeAgreementKey();
  const again = handKeys({ ...given, known: first, spec: { keyAgreement: next.publicKey } })!;
  assert.notEqual(again.for, first.for);
  assert.equal(openSeed(again, { connectionUid: 'u-1', own, trusted: [trustedKeyOf(key)] }), undefined);
  clock.advance(20 * 86_400_000);
  assert.notEqual(handKeys({ ...given, known: first }), first);

  assert.equal(handKeys({ ...given, spec: {} }), undefined);
  assert.equal(handKeys({ ...given, spec: { keyAgreement: 'AAAA' } }), undefined);
  assert.equal(handKeys({ ...given, definition: {} }), undefined);
  assert.equal(handKeys({ ...given, definition: undefined }), undefined);
});
