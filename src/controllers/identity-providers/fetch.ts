// One document from an issuer, over HTTPS, through the proxy that the environment names. Guarantees: an answer comes from whoever holds a certificate of the pinned CA
// (or of the system's, where none is pinned), is at most `maxBytes` long and there by the deadline, or it is a fault that
// says what was wrong; no redirect is followed, nothing is sent but the request, no connection is kept.
// Does not judge what the document says.
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type Socket } from 'node:net';
import tls from 'node:tls';
import { connectThrough, type Environment, proxyOf } from '../../system/http-proxy.ts';

export interface GetOptions {
  /** PEM; absent: the system's. */
  ca: string | undefined;
  deadlineMs: number;
  maxBytes: number;
  signal: AbortSignal;
}

export type FetchReason =
  | 'NotHttps'
  | 'NameNotFound'
  | 'Unreachable'
  | 'CertificateNotTrusted'
  | 'CertificateNotForHost'
  | 'CertificateExpired'
  | 'TimedOut'
  | 'Redirected'
  | 'BadStatus'
  | 'TooLarge';

export type Document =
  | { kind: 'Good'; bytes: Buffer }
  /** `detail`: where a redirect goes, the status, what the system said. */
  | { kind: 'Bad'; reason: FetchReason; url: string; detail: string };

export type HttpsGet = (url: string, options: GetOptions) => Promise<Document>;

const UNTRUSTED: ReadonlySet<string> = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_UNTRUSTED',
  'CERT_SIGNATURE_FAILURE',
  'INVALID_CA',
]);

export const httpsGet: HttpsGet = (url, options) => getWith(process.env, url, options);

/** As `httpsGet`, in another environment. */
export const createHttpsGet =
  (env: Environment): HttpsGet =>
  (url, options) =>
    getWith(env, url, options);

async function getWith(
  env: Environment,
  url: string,
  { ca, deadlineMs, maxBytes, signal }: GetOptions,
): Promise<Document> {
  const bad = (reason: FetchReason, detail: string): Document => ({
    kind: 'Bad',
    reason,
    url,
    detail: detail.slice(0, 300),
  });
  if (!URL.canParse(url) || new URL(url).protocol !== 'https:') return bad('NotHttps', '');
  const deadline = AbortSignal.timeout(deadlineMs);
  let request: ReturnType<typeof https.get> | undefined;
  let tunnel: Socket | undefined;
  try {
    const until = AbortSignal.any([signal, deadline]);
    tunnel = await tunnelTo(new URL(url), env, until);
    const secured = tunnel && securedOver(tunnel, new URL(url), ca);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request = https.get(url, {
        ...(secured === undefined ? { agent: false } : { createConnection: () => secured }),
        ...(ca === undefined ? {} : { ca }),
        headers: { accept: 'application/json, application/jwk-set+json', 'user-agent': 'sallyport' },
        signal: until,
      });
      request.once('response', resolve);
      // Stays: a socket may fail again after it was given up.
      request.on('error', reject);
    });
    const status = response.statusCode ?? 0;
    if (status >= 300 && status < 400) return bad('Redirected', response.headers.location ?? '');
    if (status !== 200) return bad('BadStatus', String(status));
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) return bad('TooLarge', `more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    // A length that was announced and not kept is an error of the stream: what is here is whole.
    return { kind: 'Good', bytes: Buffer.concat(chunks) };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    if (deadline.aborted) return bad('TimedOut', `${deadlineMs} ms`);
    if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return bad('NameNotFound', code);
    if (UNTRUSTED.has(code)) return bad('CertificateNotTrusted', code);
    if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return bad('CertificateNotForHost', message);
    if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') return bad('CertificateExpired', code);
    return bad('Unreachable', code === '' ? message : code);
  } finally {
    request?.destroy();
    tunnel?.destroy();
  }
}

/** undefined: it is reached without a proxy. */
async function tunnelTo(url: URL, env: Environment, signal: AbortSignal): Promise<Socket | undefined> {
  const proxy = proxyOf(url, env);
  if (proxy === undefined) return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return connectThrough(proxy, { host, port: Number(url.port) || 443 }, signal);
}

function securedOver(socket: Socket, url: URL, ca: string | undefined): tls.TLSSocket {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return tls.connect({
    socket,
    ...(isIP(host) === 0 ? { servername: host } : { host }),
    ...(ca === undefined ? {} : { ca }),
  });
}
