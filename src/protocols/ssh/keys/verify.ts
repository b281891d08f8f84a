// Whether a signature is by a key, over exactly these bytes (RFC 4253, 6.6; RFC 5656, 3.1.2; RFC 8332; RFC 8709;
// OpenSSH's PROTOCOL.u2f). Everything is strict: the algorithm fits the key, the signature says the same algorithm, it
// has no other spelling and nothing behind it. SHA-1 and DSA are not known.
import { createHash, verify } from 'node:crypto';
import { MalformedData, type Reader, readData, writeData } from '../wire/data.ts';
import { certificateName, parseCertificate, plainName } from './certificate-blob.ts';
import type { SignatureAlgorithm } from './key.ts';
import { type EcdsaCurve, keyObjectOf, type PublicKey, readPublicKey, signatureAlgorithmsOf } from './public-key.ts';

/** What this verifies, best first: for `server-sig-algs` and for lists of host key algorithms. */
export const SIGNATURE_ALGORITHMS: readonly SignatureAlgorithm[] = [
  'ssh-ed25519',
  'sk-ssh-ed25519@openssh.com',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ecdsa-sha2-nistp256@openssh.com',
  'rsa-sha2-512',
  'rsa-sha2-256',
];

/** Somebody touched the security key; it knew who (PIN, finger). */
const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;

/**
 * `blob` is a public key, or a certificate: then its key signs, and `algorithm` is the certificate's form of the name
 * (`rsa-sha2-512-cert-v01@openssh.com`). `signature` is the whole blob: a name, then the signature. A security key must
 * have been touched. Never throws. Says nothing of who issued the certificate.
 */
export function verifySignature(
  blob: Buffer,
  algorithm: string,
  data: Buffer,
  signature: Buffer,
  options: { userVerified?: boolean } = {},
): boolean {
  try {
    const plain = plainName(algorithm);
    const key = plain === undefined ? readPublicKey(blob) : parseCertificate(blob).key;
    return verifyByKey(key, plain ?? algorithm, data, signature, options);
  } catch (error) {
    if (error instanceof MalformedData) return false;
    throw error;
  }
}

/** As `verifySignature`, for a key already read. */
export function verifyByKey(
  key: PublicKey,
  algorithm: string,
  data: Buffer,
  signature: Buffer,
  options: { userVerified?: boolean } = {},
): boolean {
  if (!signatureAlgorithmsOf(key.type).some((known) => known === algorithm)) return false;
  try {
    const reader = readData(signature);
    if (reader.text(64) !== algorithm) return false;
    const bytes = reader.string();
    switch (key.kind) {
      case 'Ed25519':
        reader.end();
        return verifyEd25519(key, data, bytes);
      case 'Ecdsa':
        reader.end();
        return verifyEcdsa(key, key.curve, data, bytes);
      case 'Rsa':
        reader.end();
        return verifyRsa(key, algorithm, data, bytes);
      case 'SkEd25519':
      case 'SkEcdsa': {
        const signed = securityKeyData(key.application, data, reader, options.userVerified === true);
        if (signed === undefined) return false;
        return key.kind === 'SkEd25519'
          ? verifyEd25519(key, signed, bytes)
          : verifyEcdsa(key, key.curve, signed, bytes);
      }
    }
  } catch (error) {
    if (error instanceof MalformedData) return false;
    throw error;
  }
}

/** Whether a key or certificate and the name of an algorithm go together, so that it may be asked for at all. */
export function fits(blob: Buffer, algorithm: string): boolean {
  try {
    const type = readData(blob).text(64);
    const plain = plainName(type);
    const keyType = readableType(plain ?? type);
    if (keyType === undefined) return false;
    const names = signatureAlgorithmsOf(keyType);
    return names.some((name) => (plain === undefined ? name : certificateName(name)) === algorithm);
  } catch (error) {
    if (error instanceof MalformedData) return false;
    throw error;
  }
}

function readableType(name: string): PublicKey['type'] | undefined {
  return name === 'ssh-rsa' || SIGNATURE_ALGORITHMS.some((known) => known === name)
    ? (name as PublicKey['type'])
    : undefined;
}

function verifyEd25519(key: PublicKey, data: Buffer, signature: Buffer): boolean {
  return signature.length === 64 && verify(null, data, keyObjectOf(key), signature);
}

/** Two strict mpints and nothing else. */
function verifyEcdsa(key: PublicKey, curve: EcdsaCurve, data: Buffer, signature: Buffer): boolean {
  const reader = readData(signature);
  const r = reader.mpint();
  const s = reader.mpint();
  reader.end();
  if (r.length === 0 || s.length === 0 || r.length > curve.bytes || s.length > curve.bytes) return false;
  const fixed = Buffer.alloc(2 * curve.bytes);
  r.copy(fixed, curve.bytes - r.length);
  s.copy(fixed, 2 * curve.bytes - s.length);
  return verify(curve.hash, data, { key: keyObjectOf(key), dsaEncoding: 'ieee-p1363' }, fixed);
}

function verifyRsa(key: PublicKey & { kind: 'Rsa' }, algorithm: string, data: Buffer, signature: Buffer): boolean {
  const bytes = key.modulus.length;
  // Some signers drop leading zeros, and OpenSSH puts them back: still one number, below the modulus.
  if (signature.length === 0 || signature.length > bytes) return false;
  const padded = Buffer.alloc(bytes);
  signature.copy(padded, bytes - signature.length);
  return verify(algorithm === 'rsa-sha2-512' ? 'sha512' : 'sha256', data, keyObjectOf(key), padded);
}

/** What the chip signed; undefined where nobody was there. */
function securityKeyData(application: Buffer, data: Buffer, reader: Reader, userVerified: boolean): Buffer | undefined {
  const flags = reader.byte();
  const counter = reader.uint32();
  reader.end();
  if ((flags & USER_PRESENT) === 0 || (userVerified && (flags & USER_VERIFIED) === 0)) return undefined;
  const hash = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
  return writeData({ raw: hash(application) }, { byte: flags }, { uint32: counter }, { raw: hash(data) });
}
