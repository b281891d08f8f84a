// Messages of a login as an attacker writes them: whatever is not given is right, and anything may be wrong.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Signer } from '../../src/protocols/ssh/keys/key.ts';
import { type Field, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';
import { type RawCertificate, rawCertificate } from './ssh-keys.ts';

export const HOSTBOUND = 'publickey-hostbound-v00@openssh.com';

/** What of a connection a login's signature is over. A `Transport` is one. */
export interface LoginEnd {
  readonly sessionId: Buffer;
  readonly hostKey: Buffer;
}

/** What a client sends behind the key exchange. */
export type LoginScript = (end: LoginEnd) => readonly Buffer[];

export interface KeyRequest {
  user: string;
  signer: Signer;
  service?: string;
  method?: string;
  hasSignature?: number;
  algorithm?: string;
  /** What is shown, in place of the signer's. */
  blob?: Buffer;
  hostKey?: Buffer;
  sessionId?: Buffer;
  /** The signature's own name. */
  signs?: string;
  /** What is signed, in place of the request as sent. */
  signed?: (request: Buffer) => Buffer;
  signature?: (signature: Buffer) => Buffer;
  trailing?: Buffer;
}

export function keyRequest(end: LoginEnd, options: KeyRequest): Buffer {
  const { signer } = options;
  const algorithm = options.algorithm ?? signer.algorithms[0]!;
  const body = writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: options.user },
    { string: options.service ?? 'ssh-connection' },
    { string: options.method ?? 'publickey' },
    { byte: options.hasSignature ?? 1 },
    { string: algorithm },
    { string: options.blob ?? signer.blob },
    ...(options.hostKey === undefined ? [] : [{ string: options.hostKey }]),
  );
  if (options.hasSignature === 0) return writeData({ raw: body }, { raw: options.trailing ?? Buffer.alloc(0) });
  const covered = options.signed?.(body) ?? body;
  const data = writeData({ string: options.sessionId ?? end.sessionId }, { raw: covered });
  const name = options.signs ?? (signer.algorithms.includes(algorithm) ? algorithm : signer.algorithms[0]!);
  const signature = signer.sign(data, name);
  return writeData(
    { raw: body },
    { string: options.signature?.(signature) ?? signature },
    { raw: options.trailing ?? Buffer.alloc(0) },
  );
}

export const keyOffer = (end: LoginEnd, options: KeyRequest): Buffer =>
  keyRequest(end, { hasSignature: 0, ...options });

/** A request of another method. */
export const authRequest = (user: string, method: string, ...fields: Field[]): Buffer =>
  writeData(
    { byte: MSG.USERAUTH_REQUEST },
    { string: user },
    { string: 'ssh-connection' },
    { string: method },
    ...fields,
  );

export const promptRequest = (user: string): Buffer =>
  authRequest(user, 'keyboard-interactive', { string: '' }, { string: '' });

export const promptAnswer = (...answers: string[]): Buffer =>
  writeData(
    { byte: MSG.USERAUTH_INFO_RESPONSE },
    { uint32: answers.length },
    ...answers.map((answer) => ({ string: answer })),
  );

export const serviceRequest = (name = 'ssh-userauth'): Buffer =>
  writeData({ byte: MSG.SERVICE_REQUEST }, { string: name });

/** Shows a certificate for the signer's key that may be of any content at all. */
export function certificateSigner(signer: Signer, options: Omit<RawCertificate, 'key'>): Signer {
  return {
    blob: rawCertificate({ key: signer.blob, ...options }),
    algorithms: signer.algorithms.map((name) => `${name.replace('@openssh.com', '')}-cert-v01@openssh.com`),
    sign: (data) => signer.sign(data, signer.algorithms[0]!),
  };
}

/** Keys and algorithms of old, which nothing of ours makes or takes. */
export function outdatedSigner(kind: 'RsaSha1' | 'Rsa1024' | 'Dsa'): Signer {
  if (kind === 'Dsa') {
    const { privateKey, publicKey } = generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 });
    const numbers = derIntegers(publicKey.export({ format: 'der', type: 'spki' }));
    return {
      blob: writeData({ string: 'ssh-dss' }, ...numbers.map((mpint) => ({ mpint }))),
      algorithms: ['ssh-dss'],
      sign: (data) => signedBy('ssh-dss', sign('sha1', data, { key: privateKey, dsaEncoding: 'ieee-p1363' })),
    };
  }
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: kind === 'Rsa1024' ? 1024 : 2048 });
  const algorithm = kind === 'Rsa1024' ? 'rsa-sha2-256' : 'ssh-rsa';
  return {
    blob: rsaBlob(publicKey),
    algorithms: [algorithm],
    sign: (data) => signedBy(algorithm, sign(kind === 'Rsa1024' ? 'sha256' : 'sha1', data, privateKey)),
  };
}

/** The same RSA key, signing with SHA-1. */
export const withSha1 = (key: KeyObject, blob: Buffer): Signer => ({
  blob,
  algorithms: ['ssh-rsa'],
  sign: (data) => signedBy('ssh-rsa', sign('sha1', data, key)),
});

const signedBy = (name: string, signature: Buffer): Buffer => writeData({ string: name }, { string: signature });

function rsaBlob(key: KeyObject): Buffer {
  const { e, n } = key.export({ format: 'jwk' });
  const number = (text: unknown): { mpint: Buffer } => ({ mpint: Buffer.from(String(text), 'base64url') });
  return writeData({ string: 'ssh-rsa' }, number(e), number(n));
}

/** Every INTEGER in a DER structure, in order, without its leading zero. */
function derIntegers(der: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < der.length; ) {
    const tag = der[at]!;
    const short = der[at + 1]!;
    const lengthBytes = short < 0x80 ? 0 : short & 0x7f;
    const length = lengthBytes === 0 ? short : der.readUIntBE(at + 2, lengthBytes);
    at += 2 + lengthBytes;
    if (tag === 0x30) continue;
    if (tag === 0x03) {
      at += 1;
      continue;
    }
    const value = der.subarray(at, at + length);
    if (tag === 0x02) found.push(value[0] === 0 ? value.subarray(1) : value);
    at += length;
  }
  return found;
}
