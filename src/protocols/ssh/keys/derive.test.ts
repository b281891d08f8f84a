import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemRandom } from '../../../system/random.ts';
import { mintHostCertificate } from './certificate.ts';
import { parseCertificate } from './certificate-blob.ts';
import { hostKeysOf, plainHostKeysOf, userAuthorityOf } from './derive.ts';
import { publicKeyLine } from './known-hosts.ts';
import { ed25519Signer } from './signer.ts';
import { verifySignature } from './verify.ts';

const seed = Buffer.from(Array.from({ length: 32 }, (_, at) => at));

// Computed with HKDF and curves of another library (Python's cryptography). They may never change: users and targets pin them.
const EXPECTED = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdv4p0tcG+o4YHz5IBpAW98s7UhaFsKQXE0rUeUjCmC',
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBH3mt5kzu5Q0vNkNuR24Ye8LcOZZMV81KGRka3tEjAXBe4qW8h2Xwnv5eEk0oF9lweaNJykmhDnzSBew3n/VZ4=',
];
const EXPECTED_AUTHORITY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIANMUShjacS5kQFzYRiVTi8u2wzt6DGkItTOIRfY68zI';

test('keys of a seed are the same for ever', () => {
  assert.deepEqual(
    plainHostKeysOf({ seed }).map(({ blob }) => publicKeyLine(blob)),
    EXPECTED,
  );
  assert.equal(publicKeyLine(userAuthorityOf({ seed }).blob), EXPECTED_AUTHORITY);
});

test('INV-12: the keys of one Connection are none of another’s', () => {
  const other = Buffer.from(seed);
  other[31]! ^= 1;
  const blobs = [seed, other].flatMap((one) =>
    [...plainHostKeysOf({ seed: one }), userAuthorityOf({ seed: one })].map(({ blob }) => blob.toString('base64')),
  );
  assert.equal(new Set(blobs).size, 6);
  assert.throws(() => plainHostKeysOf({ seed: seed.subarray(1) }), /32 bytes/);
});

test('host certificates come first where they are about one of the keys; what is not is passed over', () => {
  const authority = ed25519Signer(Buffer.alloc(32, 1));
  const certify = (key: Buffer): string =>
    publicKeyLine(
      mintHostCertificate({
        authority,
        key,
        keyId: 'bastion',
        principals: ['bastion'],
        validAfterMs: 0,
        validBeforeMs: Date.now() + 60_000,
        random: systemRandom,
      }),
    );
  const [ed25519, p256] = plainHostKeysOf({ seed });
  const lines = ['', 'nonsense', EXPECTED[0]!, certify(authority.blob), certify(p256!.blob), certify(ed25519!.blob)];
  const keys = hostKeysOf({ seed, certificates: () => lines });
  assert.deepEqual(
    keys.map(({ algorithms }) => algorithms[0]),
    [
      'ecdsa-sha2-nistp256-cert-v01@openssh.com',
      'ssh-ed25519-cert-v01@openssh.com',
      'ssh-ed25519',
      'ecdsa-sha2-nistp256',
    ],
  );
  const data = Buffer.from('an exchange');
  for (const key of keys)
    assert.ok(verifySignature(key.blob, key.algorithms[0]!, data, key.sign(data, key.algorithms[0]!)));
  assert.equal(parseCertificate(keys[1]!.blob).key.blob.toString('hex'), ed25519!.blob.toString('hex'));
});

test('what is kept of a seed goes with its bytes, and certificates are as they are now', () => {
  const own = Buffer.from(seed);
  const before = plainHostKeysOf({ seed: own })[0]!.blob;
  assert.equal(plainHostKeysOf({ seed: own })[0]!.blob, before);
  own[0]! ^= 1;
  assert.notDeepEqual(plainHostKeysOf({ seed: own })[0]!.blob, before);
  let lines: string[] = [];
  const keys = { seed, certificates: () => lines };
  assert.equal(hostKeysOf(keys).length, 2);
  lines = [
    publicKeyLine(
      mintHostCertificate({
        authority: ed25519Signer(Buffer.alloc(32, 1)),
        key: plainHostKeysOf({ seed })[0]!.blob,
        keyId: 'bastion',
        principals: ['bastion'],
        validAfterMs: 0,
        validBeforeMs: Date.now() + 60_000,
        random: systemRandom,
      }),
    ),
  ];
  assert.equal(hostKeysOf(keys).length, 3);
  lines = [];
  assert.equal(hostKeysOf(keys).length, 2);
});
