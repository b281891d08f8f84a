// What node:crypto leaves to its caller about Ed25519 (RFC 8032): which public keys prove nothing, and which spellings
// of a signature are the canonical one. OpenSSL accepts a signature that anybody can make under a low-order key.
import { createPublicKey, type KeyObject, verify } from 'node:crypto';

/** 2^255 - 19, and the order of the base point. */
const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;

/** y coordinates of the eight points whose order divides 8; the sign of x does not matter. */
const ORDER_8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
const LOW_ORDER_Y: ReadonlySet<bigint> = new Set([0n, 1n, P - 1n, ORDER_8, P - ORDER_8]);

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

/** base64url without padding, whose spare bits are zero: one text for one value. Undefined for anything else. */
export function decodeBase64Url(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

export type ClientKey = { kind: 'Usable'; key: KeyObject } | { kind: 'Unusable'; reason: 'Malformed' | 'LowOrder' };

/** Reads a raw public key (32 bytes, base64url). Refuses low-order points and encodings of y that are not reduced. */
export function readClientKey(text: string): ClientKey {
  const raw = decodeBase64Url(text);
  if (raw === undefined || raw.length !== 32) return { kind: 'Unusable', reason: 'Malformed' };
  const y = littleEndian(raw) & (2n ** 255n - 1n);
  if (y >= P) return { kind: 'Unusable', reason: LOW_ORDER_Y.has(y - P) ? 'LowOrder' : 'Malformed' };
  if (LOW_ORDER_Y.has(y)) return { kind: 'Unusable', reason: 'LowOrder' };
  try {
    return { kind: 'Usable', key: createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: text }, format: 'jwk' }) };
  } catch {
    return { kind: 'Unusable', reason: 'Malformed' };
  }
}

/** Verifies; a signature whose scalar is not reduced, or whose commitment is a low-order point, is no signature. */
export function verifyStrictly(key: KeyObject, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false;
  if (littleEndian(signature.subarray(32)) >= L) return false;
  const y = littleEndian(signature.subarray(0, 32)) & (2n ** 255n - 1n);
  if (y >= P || LOW_ORDER_Y.has(y)) return false;
  return verify(null, message, key, signature);
}
