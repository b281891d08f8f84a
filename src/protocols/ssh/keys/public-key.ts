// Public keys in their wire form (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709; OpenSSH's PROTOCOL.u2f).
//
// Guarantees: a key that was read is whole, canonical (its blob is the only spelling of it) and worth something: RSA of
// 2048 to 16384 bits with an odd exponent, points on their curve, Ed25519 of large order. Certificates are no keys here.
// What it does not say: whose key it is.
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { MalformedData, type Reader, readData, writeData } from '../wire/data.ts';
import type { SignatureAlgorithm } from './key.ts';

/** Name at the head of a blob. `ssh-rsa` is a kind of key; the signature algorithm of that name (SHA-1) is not known here. */
export type KeyType =
  | 'ssh-ed25519'
  | 'ecdsa-sha2-nistp256'
  | 'ecdsa-sha2-nistp384'
  | 'ecdsa-sha2-nistp521'
  | 'ssh-rsa'
  | 'sk-ssh-ed25519@openssh.com'
  | 'sk-ecdsa-sha2-nistp256@openssh.com';

export type PublicKey = { type: KeyType; blob: Buffer } & (
  | { kind: 'Ed25519'; raw: Buffer }
  | { kind: 'Ecdsa'; curve: EcdsaCurve; point: Buffer }
  | { kind: 'Rsa'; exponent: Buffer; modulus: Buffer }
  /** On a security key: it signs over the application and its own flags and counter as well. */
  | { kind: 'SkEd25519'; raw: Buffer; application: Buffer }
  | { kind: 'SkEcdsa'; curve: EcdsaCurve; point: Buffer; application: Buffer }
);

export interface EcdsaCurve {
  /** SSH's name for it. */
  name: 'nistp256' | 'nistp384' | 'nistp521';
  hash: 'sha256' | 'sha384' | 'sha512';
  /** Bytes of a coordinate and of each half of a signature. */
  bytes: number;
  /** JOSE's name. */
  jwk: 'P-256' | 'P-384' | 'P-521';
  /** Everything of a SubjectPublicKeyInfo in front of the uncompressed point. */
  spki: Buffer;
}

export const CURVES: Readonly<Record<EcdsaCurve['name'], EcdsaCurve>> = {
  nistp256: {
    name: 'nistp256',
    hash: 'sha256',
    bytes: 32,
    jwk: 'P-256',
    spki: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex'),
  },
  nistp384: {
    name: 'nistp384',
    hash: 'sha384',
    bytes: 48,
    jwk: 'P-384',
    spki: Buffer.from('3076301006072a8648ce3d020106052b81040022036200', 'hex'),
  },
  nistp521: {
    name: 'nistp521',
    hash: 'sha512',
    bytes: 66,
    jwk: 'P-521',
    spki: Buffer.from('30819b301006072a8648ce3d020106052b8104002303818600', 'hex'),
  },
};

const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

const FEWEST_RSA_BITS = 2048;
const MOST_RSA_BITS = 16384;
const LONGEST_BLOB = 8 * 1024;
const LONGEST_APPLICATION = 1024;

/** Reads a blob, nothing left over. Throws MalformedData. The key holds copies of nothing: the blob is its to keep. */
export function readPublicKey(blob: Buffer): PublicKey {
  if (blob.length > LONGEST_BLOB) throw new MalformedData('a public key is too long');
  const reader = readData(blob);
  const type = readKeyType(reader);
  const key = readKeyFields(type, reader);
  reader.end();
  return { ...key, blob } as PublicKey;
}

function readKeyType(reader: Reader): KeyType {
  const type = reader.text(64);
  if (!isKeyType(type)) throw new MalformedData('a public key is of an unknown type');
  return type;
}

const KEY_TYPES: ReadonlySet<string> = new Set<KeyType>([
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'ssh-rsa',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
]);

export function isKeyType(name: string): name is KeyType {
  return KEY_TYPES.has(name);
}

type WithoutBlob<T> = T extends unknown ? Omit<T, 'blob'> : never;

/** What follows the type's name, in keys and in certificates alike. Throws MalformedData. */
export function readKeyFields(type: KeyType, reader: Reader): WithoutBlob<PublicKey> {
  switch (type) {
    case 'ssh-ed25519':
      return { kind: 'Ed25519', type, raw: readEd25519(reader) };
    case 'sk-ssh-ed25519@openssh.com':
      return { kind: 'SkEd25519', type, raw: readEd25519(reader), application: readApplication(reader) };
    case 'ecdsa-sha2-nistp256':
    case 'ecdsa-sha2-nistp384':
    case 'ecdsa-sha2-nistp521': {
      const curve = CURVES[type.slice('ecdsa-sha2-'.length) as EcdsaCurve['name']];
      return { kind: 'Ecdsa', type, curve, point: readPoint(reader, curve) };
    }
    case 'sk-ecdsa-sha2-nistp256@openssh.com': {
      const curve = CURVES.nistp256;
      return { kind: 'SkEcdsa', type, curve, point: readPoint(reader, curve), application: readApplication(reader) };
    }
    case 'ssh-rsa': {
      const exponent = reader.mpint();
      const modulus = reader.mpint();
      const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
      if (bits < FEWEST_RSA_BITS) throw new MalformedData(`an RSA key has fewer than ${FEWEST_RSA_BITS} bits`);
      if (bits > MOST_RSA_BITS) throw new MalformedData(`an RSA key has more than ${MOST_RSA_BITS} bits`);
      if ((modulus.at(-1)! & 1) === 0) throw new MalformedData('an RSA modulus is even');
      // OpenSSL verifies with exponents of up to 64 bits; nobody makes longer ones, and they cost time.
      if (exponent.length === 0 || exponent.length > 8 || (exponent.at(-1)! & 1) === 0 || exponent.equals(ONE))
        throw new MalformedData('an RSA exponent is of no use');
      return { kind: 'Rsa', type, exponent, modulus };
    }
  }
}

const ONE = Buffer.from([1]);

function readEd25519(reader: Reader): Buffer {
  const raw = reader.string();
  if (raw.length !== 32) throw new MalformedData('an Ed25519 key is not of 32 bytes');
  if (isWeak(raw)) throw new MalformedData('an Ed25519 key proves nothing: it is not canonical or of small order');
  return raw;
}

/** y of the points of order 1, 2, 4 and 8. A signature by one of them can be made by anybody. */
const SMALL_ORDER: readonly bigint[] = [
  0n,
  1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
];
const FIELD = 2n ** 255n - 19n;

function isWeak(raw: Buffer): boolean {
  let y = 0n;
  for (let at = 31; at >= 0; at -= 1) y = (y << 8n) | BigInt(at === 31 ? raw[at]! & 0x7f : raw[at]!);
  return y >= FIELD - 1n || SMALL_ORDER.includes(y);
}

function readApplication(reader: Reader): Buffer {
  const application = reader.string();
  if (application.length === 0 || application.length > LONGEST_APPLICATION)
    throw new MalformedData('the application of a security key has a wrong length');
  return application;
}

/** Name of the curve and an uncompressed point on it. */
function readPoint(reader: Reader, curve: EcdsaCurve): Buffer {
  if (reader.text(16) !== curve.name) throw new MalformedData('an ECDSA key names another curve than its type');
  const point = reader.string();
  if (point.length !== 1 + 2 * curve.bytes || point[0] !== 4)
    throw new MalformedData('an ECDSA key is no uncompressed point of its curve');
  try {
    ecdsaKey(curve, point); // OpenSSL looks whether it is on the curve
  } catch {
    throw new MalformedData('the point of an ECDSA key is not on its curve');
  }
  return point;
}

function ecdsaKey(curve: EcdsaCurve, point: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([curve.spki, point]), format: 'der', type: 'spki' });
}

/** For node:crypto. Of a security key: the key that its chip signs with. */
export function keyObjectOf(key: PublicKey): KeyObject {
  switch (key.kind) {
    case 'Ed25519':
    case 'SkEd25519':
      return createPublicKey({ key: Buffer.concat([ED25519_SPKI, key.raw]), format: 'der', type: 'spki' });
    case 'Ecdsa':
    case 'SkEcdsa':
      return ecdsaKey(key.curve, key.point);
    case 'Rsa':
      return createPublicKey({
        key: { kty: 'RSA', n: key.modulus.toString('base64url'), e: key.exponent.toString('base64url') },
        format: 'jwk',
      });
  }
}

/** The blob of a key that node:crypto knows. Throws MalformedData where SSH has no such key. */
export function blobOfKeyObject(key: KeyObject): Buffer {
  const jwk = key.export({ format: 'jwk' });
  const bytes = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return ed25519Blob(bytes(jwk.x));
  if (jwk.kty === 'RSA') return writeData({ string: 'ssh-rsa' }, { mpint: bytes(jwk.e) }, { mpint: bytes(jwk.n) });
  const curve = Object.values(CURVES).find(({ jwk: name }) => name === jwk.crv);
  if (jwk.kty !== 'EC' || curve === undefined) throw new MalformedData('a key of a kind that SSH does not know');
  const point = Buffer.concat([Buffer.from([4]), bytes(jwk.x), bytes(jwk.y)]);
  return writeData({ string: `ecdsa-sha2-${curve.name}` }, { string: curve.name }, { string: point });
}

/** From a raw public key of 32 bytes. */
export function ed25519Blob(raw: Buffer): Buffer {
  return writeData({ string: 'ssh-ed25519' }, { string: raw });
}

/** What may sign for a key, best first. */
export function signatureAlgorithmsOf(type: KeyType): readonly SignatureAlgorithm[] {
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type];
}

/** `SHA256:` and the base64 of the hash without padding, as ssh-keygen prints it. Of a certificate: of its key, by the caller. */
export function fingerprintOf(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}
