// A person's way to a cluster: their kubeconfig, read by the library that knows its forms (tokens, client certificates,
// exec plugins, OIDC, proxies, merged files). For the command line only, and imported when it is needed: the library is
// large. Guarantees: nothing of the kubeconfig is changed or printed; without one it says so instead of trying localhost.
import type { KubeAccess, KubeHeaders } from './access.ts';

export interface KubeconfigChoice {
  /** Default: $KUBECONFIG, else ~/.kube/config, else a pod's ServiceAccount. */
  file?: string | undefined;
  /** Default: the file's current one. */
  context?: string | undefined;
}

export interface LoadedKubeconfig {
  access: KubeAccess;
  context: string;
  cluster: string;
  /** Name of the kubeconfig's user entry, which is not necessarily who one is at the server. */
  user: string;
  /** The context's, else `default`. */
  namespace: string;
}

/** What is wrong with the kubeconfig and what to do. */
export class KubeconfigError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'KubeconfigError';
  }
}

/** Throws KubeconfigError. Exec plugins run with the first request, not here. */
export async function loadKubeconfig(choice: KubeconfigChoice = {}): Promise<LoadedKubeconfig> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    if (choice.file === undefined) config.loadFromDefault();
    else config.loadFromFile(choice.file);
  } catch (error) {
    throw new KubeconfigError(`The kubeconfig can not be read: ${messageOf(error)}`, error);
  }
  const contexts = config.getContexts().map(({ name }) => name);
  const context = choice.context ?? config.getCurrentContext();
  if (!contexts.includes(context)) {
    throw new KubeconfigError(
      contexts.length === 0
        ? 'There is no kubeconfig with a context. Set KUBECONFIG or give --kubeconfig.'
        : `The kubeconfig has no context "${context}". It has: ${contexts.join(', ')}. Give one with --context.`,
    );
  }
  config.setCurrentContext(context);
  const cluster = config.getCurrentCluster();
  const user = config.getCurrentUser();
  // What the library invents where there is nothing at all.
  if (cluster === null || (context === 'loaded-context' && cluster.server === 'http://localhost:8080')) {
    throw new KubeconfigError('There is no kubeconfig. Set KUBECONFIG or give --kubeconfig.');
  }
  if (user === null) throw new KubeconfigError(`Context "${context}" of the kubeconfig names no user that it has.`);
  if (cluster.proxyUrl !== undefined && cluster.proxyUrl !== null && cluster.proxyUrl.startsWith('socks')) {
    throw new KubeconfigError(`The kubeconfig's SOCKS proxy ${cluster.proxyUrl} can not be used; use an HTTP proxy.`);
  }

  let tls: { ca?: string; cert?: string; key?: string } = {};
  const headers = async (): Promise<KubeHeaders> => {
    // The library keeps tokens until they run out and runs plugins anew then. Their certificates come the same way.
    const options: Record<string, unknown> & { headers: Record<string, string> } = { headers: {} };
    try {
      await config.applyToHTTPSOptions(options as Parameters<typeof config.applyToHTTPSOptions>[0]);
    } catch (error) {
      throw new KubeconfigError(`The kubeconfig's user "${user.name}" can not log in: ${messageOf(error)}`, error);
    }
    tls = textsOf({ ca: options['ca'], cert: options['cert'], key: options['key'] });
    const basic = options['auth'];
    return {
      ...Object.fromEntries(Object.entries(options.headers).map(([name, value]) => [name.toLowerCase(), value])),
      ...(typeof basic === 'string' ? { authorization: `Basic ${Buffer.from(basic).toString('base64')}` } : {}),
    };
  };
  const { proxyUrl } = cluster;
  // A proxy's tunnel takes its certificates when the client is made.
  if (proxyUrl !== undefined && proxyUrl !== null) await headers();
  const access: KubeAccess = {
    server: cluster.server,
    get ca() {
      return tls.ca;
    },
    get clientCert() {
      return tls.cert === undefined || tls.key === undefined ? undefined : { cert: tls.cert, key: tls.key };
    },
    headers,
    tlsServerName: cluster.tlsServerName ?? undefined,
    insecureSkipTlsVerify: cluster.skipTLSVerify,
    proxyUrl: proxyUrl ?? undefined,
  };
  return {
    access,
    context,
    cluster: cluster.name,
    user: user.name,
    namespace: config.getContextObject(context)?.namespace || 'default',
  };
}

function textsOf(values: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => typeof value === 'string' || Buffer.isBuffer(value))
      .map(([name, value]) => [name, String(value)]),
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
