// The record keys a verifier accepts, and when. Built from `keys.json` and the roots that the reader brings along.
import { type KeyObject, verify } from 'node:crypto';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import { keyIdOf } from '../policy/bundle-signing.ts';
import { checkCertificate, KEYS_FORMAT, type KeysFile, publicKeyFromRaw, type RecordCertificate } from './signer.ts';

export type SignatureVerdict = 'Good' | 'UnknownKey' | 'OutOfTime' | 'BadSignature';

export interface Keyring {
  /** `at`: RFC 3339 time that the signed bytes themselves carry. */
  check(keyId: string, at: string, bytes: Uint8Array, signature: Uint8Array): SignatureVerdict;
}

export function keyringOf(certificates: readonly RecordCertificate[], roots: readonly TrustedKey[]): Keyring {
  const keys = new Map<string, { publicKey: KeyObject; validity: { from: string; to: string }[] }>();
  for (const certificate of certificates) {
    const verdict = checkCertificate(certificate, roots);
    if (verdict.kind === 'Bad') continue;
    const key = keys.get(certificate.keyId) ?? { publicKey: verdict.publicKey, validity: [] };
    key.validity.push({ from: certificate.notBefore, to: certificate.notAfter });
    keys.set(certificate.keyId, key);
  }
  return {
    check(keyId, at, bytes, signature) {
      const key = keys.get(keyId);
      if (key === undefined) return 'UnknownKey';
      if (signature.length !== 64 || !verify(null, bytes, key.publicKey, signature)) return 'BadSignature';
      return key.validity.some(({ from, to }) => from <= at && at <= to) ? 'Good' : 'OutOfTime';
    },
  };
}

/** Parses `keys.json`; undefined if it is not one. The roots it names are only a suggestion. */
export function parseKeysFile(bytes: Buffer): (KeysFile & { rootKeys: TrustedKey[] }) | undefined {
  try {
    const file = JSON.parse(bytes.toString('utf8')) as KeysFile;
    if (file.format !== KEYS_FORMAT || !Array.isArray(file.roots) || !Array.isArray(file.certificates))
      return undefined;
    const rootKeys: TrustedKey[] = [];
    for (const { keyId, publicKey } of file.roots) {
      const key = publicKeyFromRaw(publicKey);
      if (key === undefined || keyIdOf(key) !== keyId) return undefined;
      rootKeys.push({ keyId, publicKey: key });
    }
    return { ...file, rootKeys };
  } catch {
    return undefined;
  }
}
