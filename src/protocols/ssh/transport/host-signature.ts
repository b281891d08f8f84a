// A client's check of what the server signed in a key exchange (RFC 4253, 8): the key's type and the signature's
// algorithm are those that were agreed on. Whether the key is the host's is for others to say.
import { createPublicKey, verify } from 'node:crypto';
import { MalformedData, readData } from '../wire/data.ts';

const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

export function hostSignatureIsGood(algorithm: string, blob: Buffer, data: Buffer, signature: Buffer): boolean {
  try {
    const key = readData(blob);
    const signed = readData(signature);
    if (algorithm !== 'ssh-ed25519' || key.text(64) !== algorithm || signed.text(64) !== algorithm) return false;
    const publicKey = key.string();
    const bytes = signed.string();
    key.end();
    signed.end();
    if (publicKey.length !== 32 || bytes.length !== 64) return false;
    const der = Buffer.concat([ED25519_SPKI, publicKey]);
    return verify(null, data, createPublicKey({ key: der, format: 'der', type: 'spki' }), bytes);
  } catch (error) {
    if (error instanceof MalformedData) return false;
    throw error;
  }
}
