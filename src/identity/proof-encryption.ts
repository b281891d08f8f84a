// Proofs on their way to who checks them. The API server writes request bodies to its audit log before any webhook sees
// them, so a token travels as a compact JWE (RFC 7516) to a key of the operator: ECDH-ES over X25519, A256GCM.
// Guarantees: only the holder of the operator's key reads it; nothing that the sender writes chooses another algorithm,
// and what it unpacks to is no larger than what came. Says nothing of who encrypted: the proof inside proves itself.
import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject } from 'node:crypto';
import { CompactEncrypt, compactDecrypt, importJWK, type JWK } from 'jose';
import { TOKEN_BYTES } from './oidc/token-text.ts';

export interface ProofKey {
  keyId: string;
  privateKey: KeyObject;
}

/** What is published: RFC 8037, with `kid`. */
export interface PublishedProofKey {
  kty: 'OKP';
  crv: 'X25519';
  x: string;
  kid: string;
  use: 'enc';
  alg: 'ECDH-ES';
}

const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** Derived, so that every replica has the same and nothing needs to be kept. `operatorKey`: an Ed25519 private key. */
export function proofKeyOf(operatorKey: { keyId: string; privateKey: KeyObject }): ProofKey {
  const seed = operatorKey.privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
  const own = Buffer.from(hkdfSync('sha256', seed, 'sallyport', 'proof encryption', 32));
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, own]), format: 'der', type: 'pkcs8' });
  return { keyId: operatorKey.keyId, privateKey };
}

export function publishedProofKey({ keyId, privateKey }: ProofKey): PublishedProofKey {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  return { kty: 'OKP', crv: 'X25519', x: x!, kid: keyId, use: 'enc', alg: 'ECDH-ES' };
}

/** Reads what was published; undefined: it is none. */
export function readProofKey(text: string | undefined): PublishedProofKey | undefined {
  try {
    const value = JSON.parse(text ?? '') as Partial<PublishedProofKey> | null;
    const { kty, crv, x, kid } = value ?? {};
    if (kty !== 'OKP' || crv !== 'X25519' || typeof kid !== 'string') return undefined;
    if (typeof x !== 'string' || !/^[A-Za-z0-9_-]{43}$/.test(x)) return undefined;
    return { kty, crv, x, kid, use: 'enc', alg: 'ECDH-ES' };
  } catch {
    return undefined;
  }
}

/** For the portal. */
export async function encryptProof(proof: string, key: PublishedProofKey): Promise<string> {
  const { kty, crv, x, kid } = key;
  const recipient = await importJWK({ kty, crv, x } satisfies JWK, 'ECDH-ES');
  return new CompactEncrypt(Buffer.from(proof))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', kid })
    .encrypt(recipient);
}

/** Whether a proof came encrypted. A page's has four parts, a token three. */
export const isEncryptedProof = (proof: string): boolean => proof.split('.', 6).length === 5;

/** undefined: not for this key, or altered. */
export async function decryptProof(encrypted: string, key: ProofKey): Promise<string | undefined> {
  if (encrypted.length > 2 * TOKEN_BYTES) return undefined;
  try {
    const { plaintext, protectedHeader } = await compactDecrypt(encrypted, key.privateKey, {
      keyManagementAlgorithms: ['ECDH-ES'],
      contentEncryptionAlgorithms: ['A256GCM'],
      // Compressed, a small text could become a large one.
      maxDecompressedLength: 0,
    });
    return protectedHeader.kid === key.keyId ? Buffer.from(plaintext).toString('utf8') : undefined;
  } catch {
    return undefined;
  }
}
