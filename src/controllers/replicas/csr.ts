// A proxy's request for a certificate: PKCS#10 (RFC 2986) in PEM. Only its key counts, and only if whoever asks has
// shown that they hold it; names and everything else in it are ignored, the operator chooses them.
import 'reflect-metadata'; // x509's injector needs it loaded first
import { createPublicKey, type KeyObject, webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequest } from '@peculiar/x509';

export type CsrVerdict =
  /** `publicKey`: SubjectPublicKeyInfo, DER. */
  { kind: 'Good'; publicKey: Uint8Array<ArrayBuffer> } | { kind: 'Bad'; problem: string };

/** Never throws. Keys are P-256 or Ed25519: what every TLS stack checks fast, with no size to choose badly. */
export async function readCsr(pem: string): Promise<CsrVerdict> {
  if (pem.length > 8192 || !/^-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\s[\s\S]*-----END/.test(pem.trim()))
    return { kind: 'Bad', problem: 'it is no PEM of a certificate request' };
  try {
    const request = new Pkcs10CertificateRequest(pem);
    const publicKey = new Uint8Array(request.publicKey.rawData.slice(0));
    const problem = keyProblem(createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }));
    if (problem !== undefined) return { kind: 'Bad', problem };
    if (!(await request.verify(webcrypto as never)))
      return { kind: 'Bad', problem: 'it is not signed by the key that it carries' };
    return { kind: 'Good', publicKey };
  } catch (error) {
    return { kind: 'Bad', problem: `it can not be read (${error instanceof Error ? error.message : String(error)})` };
  }
}

function keyProblem(key: KeyObject): string | undefined {
  if (key.asymmetricKeyType === 'ed25519') return undefined;
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return undefined;
  return `its key is neither P-256 nor Ed25519 but ${key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType}`;
}
