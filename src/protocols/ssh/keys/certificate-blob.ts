// OpenSSH's certificates as bytes (PROTOCOL.certkeys; draft-miller-ssh-cert): taken apart and put together.
//
// Guarantees: what was parsed was used to the last byte, in canonical form, and `signedBytes` is exactly what the
// authority signed. Whether it did, and what the certificate is worth now, is for certificate.ts.
import { MalformedData, type Reader, readData, writeData } from '../wire/data.ts';
import { isKeyType, type KeyType, type PublicKey, readKeyFields, readPublicKey } from './public-key.ts';

export interface ParsedCertificate {
  blob: Buffer;
  /** `ssh-ed25519-cert-v01@openssh.com`; of RSA always `ssh-rsa-cert-v01@openssh.com`. */
  type: string;
  /** The certified key; `key.blob` is its blob without the certificate. */
  key: PublicKey;
  serial: bigint;
  role: 'User' | 'Host';
  keyId: string;
  /** May be empty; whether that means anything is the reader's question. */
  principals: readonly string[];
  /** Seconds since 1970, unsigned 64 bit. */
  validAfter: bigint;
  validBefore: bigint;
  /** By name, in the order of the certificate: names rise, none is there twice. */
  criticalOptions: readonly CertificateOption[];
  extensions: readonly CertificateOption[];
  /** The signer's key, no certificate itself. */
  authority: PublicKey;
  signature: Buffer;
  signedBytes: Buffer;
}

export interface CertificateOption {
  name: string;
  /** Raw: by convention another string, or nothing. */
  data: Buffer;
}

const LONGEST_CERTIFICATE = 32 * 1024;
const MOST_PRINCIPALS = 256;
const LONGEST_NAME = 1024;
const SUFFIX = '-cert-v01@openssh.com';

/** `ssh-ed25519` -> `ssh-ed25519-cert-v01@openssh.com`; also of signature algorithms: `rsa-sha2-512`. */
export function certificateName(name: string): string {
  // The sk types carry their domain at the end: sk-ssh-ed25519@openssh.com -> sk-ssh-ed25519-cert-v01@openssh.com.
  return `${name.replace(/@openssh\.com$/, '')}${SUFFIX}`;
}

/** The other way; undefined where the name is no certificate's. */
export function plainName(name: string): string | undefined {
  if (!name.endsWith(SUFFIX)) return undefined;
  const plain = name.slice(0, -SUFFIX.length);
  return plain.startsWith('sk-') ? `${plain}@openssh.com` : plain;
}

/** Whether a blob says of itself that it is a certificate. */
export function isCertificate(blob: Buffer): boolean {
  try {
    return readData(blob).text(64).endsWith(SUFFIX);
  } catch (error) {
    if (error instanceof MalformedData) return false;
    throw error;
  }
}

/** Throws MalformedData. Keeps views of the blob. */
export function parseCertificate(blob: Buffer): ParsedCertificate {
  if (blob.length > LONGEST_CERTIFICATE) throw new MalformedData('a certificate is too long');
  const reader = readData(blob);
  const type = reader.text(64);
  const keyType = plainName(type);
  if (keyType === undefined || !isKeyType(keyType)) throw new MalformedData('a certificate is of an unknown type');
  reader.string(); // nonce
  const key = readCertifiedKey(keyType, blob, reader);
  const serial = reader.uint64();
  const role = readRole(reader.uint32());
  const keyId = reader.text(LONGEST_NAME);
  const principals = readPrincipals(reader.string());
  const validAfter = reader.uint64();
  const validBefore = reader.uint64();
  const criticalOptions = readOptions(reader.string());
  const extensions = readOptions(reader.string());
  reader.string(); // reserved: to be ignored
  const authority = readPublicKey(reader.string());
  const signedBytes = blob.subarray(0, reader.offset);
  const signature = reader.string();
  reader.end();
  return {
    blob,
    type,
    key,
    serial,
    role,
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
    authority,
    signature,
    signedBytes,
  };
}

function readCertifiedKey(type: KeyType, blob: Buffer, reader: Reader): PublicKey {
  const from = reader.offset;
  const fields = readKeyFields(type, reader);
  const plain = writeData({ string: type }, { raw: blob.subarray(from, reader.offset) });
  return { ...fields, blob: plain } as PublicKey;
}

function readRole(value: number): 'User' | 'Host' {
  if (value === 1) return 'User';
  if (value === 2) return 'Host';
  throw new MalformedData('a certificate is neither for a user nor for a host');
}

function readPrincipals(bytes: Buffer): string[] {
  const reader = readData(bytes);
  const principals: string[] = [];
  while (reader.left > 0) {
    if (principals.length === MOST_PRINCIPALS) throw new MalformedData('a certificate has too many principals');
    const principal = reader.text(LONGEST_NAME);
    if (principal === '') throw new MalformedData('a certificate has an empty principal');
    principals.push(principal);
  }
  return principals;
}

/** "Options must be lexically ordered by name; each named option may only appear once." */
function readOptions(bytes: Buffer): CertificateOption[] {
  const reader = readData(bytes);
  const options: CertificateOption[] = [];
  let last: Buffer | undefined;
  while (reader.left > 0) {
    const name = reader.string();
    if (name.length === 0 || name.length > LONGEST_NAME || name.some((byte) => byte <= 0x20 || byte >= 0x7f))
      throw new MalformedData('an option of a certificate has no proper name');
    if (last !== undefined && Buffer.compare(last, name) >= 0)
      throw new MalformedData('the options of a certificate are repeated or out of order');
    last = name;
    options.push({ name: name.toString('latin1'), data: reader.string() });
  }
  return options;
}

export interface CertificateContent {
  nonce: Buffer;
  /** Blob of the key to certify. */
  key: Buffer;
  serial: bigint;
  role: 'User' | 'Host';
  keyId: string;
  principals: readonly string[];
  validAfter: bigint;
  validBefore: bigint;
  criticalOptions?: readonly CertificateOption[];
  extensions?: readonly CertificateOption[];
  authority: Buffer;
}

/** Everything that is to be signed. Options are to be in order. */
export function certificateToSign(content: CertificateContent): Buffer {
  const key = readPublicKey(content.key);
  const afterType = content.key.subarray(4 + Buffer.byteLength(key.type));
  return writeData(
    { string: certificateName(key.type) },
    { string: content.nonce },
    { raw: afterType },
    { uint64: content.serial },
    { uint32: content.role === 'User' ? 1 : 2 },
    { string: content.keyId },
    { string: writeData(...content.principals.map((principal) => ({ string: principal }))) },
    { uint64: content.validAfter },
    { uint64: content.validBefore },
    { string: writeOptions(content.criticalOptions ?? []) },
    { string: writeOptions(content.extensions ?? []) },
    { string: '' },
    { string: content.authority },
  );
}

function writeOptions(options: readonly CertificateOption[]): Buffer {
  return writeData(...options.flatMap(({ name, data }) => [{ string: name }, { string: data }]));
}
