// Pairs of connected sockets within the process: what socketpair(2) would be. TLS runs at full speed only over a socket
// of the kernel's. They meet on an abstract Unix address, which no file system and nobody outside of the pod sees, and
// know each other by a secret; whoever else connects is hung up on.
import { timingSafeEqual } from 'node:crypto';
import { createConnection, createServer, type Socket } from 'node:net';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';

const SECRET_BYTES = 32;
const MEET_MS = 2_000;

export interface SocketPairs {
  /** `inner` behaves as an accepted socket; `outer` allows half-open. Rejects if they do not meet in time. */
  make(): Promise<{ inner: Socket; outer: Socket }>;
  close(): Promise<void>;
}

export async function openSocketPairs(clock: Clock, random: Random): Promise<SocketPairs> {
  const waiting = new Set<{ secret: Buffer; met(inner: Socket): void }>();
  const address = `\0sallyport-${random.bytes(16).toString('hex')}`;

  const server = createServer((socket) => {
    const hangUp = clock.after(MEET_MS, () => socket.destroy());
    const drop = (): void => void socket.destroy();
    socket.on('error', drop);
    const look = (): void => {
      const secret = socket.read(SECRET_BYTES) as Buffer | null;
      if (secret === null) return;
      socket.off('readable', look);
      socket.off('error', drop);
      hangUp();
      for (const each of waiting) {
        if (secret.length === SECRET_BYTES && timingSafeEqual(secret, each.secret)) return each.met(socket);
      }
      socket.destroy();
    };
    socket.on('readable', look);
  });
  server.maxConnections = 4096;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });

  return {
    make: () =>
      new Promise((resolve, reject) => {
        const secret = random.bytes(SECRET_BYTES);
        const outer = createConnection({ path: address, allowHalfOpen: true });
        const fail = (error: Error): void => {
          waiting.delete(entry);
          cancel();
          outer.destroy();
          reject(error);
        };
        const entry = {
          secret,
          met(inner: Socket) {
            waiting.delete(entry);
            cancel();
            outer.off('error', fail);
            resolve({ inner, outer });
          },
        };
        const cancel = clock.after(MEET_MS, () => fail(new Error('the two ends of a pair did not meet')));
        outer.once('error', fail);
        waiting.add(entry);
        outer.write(secret);
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        setImmediate(resolve); // live pairs are their owners' business
      }),
  };
}
