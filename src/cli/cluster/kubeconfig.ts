// Which cluster, as whom, in which namespace: read as kubectl reads it (kubernetes.io, "Organizing Cluster Access Using
// kubeconfig Files"). It knows what nearly everybody has: tokens, client certificates, exec plugins, proxies,
// impersonation. The full client library would take half a second of each command, so it is loaded for those alone who
// have what only that knows (an `auth-provider`).
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { inClusterAccess, type KubeAccess, type KubeHeaders } from '../../kube/access.ts';
import { isBypassed } from '../../system/http-proxy.ts';
import { CliError, EXIT, type Io } from '../io.ts';
import { type ExecSpec, openExecCredential } from './exec-credential.ts';

export interface KubeOptions {
  kubeconfig?: string | undefined;
  context?: string | undefined;
  as?: string | undefined;
  asUid?: string | undefined;
  asGroup?: readonly string[] | undefined;
}

export interface KubeTarget {
  access: KubeAccess;
  /** Of the kubeconfig, or `in-cluster`. */
  contextName: string;
  /** What kubectl would use without -n. */
  namespace: string;
}

type Fields = Readonly<Record<string, unknown>>;
interface Entry {
  value: Fields;
  /** Folder of its file: paths in it are relative to that. */
  folder: string;
}
interface Config {
  contexts: Map<string, Entry>;
  clusters: Map<string, Entry>;
  users: Map<string, Entry>;
  current: string | undefined;
}

type Surroundings = Pick<Io, 'env' | 'inTty'>;

/** Of the kubeconfig's current context: for processes that run outside of a pod while they are developed. */
export async function kubeconfigAccess(env: Io['env']): Promise<KubeAccess> {
  return (await openKubeTarget({}, { env, inTty: false })).access;
}

/** Throws CliError where there is no cluster to go to. Runs the exec plugin, if the user has one. */
export async function openKubeTarget(options: KubeOptions, io: Surroundings): Promise<KubeTarget> {
  const files = configFiles(options.kubeconfig, io.env);
  const config = readConfig(files, options.kubeconfig !== undefined);
  if (config.contexts.size === 0 && config.clusters.size === 0 && options.context === undefined) {
    const pod = insidePod(io);
    if (pod !== undefined) {
      const { namespace } = pod;
      return { access: withImpersonation(pod, undefined, options), contextName: 'in-cluster', namespace };
    }
    throw new CliError(
      EXIT.misconfigured,
      'No cluster is configured',
      `kubectl access uses kubectl's own configuration: set KUBECONFIG, write ${files[0]}, or give --kubeconfig FILE. To try Sallyport without a cluster: sallyport local DIR.`,
    );
  }
  return targetOf(config, options, io);
}

function insidePod(io: Surroundings): ReturnType<typeof inClusterAccess> {
  try {
    return inClusterAccess({
      env: io.env,
      ...(io.env['SALLYPORT_TOKEN_DIR'] ? { folder: io.env['SALLYPORT_TOKEN_DIR'] } : {}),
    });
  } catch (error) {
    throw new CliError(
      EXIT.misconfigured,
      `This pod has no ServiceAccount token: ${(error as Error).message}`,
      'Leave automountServiceAccountToken on for this pod, or give --kubeconfig FILE.',
    );
  }
}

export function configFiles(given: string | undefined, env: Io['env']): string[] {
  if (given !== undefined) return [given];
  const listed = (env['KUBECONFIG'] ?? '').split(path.delimiter).filter((each) => each !== '');
  return listed.length > 0 ? [...new Set(listed)] : [path.join(env['HOME'] || os.homedir(), '.kube/config')];
}

/** The first file that says something wins, as with kubectl. */
function readConfig(files: readonly string[], mustExist: boolean): Config {
  const config: Config = { contexts: new Map(), clusters: new Map(), users: new Map(), current: undefined };
  for (const file of files) {
    let text: string;
    try {
      text = fs.readFileSync(file, 'utf8');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' && !mustExist) continue;
      throw new CliError(EXIT.misconfigured, `kubeconfig ${file} can not be read (${code})`, undefined, {
        cause: error,
      });
    }
    let document: unknown;
    try {
      document = parse(text);
    } catch (error) {
      // Its text may hold tokens: only where it is wrong is told.
      const line = (error as { linePos?: { line: number }[] }).linePos?.[0]?.line;
      throw new CliError(
        EXIT.misconfigured,
        `kubeconfig ${file} is no YAML${line === undefined ? '' : ` (line ${line})`}`,
      );
    }
    if (!isFields(document)) continue;
    const folder = path.dirname(path.resolve(file));
    collect(document['contexts'], 'context', config.contexts, folder);
    collect(document['clusters'], 'cluster', config.clusters, folder);
    collect(document['users'], 'user', config.users, folder);
    const current = document['current-context'];
    if (typeof current === 'string' && current !== '') config.current ??= current;
  }
  return config;
}

function collect(list: unknown, member: string, into: Map<string, Entry>, folder: string): void {
  for (const each of Array.isArray(list) ? (list as unknown[]) : []) {
    if (!isFields(each) || typeof each['name'] !== 'string' || into.has(each['name'])) continue;
    const value = each[member];
    into.set(each['name'], { value: isFields(value) ? value : {}, folder });
  }
}

async function targetOf(config: Config, options: KubeOptions, io: Surroundings): Promise<KubeTarget> {
  const contextName = options.context ?? config.current;
  const context = contextName === undefined ? undefined : config.contexts.get(contextName);
  if (contextName !== undefined && context === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      `There is no context ${contextName} in the kubeconfig`,
      `There is ${[...config.contexts.keys()].slice(0, 20).join(', ') || 'none'}. See kubectl config get-contexts.`,
    );
  }
  const clusterName = text(context?.value, 'cluster');
  if (clusterName === undefined) {
    throw new CliError(
      EXIT.misconfigured,
      'The kubeconfig has no current context',
      `Choose one: kubectl config use-context NAME, or --context NAME (${[...config.contexts.keys()].slice(0, 20).join(', ')}).`,
    );
  }
  const cluster = config.clusters.get(clusterName);
  const server = text(cluster?.value, 'server');
  if (cluster === undefined || server === undefined) {
    throw new CliError(EXIT.misconfigured, `The kubeconfig does not say where cluster ${clusterName} is`);
  }
  const userName = text(context?.value, 'user');
  const user = userName === undefined ? undefined : config.users.get(userName);
  if (userName !== undefined && user === undefined) {
    throw new CliError(EXIT.misconfigured, `There is no user ${userName} in the kubeconfig`);
  }
  const access = await accessOf(server, cluster, user, io);
  return {
    access: withImpersonation(access, user?.value, options),
    contextName: contextName ?? clusterName,
    namespace: text(context?.value, 'namespace') ?? 'default',
  };
}

async function accessOf(
  server: string,
  cluster: Entry,
  user: Entry | undefined,
  io: Surroundings,
): Promise<KubeAccess> {
  let url: URL;
  try {
    url = new URL(server);
  } catch {
    throw new CliError(EXIT.misconfigured, `The kubeconfig’s server ${server} is no URL`);
  }
  const ca = pemOf(cluster, 'certificate-authority');
  const tlsServerName = text(cluster.value, 'tls-server-name');
  const insecureSkipTlsVerify = cluster.value['insecure-skip-tls-verify'] === true;
  const proxyUrl = proxyFor(url, text(cluster.value, 'proxy-url'), io.env);
  const base = {
    server,
    ...(ca === undefined ? {} : { ca }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    ...(insecureSkipTlsVerify ? { insecureSkipTlsVerify } : {}),
    ...(proxyUrl === undefined ? {} : { proxyUrl }),
  };
  const provider = user?.value['auth-provider'];
  if (isFields(provider)) return { ...base, headers: await providerHeaders(provider) };
  const exec = user?.value['exec'];
  if (user !== undefined && isFields(exec)) {
    const credential = await openExecCredential(exec as unknown as ExecSpec, user.folder, {
      io,
      cluster: {
        server,
        ...(ca === undefined ? {} : { 'certificate-authority-data': Buffer.from(ca).toString('base64') }),
        ...(tlsServerName === undefined ? {} : { 'tls-server-name': tlsServerName }),
        ...(insecureSkipTlsVerify ? { 'insecure-skip-tls-verify': true } : {}),
      },
    });
    return {
      ...base,
      headers: () => credential.headers(),
      get clientCert() {
        return credential.clientCert();
      },
    };
  }
  const cert = user && pemOf(user, 'client-certificate');
  const key = user && pemOf(user, 'client-key');
  return {
    ...base,
    headers: () => (user === undefined ? {} : credentialHeaders(user)),
    ...(cert !== undefined && key !== undefined ? { clientCert: { cert, key } } : {}),
  };
}

async function providerHeaders(provider: Fields): Promise<() => Promise<KubeHeaders>> {
  const { openAuthProvider } = await import('../../kube/auth-provider.ts');
  const name = text(provider, 'name') ?? '';
  const config = isFields(provider['config']) ? provider['config'] : {};
  const failed = (error: unknown): CliError =>
    new CliError(
      EXIT.denied,
      `The kubeconfig’s auth-provider ${name} gives no credential: ${error instanceof Error ? error.message : String(error)}`,
      'kubectl dropped auth-providers in 1.26. Use the exec plugin of your provider, for example gke-gcloud-auth-plugin or kubelogin.',
    );
  const headers = await openAuthProvider({ name, config }).catch((error: unknown) => {
    throw failed(error);
  });
  return () =>
    headers().catch((error: unknown) => {
      throw failed(error);
    });
}

/** A token's file wins over a token, as with kubectl, and is read each time: it rotates. */
function credentialHeaders(user: Entry): KubeHeaders {
  const file = text(user.value, 'tokenFile');
  const token =
    file === undefined ? text(user.value, 'token') : fs.readFileSync(path.resolve(user.folder, file), 'utf8').trim();
  if (token !== undefined) return { authorization: `Bearer ${token}` };
  const name = text(user.value, 'username');
  const password = text(user.value, 'password');
  if (name !== undefined && password !== undefined) {
    return { authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` };
  }
  return {};
}

/** Flags win over the kubeconfig. */
function withImpersonation(access: KubeAccess, user: Fields | undefined, options: KubeOptions): KubeAccess {
  const username = options.as ?? text(user, 'as');
  const groups = options.asGroup ?? strings(user?.['as-groups']);
  const uid = options.asUid ?? text(user, 'as-uid');
  if (username === undefined) {
    if ((groups?.length ?? 0) === 0 && uid === undefined) return access;
    throw new CliError(EXIT.misconfigured, '--as-group and --as-uid need --as', 'Add --as USER.');
  }
  const extra = isFields(user?.['as-user-extra']) ? user['as-user-extra'] : {};
  const more: KubeHeaders = {
    'impersonate-user': username,
    ...(uid === undefined ? {} : { 'impersonate-uid': uid }),
    ...(groups === undefined || groups.length === 0 ? {} : { 'impersonate-group': [...groups] }),
  };
  for (const [name, values] of Object.entries(extra)) {
    const given = strings(values);
    if (given !== undefined) more[`impersonate-extra-${encodeURIComponent(name).toLowerCase()}`] = [...given];
  }
  // Getters stay getters: tokens and certificates rotate.
  return Object.create(access, {
    headers: { value: async (): Promise<KubeHeaders> => ({ ...(await access.headers()), ...more }) },
  }) as KubeAccess;
}

function pemOf(entry: Entry, member: string): string | undefined {
  const data = text(entry.value, `${member}-data`);
  if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
  const file = text(entry.value, member);
  if (file === undefined) return undefined;
  const full = path.resolve(entry.folder, file);
  try {
    return fs.readFileSync(full, 'utf8');
  } catch (error) {
    throw new CliError(
      EXIT.misconfigured,
      `The kubeconfig’s ${member} ${full} can not be read (${(error as NodeJS.ErrnoException).code})`,
    );
  }
}

/** `proxy-url`, else HTTPS_PROXY unless NO_PROXY names the host. */
export function proxyFor(server: URL, configured: string | undefined, env: Io['env']): string | undefined {
  const proxy = configured ?? (isBypassed(server, env) ? undefined : env['HTTPS_PROXY'] || env['https_proxy']);
  if (!proxy) return undefined;
  if (!/^https?:\/\//.test(proxy)) {
    throw new CliError(
      EXIT.misconfigured,
      `Proxy ${proxy.replace(/\/\/[^@/]*@/, '//')} is neither http nor https`,
      'kubectl access goes through HTTP proxies only.',
    );
  }
  return proxy;
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
function text(fields: Fields | undefined, name: string): string | undefined {
  const value = fields?.[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
const strings = (value: unknown): string[] | undefined =>
  Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : undefined;
