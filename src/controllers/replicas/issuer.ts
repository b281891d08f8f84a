// Certificates for proxies' listeners, from the operator's authority.
import type { Authority } from '../pki/authority.ts';
import { readCsr } from './csr.ts';

export interface CertificateIssuer {
  /** Rejects with a CsrError where the request is no good. `names` are the caller's, never the request's. */
  issueFor(csrPem: string, names: readonly string[], lifeMs: number): Promise<{ certPem: string; notAfterMs: number }>;
  /** PEM of the authority. */
  readonly caPem: string;
}

export class CsrError extends Error {
  constructor(problem: string) {
    super(`the certificate request is refused: ${problem}`);
    this.name = 'CsrError';
  }
}

export function createCertificateIssuer(authority: Authority): CertificateIssuer {
  return {
    caPem: authority.caPem,
    async issueFor(csrPem, names, lifeMs) {
      const csr = await readCsr(csrPem);
      if (csr.kind === 'Bad') throw new CsrError(csr.problem);
      const { cert, notAfterMs } = await authority.certify(csr.publicKey, names, lifeMs);
      return { certPem: cert, notAfterMs };
    },
  };
}
