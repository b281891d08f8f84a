// One signed statement on one line: canonical JSON, a space, the Ed25519 signature over the JSON's bytes in base64url.
// The JSON's `format` keeps signatures of one purpose from being used for another.
import { canonicalJson } from '../api/canonical.ts';
import type { Keyring, SignatureVerdict } from './keyring.ts';
import type { RecordSigner } from './signer.ts';

const SIGNATURE_CHARACTERS = 86;

export interface SignedBody {
  format: string;
  keyId: string;
  /** RFC 3339 UTC with milliseconds. */
  at: string;
}

export async function encodeSignedLine(signer: RecordSigner, body: SignedBody): Promise<Buffer> {
  const json = Buffer.from(canonicalJson(body));
  const signature = await signer.sign(json);
  return Buffer.concat([json, Buffer.from(` ${signature.toString('base64url')}\n`)]);
}

export type SignedLine =
  | { kind: 'Good'; body: SignedBody }
  | { kind: 'Bad'; reason: 'Format' | Exclude<SignatureVerdict, 'Good'> };

/** `line` without its newline. Bad unless it is exactly what `encodeSignedLine` writes for some key of the ring. */
export function decodeSignedLine(line: Buffer, format: string, keys: Keyring): SignedLine {
  const split = line.length - SIGNATURE_CHARACTERS - 1;
  if (split < 2 || line[split] !== 0x20) return { kind: 'Bad', reason: 'Format' };
  const encoded = line.toString('latin1', split + 1);
  const signature = Buffer.from(encoded, 'base64url');
  if (signature.length !== 64 || signature.toString('base64url') !== encoded) return { kind: 'Bad', reason: 'Format' };
  const json = line.subarray(0, split);
  let body: SignedBody;
  try {
    const text = json.toString('utf8');
    body = JSON.parse(text) as SignedBody;
    if (typeof body !== 'object' || body === null || body.format !== format || canonicalJson(body) !== text) {
      return { kind: 'Bad', reason: 'Format' };
    }
    if (typeof body.keyId !== 'string' || typeof body.at !== 'string') return { kind: 'Bad', reason: 'Format' };
  } catch {
    return { kind: 'Bad', reason: 'Format' };
  }
  const verdict = keys.check(body.keyId, body.at, json, signature);
  return verdict === 'Good' ? { kind: 'Good', body } : { kind: 'Bad', reason: verdict };
}
