// Judges the keys that an issuer publishes (JWK Set, RFC 7517). Pure. Guarantees: what it lets through is public, of a
// size and curve that proves something, and stripped to the members that make up the key; one key that should never have
// been published, or is too weak, makes the whole set worthless, since nobody can say what else went wrong there.
// Does not fetch anything and does not know which algorithms a provider allows.
import type { TrustedJwk } from '../../policy/bundle.ts';
import { decodeBase64Url, readClientKey } from '../ed25519.ts';
import { isJsonObject, type JsonObject, type JsonValue, readStrictJson } from './strict-json.ts';

/** Largest document, bytes; most keys in it; largest modulus, bits: a signature must stay cheap to check. */
export const KEY_SET_BYTES = 64 * 1024;
export const MOST_KEYS = 64;
const LEAST_RSA_BITS = 2048;
const MOST_RSA_BITS = 8192;
const LONGEST_KID = 256;

export type KeySet = { kind: 'Good'; keys: TrustedJwk[] } | { kind: 'Bad'; reason: string };

/** Members that only a private or symmetric key has (RFC 7518, 6.2.2, 6.3.2, 6.4). */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];
const CURVE_BYTES: Readonly<Record<string, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 };

class Refusal extends Error {}

/** `reason` is for people and says which key, by number. Keys for encryption and of kinds not known here are left out. */
export function readKeySet(json: Uint8Array | string): KeySet {
  const bytes = typeof json === 'string' ? Buffer.from(json) : json;
  const reading = readStrictJson(bytes, { bytes: KEY_SET_BYTES });
  if (reading.kind === 'Bad') return bad(JSON_REASONS[reading.fault]);
  const keys = isJsonObject(reading.value) ? reading.value['keys'] : undefined;
  if (!Array.isArray(keys)) return bad('it is no key set: it has no list "keys"');
  if (keys.length > MOST_KEYS) return bad(`it has ${keys.length} keys; at most ${MOST_KEYS} are taken`);
  try {
    const read = keys.flatMap((key, index) => readKey(key, index + 1));
    return read.length === 0 ? bad('it has no key to check signatures with') : { kind: 'Good', keys: read };
  } catch (error) {
    if (error instanceof Refusal) return bad(error.message);
    throw error;
  }
}

const JSON_REASONS = {
  TooLarge: `it is larger than ${KEY_SET_BYTES} bytes`,
  NotUtf8: 'it is not UTF-8',
  TooDeep: 'it is nested too deeply',
  RepeatedMember: 'a member stands in it twice',
  NotJson: 'it is not JSON',
} as const;

const bad = (reason: string): KeySet => ({ kind: 'Bad', reason });

function readKey(value: JsonValue, number: number): TrustedJwk[] {
  if (!isJsonObject(value)) throw new Refusal(`key ${number} is no object`);
  const kty = value['kty'];
  if (typeof kty !== 'string') throw new Refusal(`key ${number} does not say its kind (kty)`);
  if (kty === 'oct') throw new Refusal(`key ${number} is symmetric: whoever reads it can sign with it`);
  if (SECRET_MEMBERS.some((member) => member in value)) {
    throw new Refusal(`key ${number} is a private key: whoever reads it can sign with it. Replace it at the issuer`);
  }
  if (kty !== 'RSA' && kty !== 'EC' && kty !== 'OKP') return [];
  if (!isForSignatures(value)) return [];
  const shared = { kty, ...optionalText(value, 'kid', number), ...optionalText(value, 'alg', number) } as const;
  switch (kty) {
    case 'RSA':
      return [{ ...shared, ...rsa(value, number) }];
    case 'EC':
      return [{ ...shared, ...ec(value, number) }];
    case 'OKP':
      return [{ ...shared, ...okp(value, number) }];
  }
}

/** `use` and `key_ops` (RFC 7517, 4.2 and 4.3); keys for encryption stand in the same set. */
function isForSignatures(key: JsonObject): boolean {
  if (key['use'] !== undefined && key['use'] !== 'sig') return false;
  const operations = key['key_ops'];
  return operations === undefined || (Array.isArray(operations) && operations.includes('verify'));
}

function optionalText(key: JsonObject, member: 'kid' | 'alg', number: number): { kid?: string; alg?: string } {
  const value = key[member];
  if (value === undefined) return {};
  if (typeof value !== 'string' || value === '' || value.length > LONGEST_KID) {
    throw new Refusal(`key ${number} has a ${member} that is no text of 1 to ${LONGEST_KID} characters`);
  }
  return { [member]: value };
}

function octets(key: JsonObject, member: string, number: number): Buffer {
  const value = key[member];
  const bytes = typeof value === 'string' ? decodeBase64Url(value) : undefined;
  if (bytes === undefined) throw new Refusal(`key ${number}: ${member} is missing or not base64url`);
  return bytes;
}

function rsa(key: JsonObject, number: number): Pick<TrustedJwk, 'n' | 'e'> {
  const n = octets(key, 'n', number);
  const e = octets(key, 'e', number);
  const modulus = BigInt(`0x${n.toString('hex')}`);
  const bits = modulus.toString(2).length;
  if (bits < LEAST_RSA_BITS) {
    throw new Refusal(`key ${number} is RSA of ${bits} bits; at least ${LEAST_RSA_BITS} are needed`);
  }
  if (bits > MOST_RSA_BITS)
    throw new Refusal(`key ${number} is RSA of ${bits} bits; at most ${MOST_RSA_BITS} are taken`);
  const exponent = e.length > 4 ? undefined : Number(BigInt(`0x${e.toString('hex')}`));
  // An exponent of one makes every message its own signature; an even modulus or exponent is none of RSA's.
  if (exponent === undefined || exponent < 3 || exponent % 2 === 0 || modulus % 2n === 0n) {
    throw new Refusal(`key ${number} has an RSA exponent or modulus that proves nothing`);
  }
  return { n: key['n'] as string, e: key['e'] as string };
}

function ec(key: JsonObject, number: number): Pick<TrustedJwk, 'crv' | 'x' | 'y'> {
  const crv = key['crv'];
  const size = typeof crv === 'string' && Object.hasOwn(CURVE_BYTES, crv) ? CURVE_BYTES[crv] : undefined;
  if (size === undefined) throw new Refusal(`key ${number} is on a curve that is not supported (P-256, P-384, P-521)`);
  if (octets(key, 'x', number).length !== size || octets(key, 'y', number).length !== size) {
    throw new Refusal(`key ${number} has coordinates of the wrong length for ${String(crv)}`);
  }
  return { crv: crv as string, x: key['x'] as string, y: key['y'] as string };
}

function okp(key: JsonObject, number: number): Pick<TrustedJwk, 'crv' | 'x'> {
  if (key['crv'] !== 'Ed25519') throw new Refusal(`key ${number} is on a curve that is not supported (Ed25519)`);
  const x = key['x'];
  if (typeof x !== 'string' || readClientKey(x).kind === 'Unusable') {
    throw new Refusal(`key ${number} is no Ed25519 key that proves anything`);
  }
  return { crv: 'Ed25519', x };
}
