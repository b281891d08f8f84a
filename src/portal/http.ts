// HTTP for the portal: what of a request is believed, and what every answer says to browsers. Guarantees: bodies are
// bounded in bytes, fields and time; a form counts only from this very site; every answer forbids scripts, frames and
// forms but its own; cookies are read strictly (a name twice is none).
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { HttpError } from '../system/http-error.ts';
import type { Markup } from './html.ts';

/** `__Host-`: the browser takes it only with Secure, for this host alone and for every path. */
export const COOKIE = '__Host-sallyport';
export const FORM_BYTES = 64 * 1024;
const MOST_FIELDS = 64;

export function cookieOf(request: IncomingMessage): string | undefined {
  const found: string[] = [];
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [name, ...value] = part.trim().split('=');
    if (name === COOKIE) found.push(value.join('='));
  }
  return found.length === 1 && /^[A-Za-z0-9_-]{43}$/.test(found[0]!) ? found[0] : undefined;
}

export function setCookie(response: ServerResponse, id: string): void {
  response.setHeader('set-cookie', `${COOKIE}=${id}; Path=/; Secure; HttpOnly; SameSite=Lax`);
}
export function clearCookie(response: ServerResponse): void {
  response.setHeader('set-cookie', `${COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0`);
}

export interface Site {
  /** `https://access.corp.example`, as browsers write it in Origin. */
  origin: string;
  host: string;
  /** More origins that a login leads through. */
  loginOrigins: readonly string[];
}

export function policyHeaders(site: Site, loginOrigin: string | undefined): Record<string, string> {
  const actions = [...new Set([...(loginOrigin === undefined ? [] : [loginOrigin]), ...site.loginOrigins])];
  return {
    'content-security-policy': [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self'",
      "connect-src 'self'",
      // Chrome follows the redirects of a form's answer, and an act's leads to the provider.
      ["form-action 'self'", ...actions].join(' '),
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    'x-frame-options': 'DENY',
    'x-content-type-options': 'nosniff',
    // `no-referrer` would make the Origin of our own forms `null`.
    'referrer-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'permissions-policy': 'camera=(), geolocation=(), microphone=()',
    ...(site.origin.startsWith('https:') ? { 'strict-transport-security': 'max-age=31536000' } : {}),
  };
}

export function sendPage(response: ServerResponse, status: number, page: Markup): void {
  const body = Buffer.from(page.text);
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-length': body.length,
  });
  response.end(body);
}

export function redirect(response: ServerResponse, to: string): void {
  response.writeHead(303, { location: to, 'cache-control': 'no-store', 'content-length': 0 });
  response.end();
}

export async function readBody(request: IncomingMessage, most: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > most) throw new HttpError(413, `The request is larger than ${most / 1024} KiB.`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The fields of a form of this page, once it is proven to be one. */
export async function readForm(
  request: IncomingMessage,
  site: Site,
  csrf: string,
): Promise<ReadonlyMap<string, string>> {
  if (request.headers.origin !== site.origin) {
    throw new HttpError(403, 'This form did not come from this page.', 'Open the page again and repeat it there.');
  }
  if (!/^application\/x-www-form-urlencoded(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new HttpError(415, 'This is no form.');
  }
  const fields = new Map<string, string>();
  const given = new URLSearchParams((await readBody(request, FORM_BYTES)).toString('utf8'));
  for (const [name, value] of given) {
    if (fields.has(name) || fields.size >= MOST_FIELDS)
      throw new HttpError(400, 'The form has fields it can not have.');
    // Browsers send CRLF for a line's end.
    fields.set(name, value.replaceAll('\r\n', '\n'));
  }
  if (!sameText(fields.get('csrf') ?? '', csrf)) {
    throw new HttpError(403, 'This form is out of date.', 'Open the page again and repeat it there.');
  }
  return fields;
}

export function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** A path of this site to go to after a login; anything else becomes the start page. */
export function localPath(text: string | null | undefined, origin: string): string {
  if (text === null || text === undefined || text.length > 512 || !/^\/(?![/\\])[\x21-\x7e]*$/.test(text)) return '/';
  if (text.includes('\\')) return '/';
  try {
    const url = new URL(text, origin);
    const path = `${url.pathname}${url.search}`;
    // Looked at again as it will be sent: `/..//host` is a path that becomes another site by being normalised.
    return url.origin === origin && !path.startsWith('//') ? path : '/';
  } catch {
    return '/';
  }
}
