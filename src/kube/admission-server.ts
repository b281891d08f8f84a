// An HTTPS server for the API server's admission webhooks (AdmissionReview of admission.k8s.io/v1). Guarantees: every
// request ends by a deadline; bodies, headers and connections are bounded; what is no AdmissionReview is a 4xx; a
// handler that throws or is late denies, and says no more than that; certificates are swapped without a restart.
// It does not know who calls: whoever reaches the port may ask, so handlers decide on what the request says and change
// nothing but what belongs to a proof in it. Requests come before they are persisted and may be repeated or never happen.

import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { KubeLog } from './log.ts';

/** `request` of an AdmissionReview, as far as it was checked. */
export interface AdmissionRequest {
  uid: string;
  kind: { group: string; version: string; kind: string };
  resource: { group: string; version: string; resource: string };
  subResource?: string;
  name?: string;
  namespace?: string;
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
  userInfo: { username: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> };
  /** Unchecked JSON; null on DELETE. */
  object: unknown;
  /** Unchecked JSON; null on CREATE. */
  oldObject: unknown;
  dryRun: boolean;
}

export type JsonPatchOperation =
  | { op: 'add' | 'replace'; path: string; value: unknown }
  | { op: 'remove'; path: string };

export type AdmissionAnswer =
  /** `patch`: RFC 6902, on `object`. */
  | { kind: 'Allow'; patch?: readonly JsonPatchOperation[]; warnings?: readonly string[] }
  /** `code`: HTTP status that the user's client sees; default 403. */
  | { kind: 'Deny'; message: string; reason?: string; code?: number; warnings?: readonly string[] };

export type AdmissionHandler = (
  request: AdmissionRequest,
  signal: AbortSignal,
) => AdmissionAnswer | Promise<AdmissionAnswer>;

export interface AdmissionServerOptions {
  /** By path: `/stamp`. */
  handlers: Readonly<Record<string, AdmissionHandler>>;
  tls: { cert: string; key: string };
  host?: string;
  /** 0: any free one. Default 9443. */
  port?: number;
  log: KubeLog;
  /** Of a handler. Default 5 s; an API server waits for 10 s by default. */
  handlerMs?: number;
}

export interface AdmissionServer {
  readonly port: number;
  /** For connections from now on. Throws where the pair does not fit; the old one then stays. */
  swapTls(tls: { cert: string; key: string }): void;
  /** From now on an answer is the last of its connection: whoever asks again is served, and better elsewhere. */
  retire(): void;
  /** Ends what is under way within `deadlineMs` (default 5 s). */
  close(deadlineMs?: number): Promise<void>;
}

const LARGEST_BODY = 3 * 2 ** 20;
const MOST_CONNECTIONS = 256;
const REQUEST_MS = 10_000;
const OPERATIONS = ['CREATE', 'UPDATE', 'DELETE', 'CONNECT'];

/** Resolves once it listens. */
export async function startAdmissionServer(options: AdmissionServerOptions): Promise<AdmissionServer> {
  const { log } = options;
  let retired = false;
  const server = https.createServer(
    {
      ...options.tls,
      minVersion: 'TLSv1.2',
      maxHeaderSize: 16_384,
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      keepAliveTimeout: 60_000,
      handshakeTimeout: REQUEST_MS,
      connectionsCheckingInterval: 2000,
    },
    (request, response) => {
      response.shouldKeepAlive &&= !retired;
      serve(options, request, response).catch((error: unknown) => {
        log('error', 'an admission request failed', { error: String(error) });
        response.destroy();
      });
    },
  );
  server.maxConnections = MOST_CONNECTIONS;
  // Scanners and half-open connections are their own trouble only.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
  server.on('error', (error) => log('error', 'the admission server failed', { error: String(error) }));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 9443, options.host, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    swapTls: (tls) => server.setSecureContext({ ...tls, minVersion: 'TLSv1.2' }),
    retire() {
      retired = true;
    },
    async close(deadlineMs = 5000) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

async function serve(
  options: AdmissionServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const refuse = (status: number, message: string): void => {
    // What was not read is not waited for.
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
    response.end(`${message}\n`);
  };
  const path = (request.url ?? '').split('?')[0] ?? '';
  const handler = Object.hasOwn(options.handlers, path) ? options.handlers[path] : undefined;
  if (handler === undefined) return refuse(404, 'no webhook is here');
  if (request.method !== 'POST') return refuse(405, 'send an AdmissionReview with POST');
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) return refuse(415, 'send application/json');
  if (request.headers['content-encoding'] !== undefined) return refuse(415, 'send it without content-encoding');
  const body = await readBody(request);
  if (body === undefined) return refuse(413, `send at most ${LARGEST_BODY} bytes`);
  const review = readReview(body);
  if (typeof review === 'string') return refuse(400, review);

  const deadline = AbortSignal.timeout(options.handlerMs ?? 5000);
  let answer: AdmissionAnswer;
  try {
    answer = await withSignal(
      Promise.resolve().then(() => handler(review, deadline)),
      deadline,
    );
  } catch (error) {
    // The message may hold what the requester may not see; it is for the log alone.
    options.log('error', 'an admission handler failed', { path, uid: review.uid, error: String(error) });
    answer = {
      kind: 'Deny',
      code: 500,
      reason: 'InternalError',
      message: 'Sallyport could not judge this request. Nothing was changed. Try again; the operator’s log says why.',
    };
  }
  const text = JSON.stringify(reviewOf(review.uid, answer));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** Undefined: too large. Rejects where the connection breaks. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > LARGEST_BODY) return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_BODY) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size).toString('utf8');
}

/** The request in it, or what is wrong. Pure. */
export function readReview(body: string): AdmissionRequest | string {
  let review: unknown;
  try {
    review = JSON.parse(body);
  } catch {
    return 'the body is no JSON';
  }
  const { apiVersion, kind, request } = recordOf(review);
  if (apiVersion !== 'admission.k8s.io/v1' || kind !== 'AdmissionReview')
    return 'send an AdmissionReview of admission.k8s.io/v1';
  const given = recordOf(request);
  const kindOf = recordOf(given['kind']);
  const resource = recordOf(given['resource']);
  const user = recordOf(given['userInfo']);
  const { uid, operation } = given;
  if (typeof uid !== 'string' || uid === '' || uid.length > 128) return 'request.uid is missing';
  if (typeof operation !== 'string' || !OPERATIONS.includes(operation)) return 'request.operation is not known';
  if (![kindOf['group'], kindOf['version'], kindOf['kind']].every(isString)) return 'request.kind is missing';
  if (![resource['group'], resource['version'], resource['resource']].every(isString))
    return 'request.resource is missing';
  if (!isString(user['username'])) return 'request.userInfo.username is missing';
  if (user['uid'] !== undefined && !isString(user['uid'])) return 'request.userInfo.uid is no text';
  if (user['groups'] !== undefined && !isStrings(user['groups'])) return 'request.userInfo.groups is no list of texts';
  if (user['extra'] !== undefined && !Object.values(recordOf(user['extra'])).every(isStrings)) {
    return 'request.userInfo.extra is no map of lists of texts';
  }
  for (const member of ['name', 'namespace', 'subResource']) {
    if (given[member] !== undefined && !isString(given[member])) return `request.${member} is no text`;
  }
  if (given['dryRun'] !== undefined && given['dryRun'] !== null && typeof given['dryRun'] !== 'boolean') {
    return 'request.dryRun is neither true nor false';
  }
  return {
    ...(given as unknown as AdmissionRequest),
    object: given['object'] ?? null,
    oldObject: given['oldObject'] ?? null,
    dryRun: given['dryRun'] === true,
  };
}

// Kubernetes cuts warnings at 256 characters, and all of them at 4096.
const LONGEST_WARNING = 256;

function reviewOf(uid: string, answer: AdmissionAnswer): unknown {
  const warnings = answer.warnings?.map((warning) => warning.slice(0, LONGEST_WARNING));
  const patch = answer.kind === 'Allow' ? (answer.patch ?? []) : [];
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed: answer.kind === 'Allow',
      ...(warnings === undefined || warnings.length === 0 ? {} : { warnings }),
      ...(patch.length === 0
        ? {}
        : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') }),
      ...(answer.kind === 'Allow'
        ? {}
        : { status: { code: answer.code ?? 403, reason: answer.reason ?? 'Forbidden', message: answer.message } }),
    },
  };
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
const isString = (value: unknown): value is string => typeof value === 'string';
const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every(isString);

function withSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Error('the handler was too slow'));
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
