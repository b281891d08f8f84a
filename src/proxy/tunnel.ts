// The way in from a laptop: the API server proxies a WebSocket to this pod's own HTTPS port, and what it carries goes to
// a Connection as if it had come to its listener (docs/adr/0010-tunnel.md).
//
// The same port takes newer tokens for live sessions; there the token decides, not who can reach the port.
//
// Guarantees: a tunnel gives nobody an identity or a right; inside runs the protocol's own TLS and login. Tunnels are
// counted in all, per peer and per client that the peer names; handshakes have deadlines (INV-11). Browsers are refused.
// Does not guarantee: that the client address is true. The peer says it, and the peer is named with it.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { clientAddressKey } from '../gateway/addresses.ts';
import { keyedCount } from '../gateway/limits.ts';
import type { LogLine } from '../gateway/observer.ts';
import type { Renewal, RenewalProof } from '../gateway/renewal.ts';
import type { ServerTls } from '../protocols/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import { bridge } from './bridge.ts';
import { openSocketPairs } from './pair.ts';
import { answerRenewal } from './renewal.ts';
import {
  RENEW_PATH,
  REPLICA_HEADER,
  SESSION_HEADER,
  TUNNEL_MESSAGE_BYTES,
  TUNNEL_PATH,
  TUNNEL_PROTOCOL,
} from './tunnel-protocol.ts';

export interface TunnelLimits {
  tunnels: number;
  /** Of one client, as its peer names it. */
  tunnelsPerClient: number;
  /** Connections of one peer that are no tunnels yet. */
  openingPerPeer: number;
  /** From TCP to the upgrade's headers, ms. */
  openMs: number;
}

export const DEFAULT_TUNNEL_LIMITS: TunnelLimits = {
  tunnels: 1024,
  tunnelsPerClient: 128,
  openingPerPeer: 64,
  openMs: 5_000,
};

export interface TunnelOptions {
  host: string;
  port: number;
  tls: ServerTls;
  /** This replica's name. */
  replica: string;
  /** Uid of the Connection of this name, if it is served now. */
  find(connection: string): string | undefined;
  /** Takes a socket for the Connection, as `Gateway.accept` does: with the id of its session, or undefined if it closed it. */
  accept(connectionUid: string, socket: Socket, client: { address: string; port: number }): string | undefined;
  /** As `Gateway.renew` does. */
  renew(sessionId: string, proof: RenewalProof, address: string): Promise<Renewal>;
  clock: Clock;
  random: Random;
  log: LogLine;
  limits?: Partial<TunnelLimits>;
}

export interface TunnelServer {
  readonly port: number;
  /** Live tunnels. */
  count(): number;
  /** Uses the certificate that `tls` has now, for new tunnels. */
  certificateChanged(): void;
  /** Takes no more; those that live go on. */
  refuse(): void;
  /** Ends all. */
  close(): Promise<void>;
}

/** Rejects with Node's error if the port can not be had. */
export async function startTunnels(options: TunnelOptions): Promise<TunnelServer> {
  const { clock, log } = options;
  const limits = { ...DEFAULT_TUNNEL_LIMITS, ...options.limits };
  const pairs = await openSocketPairs(clock, options.random);
  const ending = new AbortController();
  const opening = keyedCount();
  const tunnels = keyedCount();
  /** Gives back the place that a connection has while it is no tunnel. */
  const opened = new WeakMap<object, () => void>();
  let refusing = false;

  const web = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: TUNNEL_MESSAGE_BYTES,
    handleProtocols: (offered) => (offered.has(TUNNEL_PROTOCOL) ? TUNNEL_PROTOCOL : false),
  });
  const sessionOf = new WeakMap<IncomingMessage, string>();
  web.on('headers', (headers, request) => {
    headers.push(`${REPLICA_HEADER}: ${options.replica}`);
    const session = sessionOf.get(request);
    if (session !== undefined) headers.push(`${SESSION_HEADER}: ${session}`);
  });
  const server: Server = createServer(
    {
      ...options.tls.current(),
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      handshakeTimeout: limits.openMs,
      headersTimeout: limits.openMs,
      requestTimeout: limits.openMs,
      keepAliveTimeout: 1,
      maxHeaderSize: 16 * 1024,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      if (request.url?.startsWith(RENEW_PATH) === true) return renew(request, response);
      response.writeHead(426, {
        'content-type': 'text/plain; charset=utf-8',
        connection: 'close',
        upgrade: 'websocket',
      });
      response.end('This is the tunnel of a Sallyport proxy: kubectl access connect uses it.\n');
    },
  );
  server.maxConnections = limits.tunnels + 4 * limits.openingPerPeer;

  server.on('connection', (socket: Socket) => {
    const giveBack = opening.take(clientAddressKey(socket.remoteAddress ?? ''), limits.openingPerPeer);
    if (giveBack === undefined) return void socket.destroy();
    const deadline = clock.after(2 * limits.openMs, () => socket.destroy());
    const over = (): void => {
      deadline();
      giveBack();
    };
    opened.set(socket, over);
    socket.once('close', over);
  });
  // TLS puts a socket of its own on top; both ends of the tie are needed.
  server.on('secureConnection', (secure: object) => {
    const under = (secure as { _parent?: object })._parent;
    const over = under === undefined ? undefined : opened.get(under);
    if (over !== undefined) opened.set(secure, over);
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('clientError', (_error, socket) => socket.destroy());

  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => {});
    const verdict = judge(request);
    if (verdict.kind === 'Refused') return refuseUpgrade(socket, verdict);
    const { uid, client, key } = verdict;
    const giveBack = tunnels.take('', limits.tunnels);
    if (giveBack === undefined)
      return refuseUpgrade(socket, { status: 503, message: 'This proxy has as many tunnels as it may.' });
    const giveBackClient = tunnels.take(key, limits.tunnelsPerClient);
    if (giveBackClient === undefined) {
      giveBack();
      return refuseUpgrade(socket, { status: 429, message: 'There are too many tunnels from your address.' });
    }
    const over = (): void => {
      giveBack();
      giveBackClient();
    };
    socket.once('close', over);
    void pairs.make().then(
      ({ inner, outer }) => {
        if (socket.destroyed || refusing) {
          inner.destroy();
          outer.destroy();
          return void socket.destroy();
        }
        // Before the answer, which tells its id; the client says nothing until it has that.
        const session = options.accept(uid, inner, client);
        if (session === undefined) {
          outer.destroy();
          return refuseUpgrade(socket, { status: 503, message: 'This proxy takes no more sessions now; try again.' });
        }
        sessionOf.set(request, session);
        web.handleUpgrade(request, socket, head, (upgraded) => {
          opened.get(socket)?.();
          void bridge(upgraded, outer, clock, ending.signal);
        });
        // What the handshake itself refuses is closed by it.
        socket.once('close', () => {
          if (!inner.destroyed && outer.listenerCount('data') === 0) {
            inner.destroy();
            outer.destroy();
          }
        });
      },
      (error: unknown) => {
        log('error', 'a tunnel could not be opened', { error: String(error) });
        refuseUpgrade(socket, { status: 503, message: 'The tunnel could not be opened; try again.' });
      },
    );
  });

  function renew(request: IncomingMessage, response: ServerResponse): void {
    void answerRenewal(request, response, {
      refusing,
      replica: options.replica,
      renew: (session, proof) => options.renew(session, proof, clientOf(request).address),
    });
  }

  type Verdict =
    | { kind: 'Tunnel'; uid: string; client: { address: string; port: number }; key: string }
    | { kind: 'Refused'; status: number; message: string };

  function judge(request: IncomingMessage): Verdict {
    const refused = (status: number, message: string): Verdict => ({ kind: 'Refused', status, message });
    if (refusing) return refused(503, 'This proxy is shutting down; try again.');
    if (request.method !== 'GET') return refused(405, 'A tunnel begins with GET.');
    // A page in a browser that can reach the API server must not open one behind its user's back.
    if (request.headers.origin !== undefined) return refused(403, 'Tunnels are not for browsers.');
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
    if (!offered.includes(TUNNEL_PROTOCOL)) return refused(400, `This tunnel speaks ${TUNNEL_PROTOCOL}.`);
    // Cheap, and before anything is counted: whoever looks for one replica asks until chance brings it there.
    const wanted = request.headers[REPLICA_HEADER];
    if (wanted !== undefined && wanted !== options.replica) return refused(421, 'This is another replica.');
    const name = nameIn(request.url ?? '');
    const uid = name === undefined ? undefined : options.find(name);
    if (uid === undefined) return refused(404, 'This proxy serves no Connection of that name now.');
    const { address, port, key } = clientOf(request);
    return { kind: 'Tunnel', uid, client: { address, port }, key };
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: options.host, port: options.port }, () => {
      server.off('error', reject);
      server.on('error', (error) => log('error', 'the tunnel listener failed', { error: error.message }));
      resolve();
    });
  });

  return {
    port: (server.address() as { port: number }).port,
    count: () => tunnels.of(''),
    certificateChanged: () => server.setSecureContext({ ...options.tls.current(), minVersion: 'TLSv1.2' }),
    refuse() {
      refusing = true;
      server.close();
    },
    async close() {
      refusing = true;
      ending.abort();
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
        clock.after(3_000, resolve);
      });
      server.closeAllConnections();
      await closed;
      await pairs.close();
    },
  };
}

/** `/connect/<name>`, the name one DNS subdomain; a query is ignored. */
function nameIn(url: string): string | undefined {
  const [path = ''] = url.split('?');
  if (!path.startsWith(TUNNEL_PATH)) return undefined;
  const name = path.slice(TUNNEL_PATH.length);
  return /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/.test(name) ? name : undefined;
}

/**
 * Whose tunnel it is, as far as that is known: the API server appends the address it was called from. Whoever reaches the
 * port directly can claim any, but only beside its own address, which is part of the name and of the key.
 */
function clientOf(request: IncomingMessage): { address: string; port: number; key: string } {
  const peer = request.socket.remoteAddress ?? '';
  const port = request.socket.remotePort ?? 0;
  const chain = String(request.headers['x-forwarded-for'] ?? '').split(',');
  const claimed = chain.at(-1)?.trim() ?? '';
  const peerKey = clientAddressKey(peer);
  if (isIP(claimed) === 0) return { address: `tunnel/${peer}`, port, key: `${peerKey}/` };
  return { address: `tunnel/${claimed}@${peer}`, port, key: `${peerKey}/${clientAddressKey(claimed)}` };
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  421: 'Misdirected Request',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
};

function refuseUpgrade(socket: Duplex, { status, message }: { status: number; message: string }): void {
  const body = `${message}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${REASONS[status] ?? 'Refused'}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  socket.once('finish', () => socket.destroy());
}
