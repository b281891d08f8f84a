// Sockets that take places and do nothing for them.
import net from 'node:net';

export interface IdleSockets {
  /** How many are still open from this side. */
  readonly open: number;
  leave(): void;
}

/** Connects `count` of them, one after the other, from these loopback addresses in turn; each says `words`, and no more. */
export async function idleSockets(
  port: number,
  { from, count, words = '' }: { from: readonly string[]; count: number; words?: string },
): Promise<IdleSockets> {
  const sockets = new Set<net.Socket>();
  for (let at = 0; at < count; at += 1) {
    const socket = net.connect({ port, host: '127.0.0.1', localAddress: from[at % from.length]! });
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve));
    if (words !== '') socket.write(words);
  }
  return {
    get open() {
      return sockets.size;
    },
    leave() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
