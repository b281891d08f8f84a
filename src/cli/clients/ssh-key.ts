// A grant's key as OpenSSH's own private key file (PROTOCOL.key, without a passphrase): it reads Ed25519 in no other form
// before version 9.6.
import { createPublicKey } from 'node:crypto';
import type { ClientKeyPair } from '../../identity/keys.ts';
import type { Random } from '../../system/random.ts';

const TYPE = Buffer.from('ssh-ed25519');
const BLOCK = 8;

function strings(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return [length, part];
    }),
  );
}

/** Wire form of the public half (RFC 8709). */
export function publicBlob({ publicKey }: Pick<ClientKeyPair, 'publicKey'>): Buffer {
  return strings(TYPE, Buffer.from(publicKey, 'base64url'));
}

/** PEM-like text, for a file of mode 0600. */
export function openSshPrivateKey(key: ClientKeyPair, comment: string, random: Random): string {
  const { x = '' } = createPublicKey(key.privateKey).export({ format: 'jwk' });
  const raw = Buffer.from(x, 'base64url');
  const seed = key.privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
  const check = random.bytes(4);
  const section = Buffer.concat([check, check, strings(TYPE, raw, Buffer.concat([seed, raw]), Buffer.from(comment))]);
  const padding = Buffer.from(Array.from({ length: (BLOCK - (section.length % BLOCK)) % BLOCK }, (_, at) => at + 1));
  const one = Buffer.from([0, 0, 0, 1]);
  const none = Buffer.from('none');
  const bytes = Buffer.concat([
    Buffer.from('openssh-key-v1\0', 'latin1'),
    strings(none, none, Buffer.alloc(0)),
    one,
    strings(publicBlob(key), Buffer.concat([section, padding])),
  ]);
  const lines = bytes.toString('base64').replace(/.{70}(?!$)/g, '$&\n');
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`;
}
