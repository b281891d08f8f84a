// Where the browser comes back to: a listener on 127.0.0.1 with a port by chance (RFC 8252, 7.3). Guarantees: exactly one
// request is answered with anything but 404, the one that carries our `state`; then, or at the deadline, the listener is
// gone; the page it shows holds nothing of the request.
import { createHash, timingSafeEqual } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export const LOGIN_DEADLINE_MS = 5 * 60_000;
const CALLBACK_PATH = '/callback';

export interface Loopback {
  redirectUri: string;
  /** The request of the browser; rejects when the deadline passes or the signal fires. */
  answer: Promise<LoopbackAnswer>;
  close(): void;
}
export interface LoopbackAnswer {
  /** With code, state and whatever else the provider sent. */
  url: URL;
  /** Ends the browser's request with a page. */
  tell(outcome: 'Done' | 'Failed'): Promise<void>;
}

export class LoopbackTimeout extends Error {
  override name = 'LoopbackTimeout';
}

export async function openLoopback(
  state: string,
  signal: AbortSignal,
  deadlineMs = LOGIN_DEADLINE_MS,
): Promise<Loopback> {
  let give: (answer: LoopbackAnswer) => void = () => undefined;
  let refuse: (error: Error) => void = () => undefined;
  const answer = new Promise<LoopbackAnswer>((resolve, reject) => {
    give = resolve;
    refuse = reject;
  });
  answer.catch(() => undefined); // told by whoever awaits it
  let taken = false;
  const server = http.createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
    const url = callbackOf(request, origin);
    if (taken || url === undefined || !equal(url.searchParams.get('state') ?? '', state)) {
      response.writeHead(404, { connection: 'close', 'content-length': 0 }).end();
      return;
    }
    taken = true;
    server.close();
    give({ url, tell: (outcome) => show(response, outcome) });
  });
  server.maxConnections = 16;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = (): void => {
    clearTimeout(timer);
    signal.removeEventListener('abort', interrupted);
    server.close();
    server.closeAllConnections();
  };
  const interrupted = (): void => {
    refuse(new Error('Given up.'));
    close();
  };
  const timer = setTimeout(() => {
    refuse(new LoopbackTimeout('nobody came back in time'));
    close();
  }, deadlineMs);
  signal.addEventListener('abort', interrupted, { once: true });
  if (signal.aborted) interrupted();
  return { redirectUri: `${origin}${CALLBACK_PATH}`, answer, close };
}

function callbackOf(request: http.IncomingMessage, origin: string): URL | undefined {
  // Another name for this address is a page of somebody else's (DNS rebinding).
  if (request.method !== 'GET' || `http://${request.headers.host}` !== origin) return undefined;
  if (!URL.canParse(request.url ?? '', origin)) return undefined;
  const url = new URL(request.url ?? '', origin);
  return url.origin === origin && url.pathname === CALLBACK_PATH ? url : undefined;
}

/** Compared by hash: equal length, constant time. */
const equal = (a: string, b: string): boolean =>
  timingSafeEqual(createHash('sha256').update(a).digest(), createHash('sha256').update(b).digest());

const STYLE =
  'body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:18vh auto 0;padding:0 1.5rem;color-scheme:light dark}h1{font-size:1.5rem}';

function show(response: http.ServerResponse, outcome: 'Done' | 'Failed'): Promise<void> {
  const [title, text] =
    outcome === 'Done'
      ? ['You are logged in', 'You can close this page and go back to your terminal.']
      : ['The login failed', 'Your terminal says why. You can close this page.'];
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} – Sallyport</title><style>${STYLE}</style><main><h1>${title}</h1><p>${text}</p></main></html>`;
  return new Promise((resolve) => {
    response.once('close', resolve);
    response.writeHead(outcome === 'Done' ? 200 : 400, {
      'content-type': 'text/html; charset=utf-8',
      'content-length': Buffer.byteLength(page),
      'content-security-policy': `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      connection: 'close',
    });
    response.end(page);
  });
}
