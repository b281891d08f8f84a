// The operator's Ed25519 key: it signs bundles, stamps and decisions. Made once, kept in the state folder, readable by
// its owner alone. Losing it voids every seal: what was granted has to be asked for again.
import { generateKeyPairSync } from 'node:crypto';
import { type SigningKey, signingKeyFromPem } from '../../policy/bundle-signing.ts';
import { type Files, writeFileAtomically } from '../../system/files.ts';

/** Reads the PKCS #8 PEM at `path`, or makes one (0600). Throws if the file is there but is no Ed25519 key. */
export function loadOperatorKey(files: Files, path: string): SigningKey & { pem: string } {
  if (!files.existsSync(path)) {
    const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    writeFileAtomically(files, path, Buffer.from(pem), 0o600);
  }
  const pem = files.readFileSync(path).toString('utf8');
  const key = signingKeyFromPem(pem);
  if (key.privateKey.asymmetricKeyType !== 'ed25519') throw new Error(`${path} is no Ed25519 private key`);
  return { ...key, pem };
}
