// A listener that lets SSH clients log in and answers every exec with one line and success: for tests of authentication with
// real clients. What is behind a login is not tested by it.
import net from 'node:net';
import type { SessionContext } from '../../src/protocols/protocol.ts';
import { authenticateClient, type ClientAuthOptions, type ClientLogin } from '../../src/protocols/ssh/auth/server.ts';
import type { Signer } from '../../src/protocols/ssh/keys/key.ts';
import { openTransport } from '../../src/protocols/ssh/transport/open-transport.ts';
import { readData, writeData } from '../../src/protocols/ssh/wire/data.ts';
import { MSG } from '../../src/protocols/ssh/wire/message-numbers.ts';

export interface SshLoginServer {
  port: number;
  logins: ClientLogin[];
  close(): Promise<void>;
}

export async function startSshLoginServer(
  hostKeys: readonly Signer[],
  context: SessionContext,
  options: ClientAuthOptions = {},
): Promise<SshLoginServer> {
  const sockets = new Set<net.Socket>();
  const logins: ClientLogin[] = [];
  const serve = async (socket: net.Socket): Promise<void> => {
    const signal = context.signal;
    const transport = await openTransport(socket, {
      role: 'Server',
      software: 'Sallyport',
      hostKeys,
      signal,
      handshakeMs: context.limits.handshakeMs,
    });
    const login = await authenticateClient(transport, context, options);
    logins.push(login);
    if (login.kind === 'Gone') return;
    login.handOver({
      onMessage: (payload) => {
        const reader = readData(payload, 1);
        if (payload[0] === MSG.CHANNEL_OPEN) {
          reader.string();
          const id = reader.uint32();
          const window = [{ uint32: 0 }, { uint32: 1024 * 1024 }, { uint32: 32 * 1024 }];
          transport.send(writeData({ byte: MSG.CHANNEL_OPEN_CONFIRMATION }, { uint32: id }, ...window));
        } else if (payload[0] === MSG.CHANNEL_REQUEST) {
          reader.uint32();
          const kind = reader.text();
          const wantsReply = reader.boolean();
          const on = { uint32: 0 };
          if (kind !== 'exec') {
            if (wantsReply) transport.send(writeData({ byte: MSG.CHANNEL_FAILURE }, on));
            return;
          }
          transport.send(writeData({ byte: MSG.CHANNEL_SUCCESS }, on));
          transport.send(writeData({ byte: MSG.CHANNEL_DATA }, on, { string: `in as ${login.user}\n` }));
          const status = [{ string: 'exit-status' }, { boolean: false }, { uint32: 0 }];
          transport.send(writeData({ byte: MSG.CHANNEL_REQUEST }, on, ...status));
          transport.send(writeData({ byte: MSG.CHANNEL_EOF }, on));
          transport.send(writeData({ byte: MSG.CHANNEL_CLOSE }, on));
        }
      },
      onClose: () => undefined,
    });
  };
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    serve(socket).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    logins,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
