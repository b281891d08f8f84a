// One exchange over a socket, for what echoes or answers and then ends.
import net from 'node:net';

/** Everything that comes back for `data`, to the end. Rejects where the socket fails. */
export function talk(to: { port: number; host: string } | { path: string }, data: Buffer | string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...to, allowHalfOpen: true });
    const got: Buffer[] = [];
    socket.on('data', (piece: Buffer) => got.push(piece));
    socket.on('end', () => {
      socket.destroy();
      resolve(Buffer.concat(got));
    });
    socket.on('error', reject);
    socket.end(data);
  });
}
