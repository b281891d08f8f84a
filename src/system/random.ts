// Randomness as a value handed in. Real code always gets `systemRandom`; a test may replay.
import { randomBytes } from 'node:crypto';

export interface Random {
  /** Cryptographically strong bytes. */
  bytes(length: number): Buffer;
}

export const systemRandom: Random = { bytes: (length) => randomBytes(length) };

/** Lower-case letters and digits without look-alikes (0/o, 1/l/i), as Kubernetes uses for generated names. */
const NAME_ALPHABET = 'bcdfghjkmnpqrstvwxz2456789';

/** A short name part such as `7fk2p`; 26^length values, so it names things and never protects them. */
export function randomSuffix(random: Random, length = 5): string {
  return Array.from(random.bytes(length), (byte) => NAME_ALPHABET[byte % NAME_ALPHABET.length]).join('');
}

/** An RFC 9562 version 4 UUID. */
export function randomUid(random: Random): string {
  const bytes = random.bytes(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
