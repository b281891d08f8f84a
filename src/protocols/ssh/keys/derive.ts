// A Connection's own keys from its seed: the same over restarts, rollouts and replicas, without a file of their own.
//
// HKDF-SHA256 (RFC 5869) of the 32 byte seed, empty salt, and one label a key; the labels are for ever, as changing one
// changes the keys that users and targets have pinned.
import { hkdfSync, timingSafeEqual } from 'node:crypto';
import type { ConnectionKeys } from '../../protocol.ts';
import { MalformedData } from '../wire/data.ts';
import { parseCertificate } from './certificate-blob.ts';
import type { Signer } from './key.ts';
import { readPublicKeyLine } from './known-hosts.ts';
import { CURVES } from './public-key.ts';
import { certified, ecdsaSigner, ed25519Signer } from './signer.ts';

const LABEL = {
  hostEd25519: 'sallyport/ssh/host-key/ed25519/v1',
  hostP256: 'sallyport/ssh/host-key/ecdsa-p256/v1',
  userAuthority: 'sallyport/ssh/user-authority/ed25519/v1',
} as const;

/** Order of P-256's group (SEC 2, 2.4.2). */
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

function derive(seed: Buffer, label: string, length: number): Buffer {
  if (seed.length !== 32) throw new Error('a seed has 32 bytes');
  return Buffer.from(hkdfSync('sha256', seed, Buffer.alloc(0), label, length));
}

interface Derived {
  /** A copy: the buffer may be filled anew. */
  seed: Buffer;
  plain: readonly Signer[];
  /** Of the lines as they were last. */
  shown: { lines: string; signers: readonly Signer[] } | undefined;
}

// Every accepted socket asks, and deriving takes longer than a key exchange: nobody may buy that for a connect. An entry goes with
// the seed it belongs to.
const DERIVED = new WeakMap<Buffer, Derived>();

function derivedOf(seed: Buffer): Derived {
  const known = DERIVED.get(seed);
  if (known !== undefined && timingSafeEqual(known.seed, seed)) return known;
  // FIPS 186-5, A.2.1: 128 bits more than the order has, so that the remainder is as good as even.
  const wide = BigInt(`0x${derive(seed, LABEL.hostP256, 48).toString('hex')}`);
  const secret = (wide % (P256_ORDER - 1n)) + 1n;
  const plain = [
    ed25519Signer(derive(seed, LABEL.hostEd25519, 32)),
    ecdsaSigner(CURVES.nistp256, Buffer.from(secret.toString(16).padStart(64, '0'), 'hex')),
  ];
  const made: Derived = { seed: Buffer.from(seed), plain, shown: undefined };
  DERIVED.set(seed, made);
  return made;
}

/** Ed25519, then P-256. Without certificates. */
export function plainHostKeysOf(keys: Pick<ConnectionKeys, 'seed'>): readonly Signer[] {
  return derivedOf(keys.seed).plain;
}

/**
 * What the listener shows: host certificates that are about one of the keys, as they are now, then the plain keys. Lines
 * that are no certificate for a key of ours are passed over: they are the installation's to mend, and plain keys still work.
 */
export function hostKeysOf(keys: ConnectionKeys): readonly Signer[] {
  const derived = derivedOf(keys.seed);
  const certificates = keys.certificates();
  const lines = certificates.join('\n');
  if (derived.shown?.lines !== lines)
    derived.shown = { lines, signers: [...certifiedSigners(derived.plain, certificates), ...derived.plain] };
  return derived.shown.signers;
}

function certifiedSigners(plain: readonly Signer[], lines: readonly string[]): Signer[] {
  const shown: Signer[] = [];
  for (const line of lines) {
    try {
      const { blob } = readPublicKeyLine(line);
      const { key, role } = parseCertificate(blob);
      const own = plain.find((signer) => signer.blob.equals(key.blob));
      if (own !== undefined && role === 'Host') shown.push(certified(own, blob));
    } catch (error) {
      if (!(error instanceof MalformedData)) throw error;
    }
  }
  return shown;
}

/** Signs the certificates by which the proxy logs in at this Connection's target. Ed25519. */
export function userAuthorityOf(keys: Pick<ConnectionKeys, 'seed'>): Signer {
  return ed25519Signer(derive(keys.seed, LABEL.userAuthority, 32));
}
