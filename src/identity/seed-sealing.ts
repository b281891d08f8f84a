// Seeds of listeners' keys on their way from the operator to one process of a proxy, by an API object that others may read:
// ECDH over X25519 with a key of one use, HKDF-SHA256, AES-256-GCM (the shape of RFC 9180's base mode), and the operator's
// signature over it all.
// Guarantees: only the process whose key it is for reads it; what no trusted key signed for this Connection and this key is
// none. Both keys are made in memory and never written. What was sealed for a process that is gone nobody can read.
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import type { SigningKey, TrustedKey } from '../policy/bundle-signing.ts';
import type { Random } from '../system/random.ts';
import { decodeBase64Url } from './ed25519.ts';

export interface SealedSeed {
  /** Key of one use, ciphertext, tag; base64url. */
  sealed: string;
  keyId: string;
  /** base64url. */
  signature: string;
}

/** Of one process. */
export interface AgreementKey {
  /** Raw X25519 key, base64url. */
  publicKey: string;
  privateKey: KeyObject;
}

const SEED_BYTES = 32;
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

const rawOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' }).subarray(-KEY_BYTES);
const publicOf = (raw: Buffer): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: raw.toString('base64url') }, format: 'jwk' });

export function makeAgreementKey(): AgreementKey {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  return { publicKey: rawOf(publicKey).toString('base64url'), privateKey };
}

function cipherKeys(shared: Buffer, once: Buffer, recipient: Buffer): { key: Buffer; iv: Buffer } {
  const bytes = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([once, recipient]), 'sallyport seed v1', 44));
  return { key: bytes.subarray(0, 32), iv: bytes.subarray(32) };
}

const signedBytes = (connectionUid: string, recipient: string, sealed: string): Buffer =>
  Buffer.from(`sallyport-seed\n${JSON.stringify([connectionUid, recipient, sealed])}`);

/** undefined: what the process calls its key is none. */
export function sealSeed(
  seed: Buffer,
  given: { connectionUid: string; recipient: string; key: SigningKey; random: Random },
): SealedSeed | undefined {
  const recipient = decodeBase64Url(given.recipient);
  if (recipient?.length !== KEY_BYTES) return undefined;
  const once = createPrivateKey({
    key: Buffer.concat([PKCS8_X25519, given.random.bytes(KEY_BYTES)]),
    format: 'der',
    type: 'pkcs8',
  });
  const oncePublic = rawOf(createPublicKey(once));
  let shared: Buffer;
  try {
    shared = diffieHellman({ privateKey: once, publicKey: publicOf(recipient) });
  } catch {
    return undefined; // a point of low order: everybody would know the secret
  }
  const { key, iv } = cipherKeys(shared, oncePublic, recipient);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(Buffer.from(given.connectionUid));
  const sealed = Buffer.concat([oncePublic, cipher.update(seed), cipher.final(), cipher.getAuthTag()]).toString(
    'base64url',
  );
  const signature = sign(null, signedBytes(given.connectionUid, given.recipient, sealed), given.key.privateKey);
  return { sealed, keyId: given.key.keyId, signature: signature.toString('base64url') };
}

/** undefined: not for this process and Connection, or by nobody who is trusted. */
export function openSeed(
  { sealed, keyId, signature }: SealedSeed,
  given: { connectionUid: string; own: AgreementKey; trusted: readonly TrustedKey[] },
): Buffer | undefined {
  const { connectionUid, own } = given;
  const signer = given.trusted.find((each) => each.keyId === keyId);
  const bytes = decodeBase64Url(sealed);
  const signatureBytes = decodeBase64Url(signature);
  if (signer === undefined || signatureBytes === undefined) return undefined;
  if (bytes?.length !== KEY_BYTES + SEED_BYTES + TAG_BYTES) return undefined;
  if (!verify(null, signedBytes(connectionUid, own.publicKey, sealed), signer.publicKey, signatureBytes))
    return undefined;
  try {
    const once = bytes.subarray(0, KEY_BYTES);
    const shared = diffieHellman({ privateKey: own.privateKey, publicKey: publicOf(once) });
    const { key, iv } = cipherKeys(shared, once, Buffer.from(own.publicKey, 'base64url'));
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
    decipher.setAAD(Buffer.from(connectionUid));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(KEY_BYTES, -TAG_BYTES)), decipher.final()]);
  } catch {
    return undefined;
  }
}
