// What ticket systems that are spoken to over REST have in common: where they are, what is asked of them, and what an
// answer means that is none. Knows no system.

import type { Https, HttpsAnswer } from '../https.ts';
import { failureOf } from '../media/medium.ts';
import type { SecretData } from '../secrets.ts';
import type { TicketReading } from './system.ts';

/** `S`: the system's own part of a notifier's spec. */
export interface TicketSystemOptions<S extends { url: string }> {
  spec: S;
  caBundle: string | undefined;
  secretName: string;
  readSecret(): Promise<SecretData>;
  https: Https;
  now(): number;
}

export interface TicketHost {
  base: URL;
  /** Sends JSON to a path under `base`, or asks for it; `hosts` and `authorization` are the Secret's. */
  call(
    request: {
      method: 'GET' | 'POST' | 'PATCH';
      path: string;
      query?: Record<string, string>;
      body?: unknown;
      hosts: readonly string[];
      authorization: string;
    },
    signal: AbortSignal,
  ): Promise<HttpsAnswer>;
  failure(answer: HttpsAnswer): ReturnType<typeof failureOf>;
  /** An answer that tells nothing of a ticket. */
  unknown(answer: HttpsAnswer): TicketReading;
  /** An answer in another shape than the system's. */
  senseless: Extract<TicketReading, { kind: 'Unknown' }>;
}

export function ticketHost(options: TicketSystemOptions<{ url: string }>): TicketHost {
  const base = new URL(options.spec.url.replace(/\/+$/, ''));
  const failure = (answer: HttpsAnswer): ReturnType<typeof failureOf> => failureOf(answer, base.host, options.now());
  return {
    base,
    call({ method, path, query, body, hosts, authorization }, signal) {
      const url = new URL(`${base.href.replace(/\/+$/, '')}/${path}`);
      if (query !== undefined) url.search = new URLSearchParams(query).toString();
      const headers = { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
      const sent = body === undefined ? {} : { body: JSON.stringify(body) };
      return options.https({ method, url, headers, ...sent, hosts, caBundle: options.caBundle }, signal);
    },
    failure,
    unknown(answer) {
      const failed = failure(answer);
      const after = failed.kind === 'Unavailable' ? failed.retryAfterMs : undefined;
      return { kind: 'Unknown', reason: failed.reason, ...(after === undefined ? {} : { retryAfterMs: after }) };
    },
    senseless: { kind: 'Unknown', reason: `${base.host} gave an answer that is not understood` },
  };
}
