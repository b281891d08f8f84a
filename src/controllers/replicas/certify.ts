// What a replica is handed: a certificate for its listeners' key, and the operator's word for its record key. Guarantees:
// both are kept while they fit and are not due, so that steady state signs and writes nothing; a bad request costs the
// replica its own certificate only. It does not judge who wrote the request: admission lets only the pod itself.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import type { ProxyReplicaSpec, ProxyReplicaStatus } from '../../api/replica.ts';
import type { SigningKey, TrustedKey } from '../../policy/bundle-signing.ts';
import {
  checkCertificate,
  issueRecordCertificate,
  publicKeyFromRaw,
  type RecordCertificate,
} from '../../recording/signer.ts';
import { rfc3339 } from '../conditions.ts';
import { type CertificateIssuer, CsrError } from './issuer.ts';

const DAY_MS = 86_400_000;
export const CERTIFICATE_LIFE_MS = 7 * DAY_MS;
export const RECORD_LIFE_MS = 400 * DAY_MS;
const RECORD_BACKDATE_MS = 60_000;

export type Handed = Pick<ProxyReplicaStatus, 'certificate' | 'certificateFor' | 'renewAt' | 'recordCertificate'>;

/** Which key, names and authority a certificate is for. */
export function certificateFor(csr: string, names: readonly string[], caPem: string): string {
  return sha256Hex(canonicalJson({ csr, names, caPem }));
}

export interface CertifyOptions {
  spec: ProxyReplicaSpec;
  status: ProxyReplicaStatus | undefined;
  names: readonly string[];
  issuer: CertificateIssuer;
  /** Signs record certificates. */
  key: SigningKey;
  trusted: readonly TrustedKey[];
  nowMs: number;
}

/** `problem`: why there is no certificate. Undefined members: there is nothing to hand yet. */
export async function certify(options: CertifyOptions): Promise<Handed & { problem?: string }> {
  const record = recordCertificate(options);
  const tls = await listenerCertificate(options);
  const dues = [tls.dueMs, record?.dueMs].filter((due) => due !== undefined);
  return {
    ...tls.handed,
    ...(record === undefined ? {} : { recordCertificate: record.text }),
    ...(dues.length === 0 ? {} : { renewAt: rfc3339(Math.min(...dues)) }),
    ...(tls.problem === undefined ? {} : { problem: tls.problem }),
  };
}

async function listenerCertificate({
  spec,
  status,
  names,
  issuer,
  nowMs,
}: CertifyOptions): Promise<{ handed: Handed; dueMs?: number; problem?: string }> {
  if (spec.csr === undefined) return { handed: {} };
  const wanted = certificateFor(spec.csr, names, issuer.caPem);
  const renewMs = Date.parse(status?.renewAt ?? '');
  if (status?.certificate !== undefined && status.certificateFor === wanted && renewMs > nowMs)
    return { handed: { certificate: status.certificate, certificateFor: wanted }, dueMs: renewMs };
  try {
    const { certPem, notAfterMs } = await issuer.issueFor(spec.csr, names, CERTIFICATE_LIFE_MS);
    // Whole seconds, as they are written: else the next look would find another moment.
    const dueMs = Math.floor((nowMs + ((notAfterMs - nowMs) * 2) / 3) / 1000) * 1000;
    return { handed: { certificate: certPem, certificateFor: wanted }, dueMs };
  } catch (error) {
    if (error instanceof CsrError) return { handed: {}, problem: error.message };
    throw error;
  }
}

/** Kept until half of its life is over, or the replica has another key, or nobody trusts its signer any more. */
function recordCertificate({
  spec,
  status,
  key,
  trusted,
  nowMs,
}: CertifyOptions): { text: string; dueMs: number } | undefined {
  const publicKey = spec.recordKey === undefined ? undefined : publicKeyFromRaw(spec.recordKey);
  if (publicKey === undefined) return undefined;
  const known = parsed(status?.recordCertificate);
  if (known !== undefined && known.publicKey === spec.recordKey && checkCertificate(known, trusted).kind === 'Good') {
    const dueMs = halfOf(Date.parse(known.notBefore), Date.parse(known.notAfter));
    if (dueMs > nowMs) return { text: status!.recordCertificate!, dueMs };
  }
  const validity = { notBeforeMs: nowMs - RECORD_BACKDATE_MS, notAfterMs: nowMs + RECORD_LIFE_MS };
  const made = issueRecordCertificate(key, publicKey, validity);
  return { text: JSON.stringify(made), dueMs: halfOf(validity.notBeforeMs, validity.notAfterMs) };
}

const halfOf = (fromMs: number, toMs: number): number => Math.floor((fromMs + toMs) / 2000) * 1000;

function parsed(text: string | undefined): RecordCertificate | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as RecordCertificate);
  } catch {
    return undefined;
  }
}
