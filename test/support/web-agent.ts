// A browser without a screen: keeps cookies, follows redirects within one origin, fills in the first form of a page.
// Tests use it to log in where a person would. It runs no script and checks no cookie attribute but the name and path.
import https from 'node:https';

export interface Page {
  url: URL;
  status: number;
  body: string;
  /** Where the server sent the browser, if that is outside the origins the agent follows. */
  location: URL | undefined;
}

export interface WebAgent {
  get(url: string | URL): Promise<Page>;
  post(url: string | URL, fields: Record<string, string>): Promise<Page>;
  /** Sends the first form of a page with its hidden fields and these. */
  submit(page: Page, fields?: Record<string, string>): Promise<Page>;
  /** The cookies of a host, `name=value`. */
  cookies(host: string): string[];
  /** Drops the cookies of a host. */
  forget(host: string): void;
}

const MAX_REDIRECTS = 20;
const DEADLINE_MS = 10_000;

const unescape = (text: string): string =>
  text
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
const attribute = (tag: string, name: string): string | undefined => {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1];
  return value === undefined ? undefined : unescape(value);
};

/** Where a form goes and what it carries already. Undefined where the page has none. */
export function formOf(page: Page): { action: URL; fields: Record<string, string> } | undefined {
  const form = /<form\b[^>]*>/.exec(page.body);
  if (form === null) return undefined;
  const fields: Record<string, string> = {};
  for (const [tag] of page.body.slice(form.index).matchAll(/<input\b[^>]*>/g)) {
    const name = attribute(tag, 'name');
    if (name !== undefined) fields[name] = attribute(tag, 'value') ?? '';
  }
  return { action: new URL(attribute(form[0], 'action') ?? '', page.url), fields };
}

/** `follow` names the origins whose redirects are followed; the first page's own is always among them. */
export function webAgent(ca: string, follow: readonly string[] = []): WebAgent {
  /** By host; a cookie is its name and path (RFC 6265, 5.3). */
  const jar = new Map<string, Map<string, { name: string; value: string; path: string }>>();
  const cookiesFor = (url: URL): string =>
    [...(jar.get(url.host) ?? [])]
      .filter(([, { path }]) => url.pathname.startsWith(path))
      .map(([, { name, value }]) => `${name}=${value}`)
      .join('; ');
  const remember = (url: URL, lines: readonly string[]): void => {
    const cookies = jar.get(url.host) ?? new Map<string, { name: string; value: string; path: string }>();
    jar.set(url.host, cookies);
    for (const line of lines) {
      const [pair = '', ...attributes] = line.split(/;\s*/);
      const at = pair.indexOf('=');
      const path = attributes.find((each) => /^path=/i.test(each))?.slice(5) ?? '/';
      const gone = attributes.some((each) => /^(expires=.*1970|max-age=0$)/i.test(each));
      const name = pair.slice(0, at);
      const key = `${name};${path}`;
      if (gone) cookies.delete(key);
      else cookies.set(key, { name, value: pair.slice(at + 1), path });
    }
  };
  const once = (
    url: URL,
    method: string,
    body: string | undefined,
  ): Promise<{ status: number; location: string | undefined; body: string }> =>
    new Promise((resolve, reject) => {
      const request = https.request(
        url,
        {
          method,
          ca,
          headers: {
            accept: body === undefined ? 'text/html,*/*' : 'application/json,text/html;q=0.9',
            cookie: cookiesFor(url),
            ...(body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded', origin: url.origin }),
          },
          signal: AbortSignal.timeout(DEADLINE_MS),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            remember(url, response.headers['set-cookie'] ?? []);
            const { statusCode = 0, headers } = response;
            resolve({ status: statusCode, location: headers.location, body: Buffer.concat(chunks).toString() });
          });
        },
      );
      request.on('error', reject);
      request.end(body);
    });

  const go = async (start: URL, method: string, fields?: Record<string, string>): Promise<Page> => {
    let url = start;
    let verb = method;
    let body = fields === undefined ? undefined : new URLSearchParams(fields).toString();
    for (let hop = 0; hop < MAX_REDIRECTS; hop++) {
      const answer = await once(url, verb, body);
      if (answer.location === undefined || answer.status < 300 || answer.status >= 400)
        return { url, status: answer.status, body: answer.body, location: undefined };
      const next = new URL(answer.location, url);
      if (next.origin !== start.origin && !follow.includes(next.origin))
        return { url, status: answer.status, body: answer.body, location: next };
      if (answer.status !== 307 && answer.status !== 308) {
        verb = 'GET';
        body = undefined;
      }
      url = next;
    }
    throw new Error(`more than ${MAX_REDIRECTS} redirects from ${start.href}`);
  };
  return {
    get: (url) => go(new URL(url), 'GET'),
    post: (url, fields) => go(new URL(url), 'POST', fields),
    submit(page, fields = {}) {
      const form = formOf(page);
      if (form === undefined)
        throw new Error(`no form at ${page.url.href} (${page.status}): ${page.body.slice(0, 300)}`);
      return go(form.action, 'POST', { ...form.fields, ...fields });
    },
    forget: (host) => void jar.delete(host),
    cookies: (host) => [...(jar.get(host) ?? [])].map(([, { name, value }]) => `${name}=${value}`),
  };
}
