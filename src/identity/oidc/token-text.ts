// A token as text: compact JWS (RFC 7515, 7.1) whose header and payload are strict JSON objects. Guarantees: what is
// handed on has one spelling only, and its header asks for nothing but a signature by a key that the issuer published.
// Proves nothing: everything read here is the sender's word until the signature is checked.
import { decodeBase64Url } from '../ed25519.ts';
import { type JsonObject, readStrictObject } from './strict-json.ts';
import type { TokenFault } from './token-fault.ts';

/** Longest token, characters. */
export const TOKEN_BYTES = 16 * 1024;

export interface TokenText {
  header: JsonObject;
  alg: string;
  kid?: string;
  payload: JsonObject;
  /** What is signed: header and payload as sent. */
  signingInput: string;
  signature: Buffer;
}

export type TokenReading = { kind: 'Good'; text: TokenText } | { kind: 'Bad'; fault: TokenFault; detail?: string };

/**
 * Parameters that bring a key of the sender's own, or ask for processing that changes what is signed (RFC 7515, 4.1;
 * RFC 7797). Thumbprints (`x5t`) stand in tokens of common issuers: they name a key, which nothing here goes by.
 */
const REFUSED_PARAMETERS = ['crit', 'jwk', 'jku', 'x5c', 'x5u', 'b64', 'zip', 'enc', 'epk'];

export function readTokenText(text: string): TokenReading {
  if (text.length > TOKEN_BYTES) return bad('TooLarge');
  const parts = text.split('.', 6);
  if (parts.length === 5) return bad('Encrypted');
  if (parts.length !== 3) return bad('NotThreeParts');
  const [headerPart, payloadPart, signaturePart] = parts as [string, string, string];
  const headerBytes = decodeBase64Url(headerPart);
  const payloadBytes = decodeBase64Url(payloadPart);
  if (headerBytes === undefined || payloadBytes === undefined) return bad('NotBase64Url');
  const header = readStrictObject(headerBytes, { bytes: TOKEN_BYTES, depth: 4 });
  if (header === undefined) return bad('BadHeader');
  const { alg, kid, typ } = header;
  if (typeof alg !== 'string' || (kid !== undefined && typeof kid !== 'string')) return bad('BadHeader');
  if (typ !== undefined && typeof typ !== 'string') return bad('BadHeader');
  // Before the signature is looked at: an unsigned token has none.
  if (/^none$/i.test(alg)) return bad('AlgorithmNone');
  const signature = decodeBase64Url(signaturePart);
  if (signature === undefined) return bad('NotBase64Url');
  if (/^hs/i.test(alg)) return bad('AlgorithmSymmetric');
  const parameter = REFUSED_PARAMETERS.find((name) => name in header);
  if (parameter !== undefined) return { kind: 'Bad', fault: 'HeaderParameter', detail: parameter };
  const payload = readStrictObject(payloadBytes, { bytes: TOKEN_BYTES });
  if (payload === undefined) return bad('BadPayload');
  const signingInput = `${headerPart}.${payloadPart}`;
  return {
    kind: 'Good',
    text: { header, alg, ...(kid === undefined ? {} : { kid }), payload, signingInput, signature },
  };
}

const bad = (fault: TokenFault): TokenReading => ({ kind: 'Bad', fault });
