// A listener on loopback for clients that keep a DSN: IDEs, pools, laptops that sleep. Each socket asks for a local
// secret and then logs in at the gateway with a ticket made for it, over TLS that is verified. It speaks no more
// PostgreSQL than the start of a session; from then on bytes are passed on as they are.
// Guarantees: nothing reaches the gateway before the local secret was shown; the ticket never reaches the client;
// handshakes have a deadline and sockets are bounded. It decides nothing: that is the gateway's.
import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { sha256Hex } from '../../api/canonical.ts';
import { BACKEND, errorResponse, FRONTEND, message, SSL_REQUEST, startupMessage } from './wire/messages.ts';

export interface LocalListenerOptions {
  /** 0: any free port. */
  port: number;
  secret: string;
  /** `host` is whose certificate must be shown; `address`, if given, is where to dial: the near end of a tunnel. */
  gateway: { host: string; port: number; caPem: string; address?: string };
  account: string;
  /** A ticket for one login. Rejects with a message for the client. */
  ticket(): Promise<string>;
  onProblem(message: string): void;
  signal: AbortSignal;
}

export interface LocalListener {
  port: number;
  /** Resolves when it is closed and every socket gone. */
  closed: Promise<void>;
}

const HANDSHAKE_MS = 15_000;
const MOST_SOCKETS = 256;
const LARGEST_STARTUP = 10_000;
const SSL_CODE = 80877103;
const GSS_CODE = 80877104;
const CANCEL_CODE = 80877102;

export async function openLocalListener(options: LocalListenerOptions): Promise<LocalListener> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    serve(socket, options).catch((error: unknown) => {
      const text = error instanceof Error ? error.message : String(error);
      options.onProblem(text);
      if (socket.writable) socket.end(fatal('08006', text));
      socket.destroySoon();
    });
  });
  server.maxConnections = MOST_SOCKETS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, '127.0.0.1', resolve);
  });
  const closed = new Promise<void>((resolve) => server.once('close', () => resolve()));
  const stop = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  if (options.signal.aborted) stop();
  else options.signal.addEventListener('abort', stop, { once: true });
  return { port: (server.address() as net.AddressInfo).port, closed };
}

const fatal = (code: string, text: string): Buffer =>
  errorResponse({ S: 'FATAL', V: 'FATAL', C: code, M: `Sallyport: ${text}` });

async function serve(client: net.Socket, options: LocalListenerOptions): Promise<void> {
  const deadline = setTimeout(() => client.destroy(new Error('the handshake took too long')), HANDSHAKE_MS);
  try {
    const input = reader(client);
    for (;;) {
      const size = (await input.take(4)).readInt32BE(0);
      if (size < 8 || size > LARGEST_STARTUP) return void client.destroy();
      const body = await input.take(size - 4);
      const code = body.readInt32BE(0);
      if (code === SSL_CODE || code === GSS_CODE) {
        client.write('N'); // loopback: there is nobody in between
        continue;
      }
      if (code === CANCEL_CODE) {
        const upstream = await dial(options);
        const length = Buffer.alloc(4);
        length.writeInt32BE(size);
        upstream.end(Buffer.concat([length, body]));
        upstream.once('close', () => client.destroy());
        return;
      }
      client.write(message(BACKEND.Authentication, Buffer.from([0, 0, 0, 3])));
      const head = await input.take(5);
      const length = head.readInt32BE(1) - 4;
      if (head[0] !== FRONTEND.Password || length < 1 || length > LARGEST_STARTUP) return void client.destroy();
      const secret = (await input.take(length)).subarray(0, -1).toString('utf8');
      if (!equal(secret, options.secret)) {
        options.onProblem('a client on this machine showed a wrong password');
        client.end(fatal('28P01', 'this is not the password that was printed with the DSN'));
        return;
      }
      const upstream = await dial(options);
      client.once('close', () => upstream.destroy());
      upstream.once('close', () => client.destroySoon());
      upstream.on('error', () => upstream.destroy());
      upstream.write(startupMessage(withAccount(body, options.account), code));
      const answers = reader(upstream);
      const first = await answers.take(5);
      const rest = await answers.take(first.readInt32BE(1) - 4);
      if (first[0] === BACKEND.Authentication && rest.readInt32BE(0) === 3) {
        upstream.write(message(FRONTEND.Password, await options.ticket()));
      } else {
        client.write(Buffer.concat([first, rest])); // a refusal, or a version to negotiate: the client's to read
      }
      answers.release(client);
      input.release(upstream);
      return;
    }
  } finally {
    clearTimeout(deadline);
  }
}

/** Compared by hash: equal length, constant time. */
const equal = (a: string, b: string): boolean => timingSafeEqual(Buffer.from(sha256Hex(a)), Buffer.from(sha256Hex(b)));

/** Startup parameters with the account in place of whatever user the client named. */
function withAccount(body: Buffer, account: string): Record<string, string> {
  const words = body.subarray(4).toString('utf8').split('\0');
  const parameters: Record<string, string> = {};
  for (let index = 0; index + 1 < words.length && words[index] !== ''; index += 2) {
    parameters[words[index]!] = words[index + 1]!;
  }
  return { ...parameters, user: account };
}

async function dial(options: LocalListenerOptions): Promise<tls.TLSSocket> {
  const { host, port, caPem, address = host } = options.gateway;
  const socket = net.connect({ host: address, port, noDelay: true });
  await once(socket, 'connect');
  socket.write(SSL_REQUEST);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  // More than one byte before TLS would be somebody else's.
  if (answer.length !== 1 || answer[0] !== 0x53) {
    socket.destroy();
    throw new Error('the gateway offered no TLS');
  }
  const secure = tls.connect({ socket, ca: caPem, host, ...(net.isIP(host) === 0 ? { servername: host } : {}) });
  await once(secure, 'secureConnect');
  return secure;
}

function once(socket: net.Socket, event: string): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      socket.off(event, good);
      socket.off('error', bad);
      socket.off('close', gone);
      act();
    };
    const good = (...values: unknown[]): void => settle(() => resolve(values));
    const bad = (error: Error): void =>
      settle(() => reject(new Error(`the gateway can not be reached: ${error.message}`)));
    const gone = (): void => settle(() => reject(new Error('the gateway closed the connection')));
    const timer = setTimeout(() => {
      bad(new Error('timed out'));
      socket.destroy();
    }, HANDSHAKE_MS);
    socket.on(event, good);
    socket.on('error', bad);
    socket.on('close', gone);
  });
}

interface Reader {
  take(length: number): Promise<Buffer>;
  /** Passes what was read too far, and everything that follows, to `to`. */
  release(to: net.Socket): void;
}

/** Reads exact lengths from a socket; pulls, so what nobody asked for stays in the kernel. */
function reader(socket: net.Socket): Reader {
  const pull = (length: number): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const attempt = (): void => {
        const bytes = socket.read(length) as Buffer | null;
        if (bytes === null) return;
        if (bytes.length < length) return stop(new Error('the connection ended during the handshake'));
        clean();
        resolve(bytes);
      };
      const stop = (error?: Error): void => {
        clean();
        reject(error ?? new Error('the connection ended during the handshake'));
      };
      const ended = (): void => stop();
      const clean = (): void => {
        socket.off('readable', attempt);
        socket.off('end', ended);
        socket.off('close', ended);
        socket.off('error', stop);
      };
      socket.on('readable', attempt);
      socket.on('end', ended);
      socket.on('close', ended);
      socket.on('error', stop);
      attempt();
    });
  return {
    take: async (length) => (length === 0 ? Buffer.alloc(0) : pull(length)),
    release: (to) => void socket.pipe(to),
  };
}
