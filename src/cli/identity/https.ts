// Requests that carry tokens: over TLS that is verified with the system's roots or a pinned CA, through the proxy that the
// environment names, bounded in size. What fails on the way becomes a CliError without anything of what was sent.
import type { fetch as Fetch } from 'undici';
import { CliError, EXIT } from '../io.ts';
import { line } from '../render.ts';

const LARGEST_ANSWER = 1024 * 1024;

/** `fetch` for https alone; `loopback`: for http to this very machine as well. */
export async function pinnedFetch(caPem: string | undefined, loopback = false): Promise<typeof Fetch> {
  const { EnvHttpProxyAgent, fetch } = await import('undici');
  const trust = caPem === undefined ? {} : { ca: caPem };
  const dispatcher = new EnvHttpProxyAgent({
    connect: trust,
    requestTls: trust,
    maxResponseSize: LARGEST_ANSWER,
    connections: 2,
    // The process ends when the verb has; nothing is to keep it.
    keepAliveTimeout: 1_000,
  });
  return async (url, options) => {
    const { protocol, hostname } = new URL(String(url));
    const here = loopback && protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
    if (protocol !== 'https:' && !here) throw new TypeError('tokens travel over https alone');
    return fetch(url, { ...options, dispatcher });
  };
}

/** What kept a request from its answer; undefined: something else. `name` is of the other end. */
export function transportFailure(error: unknown, name: string, caHint: string): CliError | undefined {
  const cause = deepest(error);
  const code = String((cause as NodeJS.ErrnoException).code ?? '');
  if (/CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS/.test(code)) {
    return new CliError(
      EXIT.misconfigured,
      `The certificate of ${name} can not be verified: ${line(cause.message)}`,
      caHint,
    );
  }
  const silent =
    /^E[A-Z]+$|^UND_ERR|TIMEOUT/.test(code) || cause.name === 'TimeoutError' || cause.name === 'AbortError';
  if (!silent) return undefined;
  return new CliError(EXIT.unavailable, `${name} did not answer: ${line(cause.message || code)}`, 'Try again.');
}

export function deepest(error: unknown): Error {
  let found = error instanceof Error ? error : new Error('unknown');
  for (let depth = 0; depth < 8 && found.cause instanceof Error; depth += 1) found = found.cause;
  return found;
}
