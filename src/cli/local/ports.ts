// Which loopback port each Connection gets: the one its exposure names, else the one it had last time, so that a DSN in
// somebody's IDE still works tomorrow.
import net from 'node:net';
import { type Files, writeFileAtomically } from '../../system/files.ts';

export interface PortBook {
  /** 0: any; then `remember` what it became. Answers alike while the process lives, so that no listener is moved. */
  portFor(connection: { uid: string; namespace: string; name: string }, wanted: number | undefined): number;
  remember(connection: { namespace: string; name: string }, port: number): void;
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ host: '127.0.0.1', port }, () => server.close(() => resolve(true)));
  });

/** Ports that somebody else holds by now are forgotten. */
export async function openPortBook(files: Files, path: string): Promise<PortBook> {
  const known = new Map<string, number>();
  if (files.existsSync(path)) {
    try {
      const stored = JSON.parse(files.readFileSync(path).toString('utf8')) as Record<string, unknown>;
      for (const [key, port] of Object.entries(stored)) {
        if (typeof port === 'number' && port > 0 && port < 65_536 && (await isFree(port))) known.set(key, port);
      }
    } catch {
      // Not readable: only a convenience is lost.
    }
  }
  const given = new Map<string, number>();
  return {
    portFor(connection, wanted) {
      if (wanted !== undefined) return wanted;
      const answered = given.get(connection.uid);
      if (answered !== undefined) return answered;
      const port = known.get(`${connection.namespace}/${connection.name}`) ?? 0;
      given.set(connection.uid, port);
      return port;
    },
    remember({ namespace, name }, port) {
      const key = `${namespace}/${name}`;
      if (known.get(key) === port) return;
      known.set(key, port);
      try {
        writeFileAtomically(files, path, Buffer.from(`${JSON.stringify(Object.fromEntries(known), null, 2)}\n`));
      } catch {
        // Another port tomorrow, if the disk stays full: no reason to stop today.
      }
    },
  };
}
