// The record key: an Ed25519 key that signs sealed segments, heads and marks, and the certificate by which the
// controller's key vouches for it. The controller's public key is the one thing a verifier has to know beforehand.
// Guarantees: a certificate is accepted in one spelling only and binds key, id and validity. Does not: revoke keys.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { canonicalJson } from '../api/canonical.ts';
import { keyIdOf, type SigningKey, type TrustedKey, trustedKeyOf } from '../policy/bundle-signing.ts';

export const CERTIFICATE_FORMAT = 'sallyport-record-key/1';
export const KEYS_FORMAT = 'sallyport-record-keys/1';

export interface RecordCertificate {
  format: typeof CERTIFICATE_FORMAT;
  /** First 16 hex digits of SHA-256 over the raw public key. */
  keyId: string;
  /** Raw Ed25519 key, base64url, 43 characters. */
  publicKey: string;
  /** RFC 3339 UTC; both inclusive. */
  notBefore: string;
  notAfter: string;
  /** Key id of the controller's key. */
  issuer: string;
  /** By the controller's key over the canonical JSON of all the other members; base64url. */
  signature: string;
}

/** `keys.json` beside the records. Not trusted as such: every certificate must be signed by a root that is. */
export interface KeysFile {
  format: typeof KEYS_FORMAT;
  roots: { keyId: string; publicKey: string }[];
  certificates: RecordCertificate[];
}

export interface RecordSigner {
  readonly keyId: string;
  readonly certificate: RecordCertificate;
  /** Every certificate that this process has had, `certificate` last. Absent: there was no other. */
  readonly issued?: readonly RecordCertificate[];
  readonly root: TrustedKey;
  /** Ed25519 over `bytes`, 64 bytes, off the event loop. */
  sign(bytes: Uint8Array): Promise<Buffer>;
}

/** An Ed25519 public key from its raw form in base64url; undefined if it is none or not spelled canonically. */
export function publicKeyFromRaw(raw: string): KeyObject | undefined {
  if (!/^[A-Za-z0-9_-]{43}$/.test(raw) || Buffer.from(raw, 'base64url').toString('base64url') !== raw) return undefined;
  try {
    return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw }, format: 'jwk' });
  } catch {
    return undefined;
  }
}

export function rawPublicKey(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64url');
}

const TIMESTAMP = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/;

export function issueRecordCertificate(
  controller: SigningKey,
  publicKey: KeyObject,
  validity: { notBeforeMs: number; notAfterMs: number },
): RecordCertificate {
  const body = {
    format: CERTIFICATE_FORMAT,
    keyId: keyIdOf(publicKey),
    publicKey: rawPublicKey(publicKey),
    notBefore: new Date(validity.notBeforeMs).toISOString(),
    notAfter: new Date(validity.notAfterMs).toISOString(),
    issuer: controller.keyId,
  } as const;
  const signature = sign(null, Buffer.from(canonicalJson(body)), controller.privateKey).toString('base64url');
  return { ...body, signature };
}

export type CertificateVerdict =
  | { kind: 'Good'; publicKey: KeyObject }
  | { kind: 'Bad'; reason: 'Format' | 'UnknownIssuer' | 'Signature' };

export function checkCertificate(certificate: RecordCertificate, roots: readonly TrustedKey[]): CertificateVerdict {
  if (typeof certificate !== 'object' || certificate === null) return { kind: 'Bad', reason: 'Format' };
  const { signature, ...body } = certificate;
  const publicKey = typeof body.publicKey === 'string' ? publicKeyFromRaw(body.publicKey) : undefined;
  if (body.format !== CERTIFICATE_FORMAT || publicKey === undefined || keyIdOf(publicKey) !== body.keyId) {
    return { kind: 'Bad', reason: 'Format' };
  }
  if (!TIMESTAMP.test(String(body.notBefore)) || !TIMESTAMP.test(String(body.notAfter))) {
    return { kind: 'Bad', reason: 'Format' };
  }
  const bytes = typeof signature === 'string' ? Buffer.from(signature, 'base64url') : Buffer.alloc(0);
  if (bytes.length !== 64 || bytes.toString('base64url') !== signature) return { kind: 'Bad', reason: 'Format' };
  const root = roots.find((candidate) => candidate.keyId === body.issuer);
  if (root === undefined) return { kind: 'Bad', reason: 'UnknownIssuer' };
  return verify(null, Buffer.from(canonicalJson(body)), root.publicKey, bytes)
    ? { kind: 'Good', publicKey }
    : { kind: 'Bad', reason: 'Signature' };
}

export interface SignerOptions {
  /** Signs the record key's certificate; its public half is the trust root. */
  controllerKey: SigningKey;
  /** Milliseconds since 1970. */
  nowMs: number;
  /** PKCS#8 PEM of a key kept in the state folder; absent: a key is made that lives in this process alone. */
  privateKeyPem?: string;
  /** How long the certificate holds; default 400 days. A minute of slack for clocks is put before now. */
  validForMs?: number;
}

/** A signer whose process also holds the controller's key. */
export interface RenewableSigner extends RecordSigner {
  /** Replaces `certificate` by one for the same key that begins at `nowMs`. */
  renew(nowMs: number): void;
}

/** Throws on PEM that holds no Ed25519 private key. */
export function openRecordSigner(options: SignerOptions): RenewableSigner {
  const privateKey =
    options.privateKeyPem === undefined
      ? generateKeyPairSync('ed25519').privateKey
      : createPrivateKey(options.privateKeyPem);
  if (privateKey.asymmetricKeyType !== 'ed25519') throw new TypeError('the record key must be an Ed25519 key');
  const issue = (nowMs: number): RecordCertificate =>
    issueRecordCertificate(options.controllerKey, createPublicKey(privateKey), {
      notBeforeMs: nowMs - 60_000,
      notAfterMs: nowMs + (options.validForMs ?? 400 * 86_400_000),
    });
  const issued = [issue(options.nowMs)];
  return {
    keyId: issued[0]!.keyId,
    get certificate() {
      return issued.at(-1)!;
    },
    issued,
    renew(nowMs) {
      issued.push(issue(nowMs));
    },
    root: trustedKeyOf(options.controllerKey),
    sign: (bytes) =>
      new Promise((resolve, reject) => {
        sign(null, bytes, privateKey, (error, signature) => (error === null ? resolve(signature) : reject(error)));
      }),
  };
}
