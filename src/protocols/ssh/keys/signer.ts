// Signers from private keys: OpenSSH's own form without a passphrase (PROTOCOL.key), PKCS#8, PKCS#1 and SEC1 PEM.
//
// Guarantees: no error holds anything of the text; a key whose halves do not belong together makes no signer.
import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { MalformedData, type Reader, readData, writeData } from '../wire/data.ts';
import { certificateName, parseCertificate, plainName } from './certificate-blob.ts';
import type { SignatureAlgorithm, Signer } from './key.ts';
import {
  blobOfKeyObject,
  type EcdsaCurve,
  type PublicKey,
  readPublicKey,
  signatureAlgorithmsOf,
} from './public-key.ts';
import { verifySignature } from './verify.ts';

export class PrivateKeyError extends Error {
  readonly code: 'Encrypted' | 'Unsupported' | 'Malformed';
  constructor(code: PrivateKeyError['code'], message: string) {
    super(message); // never a cause: it could quote the text
    this.name = 'PrivateKeyError';
    this.code = code;
  }
}

const LONGEST_TEXT = 64 * 1024;
const OPENSSH = /^-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END OPENSSH PRIVATE KEY-----\s*$/;
const PEM = /^-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----\s/;
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Throws PrivateKeyError. */
export function signerOf(privateKey: string): Signer {
  const text = privateKey.trim();
  if (text.length > LONGEST_TEXT) throw malformed('it is too long');
  if (text.includes('ENCRYPTED'))
    throw new PrivateKeyError('Encrypted', 'the private key has a passphrase: store it without one');
  const openssh = OPENSSH.exec(text);
  if (openssh !== null) {
    try {
      return readOpenSsh(Buffer.from(openssh[1]!, 'base64'));
    } catch (error) {
      if (error instanceof MalformedData) throw malformed('its fields are not as they should be');
      throw error;
    }
  }
  if (!PEM.test(text))
    throw new PrivateKeyError(
      'Unsupported',
      'the private key is in no form that is known: OpenSSH (ssh-keygen), PKCS#8, PKCS#1 and SEC1 PEM are',
    );
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw malformed('its PEM can not be read');
  }
  return signerOfKeyObject(key);
}

function malformed(why: string): PrivateKeyError {
  return new PrivateKeyError('Malformed', `the private key is damaged: ${why}`);
}

/** 32 secret bytes (RFC 8032). */
export function ed25519Signer(seed: Buffer): Signer {
  return signerOfKeyObject(
    createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: 'der', type: 'pkcs8' }),
  );
}

/** A secret number of the curve, big endian, of the curve's length. */
export function ecdsaSigner(curve: EcdsaCurve, secret: Buffer): Signer {
  return signerOfKeyObject(ecdsaPrivateKey(curve, secret));
}

/** Throws PrivateKeyError where SSH has no such key, or it is too weak. */
export function signerOfKeyObject(key: KeyObject): Signer {
  let known: PublicKey;
  try {
    known = readPublicKey(blobOfKeyObject(createPublicKey(key)));
  } catch {
    throw new PrivateKeyError(
      'Unsupported',
      'the private key is of no kind that is taken: Ed25519, ECDSA (P-256, P-384, P-521) and RSA of 2048 bits or more are',
    );
  }
  return signer(known, key);
}

/** The same key, shown with a certificate for it. Throws MalformedData where the certificate is for another key. */
export function certified(plain: Signer, certificate: Buffer): Signer {
  if (!parseCertificate(certificate).key.blob.equals(plain.blob))
    throw new MalformedData('the certificate is for another key');
  return {
    blob: certificate,
    algorithms: plain.algorithms.map(certificateName),
    sign: (data, algorithm) => plain.sign(data, plainName(algorithm) ?? ''),
  };
}

function signer(known: PublicKey, key: KeyObject): Signer {
  const algorithms = signatureAlgorithmsOf(known.type);
  return {
    blob: known.blob,
    algorithms,
    sign(data, algorithm) {
      if (!algorithms.some((name) => name === algorithm)) throw new Error(`this key does not sign by ${algorithm}`);
      return writeData({ string: algorithm }, { string: raw(known, key, data, algorithm as SignatureAlgorithm) });
    },
  };
}

function raw(known: PublicKey, key: KeyObject, data: Buffer, algorithm: SignatureAlgorithm): Buffer {
  switch (known.kind) {
    case 'Ed25519':
      return sign(null, data, key);
    case 'Ecdsa': {
      const fixed = sign(known.curve.hash, data, { key, dsaEncoding: 'ieee-p1363' });
      return writeData({ mpint: fixed.subarray(0, known.curve.bytes) }, { mpint: fixed.subarray(known.curve.bytes) });
    }
    case 'Rsa':
      return sign(algorithm === 'rsa-sha2-512' ? 'sha512' : 'sha256', data, key);
    case 'SkEd25519':
    case 'SkEcdsa':
      throw new Error('a security key signs by itself');
  }
}

const MAGIC = Buffer.from('openssh-key-v1\0', 'latin1');

function readOpenSsh(bytes: Buffer): Signer {
  const reader = readData(bytes);
  if (bytes.length < MAGIC.length || !reader.bytes(MAGIC.length).equals(MAGIC))
    throw malformed('it has a wrong header');
  const cipher = reader.text(64);
  const kdf = reader.text(64);
  const kdfOptions = reader.string();
  if (cipher !== 'none' || kdf !== 'none' || kdfOptions.length > 0)
    throw new PrivateKeyError('Encrypted', 'the private key has a passphrase: store it without one');
  if (reader.uint32() !== 1) throw malformed('it holds more than one key');
  const publicKey = readPublic(reader.string());
  const secret = readData(reader.string());
  reader.end();
  if (secret.uint32() !== secret.uint32()) throw malformed('its check numbers differ');
  if (secret.text(64) !== publicKey.type) throw malformed('its halves are of different kinds');
  const key = readPrivate(publicKey, secret);
  secret.string(); // comment
  const padding = secret.rest();
  if (padding.length > 255 || padding.some((byte, at) => byte !== at + 1)) throw malformed('its padding is wrong');
  const made = signer(publicKey, key);
  // Nothing so far says that the halves belong together; a signature by another key would be an oracle for this one.
  const probe = Buffer.from('sallyport');
  const algorithm = made.algorithms[0]!;
  let good = false;
  try {
    good = verifySignature(publicKey.blob, algorithm, probe, made.sign(probe, algorithm));
  } catch {
    // Said below.
  }
  if (!good) throw malformed('its halves do not belong together');
  return made;
}

function readPublic(blob: Buffer): PublicKey {
  try {
    return readPublicKey(blob);
  } catch {
    throw new PrivateKeyError(
      'Unsupported',
      'the private key is of no kind that is taken: Ed25519, ECDSA (P-256, P-384, P-521) and RSA of 2048 bits or more are',
    );
  }
}

/** The fields of PROTOCOL.key's private section, by kind; the public ones among them must be the blob's. */
function readPrivate(key: PublicKey, reader: Reader): KeyObject {
  const same = (field: Buffer, expected: Buffer): void => {
    if (!field.equals(expected)) throw malformed('its halves differ');
  };
  switch (key.kind) {
    case 'Ed25519': {
      same(reader.string(), key.raw);
      const secret = reader.string();
      if (secret.length !== 64) throw malformed('it has a wrong length');
      return made(() =>
        createPrivateKey({
          key: Buffer.concat([ED25519_PKCS8, secret.subarray(0, 32)]),
          format: 'der',
          type: 'pkcs8',
        }),
      );
    }
    case 'Ecdsa': {
      if (reader.text(16) !== key.curve.name) throw malformed('its halves differ');
      same(reader.string(), key.point);
      const secret = reader.mpint();
      if (secret.length > key.curve.bytes) throw malformed('it has a wrong length');
      return made(() => ecdsaPrivateKey(key.curve, leftPadded(secret, key.curve.bytes), key.point));
    }
    case 'Rsa': {
      same(reader.mpint(), key.modulus);
      same(reader.mpint(), key.exponent);
      const d = reader.mpint();
      const iqmp = reader.mpint();
      const p = reader.mpint();
      const q = reader.mpint();
      return made(() => rsaPrivateKey(key, { d, iqmp, p, q }));
    }
    case 'SkEd25519':
    case 'SkEcdsa':
      throw new PrivateKeyError('Unsupported', 'the private key lives on a security key: nobody could touch it here');
  }
}

function made(make: () => KeyObject): KeyObject {
  try {
    return make();
  } catch {
    throw malformed('its numbers make no key');
  }
}

function leftPadded(bytes: Buffer, length: number): Buffer {
  return Buffer.concat([Buffer.alloc(Math.max(0, length - bytes.length)), bytes]);
}

/** PKCS#8 of a SEC1 key without its public half, which OpenSSL then computes; a given one is checked by signing. */
function ecdsaPrivateKey(curve: EcdsaCurve, secret: Buffer, point?: Buffer): KeyObject {
  if (point !== undefined) {
    const coordinate = (at: number): string =>
      point.subarray(1 + at * curve.bytes, 1 + (at + 1) * curve.bytes).toString('base64url');
    const key = { kty: 'EC', crv: curve.jwk, d: secret.toString('base64url'), x: coordinate(0), y: coordinate(1) };
    return createPrivateKey({ key, format: 'jwk' });
  }
  // SubjectPublicKeyInfo begins SEQUENCE { AlgorithmIdentifier }: the identifier is what PKCS#8 wants too.
  const start = curve.spki[1]! >= 0x80 ? 3 : 2;
  const identifier = curve.spki.subarray(start, start + 2 + curve.spki[start + 1]!);
  const sec1 = der(0x30, Buffer.from([2, 1, 1]), der(0x04, secret));
  const pkcs8 = der(0x30, Buffer.from([2, 1, 0]), identifier, der(0x04, sec1));
  return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(body.length < 0x80 ? [tag, body.length] : [tag, 0x81, body.length]), body]);
}

function rsaPrivateKey(
  key: PublicKey & { kind: 'Rsa' },
  numbers: { d: Buffer; iqmp: Buffer; p: Buffer; q: Buffer },
): KeyObject {
  const { d, iqmp, p, q } = numbers;
  const big = (bytes: Buffer): bigint => (bytes.length === 0 ? 0n : BigInt(`0x${bytes.toString('hex')}`));
  const remainder = (prime: Buffer): Buffer => {
    const hex = (big(d) % (big(prime) - 1n)).toString(16);
    return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  };
  const text = (bytes: Buffer): string => bytes.toString('base64url');
  return createPrivateKey({
    key: {
      kty: 'RSA',
      n: text(key.modulus),
      e: text(key.exponent),
      d: text(d),
      p: text(p),
      q: text(q),
      dp: text(remainder(p)),
      dq: text(remainder(q)),
      qi: text(iqmp),
    },
    format: 'jwk',
  });
}
