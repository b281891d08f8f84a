// A Connection's own keys from its seed: the same over restarts, rollouts and replicas, without a file of their own.
//
// HKDF-SHA256 (RFC 5869) of the 32 byte seed, empty salt, and one label a key; the labels are for ever, as changing one
// changes the keys that users and targets have pinned.
import { hkdfSync } from 'node:crypto';
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

/** Ed25519, then P-256. Without certificates. */
export function plainHostKeysOf(keys: Pick<ConnectionKeys, 'seed'>): readonly Signer[] {
  // FIPS 186-5, A.2.1: 128 bits more than the order has, so that the remainder is as good as even.
  const wide = BigInt(`0x${derive(keys.seed, LABEL.hostP256, 48).toString('hex')}`);
  const secret = (wide % (P256_ORDER - 1n)) + 1n;
  return [
    ed25519Signer(derive(keys.seed, LABEL.hostEd25519, 32)),
    ecdsaSigner(CURVES.nistp256, Buffer.from(secret.toString(16).padStart(64, '0'), 'hex')),
  ];
}

/**
 * What the listener shows: host certificates that are about one of the keys, as they are now, then the plain keys. Lines
 * that are no certificate for a key of ours are passed over: they are the installation's to mend, and plain keys still work.
 */
export function hostKeysOf(keys: ConnectionKeys): readonly Signer[] {
  const plain = plainHostKeysOf(keys);
  const shown: Signer[] = [];
  for (const line of keys.certificates()) {
    try {
      const { blob } = readPublicKeyLine(line);
      const { key, role } = parseCertificate(blob);
      const own = plain.find((signer) => signer.blob.equals(key.blob));
      if (own !== undefined && role === 'Host') shown.push(certified(own, blob));
    } catch (error) {
      if (!(error instanceof MalformedData)) throw error;
    }
  }
  return [...shown, ...plain];
}

/** Signs the certificates by which the proxy logs in at this Connection's target. Ed25519. */
export function userAuthorityOf(keys: Pick<ConnectionKeys, 'seed'>): Signer {
  return ed25519Signer(derive(keys.seed, LABEL.userAuthority, 32));
}
