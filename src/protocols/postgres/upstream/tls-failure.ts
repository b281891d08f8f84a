// Why TLS with the target did not come about, in words about the certificate and the Connection's fields. Pure. What is
// not known keeps its code alone: texts of the TLS library name files and lines of its own, and help nobody.

export interface TlsFailure {
  /** What is wrong, to go after a colon: `its certificate has expired`. */
  reason: string;
  /** What to do about it. */
  hint: string;
}

const UNTRUSTED = new Set([
  // A CA of the right name and another key.
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'INVALID_CA',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** `name`: what the certificate must be for. Codes: Node's TLS manual, "X509 certificate error codes". */
export function tlsFailure(error: unknown, name: string): TlsFailure {
  const code = codeOf(error);
  if (UNTRUSTED.has(code)) {
    return {
      reason: 'its certificate is signed by no CA that the Connection trusts',
      hint: 'Give the CA that signed it in spec.postgresql.tls.ca.',
    };
  }
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return {
        reason: `its certificate is not for ${name}`,
        hint: 'Set spec.postgresql.tls.serverName to the name on the certificate, if that is the right server.',
      };
    case 'CERT_HAS_EXPIRED':
      return { reason: 'its certificate has expired', hint: 'The server needs a new certificate.' };
    case 'CERT_NOT_YET_VALID':
      return {
        reason: 'its certificate is not valid yet',
        hint: 'Compare the clocks of the server, of its CA and of this gateway.',
      };
    case 'ECONNRESET':
    case 'EPIPE':
      return {
        reason: 'it broke off TLS',
        hint: 'The server’s own log says why; it has to offer TLS 1.2 or newer.',
      };
    default:
      if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) {
        return {
          reason: `no TLS could be agreed on (${code})`,
          hint: 'The server has to offer TLS 1.2 or newer with a cipher that is still held safe.',
        };
      }
      return {
        reason: code === '' ? 'TLS failed' : `TLS failed (${code})`,
        hint: 'Check spec.postgresql.tls: the CA in ca, and the name on the certificate in serverName.',
      };
  }
}

function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : '';
}
