// The key pair of one grant on its owner's machine: Ed25519, the public half in the grant, the private half in a file
// that only its owner may read. It never leaves that file except as signatures.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { systemFiles, writeFileAtomically } from '../system/files.ts';

export interface ClientKeyPair {
  /** Raw public key, base64url: what `AccessGrant.spec.clientKey` holds. */
  publicKey: string;
  privateKey: KeyObject;
}

export class KeyFileError extends Error {
  readonly code: 'Missing' | 'TooOpen' | 'NotAKey';
  constructor(code: KeyFileError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KeyFileError';
    this.code = code;
  }
}

export function generateClientKey(): ClientKeyPair {
  const { privateKey } = generateKeyPairSync('ed25519');
  return { publicKey: rawPublicKey(privateKey), privateKey };
}

function rawPublicKey(privateKey: KeyObject): string {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  if (x === undefined) throw new KeyFileError('NotAKey', 'not an Ed25519 key');
  return x;
}

/** Writes PKCS#8 PEM with mode 0600, whole or not at all; makes the folder with 0700 where it is missing. */
export function saveClientKey(file: string, key: ClientKeyPair): void {
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const pem = key.privateKey.export({ type: 'pkcs8', format: 'pem' });
  writeFileAtomically(systemFiles, path.resolve(file), Buffer.from(pem), 0o600);
}

/** Reads it back. Throws KeyFileError; its message never holds what was in the file. */
export function loadClientKey(file: string): ClientKeyPair {
  let pem: string;
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  } catch (error) {
    throw new KeyFileError(
      'Missing',
      `${file} can not be opened: request the grant on this machine, or copy its key here`,
      {
        cause: error,
      },
    );
  }
  try {
    const { mode } = fs.fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      throw new KeyFileError('TooOpen', `${file} can be read by others: chmod 600 it, and request a new grant`);
    }
    pem = fs.readFileSync(fd, 'utf8');
  } finally {
    fs.closeSync(fd);
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(pem);
  } catch {
    throw new KeyFileError('NotAKey', `${file} holds no private key`);
  }
  if (privateKey.asymmetricKeyType !== 'ed25519') throw new KeyFileError('NotAKey', `${file} holds no Ed25519 key`);
  return { publicKey: rawPublicKey(privateKey), privateKey };
}
