// Somebody between gateway and database who holds a certificate: ends TLS on both legs, sees every byte, may change the
// server's. With the server's own certificate it stands in for the server; with another it is the man in the middle.
import net from 'node:net';
import tls from 'node:tls';
import { SSL_REQUEST } from '../../src/protocols/postgres/wire/messages.ts';

export interface TlsRelay {
  port: number;
  /** What clients sent inside TLS, all connections together. */
  sent(): string;
  close(): Promise<void>;
}

export async function startTlsRelay(options: {
  /** Of the server behind; absent: whatever is sent stays unanswered. */
  target?: { port: number; ca: string };
  material: { key: string; cert: string };
  /** Changes a chunk of the server's before it is passed on. */
  change?: (chunk: Buffer) => Buffer;
}): Promise<TlsRelay> {
  const seen: Buffer[] = [];
  const sockets = new Set<net.Socket>();
  const keep = (socket: net.Socket): void => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  const server = net.createServer((client) => {
    keep(client);
    client.once('data', () => {
      client.write('S');
      const inside = new tls.TLSSocket(client, {
        isServer: true,
        secureContext: tls.createSecureContext(options.material),
        ALPNProtocols: ['postgresql'],
      });
      keep(inside);
      const early: Buffer[] = [];
      let onward: tls.TLSSocket | undefined;
      inside.on('data', (chunk: Buffer) => {
        seen.push(chunk);
        if (onward === undefined) early.push(chunk);
        else onward.write(chunk);
      });
      if (options.target === undefined) return;
      const { port, ca } = options.target;
      const raw = net.connect(port, '127.0.0.1', () => raw.write(SSL_REQUEST));
      keep(raw);
      raw.once('data', () => {
        const secure = tls.connect({ socket: raw, ca, host: 'localhost', ALPNProtocols: ['postgresql'] }, () => {
          onward = secure;
          for (const chunk of early) secure.write(chunk);
        });
        keep(secure);
        secure.on('data', (chunk: Buffer) => inside.write(options.change?.(chunk) ?? chunk));
        secure.on('close', () => inside.destroy());
        inside.on('close', () => secure.destroy());
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    sent: () => Buffer.concat(seen).toString('latin1'),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
