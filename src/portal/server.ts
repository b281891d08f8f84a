// The portal's HTTP server. Guarantees: no answer without its security headers; nothing is shown to whom is not logged in;
// forms count only from this site and with the session's own token; memory, bodies, connections and streams are bounded;
// what goes wrong inside is told by an id that stands in the log, never by its cause.
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { lackOf } from '../identity/oidc/describe-fault.ts';
import { HttpError } from '../system/http-error.ts';
import { ASSETS } from './assets.ts';
import { addNote, type BrowserSession } from './browser-sessions.ts';
import { streamEvents } from './events.ts';
import { clearCookie, cookieOf, localPath, policyHeaders, readForm, redirect, sendPage, setCookie } from './http.ts';
import { errorPage, loginPage } from './pages/layout.ts';
import type { Portal } from './portal.ts';
import { arrive, beginLogin } from './round-trip.ts';
import { showPage, takeForm } from './routes.ts';

const REQUEST_MS = 30_000;
const MOST_CONNECTIONS = 2_048;

export interface PortalServer {
  port: number;
  /** New material for connections from now on. */
  setTls(tls: { cert: string; key: string }): void;
  close(): Promise<void>;
}

export interface ServeOptions {
  host: string;
  port: number;
  /** PEM; undefined: plain HTTP, for loopback. */
  tls: { cert: string; key: string } | undefined;
  /** The JSON API for jobs; answers whether it took the request. */
  api?: (request: IncomingMessage, response: ServerResponse, path: string) => Promise<boolean>;
}

export async function servePortal(portal: Portal, options: ServeOptions): Promise<PortalServer> {
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    answer(portal, options, request, response).catch((error: unknown) => {
      tell(portal, request, response, error);
    });
  };
  const limits = { requestTimeout: REQUEST_MS, headersTimeout: 10_000, maxHeaderSize: 16_384 };
  const secure =
    options.tls === undefined
      ? undefined
      : https.createServer({ ...limits, ...options.tls, minVersion: 'TLSv1.2' }, handle);
  const server = secure ?? http.createServer(limits, handle);
  server.maxConnections = MOST_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    setTls: (tls) => secure?.setSecureContext({ ...tls, minVersion: 'TLSv1.2' }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  portal: Portal,
  options: ServeOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { site, sessions } = portal;
  const method = request.method ?? '';
  const url = readUrl(request, site.origin);
  const path = url?.pathname ?? '';
  if (path === '/healthz' || path === '/readyz') {
    const trouble = path === '/readyz' ? portal.world.trouble() : undefined;
    response.writeHead(trouble === undefined ? 200 : 503, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(trouble ?? 'ok');
    return;
  }
  const loginOrigin = await portal.login.origin().catch(() => undefined);
  for (const [name, value] of Object.entries(policyHeaders(site, loginOrigin))) response.setHeader(name, value);
  // A name that leads here but is not ours is somebody else's page by DNS.
  if (url === undefined || request.headers.host !== site.host) {
    throw new HttpError(421, 'This address does not serve that name.', `Open ${site.origin}/`);
  }
  if (options.api !== undefined && (await options.api(request, response, path))) return;
  const asset = ASSETS.get(path);
  if (asset !== undefined) {
    if (method !== 'GET' && method !== 'HEAD') throw new HttpError(405, 'This is only read.');
    const known = request.headers['if-none-match'] === asset.etag;
    response.writeHead(known ? 304 : 200, {
      ...(known ? {} : { 'content-type': asset.type, 'content-length': asset.body.length }),
      etag: asset.etag,
      'cache-control': 'no-cache',
    });
    response.end(known ? undefined : asset.body);
    return;
  }
  const cookie = cookieOf(request);
  const isLive = request.headers['x-live'] === '1' || path === '/events';
  const session = sessions.find(cookie, !isLive);
  if (method === 'GET') return get({ portal, request, response, url, cookie, session, isLive });
  if (method !== 'POST') throw new HttpError(405, 'This page knows GET and POST.');
  if (session === undefined) {
    request.resume();
    throw new HttpError(401, 'You are not logged in any more.', 'Log in and repeat it. Nothing was done.');
  }
  const fields = await readForm(request, site, session.csrf);
  if (path === '/logout') {
    sessions.end(cookie);
    clearCookie(response);
    return sendPage(
      response,
      200,
      loginPage('/', [{ tone: 'plain', text: 'You are logged out here. Your identity provider may still know you.' }]),
    );
  }
  const outcome = await takeForm(portal, session, path, fields);
  if (outcome === undefined) throw new HttpError(404, 'There is no such page.');
  return outcome.kind === 'Go' ? redirect(response, outcome.to.href) : sendPage(response, outcome.status, outcome.page);
}

async function get(asked: {
  portal: Portal;
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  cookie: string | undefined;
  session: BrowserSession | undefined;
  isLive: boolean;
}): Promise<void> {
  const { portal, request, response, url, cookie, session, isLive } = asked;
  const { sessions, site } = portal;
  const path = url.pathname;
  if (path === '/login') {
    const returnTo = localPath(url.searchParams.get('return'), site.origin);
    if (session !== undefined) return redirect(response, returnTo);
    const known = sessions.visitor(cookie);
    const { id, visitor } = known === undefined ? sessions.welcome() : { id: cookie!, visitor: known };
    const to = await beginLogin(portal, visitor, returnTo);
    setCookie(response, id);
    return redirect(response, to.href);
  }
  if (path === '/callback') {
    const arrival = await arrive(portal, url, { session, visitor: sessions.visitor(cookie) });
    if (arrival.kind === 'Onward') return redirect(response, arrival.url.href);
    if (arrival.kind === 'LoggedIn') {
      // A new id: one that somebody planted in this browser stays worthless.
      const begun = sessions.begin(cookie, { ...arrival.token.principal, provider: arrival.token.provider });
      setCookie(response, begun.id);
      const lack = lackOf(arrival.token);
      if (lack !== undefined) addNote(begun.session, { tone: 'plain', text: lack });
      portal.log('info', 'somebody logged in', {
        user: arrival.token.principal.username,
        ...(lack === undefined ? {} : { lack }),
      });
    }
    return redirect(response, arrival.returnTo);
  }
  if (session === undefined) {
    // Known and unknown pages alike.
    return sendPage(response, 401, loginPage(localPath(`${url.pathname}${url.search}`, site.origin), []));
  }
  if (path === '/events') return streamEvents(portal, session, request, response);
  const notes = isLive ? session.notes.splice(0) : [];
  const shown = await showPage(portal, session, path);
  // A look by the script shows no notes: they are for the next page that is opened.
  session.notes.push(...notes);
  if (shown === undefined) throw new HttpError(404, 'There is nothing here, or nothing that concerns you.');
  return sendPage(response, 200, shown);
}

function readUrl(request: IncomingMessage, origin: string): URL | undefined {
  const target = request.url ?? '';
  // Origin form only: `//host` and absolute forms name other places.
  if (!target.startsWith('/') || target.startsWith('//') || target.length > 8_192) return undefined;
  try {
    return new URL(target, origin);
  } catch {
    return undefined;
  }
}

function tell(portal: Portal, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (!request.complete) response.setHeader('connection', 'close');
  const session = portal.sessions.find(cookieOf(request), false);
  if (error instanceof HttpError) {
    return sendPage(response, error.status, errorPage(error.status, error.message, { hint: error.hint, session }));
  }
  const id = portal.random.bytes(4).toString('hex');
  portal.log('error', 'a request failed', { id, error: error instanceof Error ? error.message : String(error) });
  sendPage(
    response,
    500,
    errorPage(500, 'Sallyport can not answer this now.', {
      hint: `An administrator finds the cause in the portal’s log under ${id}.`,
      session,
    }),
  );
}
