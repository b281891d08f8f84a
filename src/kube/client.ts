// REST on a Kubernetes API server. Guarantees: every call ends by its deadline; an answer is never larger in memory than
// its limit; what the server says is a value, that it says nothing is a KubeConnectionError; tokens and certificates are
// those of now. Requests share a few connections; each watch has one of its own outside of that limit, so that watches
// never starve requests (see docs/adr/0008-kubernetes-client.md). It knows no kinds, retries no write that may have
// happened, and validates nothing of what the server sends but that it is JSON.
import type { LookupFunction } from 'node:net';
import type { buildConnector as BuildConnector, Dispatcher } from 'undici';
import request from 'undici/lib/api/api-request.js';
import buildConnector from 'undici/lib/core/connect.js';
import Agent from 'undici/lib/dispatcher/agent.js';
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js';
import { type Clock, systemClock } from '../system/clock.ts';
import type { KubeAccess } from './access.ts';
import { failureOf, type KubeAnswer, KubeConnectionError, type WatchLine } from './answer.ts';
import { linesOf } from './lines.ts';

export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** For all of it, waiting for a busy server included. Default 15 s. */
  deadlineMs?: number;
  /** Largest answer. Default 64 MiB. */
  maxBytes?: number;
}

export interface ListOptions extends CallOptions {
  limit?: number | undefined;
  continue?: string | undefined;
  fieldSelector?: string | undefined;
  labelSelector?: string | undefined;
  resourceVersion?: string | undefined;
}

export interface WriteOptions extends CallOptions {
  dryRun?: boolean;
  fieldManager?: string;
  /** `Strict`: unknown fields are refused instead of dropped. */
  fieldValidation?: 'Strict' | 'Warn' | 'Ignore';
}

export interface WatchOptions {
  resourceVersion?: string | undefined;
  fieldSelector?: string | undefined;
  labelSelector?: string | undefined;
  /** After which the server ends the watch. */
  timeoutSeconds?: number;
  signal?: AbortSignal | undefined;
  /** Until the server has begun to answer. Default 15 s. */
  deadlineMs?: number;
  /** Ends with `Timeout` when nothing came for so long. */
  silenceMs?: number;
}

/** What every list is. */
export interface KubeList<T> {
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: T[];
}

/** Type parameters are what the caller knows of a path; nothing is checked. Every call may throw KubeConnectionError. */
export interface KubeClient {
  readonly access: KubeAccess;
  get<T>(path: string, options?: CallOptions): Promise<KubeAnswer<T>>;
  list<T>(path: string, options?: ListOptions): Promise<KubeAnswer<KubeList<T>>>;
  create<T>(path: string, body: unknown, options?: WriteOptions): Promise<KubeAnswer<T>>;
  replace<T>(path: string, body: unknown, options?: WriteOptions): Promise<KubeAnswer<T>>;
  patch<T>(
    path: string,
    body: unknown,
    type: 'merge' | 'apply' | 'json',
    options?: WriteOptions & { force?: boolean },
  ): Promise<KubeAnswer<T>>;
  delete<T = unknown>(
    path: string,
    options?: CallOptions & {
      /** Only if it still is this object. */
      uid?: string | undefined;
      resourceVersion?: string | undefined;
      propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
      dryRun?: boolean;
    },
  ): Promise<KubeAnswer<T>>;
  /** Lines until the server ends it, with one `ERROR` line where it refuses. Reads no faster than it is read. */
  watch<T>(path: string, options?: WatchOptions): AsyncIterable<WatchLine<T>>;
  /** Ends every call and watch with `Closed`. */
  close(): Promise<void>;
}

export interface KubeClientOptions {
  clock?: Clock;
  /** Connections for requests; watches come on top. Default 16. */
  connections?: number;
  userAgent?: string;
}

const DEADLINE_MS = 15_000;
const LARGEST_ANSWER = 64 * 2 ** 20;
const LARGEST_LINE = 16 * 2 ** 20;
const CONNECT_MS = 10_000;
// A peer that vanished is found after this and ten probes, a second each (libuv's setting).
const KEEPALIVE_MS = 30_000;
const MOST_ATTEMPTS = 8;

export function createKubeClient(access: KubeAccess, options: KubeClientOptions = {}): KubeClient {
  const clock = options.clock ?? systemClock;
  const base = new URL(access.server);
  const prefix = base.pathname.replace(/\/+$/, '');
  const closing = new AbortController();
  const common = { keepAliveTimeout: 30_000, keepAliveMaxTimeout: 300_000, headersTimeout: 0, bodyTimeout: 0 };
  const requests = dispatcher(access, { ...common, connections: options.connections ?? 16 });
  const watches = dispatcher(access, { ...common, connections: null });

  const headers = async (extra: Record<string, string> = {}): Promise<Record<string, string | string[]>> => ({
    accept: 'application/json',
    'user-agent': options.userAgent ?? 'sallyport',
    ...extra,
    ...(await access.headers()),
  });

  /** One request, its body read whole. */
  const once = async <T>(call: Call, signal: AbortSignal): Promise<KubeAnswer<T>> => {
    const response = await request.call(requests, {
      origin: base.origin,
      path: prefix + call.path,
      method: call.method,
      headers: await headers(call.contentType === undefined ? {} : { 'content-type': call.contentType }),
      ...(call.body === undefined ? {} : { body: call.body }),
      signal,
    });
    const text = await readAll(response.body, call.maxBytes);
    const value = jsonOf(text, response.statusCode);
    if (response.statusCode >= 200 && response.statusCode < 300) return { kind: 'Ok', value: value as T };
    return failureOf(response.statusCode, value, oneHeader(response.headers['retry-after']));
  };

  const send = async <T>(call: Call, given: CallOptions = {}): Promise<KubeAnswer<T>> => {
    const deadlineMs = given.deadlineMs ?? DEADLINE_MS;
    const end = clock.monotonic() + deadlineMs;
    const scope = deadline(clock, deadlineMs, [closing.signal, given.signal]);
    try {
      for (let attempt = 1; ; attempt++) {
        let answer: KubeAnswer<T>;
        try {
          answer = await once<T>(call, scope.signal);
        } catch (error) {
          // A kept connection that the server had just closed: reading again changes nothing.
          if (call.method === 'GET' && attempt === 1 && !scope.signal.aborted && isReset(error)) continue;
          throw error;
        }
        // Retry-After says that the server did not begin with it.
        if (answer.kind === 'Ok' || answer.status !== 429 || answer.retryAfterMs === undefined) return answer;
        if (attempt >= MOST_ATTEMPTS || clock.monotonic() + answer.retryAfterMs >= end) return answer;
        await pause(clock, answer.retryAfterMs, scope.signal);
      }
    } catch (error) {
      throw connectionError(error, `${call.method} ${call.path.split('?')[0]}`, scope.signal);
    } finally {
      scope.release();
    }
  };

  const withBody = (
    method: 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    contentType: string,
    given: CallOptions | undefined,
  ): Call => ({
    method,
    path,
    contentType,
    body: JSON.stringify(body),
    maxBytes: given?.maxBytes ?? LARGEST_ANSWER,
  });
  const writeQuery = (given: (WriteOptions & { force?: boolean }) | undefined): Query => ({
    dryRun: given?.dryRun === true ? 'All' : undefined,
    fieldManager: given?.fieldManager,
    fieldValidation: given?.fieldValidation,
    force: given?.force === true ? 'true' : undefined,
  });
  const reading = (path: string, given: CallOptions | undefined): Call => ({
    method: 'GET',
    path,
    maxBytes: given?.maxBytes ?? LARGEST_ANSWER,
  });

  async function* watch<T>(path: string, given: WatchOptions = {}): AsyncGenerator<WatchLine<T>> {
    const scope = deadline(clock, given.deadlineMs ?? DEADLINE_MS, [closing.signal, given.signal]);
    const what = `watch ${path.split('?')[0]}`;
    try {
      const response = await request.call(watches, {
        origin: base.origin,
        path:
          prefix +
          withQuery(path, {
            watch: 'true',
            allowWatchBookmarks: 'true',
            resourceVersion: given.resourceVersion,
            fieldSelector: given.fieldSelector,
            labelSelector: given.labelSelector,
            timeoutSeconds: given.timeoutSeconds?.toString(),
          }),
        method: 'GET',
        headers: await headers(),
        signal: scope.signal,
      });
      if (response.statusCode !== 200) {
        const text = await readAll(response.body, 2 ** 20);
        const retryAfter = oneHeader(response.headers['retry-after']);
        yield {
          type: 'ERROR',
          failure: failureOf(response.statusCode, jsonOf(text, response.statusCode), retryAfter),
        };
        return;
      }
      scope.renew(given.silenceMs);
      for await (const line of linesOf(response.body, LARGEST_LINE)) {
        const parsed = lineOf<T>(line);
        // The silence that counts is the server's, not that of a slow reader.
        scope.renew(undefined);
        yield parsed;
        if (parsed.type === 'ERROR') return;
        scope.renew(given.silenceMs);
      }
    } catch (error) {
      throw connectionError(error, what, scope.signal);
    } finally {
      scope.release();
      // Whoever stops reading has no use for the connection.
      scope.abort();
    }
  }

  return {
    access,
    get: (path, given) => send(reading(path, given), given),
    list: (path, given) =>
      send(
        reading(
          withQuery(path, {
            limit: given?.limit?.toString(),
            continue: given?.continue,
            fieldSelector: given?.fieldSelector,
            labelSelector: given?.labelSelector,
            resourceVersion: given?.resourceVersion,
          }),
          given,
        ),
        given,
      ),
    create: (path, body, given) =>
      send(withBody('POST', withQuery(path, writeQuery(given)), body, 'application/json', given), given),
    replace: (path, body, given) =>
      send(withBody('PUT', withQuery(path, writeQuery(given)), body, 'application/json', given), given),
    patch: (path, body, type, given) =>
      send(withBody('PATCH', withQuery(path, writeQuery(given)), body, PATCH_TYPES[type], given), given),
    delete: (path, given) => {
      const preconditions = { uid: given?.uid, resourceVersion: given?.resourceVersion };
      const body = {
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        preconditions,
        propagationPolicy: given?.propagationPolicy,
        ...(given?.dryRun === true ? { dryRun: ['All'] } : {}),
      };
      return send(withBody('DELETE', path, body, 'application/json', given), given);
    },
    watch,
    async close() {
      closing.abort(new KubeConnectionError('Closed', 'the client is closed'));
      await Promise.all([requests.destroy(), watches.destroy()]);
    },
  };
}

interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  contentType?: string;
  body?: string;
  maxBytes: number;
}

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  // The API server reads YAML, of which JSON is a part.
  apply: 'application/apply-patch+yaml',
  json: 'application/json-patch+json',
} as const;

type Query = Readonly<Record<string, string | undefined>>;

function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value);
  const text = parameters.toString();
  return text === '' ? path : `${path}${path.includes('?') ? '&' : '?'}${text}`;
}

function dispatcher(access: KubeAccess, options: Agent.Options): Dispatcher {
  if (access.proxyUrl !== undefined) {
    return new ProxyAgent({ ...options, uri: access.proxyUrl, requestTls: { ...tlsOf(access), allowH2: false } });
  }
  // One connector as long as the certificates stay: it keeps TLS sessions, and making TLS contexts costs milliseconds.
  let known: { key: string; connect: BuildConnector.connector } | undefined;
  return new Agent({
    ...options,
    connect(target, done) {
      let connector: BuildConnector.connector;
      try {
        const tls = tlsOf(access);
        const key = `${tls.ca ?? ''} ${tls.cert ?? ''} ${tls.key ?? ''}`;
        if (known?.key !== key) {
          known = {
            key,
            connect: buildConnector({
              ...tls,
              allowH2: false,
              timeout: CONNECT_MS,
              keepAlive: true,
              keepAliveInitialDelay: KEEPALIVE_MS,
            }),
          };
        }
        connector = known.connect;
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)), null);
        return;
      }
      connector(target, done);
    },
  });
}

interface Tls {
  ca?: string;
  cert?: string;
  key?: string;
  servername?: string;
  rejectUnauthorized?: boolean;
  lookup?: LookupFunction;
}

function tlsOf(access: KubeAccess): Tls {
  const { ca, clientCert } = access;
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(clientCert === undefined ? {} : { cert: clientCert.cert, key: clientCert.key }),
    ...(access.tlsServerName === undefined ? {} : { servername: access.tlsServerName }),
    ...(access.insecureSkipTlsVerify === true ? { rejectUnauthorized: false } : {}),
  };
}

async function readAll(body: AsyncIterable<Uint8Array>, limit: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > limit) throw new KubeConnectionError('TooLarge', `an answer of more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size).toString('utf8');
}

/** What a proxy in between says in HTML is no answer of the API server, but its status still tells. */
function jsonOf(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (status >= 400) return { message: text.slice(0, 200) };
    throw new KubeConnectionError('Garbage', 'the answer is no JSON', error);
  }
}

function lineOf<T>(line: string): WatchLine<T> {
  let parsed: { type?: unknown; object?: unknown } | null;
  try {
    parsed = JSON.parse(line) as typeof parsed;
  } catch (error) {
    throw new KubeConnectionError('Garbage', 'a line of the watch is no JSON', error);
  }
  const type = parsed?.type;
  const object = parsed?.object;
  if (typeof object === 'object' && object !== null) {
    if (type === 'ERROR') return { type, failure: failureOf(500, object) };
    if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED' || type === 'BOOKMARK')
      return { type, object: object as T };
  }
  throw new KubeConnectionError('Garbage', 'a line of the watch is no event');
}

const oneHeader = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value[0] : value;

function isReset(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
}

function connectionError(error: unknown, what: string, signal: AbortSignal): KubeConnectionError {
  if (signal.aborted && signal.reason instanceof KubeConnectionError) {
    return new KubeConnectionError(signal.reason.code, `${what}: ${signal.reason.message}`, signal.reason.cause);
  }
  if (error instanceof KubeConnectionError) return new KubeConnectionError(error.code, `${what}: ${error.message}`);
  const message = error instanceof Error ? error.message || String((error as { code?: unknown }).code) : String(error);
  return new KubeConnectionError('Unreachable', `${what}: ${message}`, error);
}

interface Scope {
  signal: AbortSignal;
  /** Sets the deadline anew; undefined: none. */
  renew(ms: number | undefined): void;
  release(): void;
  abort(): void;
}

/** A signal that fires at a deadline or with any of `others`, and holds on to neither after `release`. */
function deadline(clock: Clock, ms: number, others: readonly (AbortSignal | undefined)[]): Scope {
  const controller = new AbortController();
  const ends: (() => void)[] = [];
  for (const other of others) {
    if (other === undefined) continue;
    const onAbort = (): void =>
      controller.abort(
        other.reason instanceof KubeConnectionError
          ? other.reason
          : new KubeConnectionError('Aborted', 'withdrawn by the caller', other.reason),
      );
    if (other.aborted) onAbort();
    other.addEventListener('abort', onAbort, { once: true });
    ends.push(() => other.removeEventListener('abort', onAbort));
  }
  let cancel: () => void = () => undefined;
  const renew = (next: number | undefined): void => {
    cancel();
    cancel = () => undefined;
    if (next === undefined || controller.signal.aborted) return;
    cancel = clock.after(next, () => controller.abort(new KubeConnectionError('Timeout', `nothing within ${next} ms`)));
  };
  renew(ms);
  return {
    signal: controller.signal,
    renew,
    release() {
      cancel();
      for (const end of ends) end();
    },
    abort: () => controller.abort(new KubeConnectionError('Aborted', 'no longer read')),
  };
}

function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      cancel();
      reject(signal.reason as Error);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
