import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { rawCertificate, softwareSecurityKey } from '../../../../test/support/ssh-keys.ts';
import { type Field, readData, writeData } from '../wire/data.ts';
import type { Signer } from './key.ts';
import { certified, ed25519Signer, signerOfKeyObject } from './signer.ts';
import { fits, SIGNATURE_ALGORITHMS, verifySignature } from './verify.ts';

const DATA = Buffer.from('what was signed');
const ec = (namedCurve: string): Signer => signerOfKeyObject(generateKeyPairSync('ec', { namedCurve }).privateKey);
const SIGNERS: Signer[] = [
  ed25519Signer(Buffer.alloc(32, 3)),
  ec('P-256'),
  ec('P-384'),
  ec('P-521'),
  signerOfKeyObject(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
  softwareSecurityKey('ed25519'),
  softwareSecurityKey('ecdsa'),
];
const PAIRS = SIGNERS.flatMap((signer) => signer.algorithms.map((algorithm) => ({ signer, algorithm })));

test('every algorithm has a key here', () => {
  assert.deepEqual(new Set(PAIRS.map(({ algorithm }) => algorithm)), new Set<string>(SIGNATURE_ALGORITHMS));
});

for (const { signer, algorithm } of PAIRS)
  test(`${algorithm}: by this key, over these bytes, under this name, to the last bit`, () => {
    const good = signer.sign(DATA, algorithm);
    assert.ok(verifySignature(signer.blob, algorithm, DATA, good));
    assert.ok(fits(signer.blob, algorithm));
    assert.ok(!verifySignature(signer.blob, algorithm, Buffer.concat([DATA, Buffer.from([0])]), good));
    assert.ok(!verifySignature(signer.blob, algorithm, DATA, Buffer.concat([good, Buffer.from([0])])));
    assert.ok(!verifySignature(Buffer.concat([signer.blob, Buffer.from([0])]), algorithm, DATA, good));
    for (const other of SIGNERS)
      if (other !== signer) assert.ok(!verifySignature(other.blob, algorithm, DATA, good), other.algorithms[0]);
    for (const name of SIGNATURE_ALGORITHMS)
      if (name !== algorithm) {
        assert.ok(!verifySignature(signer.blob, name, DATA, good), name);
        // The bytes of one algorithm under the name of another.
        const reader = readData(good);
        reader.string();
        const renamed = writeData({ string: name }, { raw: reader.rest() });
        assert.ok(!verifySignature(signer.blob, name, DATA, renamed), `renamed to ${name}`);
        assert.ok(!verifySignature(signer.blob, algorithm, DATA, renamed));
      }
    for (let length = 0; length < good.length; length += 1)
      assert.ok(!verifySignature(signer.blob, algorithm, DATA, good.subarray(0, length)), `cut at ${length}`);
    // Most bits of the names, lengths and flags; of the numbers, each costs a verification of its own.
    for (let bit = 0; bit < good.length * 8; bit += bit < 200 ? 1 : 41) {
      const bent = Buffer.from(good);
      bent[bit >> 3]! ^= 1 << (bit & 7);
      assert.ok(!verifySignature(signer.blob, algorithm, DATA, bent), `bit ${bit}`);
    }
  });

test('SHA-1 and what nobody knows are no algorithms of any key', () => {
  const rsa = SIGNERS[4]!;
  const good = rsa.sign(DATA, 'rsa-sha2-256');
  for (const name of ['ssh-rsa', 'rsa-sha2-384', 'ssh-dss', '', 'RSA-SHA2-256', 'ssh-rsa-cert-v01@openssh.com']) {
    assert.ok(!fits(rsa.blob, name));
    assert.ok(!verifySignature(rsa.blob, name, DATA, good));
  }
});

test('an ECDSA signature has one spelling: minimal positive numbers, nothing else', () => {
  const signer = SIGNERS[1]!;
  const algorithm = signer.algorithms[0]!;
  const outer = readData(signer.sign(DATA, algorithm));
  outer.string();
  const inner = readData(outer.string());
  const [r, s] = [inner.mpint(), inner.mpint()];
  const spelled = (...parts: readonly Field[]): Buffer =>
    writeData({ string: algorithm }, { string: writeData(...parts) });
  const check = (signature: Buffer): boolean => verifySignature(signer.blob, algorithm, DATA, signature);
  assert.ok(check(spelled({ mpint: r }, { mpint: s })));
  const zero = Buffer.alloc(2);
  assert.ok(!check(spelled({ string: Buffer.concat([zero, r]) }, { mpint: s })));
  assert.ok(!check(spelled({ mpint: r }, { string: Buffer.concat([zero, s]) })));
  assert.ok(!check(spelled({ mpint: r }, { mpint: s }, { byte: 0 })));
  assert.ok(!check(spelled({ mpint: r }, { mpint: Buffer.alloc(0) })));
  assert.ok(!check(spelled({ mpint: Buffer.alloc(0) }, { mpint: Buffer.alloc(0) })));
  assert.ok(!check(spelled({ mpint: Buffer.concat([Buffer.from([1]), Buffer.alloc(32)]) }, { mpint: s })));
});

test('an RSA signature without its leading zeros is the same number', () => {
  const signer = SIGNERS[4]!;
  for (let count = 0; count < 20_000; count += 1) {
    const data = Buffer.from(`try ${count}`);
    const reader = readData(signer.sign(data, 'rsa-sha2-256'));
    reader.string();
    const bytes = reader.string();
    if (bytes[0] !== 0) continue;
    const short = writeData({ string: 'rsa-sha2-256' }, { string: bytes.subarray(1) });
    assert.ok(verifySignature(signer.blob, 'rsa-sha2-256', data, short));
    const long = writeData({ string: 'rsa-sha2-256' }, { string: Buffer.concat([Buffer.from([0]), bytes]) });
    assert.ok(!verifySignature(signer.blob, 'rsa-sha2-256', data, long));
    return;
  }
  assert.fail('no signature began with zero');
});

// Made in software, and found good by `ssh-keygen -Y verify` of OpenSSH 9.2.
const SIGNED = Buffer.from(
  'U1NIU0lHAAAABHRlc3QAAAAAAAAABnNoYTUxMgAAAEBjRlVdIZ1TtpCmZvyHxT6c4GtS4o7LnBS8ujnebXc0oNDpYMx6vZ8fkXwdTEqxtPiC9cTpNdW8dZDtgUQp86Qk',
  'base64',
);
for (const [algorithm, blob, signature] of [
  [
    'sk-ssh-ed25519@openssh.com',
    'AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAII0NfHOCMy5TRUxtNa07B+L6YTC3gEdXk8JOhAh6U8pFAAAABHNzaDo=',
    'AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAQCBNfr3aFlrYEvzdbYsQE5h6jhrldmnNsXqual5NTy338NR0SMd0Pol5PVZ5xUzwmd1ektkb9hMIYUeLDkUQMwQBAAAABQ==',
  ],
  [
    'sk-ecdsa-sha2-nistp256@openssh.com',
    'AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBBYnMwuHTIqvRu+7RfiI0JEFdfVDKjhRDoSMm9d91vLcwH0BYcwKaAanaTP+t3nwuDN9s/9eBg448zrfZgm/+NYAAAAEc3NoOg==',
    'AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAABKAAAAIQCJVl0SD8t6YDgHysjUWFMJxjkEdw3fptxTv+BzsHMkcwAAACEAwZu80+9oWpSYpbOn6koL2Fn6OioJK+F/s4zuIGg9cuUBAAAABQ==',
  ],
] as const)
  test(`${algorithm}: a signature that OpenSSH takes`, () => {
    const key = Buffer.from(blob, 'base64');
    const bytes = Buffer.from(signature, 'base64');
    assert.ok(verifySignature(key, algorithm, SIGNED, bytes));
    assert.ok(!verifySignature(key, algorithm, SIGNED, bytes, { userVerified: true }), 'nobody was asked who they are');
    const application = Buffer.from(key);
    application[application.length - 1]! ^= 1;
    assert.ok(!verifySignature(application, algorithm, SIGNED, bytes), 'another application');
  });

test('a security key that nobody touched signs nothing', () => {
  for (const type of ['ed25519', 'ecdsa'] as const) {
    const key = softwareSecurityKey(type);
    const algorithm = key.algorithms[0]!;
    for (const [flags, touched, verified] of [
      [0, false, false],
      [1, true, false],
      [4, false, false],
      [5, true, true],
    ] as const) {
      key.flags = flags;
      const signature = key.sign(DATA, algorithm);
      assert.equal(verifySignature(key.blob, algorithm, DATA, signature), touched);
      assert.equal(verifySignature(key.blob, algorithm, DATA, signature, { userVerified: true }), verified);
    }
  }
});

test('a certificate’s key signs under the certificate’s names only', () => {
  const authority = ed25519Signer(Buffer.alloc(32, 4));
  for (const signer of SIGNERS.slice(0, 5)) {
    const shown = certified(signer, rawCertificate({ key: signer.blob, authority }));
    for (const [at, algorithm] of shown.algorithms.entries()) {
      const signature = shown.sign(DATA, algorithm);
      assert.ok(fits(shown.blob, algorithm));
      assert.ok(verifySignature(shown.blob, algorithm, DATA, signature));
      const plain = signer.algorithms[at]!;
      assert.ok(!fits(shown.blob, plain));
      assert.ok(!fits(signer.blob, algorithm));
      assert.ok(!verifySignature(shown.blob, plain, DATA, signature));
      assert.ok(!verifySignature(signer.blob, algorithm, DATA, signature));
      assert.ok(verifySignature(signer.blob, plain, DATA, signature), 'the signature itself bears the plain name');
    }
  }
});
