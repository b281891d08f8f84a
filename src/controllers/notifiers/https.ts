// One HTTPS request over a socket that the dial guard opened. Guarantees: the certificate is checked against the host of
// the URL, and against `caBundle` alone where one is given; one deadline for all of it; answers are bounded; redirects are
// answers and never followed, so a credential goes to the host it was meant for and no other. Retries nothing.
import http from 'node:http';
import type { Socket } from 'node:net';
import { isIP } from 'node:net';
import tls from 'node:tls';

/**
 * Opens a connection under the rules of the place where this runs. `hosts` is the Secret's `sallyport-hosts`. Rejects
 * with a sentence in its message.
 */
export type GuardedDial = (
  target: { host: string; port: number },
  hosts: readonly string[],
  signal: AbortSignal,
) => Promise<Socket>;

export interface HttpsCall {
  method: 'GET' | 'POST' | 'PATCH';
  url: URL;
  headers?: Readonly<Record<string, string>>;
  body?: string;
  hosts: readonly string[];
  caBundle?: string | undefined;
}

export type HttpsAnswer =
  | { kind: 'Answer'; status: number; headers: http.IncomingHttpHeaders; body: string }
  /** `sent`: it may have arrived all the same. */
  | { kind: 'NoAnswer'; reason: string; sent: boolean };

export type Https = (call: HttpsCall, signal: AbortSignal) => Promise<HttpsAnswer>;

const DEADLINE_MS = 10_000;
const LARGEST_ANSWER = 256 * 1024;

export function createHttps(dial: GuardedDial, deadlineMs = DEADLINE_MS): Https {
  return async (call, outer) => {
    const signal = AbortSignal.any([outer, AbortSignal.timeout(deadlineMs)]);
    const { url } = call;
    let sent = false;
    const failed = (error: unknown): HttpsAnswer => ({
      kind: 'NoAnswer',
      reason:
        signal.aborted && !outer.aborted ? `${url.host} did not answer within ${deadlineMs / 1000} s` : told(error),
      sent,
    });
    if (url.protocol !== 'https:') return failed(new Error(`${url.protocol}// is not spoken, only https://`));
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const port = url.port === '' ? 443 : Number(url.port);
    let socket: Socket | undefined;
    try {
      socket = await dial({ host, port }, call.hosts, signal);
      const secure = await secured(socket, host, call.caBundle, signal);
      socket = secure;
      sent = true;
      return await exchange(secure, call, signal);
    } catch (error) {
      return failed(error);
    } finally {
      socket?.destroy();
    }
  };
}

function secured(
  socket: Socket,
  host: string,
  caBundle: string | undefined,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = tls.connect({
      socket,
      ...(isIP(host) === 0 ? { servername: host } : { host }),
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      ...(caBundle === undefined ? {} : { ca: caBundle }),
    });
    const abort = (): void => fail(signal.reason as Error);
    const fail = (error: Error): void => {
      signal.removeEventListener('abort', abort);
      secure.destroy();
      reject(error);
    };
    secure.once('error', fail);
    secure.once('close', () => fail(new Error('the connection was closed')));
    secure.once('secureConnect', () => {
      signal.removeEventListener('abort', abort);
      secure.off('error', fail);
      // Whatever comes later is the exchange's to hear.
      secure.on('error', () => undefined);
      resolve(secure);
    });
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

function exchange(secure: tls.TLSSocket, call: HttpsCall, signal: AbortSignal): Promise<HttpsAnswer> {
  return new Promise((resolve, reject) => {
    const { url, method, body } = call;
    const request = http.request({
      createConnection: () => secure,
      host: url.hostname,
      method,
      path: `${url.pathname}${url.search}`,
      maxHeaderSize: 16_384,
      signal,
      headers: {
        host: url.host,
        'user-agent': 'sallyport',
        accept: 'application/json',
        connection: 'close',
        ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
        ...call.headers,
      },
    });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > LARGEST_ANSWER) request.destroy(new Error(`the answer is larger than ${LARGEST_ANSWER} bytes`));
        else chunks.push(chunk);
      });
      response.once('error', reject);
      response.once('close', () => {
        if (response.complete) {
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({ kind: 'Answer', status: response.statusCode ?? 0, headers: response.headers, body: text });
        } else reject(new Error('the answer was cut off'));
      });
    });
    request.end(body);
  });
}

/** OpenSSL's and Node's words; nothing of the request is in them. */
function told(error: unknown): string {
  if (!(error instanceof Error)) return 'no answer';
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : '';
  return `${error.message.slice(0, 300)}${error.message.includes(code.trim()) ? '' : code}`;
}

/** `Retry-After` in ms (RFC 9110: seconds or a date), at most an hour; undefined where there is none. */
export function retryAfterMs(headers: http.IncomingHttpHeaders, nowMs: number): number | undefined {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), 3_600_000);
}

/** The answer's JSON; undefined where it is none. */
export function jsonOf(answer: { body: string }): unknown {
  try {
    return JSON.parse(answer.body) as unknown;
  } catch {
    return undefined;
  }
}

export type Members = Readonly<Record<string, unknown>>;
export const membersOf = (value: unknown): Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : {};
export const itemsOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const textIn = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined;
