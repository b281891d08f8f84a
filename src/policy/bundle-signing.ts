// Signs and verifies bundle shards: Ed25519 over every field that gives the payload its meaning, so that a shard can
// not be moved to another Connection, renamed, or rolled back.
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { canonicalJson, sha256Hex } from '../api/canonical.ts';
import { BUNDLE_FORMAT, type ShardEnvelope, type ShardName } from './bundle.ts';

export interface SigningKey {
  keyId: string;
  privateKey: KeyObject;
}
export interface TrustedKey {
  keyId: string;
  publicKey: KeyObject;
}

/** Key id: the first 16 hex digits of SHA-256 over the raw public key. */
export function keyIdOf(publicKey: KeyObject): string {
  return sha256Hex(publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)).slice(0, 16);
}

export function signingKeyFromPem(pem: string): SigningKey {
  const privateKey = createPrivateKey(pem);
  return { keyId: keyIdOf(createPublicKey(privateKey)), privateKey };
}

export function trustedKeyOf(key: SigningKey): TrustedKey {
  return { keyId: key.keyId, publicKey: createPublicKey(key.privateKey) };
}

function signedBytes(envelope: Omit<ShardEnvelope, 'payload' | 'signatures'>): Buffer {
  const { connectionUid, shard, epoch, sequence, format, payloadHash } = envelope;
  return Buffer.from(
    `sallyport-bundle\n${canonicalJson({ connectionUid, shard, epoch, sequence, format, payloadHash })}`,
  );
}

export function signShard(
  key: SigningKey,
  shard: { connectionUid: string; shard: ShardName; epoch: number; sequence: number; payload: unknown },
): ShardEnvelope {
  const payload = JSON.stringify(shard.payload);
  const head = {
    connectionUid: shard.connectionUid,
    shard: shard.shard,
    epoch: shard.epoch,
    sequence: shard.sequence,
    format: BUNDLE_FORMAT,
    payloadHash: sha256Hex(payload),
  };
  return {
    ...head,
    payload,
    signatures: [{ keyId: key.keyId, signature: sign(null, signedBytes(head), key.privateKey).toString('base64') }],
  };
}

export type ShardVerdict =
  | { kind: 'Good'; payload: unknown }
  | { kind: 'Bad'; reason: 'Format' | 'Hash' | 'Unsigned' | 'Signature' | 'Payload' };

/** Good only if some trusted key signed exactly these fields. Order (epoch, sequence) is for the caller to check. */
export function verifyShard(trusted: readonly TrustedKey[], envelope: ShardEnvelope): ShardVerdict {
  if (envelope.format !== BUNDLE_FORMAT) return { kind: 'Bad', reason: 'Format' };
  if (sha256Hex(envelope.payload) !== envelope.payloadHash) return { kind: 'Bad', reason: 'Hash' };
  if (envelope.signatures.length === 0) return { kind: 'Bad', reason: 'Unsigned' };
  const bytes = signedBytes(envelope);
  const good = envelope.signatures.some(({ keyId, signature }) => {
    const key = trusted.find((candidate) => candidate.keyId === keyId);
    return key !== undefined && verify(null, bytes, key.publicKey, Buffer.from(signature, 'base64'));
  });
  if (!good) return { kind: 'Bad', reason: 'Signature' };
  try {
    return { kind: 'Good', payload: JSON.parse(envelope.payload) };
  } catch {
    return { kind: 'Bad', reason: 'Payload' };
  }
}
