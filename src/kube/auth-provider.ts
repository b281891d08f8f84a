// Credentials of a kubeconfig's `auth-provider` (oidc, gcp, azure), which kubectl itself dropped in 1.26: made, and
// renewed when they run out, by the library that still knows them. For the command line only, and imported when somebody
// has one: the library is large. Guarantees: nothing of the kubeconfig is changed or printed.
import type { KubeHeaders } from './access.ts';

export interface AuthProvider {
  name: string;
  /** As in the kubeconfig. */
  config: Readonly<Record<string, unknown>>;
}

/** What a request is sent with; each call gives what is good then. Rejects with what the library says. */
export async function openAuthProvider(authProvider: AuthProvider): Promise<() => Promise<KubeHeaders>> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'cluster', server: 'https://127.0.0.1', skipTLSVerify: false }],
    users: [{ name: 'user', authProvider }],
    contexts: [{ name: 'context', cluster: 'cluster', user: 'user' }],
    currentContext: 'context',
  });
  return async () => {
    const options: { headers: Record<string, string> } = { headers: {} };
    await config.applyToHTTPSOptions(options);
    const authorization = options.headers['Authorization'] ?? options.headers['authorization'];
    if (authorization === undefined) throw new Error('it gives no credential');
    return { authorization };
  };
}
