// Who this process is: the key of its listeners and the key that signs its records, both made at start and never written
// anywhere, and what the operator certified of them. A process that starts anew is certified anew; what the one before
// it signed stays provable by the certificates beside the records.
import { generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto';
import type { ProxyReplicaStatus } from '../api/replica.ts';
import { makeAgreementKey, openSeed } from '../identity/seed-sealing.ts';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { ConnectionKeys, ServerTls } from '../protocols/protocol.ts';
import { checkCertificate, type RecordCertificate, type RecordSigner, rawPublicKey } from '../recording/signer.ts';
import type { Clock } from '../system/clock.ts';
import { certificateRequest } from './csr.ts';

export interface ProxyIdentity {
  /** For `ProxyReplica.spec`. */
  readonly csr: string;
  readonly recordKey: string;
  readonly keyAgreement: string;
  /** Takes what the operator certified, if it is for the keys of this process and, where needed, by a trusted key. */
  learn(status: ProxyReplicaStatus): void;
  /** Keys of a Connection's listener; undefined: none were handed that this process can open. */
  keysOf(connectionUid: string): ConnectionKeys | undefined;
  /** `current` throws as long as nothing is certified. */
  readonly tls: ServerTls;
  /** Undefined until the record key is certified. Its certificate is replaced when a newer one is learnt. */
  signer(): RecordSigner | undefined;
  hasChain(): boolean;
  /** Why it can not serve yet or any more; sentences. */
  problems(): string[];
  /** Told whenever the certificate of the record key is another one. */
  onRecordCertificate(listener: () => void): void;
}

export interface IdentityOptions {
  name: string;
  trustedKeys: () => readonly TrustedKey[];
  clock: Clock;
}

interface Chain {
  pem: string;
  notBeforeMs: number;
  notAfterMs: number;
}

export function createIdentity({ name, trustedKeys, clock }: IdentityOptions): ProxyIdentity {
  const tlsKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const tlsPem = tlsKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const record = generateKeyPairSync('ed25519');
  const recordKey = rawPublicKey(record.publicKey);
  const agreement = makeAgreementKey();
  /** By Connection uid; `sealed` is what it was opened from. */
  let handed = new Map<string, { sealed: string; seed: Buffer; certificates: readonly string[] }>();
  const listeners: (() => void)[] = [];
  let chain: Chain | undefined;
  let certificate: RecordCertificate | undefined;
  const issued: RecordCertificate[] = [];
  let root: TrustedKey | undefined;
  const refused: { chain?: string; record?: string } = {};

  function learnChain(pem: string | undefined): void {
    if (pem === undefined || pem === chain?.pem) return;
    const read = readChain(pem, tlsKey);
    if (typeof read === 'string') {
      refused.chain = read;
      return;
    }
    delete refused.chain;
    chain = read;
  }

  function learnRecord(text: string | undefined): void {
    if (text === undefined) return;
    const given = jsonOf(text) as RecordCertificate | undefined;
    if (given?.publicKey !== recordKey) {
      refused.record = 'the certificate of the record key is for another key';
      return;
    }
    if (given.signature === certificate?.signature) return;
    const roots = trustedKeys();
    const verdict = checkCertificate(given, roots);
    if (verdict.kind === 'Bad') {
      refused.record = `the certificate of the record key does not hold (${verdict.reason})`;
      return;
    }
    delete refused.record;
    certificate = given;
    // A process of years sees some: each proves what was signed in its time.
    issued.push(given);
    root = roots.find(({ keyId }) => keyId === given.issuer);
    for (const listener of listeners) listener();
  }

  function learnKeys(connections: NonNullable<ProxyReplicaStatus['connections']>): void {
    const next: typeof handed = new Map();
    for (const { uid, keys } of connections) {
      const known = handed.get(uid);
      const trusted = trustedKeys();
      const seed =
        keys === undefined || keys.sealed === known?.sealed
          ? known?.seed
          : (openSeed(keys, { connectionUid: uid, own: agreement, trusted }) ?? known?.seed);
      // What can not be opened was made for the process before this one; the next is on its way.
      if (seed === undefined) continue;
      const { sealed = known?.sealed ?? '', certificates = known?.certificates ?? [] } = keys ?? {};
      next.set(uid, { sealed, seed, certificates });
    }
    handed = next;
  }

  const signer: RecordSigner = {
    get keyId() {
      return certificate!.keyId;
    },
    get certificate() {
      return certificate!;
    },
    get root() {
      return root!;
    },
    issued,
    sign: (bytes) =>
      new Promise((resolve, reject) => {
        sign(null, bytes, record.privateKey, (error, signature) =>
          error === null ? resolve(signature) : reject(error),
        );
      }),
  };

  return {
    csr: certificateRequest(tlsKey, name),
    recordKey,
    keyAgreement: agreement.publicKey,
    learn(status) {
      learnChain(status.certificate);
      learnRecord(status.recordCertificate);
      if (status.connections !== undefined) learnKeys(status.connections);
    },
    keysOf(uid) {
      const known = handed.get(uid);
      return known && { seed: known.seed, certificates: () => handed.get(uid)?.certificates ?? [] };
    },
    tls: {
      current() {
        if (chain === undefined) throw new Error('the operator has not certified the key of the listeners yet');
        return { key: tlsPem, cert: chain.pem };
      },
    },
    hasChain: () => chain !== undefined,
    signer: () => (certificate === undefined ? undefined : signer),
    problems() {
      const now = clock.now();
      const problems: string[] = [];
      if (chain === undefined)
        problems.push(refused.chain ?? 'the operator has not certified the key of the listeners yet');
      else if (now > chain.notAfterMs)
        problems.push(`the certificate of the listeners ended at ${iso(chain.notAfterMs)}; is the operator running?`);
      else if (now < chain.notBeforeMs)
        problems.push(
          `the certificate of the listeners begins at ${iso(chain.notBeforeMs)}: the clock of this machine is behind`,
        );
      if (certificate === undefined)
        problems.push(refused.record ?? 'the operator has not certified the record key yet');
      else if (iso(now) > certificate.notAfter)
        problems.push(`the certificate of the record key ended at ${certificate.notAfter}; is the operator running?`);
      else if (iso(now) < certificate.notBefore)
        problems.push(
          `the certificate of the record key begins at ${certificate.notBefore}: the clock of this machine is behind`,
        );
      return problems;
    },
    onRecordCertificate: (listener) => void listeners.push(listener),
  };
}

const iso = (ms: number): string => new Date(ms).toISOString();

/** The chain, or why it is none of ours. */
function readChain(pem: string, key: KeyObject): Chain | string {
  try {
    const leaf = new X509Certificate(pem); // the first of the chain
    if (!leaf.checkPrivateKey(key)) return 'the certificate of the listeners is for another key';
    return { pem, notBeforeMs: Date.parse(leaf.validFrom), notAfterMs: Date.parse(leaf.validTo) };
  } catch {
    return 'the certificate of the listeners is not readable';
  }
}

function jsonOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
