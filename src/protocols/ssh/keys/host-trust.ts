// Whether a server that shows a key is the one a Connection means: pinned keys, and authorities for host certificates.
// No trust on first use: what is not listed is not dialled twice.
import { MalformedData } from '../wire/data.ts';
import { hostCertificateFault } from './certificate.ts';
import { certificateName, isCertificate, parseCertificate } from './certificate-blob.ts';
import { keyForPeople, readPublicKeyLine } from './known-hosts.ts';
import { readPublicKey, signatureAlgorithmsOf } from './public-key.ts';
import { SIGNATURE_ALGORITHMS } from './verify.ts';

export interface HostTrust {
  /** To offer in the key exchange, best first: only what could be verified. */
  readonly algorithms: readonly string[];
  /** Why a key or certificate is not the host's, or undefined. Names the fingerprint that was shown. */
  fault(blob: Buffer, nowMs: number): string | undefined;
}

/** Lines as `spec.ssh` has them. Throws MalformedData where one is of no use, or there is none at all. */
export function hostTrustOf(spec: {
  hostKeys?: readonly string[];
  hostAuthorities?: readonly string[];
  /** Default `host`. */
  hostPrincipal?: string;
  host: string;
}): HostTrust {
  const pinned = (spec.hostKeys ?? []).map((line) => readPublicKey(readPublicKeyLine(line).blob));
  const authorities = (spec.hostAuthorities ?? []).map((line) => readPublicKey(readPublicKeyLine(line).blob).blob);
  if (pinned.length === 0 && authorities.length === 0)
    throw new MalformedData('neither a host key nor a host authority is listed');
  const principal = spec.hostPrincipal ?? spec.host;
  const plain = new Set<string>(pinned.flatMap(({ type }) => signatureAlgorithmsOf(type)));
  return {
    algorithms: [
      ...(authorities.length === 0 ? [] : SIGNATURE_ALGORITHMS.filter(isHosts).map(certificateName)),
      ...SIGNATURE_ALGORITHMS.filter((name) => plain.has(name)),
    ],
    fault(blob, nowMs) {
      if (isCertificate(blob)) {
        const fault = hostCertificateFault(blob, { authorities, principal, nowMs });
        return fault === undefined ? undefined : `${fault} (${shown(blob)})`;
      }
      if (pinned.some((key) => key.blob.equals(blob))) return undefined;
      return `the server shows a host key that is not listed: ${shown(blob)}`;
    },
  };
}

/** Security keys are for people: no server has one. */
function isHosts(name: string): boolean {
  return !name.startsWith('sk-');
}

function shown(blob: Buffer): string {
  try {
    return keyForPeople(isCertificate(blob) ? parseCertificate(blob).key.blob : blob);
  } catch (error) {
    if (error instanceof MalformedData) return `${blob.length} bytes that are no key`;
    throw error;
  }
}
