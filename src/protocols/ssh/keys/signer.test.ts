import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { writeData } from '../wire/data.ts';
import { PrivateKeyError, signerOf } from './signer.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const jwk = privateKey.export({ format: 'jwk' });
const seed = Buffer.from(jwk.d!, 'base64url');
const raw = Buffer.from(jwk.x!, 'base64url');

interface Parts {
  cipher?: string;
  kdf?: string;
  count?: number;
  publicKey?: Buffer;
  checks?: readonly [number, number];
  type?: string;
  shown?: Buffer;
  secret?: Buffer;
  padding?: Buffer;
  trailing?: Buffer;
}

/** OpenSSH's form of an Ed25519 key, as PROTOCOL.key says, and as it does not. */
function openSsh(parts: Parts = {}): string {
  const publicBlob = writeData({ string: 'ssh-ed25519' }, { string: raw });
  const section = writeData(
    { uint32: parts.checks?.[0] ?? 7 },
    { uint32: parts.checks?.[1] ?? 7 },
    { string: parts.type ?? 'ssh-ed25519' },
    { string: parts.shown ?? raw },
    { string: parts.secret ?? Buffer.concat([seed, raw]) },
    { string: 'a comment' },
  );
  const padding =
    parts.padding ?? Buffer.from(Array.from({ length: (8 - (section.length % 8)) % 8 }, (_, at) => at + 1));
  const body = writeData(
    { raw: Buffer.from('openssh-key-v1\0') },
    { string: parts.cipher ?? 'none' },
    { string: parts.kdf ?? 'none' },
    { string: '' },
    { uint32: parts.count ?? 1 },
    { string: parts.publicKey ?? publicBlob },
    { string: Buffer.concat([section, padding]) },
    { raw: parts.trailing ?? Buffer.alloc(0) },
  );
  const lines = body
    .toString('base64')
    .match(/.{1,70}/g)!
    .join('\n');
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`;
}

const codeOf = (text: string): string => {
  try {
    signerOf(text);
    return 'none';
  } catch (error) {
    assert.ok(error instanceof PrivateKeyError, String(error));
    assert.equal(error.cause, undefined);
    for (const secret of [seed.toString('base64'), seed.toString('hex'), text.slice(60, 100)])
      if (secret.length > 8) assert.ok(!`${error.message}${error.stack}`.includes(secret));
    return error.code;
  }
};

test('OpenSSH’s own form is read, with any line ends', () => {
  assert.ok(signerOf(openSsh()).blob.includes(raw));
  assert.ok(signerOf(openSsh().replaceAll('\n', '\r\n')).blob.includes(raw));
  assert.ok(signerOf(`\n${openSsh()}\n\n`).blob.includes(raw));
});

test('INV-05: what is damaged, encrypted or mixed makes no signer, and no error that tells of it', () => {
  const other = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const otherRaw = Buffer.from(other.x!, 'base64url');
  const otherBlob = writeData({ string: 'ssh-ed25519' }, { string: otherRaw });
  const otherSeed = Buffer.from(other.d!, 'base64url');
  for (const [parts, code] of [
    [{ cipher: 'aes256-ctr', kdf: 'bcrypt' }, 'Encrypted'],
    [{ kdf: 'bcrypt' }, 'Encrypted'],
    [{ count: 2 }, 'Malformed'],
    [{ count: 0 }, 'Malformed'],
    [{ checks: [1, 2] }, 'Malformed'],
    [{ type: 'ssh-rsa' }, 'Malformed'],
    [{ publicKey: otherBlob }, 'Malformed'],
    [{ publicKey: otherBlob, shown: otherRaw }, 'Malformed'],
    [{ shown: otherRaw }, 'Malformed'],
    [{ secret: seed }, 'Malformed'],
    [{ secret: Buffer.concat([otherSeed, raw]) }, 'Malformed'],
    [{ padding: Buffer.from([2, 3]) }, 'Malformed'],
    [{ padding: Buffer.alloc(300, 1) }, 'Malformed'],
    [{ trailing: Buffer.from([0]) }, 'Malformed'],
    [{ publicKey: writeData({ string: 'ssh-dss' }) }, 'Unsupported'],
  ] as const)
    assert.equal(codeOf(openSsh(parts)), code, JSON.stringify(parts));
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const locked = privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }).toString();
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
  const foreign = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey;
  for (const [text, code] of [
    [pem, 'none'],
    [locked, 'Encrypted'],
    [pem.replace('MC4CAQ', 'MC4CAA'), 'Malformed'],
    [pem.slice(0, 80), 'Malformed'],
    [weak.export({ type: 'pkcs8', format: 'pem' }).toString(), 'Unsupported'],
    [foreign.export({ type: 'pkcs8', format: 'pem' }).toString(), 'Unsupported'],
    ['', 'Unsupported'],
    ['PuTTY-User-Key-File-3: ssh-ed25519', 'Unsupported'],
    [openSsh().replace('OPENSSH', 'OPENSHS'), 'Unsupported'],
    [`${'A'.repeat(70_000)}`, 'Malformed'],
  ] as const)
    assert.equal(codeOf(text), code, text.slice(0, 60));
});
