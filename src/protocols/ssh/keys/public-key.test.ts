import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { MalformedData, writeData } from '../wire/data.ts';
import { certAuthorityLine, hostPattern, knownHostsLine, publicKeyLine, readPublicKeyLine } from './known-hosts.ts';
import { blobOfKeyObject, ed25519Blob, fingerprintOf, readPublicKey } from './public-key.ts';

// `ssh-keygen -lf` prints SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8 for it.
const LINE = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea RFC 8032 test 1';

test('a line is read as the type, the key and the comment that it says', () => {
  const { type, blob, comment } = readPublicKeyLine(LINE);
  assert.equal(type, 'ssh-ed25519');
  assert.equal(comment, 'RFC 8032 test 1');
  assert.equal(blob.subarray(-32).toString('hex'), 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
  assert.equal(publicKeyLine(blob, comment), LINE);
});

test('lines that say one thing and hold another are refused', () => {
  const { blob } = readPublicKeyLine(LINE);
  for (const line of [
    '',
    'ssh-ed25519',
    LINE.replace('ssh-ed25519', 'ssh-rsa'),
    `command="id" ${LINE}`,
    `${LINE.split(' ').slice(0, 2).join(' ')}=`.replace('=', '===') as string,
    LINE.replace('EaRFC', 'Eb').replace('AAAAC3', 'AAAAC$'),
    `ssh-ed25519 ${blob.subarray(0, 10).toString('base64')}`,
    'ssh-ed25519 AA',
  ])
    assert.throws(() => readPublicKeyLine(line), MalformedData, line);
});

test('known_hosts lines: ports, several names, an authority; nothing that would be read as more', () => {
  const { blob } = readPublicKeyLine(LINE);
  const key = LINE.split(' ').slice(0, 2).join(' ');
  const names = [{ host: 'Bastion.corp.example' }, { host: '127.0.0.1', port: 2222 }];
  assert.equal(knownHostsLine(names, blob), `bastion.corp.example,[127.0.0.1]:2222 ${key}`);
  assert.equal(certAuthorityLine([{ host: 'b', port: 22 }], blob), `@cert-authority b ${key}`);
  for (const host of ['a,b', 'a b', '*', '!a', '', '|1|x', 'a\nb'])
    assert.throws(() => hostPattern({ host }), MalformedData);
});

test('only whole, canonical keys of enough strength are keys', () => {
  const good = readPublicKeyLine(LINE).blob;
  assert.equal(readPublicKey(good).kind, 'Ed25519');
  assert.throws(() => readPublicKey(Buffer.concat([good, Buffer.from([0])])), MalformedData);
  for (let length = 0; length < good.length; length += 1)
    assert.throws(() => readPublicKey(good.subarray(0, length)), MalformedData);
  const rsa = (modulus: Buffer, exponent: Buffer): Buffer =>
    writeData({ string: 'ssh-rsa' }, { mpint: exponent }, { mpint: modulus });
  const e = Buffer.from([1, 0, 1]);
  const modulus = Buffer.alloc(256, 0xc1);
  assert.equal(readPublicKey(rsa(modulus, e)).kind, 'Rsa');
  assert.throws(() => readPublicKey(rsa(Buffer.alloc(255, 0xc1), e)), /fewer than 2048 bits/);
  assert.throws(() => readPublicKey(rsa(Buffer.concat([Buffer.from([0x7f]), modulus.subarray(1)]), e)), /fewer than/);
  assert.throws(() => readPublicKey(rsa(Buffer.alloc(2049, 0xc1), e)), /more than 16384 bits/);
  assert.throws(() => readPublicKey(rsa(Buffer.alloc(256, 0xc2), e)), /even/);
  for (const bad of [[], [1], [2], [1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]])
    assert.throws(() => readPublicKey(rsa(modulus, Buffer.from(bad))), /exponent/);
  const padded = writeData({ string: 'ssh-rsa' }, { string: Buffer.from([0, 1, 0, 1]) }, { mpint: modulus });
  assert.throws(() => readPublicKey(padded), MalformedData);
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const point = blobOfKeyObject(publicKey).subarray(-65);
  const ecdsa = (type: string, curve: string, bytes: Buffer): Buffer =>
    writeData({ string: type }, { string: curve }, { string: bytes });
  assert.equal(readPublicKey(ecdsa('ecdsa-sha2-nistp256', 'nistp256', point)).kind, 'Ecdsa');
  const off = Buffer.from(point);
  off[64]! ^= 1;
  for (const bad of [
    ecdsa('ecdsa-sha2-nistp256', 'nistp384', point),
    ecdsa('ecdsa-sha2-nistp384', 'nistp384', point),
    ecdsa('ecdsa-sha2-nistp256', 'nistp256', off),
    ecdsa('ecdsa-sha2-nistp256', 'nistp256', point.subarray(0, 33)),
    ecdsa('ecdsa-sha2-nistp256', 'nistp256', Buffer.from([0])),
    ecdsa('ecdsa-sha2-nistp256', 'nistp256', Buffer.concat([Buffer.from([4]), Buffer.alloc(64)])),
    writeData({ string: 'ssh-dss' }, { string: '' }),
    writeData({ string: 'ssh-ed25519-cert-v01@openssh.com' }, { string: '' }),
  ])
    assert.throws(() => readPublicKey(bad), MalformedData);
});

test('Ed25519 points for which anybody can make signatures are no keys', () => {
  const P = 2n ** 255n - 19n;
  const mod = (value: bigint): bigint => ((value % P) + P) % P;
  const power = (base: bigint, exponent: bigint): bigint => {
    let result = 1n;
    for (let b = mod(base), e = exponent; e > 0n; e >>= 1n, b = mod(b * b))
      if ((e & 1n) === 1n) result = mod(result * b);
    return result;
  };
  const d = mod(-121665n * power(121666n, P - 2n));
  // 8P = 0 where 4P has y = -1, 2P has y = 0: there x² = -y², so -x² + y² = 1 + dx²y² gives d·y⁴ + 2y² - 1 = 0.
  const half = power(d, P - 2n);
  const root = ((): bigint => {
    const square = mod(1n + d);
    const candidate = power(square, (P + 3n) / 8n);
    return mod(candidate * candidate) === square ? candidate : mod(candidate * power(2n, (P - 1n) / 4n));
  })();
  const weak: bigint[] = [0n, 1n, P - 1n, P, P + 1n];
  for (const sign of [1n, -1n]) {
    const square = mod((-1n + sign * root) * half);
    let y = power(square, (P + 3n) / 8n);
    if (mod(y * y) !== square) y = mod(y * power(2n, (P - 1n) / 4n));
    if (mod(y * y) === square) weak.push(y, mod(-y));
  }
  assert.equal(weak.length, 7, 'both y of order 8, and those of lower order');
  for (const y of weak)
    for (const sign of [0, 0x80]) {
      const raw = Buffer.from(y.toString(16).padStart(64, '0'), 'hex').reverse();
      raw[31]! |= sign;
      assert.throws(() => readPublicKey(ed25519Blob(raw)), /proves nothing/, `y = ${y}`);
    }
});

test('fingerprints are what ssh-keygen prints', () => {
  assert.equal(fingerprintOf(readPublicKeyLine(LINE).blob), 'SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8');
});
