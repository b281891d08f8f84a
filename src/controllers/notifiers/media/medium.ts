// What every medium is to the outbox: a way to hand over one message. Types, and how a credential may be used.

import type { HttpsAnswer } from '../https.ts';
import { retryAfterMs } from '../https.ts';
import type { Message } from '../message.ts';
import { hostMissing, type SecretData } from '../secrets.ts';

export type Delivery =
  /** `nothing`: it has nothing to say by this medium. */
  | { kind: 'Taken'; nothing?: true }
  /** Not this message's fault: everything waits, and this one is tried again. */
  | { kind: 'Unavailable'; reason: string; retryAfterMs?: number; sent: boolean }
  /** This one is not wanted as it is. */
  | { kind: 'Refused'; reason: string };

export interface Medium {
  /** `maybeSent`: an earlier attempt may have arrived; a medium that can look does so first. */
  deliver(message: Message, maybeSent: boolean, signal: AbortSignal): Promise<Delivery>;
}

export class SecretUnfit extends Error {
  override name = 'SecretUnfit';
}

/** The hosts a Secret may be sent to; throws where the URL's is not among them, before anything is sent. */
export function hostsOf(secret: SecretData, url: URL, secretName: string): readonly string[] {
  const problem = hostMissing(secret, url, secretName);
  if (problem !== undefined) throw new SecretUnfit(problem);
  return (secret['sallyport-hosts'] ?? '').split(/\s+/).filter(Boolean);
}

/** A value that may stand in a header: printable ASCII without white space around it. */
export function headerSecret(secret: SecretData, key: string, secretName: string): string {
  const value = (secret[key] ?? '').trim();
  if (value === '') throw new SecretUnfit(`Secret ${secretName} has no key "${key}".`);
  if (!/^[\x21-\x7e]+$/.test(value))
    throw new SecretUnfit(`Key "${key}" of Secret ${secretName} holds characters that no header can carry.`);
  return value;
}

/** What an answer that is no success means, where the product says nothing more particular. */
export function failureOf(
  answer: HttpsAnswer,
  host: string,
  nowMs: number,
): Delivery & { kind: 'Unavailable' | 'Refused' } {
  if (answer.kind === 'NoAnswer') return { kind: 'Unavailable', reason: answer.reason, sent: answer.sent };
  const { status, headers } = answer;
  const after = retryAfterMs(headers, nowMs);
  const wait = after === undefined ? {} : { retryAfterMs: after };
  if (status === 429)
    return { kind: 'Unavailable', reason: `${host} asks for fewer messages (429)`, ...wait, sent: false };
  if (status >= 300 && status < 400)
    return {
      kind: 'Unavailable',
      reason: `${host} redirects elsewhere (${status}), which is never followed; write the address it is at`,
      sent: false,
    };
  if (status === 401 || status === 403)
    return { kind: 'Unavailable', reason: `${host} refuses the credential (${status}); see its Secret`, sent: false };
  if (status >= 500 || status === 408 || status === 425)
    return { kind: 'Unavailable', reason: `${host} answered ${status}`, ...wait, sent: true };
  return { kind: 'Refused', reason: `${host} answered ${status}` };
}
