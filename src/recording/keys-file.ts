// `keys.json` beside the records: the certificates of every key that ever signed there. A process adds its own when it
// begins, and another for the same key before that one ends.
// Does not: say what is to be trusted. A certificate counts only if a root that the reader brings along signed it.
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { Clock } from '../system/clock.ts';
import { type Files, writeFileAtomically } from '../system/files.ts';
import { type Keyring, keyringOf, parseKeysFile } from './keyring.ts';
import { KEYS_FILE } from './layout.ts';
import {
  KEYS_FORMAT,
  type KeysFile,
  type RecordCertificate,
  type RecordSigner,
  type RenewableSigner,
  rawPublicKey,
} from './signer.ts';

/** Adds the signer's certificates and root; returns all certificates so far. Throws Node's error. */
export function shareKeys(files: Files, folder: string, signer: RecordSigner): RecordCertificate[] {
  const path = `${folder}/${KEYS_FILE}`;
  const found = files.existsSync(path) ? parseKeysFile(files.readFileSync(path)) : undefined;
  const roots = new Map((found?.roots ?? []).map((root) => [root.keyId, root]));
  const ours = { keyId: signer.root.keyId, publicKey: rawPublicKey(signer.root.publicKey) };
  roots.set(ours.keyId, ours);
  const issued = certificatesOf(signer);
  const own = new Set(issued.map(({ signature }) => signature));
  const certificates = [...(found?.certificates ?? []).filter(({ signature }) => !own.has(signature)), ...issued];
  const file: KeysFile = { format: KEYS_FORMAT, roots: [...roots.values()], certificates };
  writeFileAtomically(files, path, Buffer.from(`${JSON.stringify(file, undefined, 2)}\n`), 0o644);
  return certificates;
}

/** The ring of these certificates and of whatever the signer renews its own with. */
export function ringOf(
  signer: RecordSigner,
  certificates: readonly RecordCertificate[],
  roots: readonly TrustedKey[],
): Keyring {
  let latest = signer.certificate;
  let ring = keyringOf(certificates, roots);
  return {
    check(...given) {
      if (signer.certificate !== latest) {
        latest = signer.certificate;
        ring = keyringOf([...certificates, ...certificatesOf(signer)], roots);
      }
      return ring.check(...given);
    },
  };
}

const certificatesOf = (signer: RecordSigner): readonly RecordCertificate[] => signer.issued ?? [signer.certificate];

const LOOK_EVERY_MS = 3_600_000;

/**
 * Renews the signer's certificate when half of its time is over, for as long as the process lives. A certificate that
 * can not be written down is tried again in an hour; the old one holds meanwhile. Returns the function that stops it.
 */
export function keepCertified(options: {
  files: Files;
  folder: string;
  clock: Clock;
  signer: RenewableSigner;
  onError: (error: Error) => void;
}): () => void {
  const { files, folder, clock, signer } = options;
  let unwritten = false;
  const look = (): void => {
    const { notBefore, notAfter } = signer.certificate;
    const half = (Date.parse(notBefore) + Date.parse(notAfter)) / 2;
    try {
      if (clock.now() >= half) {
        signer.renew(clock.now());
        unwritten = true;
      }
      if (unwritten) shareKeys(files, folder, signer);
      unwritten = false;
    } catch (error) {
      options.onError(error as Error);
    }
    stop = clock.after(LOOK_EVERY_MS, look);
  };
  let stop = clock.after(LOOK_EVERY_MS, look);
  return () => stop();
}
