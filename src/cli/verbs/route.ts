// The way from here to the gateway of a Connection: straight to where it listens, or through a tunnel by the API server.
import { lookup } from 'node:dns/promises';
import type { Connection } from '../../api/connection.ts';
import type { ClientTarget } from '../clients/postgres.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../io.ts';
import { line } from '../render.ts';

export interface RouteOptions {
  /** Through the API server, whatever the Connection's exposure is. */
  tunnel?: boolean;
  /** Straight to the Connection's endpoint. */
  direct?: boolean;
}

export interface Route extends AsyncDisposable {
  to: Pick<ClientTarget, 'host' | 'port' | 'address'>;
  /** Ids of the sessions that go this way now; undefined: it does not know them. */
  sessions?(): readonly string[];
}

/** In a cluster: straight from its pods and where the endpoint is for outside, else a tunnel. Closed by disposal. */
export async function openRoute(
  context: Context,
  connection: Connection,
  target: Pick<ClientTarget, 'host' | 'port'>,
  options: RouteOptions,
): Promise<Route> {
  const { host, port } = target;
  if (options.tunnel === true && options.direct === true) {
    throw new CliError(EXIT.misconfigured, '--tunnel and --direct exclude each other', 'Give one of them, or none.');
  }
  const straight: Route = { to: { host, port }, [Symbol.asyncDispose]: () => Promise.resolve() };
  const { cluster } = context;
  if (cluster === undefined || options.direct === true) return straight;
  if (options.tunnel !== true && (await reachable(context, host))) return straight;
  const [{ openTunnel }, { serviceName }] = await Promise.all([
    import('../cluster/tunnel.ts'),
    import('../../controllers/workloads/names.ts'),
  ]);
  const { name, namespace = 'default' } = connection.metadata;
  const service = serviceName(name);
  const ended = new AbortController();
  const interrupt = (): void => ended.abort();
  const { signal } = context.io;
  if (signal.aborted) interrupt();
  signal.addEventListener('abort', interrupt);
  let tunnel: Awaited<ReturnType<typeof openTunnel>>;
  try {
    tunnel = await openTunnel({
      access: cluster.kube.access,
      place: cluster.place,
      namespace,
      service,
      connection: name,
      onProblem: (error) => context.io.err(`${line(error.message)}\n`),
      signal: ended.signal,
    });
  } finally {
    // An interrupt from the keyboard is the client's from now on: it cancels a statement.
    signal.removeEventListener('abort', interrupt);
  }
  return {
    to: { host: `${service}.${namespace}.svc`, address: '127.0.0.1', port: tunnel.port },
    sessions: () => tunnel.sessions(),
    async [Symbol.asyncDispose]() {
      ended.abort();
      await tunnel.closed;
    },
  };
}

/** Names that only the cluster's own DNS knows. */
export const isClusterName = (host: string): boolean => /\.svc(\.[a-z0-9.-]+)?$/.test(host);

async function reachable(context: Context, host: string): Promise<boolean> {
  if (!isClusterName(host)) return true;
  if (!context.io.env['KUBERNETES_SERVICE_HOST']) return false;
  return lookup(host).then(
    () => true,
    () => false,
  );
}
