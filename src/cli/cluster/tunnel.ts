// The near end of a tunnel: a listener on loopback whose every socket becomes a WebSocket through the API server to the
// proxy's own Service (docs/adr/0010-tunnel.md). Guarantees: only bytes are carried, inside which the protocol's own TLS
// and login run, so whoever on this machine connects to the port gains nothing without a ticket; sockets are bounded;
// backpressure goes end to end; when the signal fires everything ends. It believes nothing the API server says about the
// proxy: the client verifies the proxy's certificate.
import type { IncomingMessage } from 'node:http';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { WebSocket } from 'ws';
import type { KubeAccess } from '../../kube/access.ts';
import { bridge } from '../../proxy/bridge.ts';
import {
  REPLICA_HEADER,
  SESSION_HEADER,
  TUNNEL_MESSAGE_BYTES,
  TUNNEL_PATH,
  TUNNEL_PROTOCOL,
} from '../../proxy/tunnel-protocol.ts';
import { systemClock } from '../../system/clock.ts';
import { CliError, EXIT } from '../io.ts';
import { admissionText, bindingSuffix, ForbiddenError, type Place, subjectFlag } from './failures.ts';

export interface TunnelOptions {
  access: KubeAccess;
  place: Place;
  namespace: string;
  /** Service of the Connection. */
  service: string;
  connection: string;
  /** Told of each socket that could not be carried. */
  onProblem(error: Error): void;
  signal: AbortSignal;
}

export interface Tunnel {
  /** On 127.0.0.1. */
  port: number;
  /** Ids of the sessions that it carries now, as far as the proxy told them. */
  sessions(): readonly string[];
  /** Resolves when the listener and every socket are gone. */
  closed: Promise<void>;
}

const OPEN_MS = 20_000;
const MOST_SOCKETS = 256;
/** A proxy gives a connection that says nothing 10 s; one that was opened to see whether it works is used by then. */
const FRESH_MS = 5_000;
/** The API server chooses a replica by chance: with three, one of them is missed once in 130 times. */
const MOST_TRIES = 12;
const LARGEST_REFUSAL = 16 * 1024;

/**
 * Opens the first WebSocket at once, so that what is missing (rights, a proxy, the network) is told before any client
 * starts; the first socket takes it over. Rejects with CliError.
 */
export async function openTunnel(options: TunnelOptions): Promise<Tunnel> {
  const { signal, onProblem } = options;
  const first = await openWebSocket(options, undefined);
  if (first.kind === 'Elsewhere') throw new Error('a tunnel to any replica was refused as misdirected');
  let { replica } = first;
  let spare: { tunnel: OpenTunnel; at: number } | undefined = { tunnel: first, at: performance.now() };
  // A cancel request is a socket of its own, and only the replica that has the session knows its key.
  const openToSameReplica = async (): Promise<OpenTunnel> => {
    for (let left = MOST_TRIES; ; left -= 1) {
      // That replica may be gone, and its sessions with it: then any is as good.
      const opened = await openWebSocket(options, left > 0 ? replica : undefined);
      if (opened.kind === 'Elsewhere') continue;
      replica = opened.replica ?? replica;
      return opened;
    }
  };
  const take = (): OpenTunnel | undefined => {
    const kept = spare;
    spare = undefined;
    if (kept === undefined) return undefined;
    const { tunnel, at } = kept;
    if (tunnel.web.readyState === WebSocket.OPEN && performance.now() - at < FRESH_MS) return tunnel;
    tunnel.web.terminate();
    return undefined;
  };
  const live = new Set<Promise<void>>();
  const sessions = new Set<string>();
  const server = net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    const carried = carry(socket).catch((error: unknown) => {
      socket.destroy();
      if (!signal.aborted) onProblem(error instanceof Error ? error : new Error(String(error)));
    });
    live.add(carried);
    void carried.finally(() => live.delete(carried));
  });
  server.maxConnections = MOST_SOCKETS;
  const carry = async (socket: net.Socket): Promise<void> => {
    const { web, session } = take() ?? (await openToSameReplica());
    if (socket.destroyed) return web.terminate();
    const done = bridge(web, socket, systemClock, signal);
    socket.resume();
    if (session === undefined) return done;
    sessions.add(session);
    return done.finally(() => sessions.delete(session));
  };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
  } catch (error) {
    spare.tunnel.web.terminate();
    throw error;
  }
  const closed = new Promise<void>((resolve) => server.once('close', resolve)).then(async () => {
    await Promise.all(live);
  });
  const stop = (): void => {
    take()?.web.terminate();
    server.close();
  };
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  return { port: (server.address() as net.AddressInfo).port, sessions: () => [...sessions], closed };
}

export function tunnelUrl(server: string, namespace: string, service: string, connection: string): string {
  const base = server.replace(/\/+$/, '').replace(/^http/, 'ws');
  return `${base}/api/v1/namespaces/${encodeURIComponent(namespace)}/services/https:${encodeURIComponent(service)}:tunnel/proxy${TUNNEL_PATH}${encodeURIComponent(connection)}`;
}

interface OpenTunnel {
  kind: 'Open';
  web: WebSocket;
  replica: string | undefined;
  session: string | undefined;
}
type Opened = OpenTunnel | { kind: 'Elsewhere' };

/** `replica` given: to that one only, or `Elsewhere`. */
async function openWebSocket(options: TunnelOptions, replica: string | undefined): Promise<Opened> {
  const { access, namespace, service, connection } = options;
  const headers = {
    ...(await access.headers()),
    ...(replica === undefined ? {} : { [REPLICA_HEADER]: replica }),
  };
  const { ca, clientCert, tlsServerName, insecureSkipTlsVerify, proxyUrl } = access;
  const web = new WebSocket(tunnelUrl(access.server, namespace, service, connection), TUNNEL_PROTOCOL, {
    headers,
    handshakeTimeout: OPEN_MS,
    maxPayload: TUNNEL_MESSAGE_BYTES,
    perMessageDeflate: false,
    followRedirects: false,
    ...(ca === undefined ? {} : { ca }),
    ...(clientCert === undefined ? {} : { cert: clientCert.cert, key: clientCert.key }),
    ...(tlsServerName === undefined ? {} : { servername: tlsServerName }),
    ...(insecureSkipTlsVerify === true ? { rejectUnauthorized: false } : {}),
    ...(proxyUrl === undefined ? {} : { agent: proxyAgent(proxyUrl) }),
  });
  // What comes with the answer waits for the bridge.
  web.once('open', () => web.pause());
  let servedBy: string | undefined;
  let session: string | undefined;
  web.once('upgrade', ({ headers: answered }: IncomingMessage) => {
    const [named, id] = [answered[REPLICA_HEADER], answered[SESSION_HEADER]];
    servedBy = typeof named === 'string' ? named : undefined;
    session = typeof id === 'string' ? id : undefined;
  });
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      options.signal.removeEventListener('abort', abort);
      web.on('error', () => undefined);
      web.terminate();
      reject(error);
    };
    const abort = (): void => fail(new CliError(130, 'Given up.'));
    if (options.signal.aborted) return abort();
    options.signal.addEventListener('abort', abort, { once: true });
    web.once('open', () => {
      options.signal.removeEventListener('abort', abort);
      resolve({ kind: 'Open', web, replica: servedBy, session });
    });
    web.once('unexpected-response', (_request: unknown, response: IncomingMessage) => {
      if (response.statusCode === 421 && replica !== undefined) {
        options.signal.removeEventListener('abort', abort);
        web.on('error', () => undefined);
        web.terminate();
        return resolve({ kind: 'Elsewhere' });
      }
      void bodyOf(response).then((body) => fail(refusal(response.statusCode ?? 0, body, options)));
    });
    web.once('error', (error: Error) => fail(unreachable(error, options)));
  });
}

function bodyOf(response: IncomingMessage): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (): void => resolve(text.slice(0, LARGEST_REFUSAL));
    response.setEncoding('utf8');
    response.on('data', (part: string) => {
      text += part;
      if (text.length > LARGEST_REFUSAL) response.destroy();
    });
    response.once('close', done);
    response.once('error', done);
  });
}

/** What an answer other than an upgrade means. Exported for tests. */
export function refusal(
  status: number,
  body: string,
  given: Pick<TunnelOptions, 'namespace' | 'service' | 'connection' | 'place'>,
): CliError {
  const { namespace, service, connection, place } = given;
  let told = body.trim();
  let reason: string | undefined;
  try {
    const parsed = JSON.parse(body) as { message?: unknown; reason?: unknown };
    if (typeof parsed.message === 'string') told = parsed.message;
    if (typeof parsed.reason === 'string') reason = parsed.reason;
  } catch {
    // The proxy answers in plain text.
  }
  told = told.split('\n', 1)[0]!.slice(0, 400);
  const who = /User "([^"]*)" cannot/.exec(told)?.[1] ?? place.who?.username ?? 'You';
  switch (status) {
    case 401:
      return new CliError(
        EXIT.denied,
        `Cluster ${place.contextName} does not accept your credentials`,
        'Log in again as you do for kubectl.',
      );
    case 403: {
      const attempt = {
        verb: 'create',
        resource: 'services/proxy',
        namespace,
        name: `https:${service}:tunnel`,
      } as const;
      if (reason === undefined) return new CliError(EXIT.denied, `The proxy refused the tunnel: ${told}`);
      return new ForbiddenError(
        admissionText(told) ?? `${who} may not tunnel to ${namespace}/${connection} through the API server`,
        `A policy that names you brings the right with it (chart value tunnel.roles). Where that is off an admin types: kubectl create rolebinding ${service}-${bindingSuffix(who)} --role=${service}-tunnel ${subjectFlag(who)} -n ${namespace}`,
        attempt,
      );
    }
    case 404:
      return new CliError(
        EXIT.unavailable,
        reason === undefined
          ? `The proxy of ${namespace}/${connection} does not serve it yet: ${told}`
          : `There is no Service ${service} in namespace ${namespace} yet`,
        `The operator makes it within seconds. If it stays: kubectl access doctor ${connection} -n ${namespace}`,
      );
    case 429:
      return new CliError(
        EXIT.unavailable,
        `There are too many tunnels: ${told}`,
        'Close clients that you do not use, or try again.',
      );
    case 502:
    case 503:
    case 504:
      return new CliError(
        EXIT.unavailable,
        `No proxy of ${namespace}/${connection} is ready: ${told}`,
        `It is starting, or something keeps it from it: kubectl access doctor ${connection} -n ${namespace}`,
      );
    default:
      return new CliError(EXIT.failed, `The tunnel to ${namespace}/${connection} was refused (${status}): ${told}`);
  }
}

function unreachable(error: Error, { place, namespace, connection }: TunnelOptions): CliError {
  return new CliError(
    EXIT.unavailable,
    `The tunnel to ${namespace}/${connection} through ${place.server} did not open: ${error.message || String((error as { code?: unknown }).code)}`,
    'Look at your network or VPN. A proxy in between must let WebSockets through.',
    { cause: error },
  );
}

/** Connects by CONNECT (RFC 9110, 9.3.6) and then TLS to the API server, as the other requests do. */
function proxyAgent(proxyUrl: string): https.Agent {
  const proxy = new URL(proxyUrl);
  const agent = new https.Agent({ keepAlive: false });
  agent.createConnection = (options, done) => {
    const target = options as tls.ConnectionOptions & { host?: string; port?: number };
    const authority = `${target.host?.includes(':') ? `[${target.host}]` : target.host}:${target.port ?? 443}`;
    const request = (proxy.protocol === 'https:' ? https : http).request({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: authority,
      timeout: OPEN_MS,
      agent: false,
      headers: {
        host: authority,
        ...(proxy.username
          ? {
              'proxy-authorization': `Basic ${Buffer.from(`${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`).toString('base64')}`,
            }
          : {}),
      },
    });
    const fail = (error: Error): void => done?.(error, undefined as never);
    request.once('error', fail);
    request.once('timeout', () => request.destroy(new Error('the proxy did not answer')));
    request.once('connect', (response, socket, head) => {
      if (response.statusCode !== 200 || head.length > 0) {
        socket.destroy();
        return fail(new Error(`the proxy ${proxy.host} answered ${response.statusCode}`));
      }
      const host = target.host ?? '';
      const secure = tls.connect({
        ...target,
        socket,
        servername: target.servername ?? (net.isIP(host) === 0 ? host : ''),
      });
      secure.once('error', fail);
      secure.once('secureConnect', () => {
        secure.off('error', fail);
        done?.(null, secure);
      });
    });
    request.end();
    return undefined;
  };
  return agent;
}
