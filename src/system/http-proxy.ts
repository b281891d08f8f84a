// The HTTP proxy that the environment names for what goes out of a network: HTTPS_PROXY and NO_PROXY, upper or lower case,
// as curl and Go read them. Guarantees of a tunnel: TLS to the other end goes through it untouched, so whoever runs the
// proxy sees a name and no content; it is open by the deadline of its signal or not at all; what the proxy answers is
// bounded. Does not judge where a tunnel leads.
import net, { isIP } from 'node:net';
import tls from 'node:tls';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Through which proxy `url` is to be reached; undefined: through none. Throws TypeError where it is no http proxy. */
export function proxyOf(url: URL, env: Environment): URL | undefined {
  const text = isBypassed(url, env) ? undefined : env['HTTPS_PROXY'] || env['https_proxy'];
  if (!text) return undefined;
  // `proxy.example:3128` is what people write as well; its scheme is http then.
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(full) || !/^https?:$/.test(new URL(full).protocol)) {
    throw new TypeError('HTTPS_PROXY is the address of no http or https proxy');
  }
  return new URL(full);
}

/** Whether NO_PROXY names the host, its domain, its IPv4 range or port, or it is this machine. */
export function isBypassed(url: URL, env: Environment): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  // As Go does: what is on this machine is never reached through a proxy.
  if (host === 'localhost' || host === '::1' || host.startsWith('127.')) return true;
  return (env['NO_PROXY'] || env['no_proxy'] || '')
    .split(',')
    .map((each) => each.trim())
    .some((each) => {
      if (each === '') return false;
      if (each === '*') return true;
      const [name = '', port] = /^[^:]*(:\d+)?$/.test(each) ? each.split(':') : [each];
      if (port !== undefined && port !== (url.port || '443')) return false;
      const bare = name.replace(/^\*?\./, '');
      return host === bare || (host.endsWith(`.${bare}`) && !/^[\d.]+$/.test(host)) || inRange(host, name);
    });
}

/** IPv4 ranges, `10.0.0.0/8`: what NO_PROXY has for clusters. */
function inRange(host: string, range: string): boolean {
  const [base, bits] = range.split('/');
  if (base === undefined || bits === undefined || !/^\d+$/.test(bits)) return false;
  const a = ipv4(host);
  const b = ipv4(base);
  if (a === undefined || b === undefined) return false;
  const size = 2 ** (32 - Math.min(32, Number(bits)));
  return Math.floor(a / size) === Math.floor(b / size);
}

function ipv4(address: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number);
  return parts?.reduce((sum, part) => sum * 256 + part, 0);
}

const LARGEST_ANSWER = 16_384;
const PROXY_PORT = { 'http:': 80, 'https:': 443 } as const;

/** A connection to `target` through the proxy (RFC 9110, 9.3.6), paused: nothing of it is lost before it is read. Rejects with a sentence; no credential is in it. */
export function connectThrough(
  proxy: URL,
  target: { host: string; port: number },
  signal: AbortSignal,
): Promise<net.Socket> {
  const where = { host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port) || portOf(proxy) };
  const authority = `${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
  const who = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const head = [
    `CONNECT ${authority} HTTP/1.1`,
    `Host: ${authority}`,
    ...(who === ':' ? [] : [`Proxy-Authorization: Basic ${Buffer.from(who).toString('base64')}`]),
  ];
  return new Promise((resolve, reject) => {
    if (/[\s/@]/.test(authority)) return reject(new TypeError(`${JSON.stringify(target.host)} is no host`));
    const socket =
      proxy.protocol === 'https:'
        ? tls.connect({ ...where, ...(isIP(where.host) === 0 ? { servername: where.host } : {}) })
        : net.connect(where);
    let answer = Buffer.alloc(0);
    const finish = (): void => {
      signal.removeEventListener('abort', abort);
      for (const event of ['data', 'error', 'close', 'connect', 'secureConnect']) socket.removeAllListeners(event);
    };
    const fail = (error: Error): void => {
      finish();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const abort = (): void => fail(signal.reason as Error);
    const unreached = (why: string): Error => new Error(`the proxy ${proxy.host} can not be reached: ${why}`);
    socket.once('error', (error: NodeJS.ErrnoException) => fail(unreached(error.code ?? error.message)));
    socket.once('close', () => fail(unreached('it closed the connection')));
    socket.once(proxy.protocol === 'https:' ? 'secureConnect' : 'connect', () =>
      socket.write(`${head.join('\r\n')}\r\n\r\n`),
    );
    socket.on('data', (bytes: Buffer) => {
      answer = Buffer.concat([answer, bytes]);
      const end = answer.indexOf('\r\n\r\n');
      if (end === -1 && answer.length <= LARGEST_ANSWER) return;
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(answer.subarray(0, 15).toString('latin1'))?.[1];
      // Whoever answers more than its head before it was asked anything is no tunnel.
      if (end === -1 || status === undefined || (status === '200' && answer.length > end + 4)) {
        return fail(new Error(`the proxy ${proxy.host} answers nothing that is HTTP`));
      }
      if (status !== '200') return fail(new Error(`the proxy ${proxy.host} refuses ${authority} (${status})`));
      finish();
      socket.pause();
      resolve(socket);
    });
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

const portOf = (url: URL): number => PROXY_PORT[url.protocol as keyof typeof PROXY_PORT];
