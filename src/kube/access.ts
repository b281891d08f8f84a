// How to reach an API server and as whom. Everything in it is asked for anew: tokens rotate each hour, certificate
// authorities and client certificates rarely, and a process must outlive all of them.
import { readFileSync, statSync } from 'node:fs';

/** An array is a header that is sent many times. */
export type KubeHeaders = Record<string, string | string[]>;

export interface KubeAccess {
  /** `https://host:port`, and a path where the API server is behind one (Rancher). */
  server: string;
  /** PEM. Read at each new connection, so it may be a getter; absent: the system's authorities. */
  ca?: string | undefined;
  /** Headers of one request: its Authorization, its impersonation. Asked for at each request. */
  headers(): Promise<KubeHeaders> | KubeHeaders;
  /** PEM. Read at each new connection. */
  clientCert?: { cert: string; key: string } | undefined;
  /** Name the server's certificate must carry, where it is not the host of `server`. */
  tlsServerName?: string | undefined;
  /** INSECURE: whoever is in between reads tokens. Only where somebody's kubeconfig says so. */
  insecureSkipTlsVerify?: boolean | undefined;
  /** `http://proxy:3128`: reached by CONNECT. */
  proxyUrl?: string | undefined;
}

/** With a fixed bearer token. */
export function tokenAccess(server: string, token: string, ca?: string): KubeAccess {
  return { server, ca, headers: () => ({ authorization: `Bearer ${token}` }) };
}

/** The same place as somebody else; who that may be is what RBAC's verb `impersonate` says. */
export function impersonating(
  access: KubeAccess,
  user: { username: string; uid?: string; groups?: readonly string[] },
): KubeAccess {
  return Object.create(access, {
    headers: {
      value: async (): Promise<KubeHeaders> => ({
        ...(await access.headers()),
        'impersonate-user': user.username,
        ...(user.uid === undefined ? {} : { 'impersonate-uid': user.uid }),
        ...(user.groups === undefined ? {} : { 'impersonate-group': [...user.groups] }),
      }),
    },
  }) as KubeAccess;
}

const FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface InClusterOptions {
  /** Where the token and the CA are mounted. Default: where Kubernetes mounts them. */
  folder?: string;
  env?: Readonly<Record<string, string | undefined>>;
}

/**
 * What a pod is given: its ServiceAccount's token and the cluster's CA, re-read when their files change.
 * Undefined outside of a pod. Throws Node's error where the files can not be read.
 */
export function inClusterAccess(options: InClusterOptions = {}): (KubeAccess & { namespace: string }) | undefined {
  const env = options.env ?? process.env;
  const folder = options.folder ?? FOLDER;
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT_HTTPS'] ?? env['KUBERNETES_SERVICE_PORT'] ?? '443';
  if (host === undefined || host === '') return undefined;
  const token = followedFile(`${folder}/token`);
  const ca = followedFile(`${folder}/ca.crt`);
  token();
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    get ca() {
      return ca();
    },
    headers: () => ({ authorization: `Bearer ${token().trim()}` }),
    namespace: readFileSync(`${folder}/namespace`, 'utf8').trim(),
  };
}

/** Its text now. kubelet swaps a symbolic link, so the inode tells; a swap under way gives the text from before. */
function followedFile(path: string): () => string {
  let known: { stamp: string; text: string } | undefined;
  return () => {
    try {
      const { ino, mtimeMs, size } = statSync(path);
      const stamp = `${ino} ${mtimeMs} ${size}`;
      if (known?.stamp !== stamp) known = { stamp, text: readFileSync(path, 'utf8') };
    } catch (error) {
      if (known === undefined) throw error;
    }
    return known.text;
  };
}
