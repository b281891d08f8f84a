// A real Kubernetes API server with its etcd, for tests of what lives in an API: CRDs, admission, RBAC, watches. No
// node, no controllers: nothing collects garbage and no pod runs. Users come with tokens, the admin is in
// system:masters. Ports and folder are its own; it dies with the process that started it.
import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { type KubeAccess, tokenAccess } from '../../../src/kube/access.ts';
import { createKubeClient, type KubeClient } from '../../../src/kube/client.ts';
import { testCertificates } from '../certificates.ts';
import { type Child, freePorts, guardFolder, startChild } from './children.ts';

export interface ControlPlaneUser {
  name: string;
  /** Default: `uid-NAME`. */
  uid?: string;
  groups?: readonly string[];
}

export interface ControlPlaneOptions {
  /** Beside `admin`. */
  users?: readonly ControlPlaneUser[];
  /** Whether crds/*.yaml are applied at once. Default false. */
  crds?: boolean;
  /** More flags for kube-apiserver. */
  apiServerFlags?: readonly string[];
}

export interface ControlPlane {
  server: string;
  /** PEM of the CA of its certificate (127.0.0.1, localhost, 10.96.0.1, kubernetes.default.svc). */
  ca: string;
  folder: string;
  /** Folder of etcd, kube-apiserver, kubectl. */
  binaries: string;
  apiServerPid(): number;
  etcdPid(): number;
  access(user?: string): KubeAccess;
  token(user?: string): string;
  /** A client of its own, closed by `stop`. */
  clientFor(user?: string): KubeClient;
  /** Path of a kubeconfig file (0600). */
  kubeconfig(user?: string): string;
  /** Applies crds/*.yaml and waits until all are served. */
  applyCrds(): Promise<void>;
  /** Applies any objects, server-side, as admin; throws what the server says. */
  apply(...objects: KubernetesObject[]): Promise<void>;
  kubectl(
    args: readonly string[],
    options?: { user?: string; input?: string },
  ): Promise<{ stdout: string; stderr: string }>;
  /** Stops the API server as a crash would (SIGKILL), leaves etcd. */
  killApiServer(): Promise<void>;
  /** Starts the API server on the same port; resolves once it is ready. */
  startApiServer(): Promise<void>;
  /** Compacts etcd up to now, so that older resource versions are gone once the API server restarts. */
  compact(): Promise<void>;
  log(): string;
  stop(): Promise<void>;
}

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; [member: string]: unknown };
  [member: string]: unknown;
}

const ROOT = path.resolve(import.meta.dirname, '../../..');
const READY_MS = 60_000;

/** Where the programs are, or undefined: a test then says that it skips, and how to have them. */
export async function clusterBinaries(set: 'control' | 'node' = 'control'): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(path.join(ROOT, 'scripts/cluster/binaries.sh'), ['--check', set]);
    return stdout.trim();
  } catch {
    return undefined;
  }
}

/** Why tests of clusters are skipped, for node:test's `skip`; false where they run. */
export async function skipWithoutCluster(): Promise<string | false> {
  return (await clusterBinaries()) === undefined
    ? 'there is no kube-apiserver here; scripts/cluster/binaries.sh control builds it'
    : false;
}

export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const binaries = await clusterBinaries();
  if (binaries === undefined) throw new Error('run scripts/cluster/binaries.sh control first');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-control-'));
  const releaseFolder = guardFolder(folder);
  const inFolder = (name: string): string => path.join(folder, name);
  const [etcdPort, peerPort, apiPort] = (await freePorts(3)) as [number, number, number];
  const server = `https://127.0.0.1:${apiPort}`;

  const { ca, server: certificate } = await testCertificates([
    'localhost',
    '127.0.0.1',
    '10.96.0.1',
    'kubernetes.default.svc',
  ]);
  fs.writeFileSync(inFolder('tls.crt'), certificate.cert);
  fs.writeFileSync(inFolder('tls.key'), certificate.key, { mode: 0o600 });
  fs.writeFileSync(inFolder('ca.crt'), ca);
  const serviceAccounts = generateKeyPairSync('rsa', { modulusLength: 2048 });
  fs.writeFileSync(inFolder('sa.key'), serviceAccounts.privateKey.export({ type: 'pkcs8', format: 'pem' }));

  const users = new Map<string, ControlPlaneUser & { token: string }>();
  for (const user of [{ name: 'admin', groups: ['system:masters'] }, ...(options.users ?? [])]) {
    users.set(user.name, { ...user, token: randomBytes(24).toString('base64url') });
  }
  const rows = [...users.values()].map(
    ({ token, name, uid, groups }) => `${token},${name},${uid ?? `uid-${name}`},"${(groups ?? []).join(',')}"`,
  );
  fs.writeFileSync(inFolder('tokens.csv'), `${rows.join('\n')}\n`, { mode: 0o600 });

  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const etcd = startChild(
    path.join(binaries, 'etcd'),
    flags({
      'data-dir': inFolder('etcd'),
      'unsafe-no-fsync': true,
      name: 'test',
      'listen-client-urls': etcdUrl,
      'advertise-client-urls': etcdUrl,
      'listen-peer-urls': peerUrl,
      'initial-advertise-peer-urls': peerUrl,
      'initial-cluster': `test=${peerUrl}`,
      'log-level': 'warn',
    }),
    inFolder('etcd.log'),
  );

  let apiServer: Child | undefined;
  const clients: KubeClient[] = [];
  const userOf = (name = 'admin'): { name: string; token: string } => {
    const user = users.get(name);
    if (user === undefined) throw new Error(`no user ${name}; give it to startControlPlane`);
    return user;
  };
  const access = (name?: string): KubeAccess => tokenAccess(server, userOf(name).token, ca);
  const clientFor = (name?: string): KubeClient => {
    const client = createKubeClient(access(name));
    clients.push(client);
    return client;
  };
  const log = (): string => (fs.existsSync(inFolder('api.log')) ? fs.readFileSync(inFolder('api.log'), 'utf8') : '');

  const startApiServer = async (): Promise<void> => {
    const child = startChild(
      path.join(binaries, 'kube-apiserver'),
      [
        ...flags({
          'etcd-servers': etcdUrl,
          'bind-address': '127.0.0.1',
          'secure-port': apiPort,
          // No pod reaches it, so nobody needs endpoints of the kubernetes Service.
          'endpoint-reconciler-type': 'none',
          'advertise-address': '127.0.0.1',
          'tls-cert-file': inFolder('tls.crt'),
          'tls-private-key-file': inFolder('tls.key'),
          'cert-dir': folder,
          'token-auth-file': inFolder('tokens.csv'),
          'authorization-mode': 'RBAC',
          'service-account-issuer': 'https://kubernetes.default.svc',
          'service-account-key-file': inFolder('sa.key'),
          'service-account-signing-key-file': inFolder('sa.key'),
          'service-cluster-ip-range': '10.96.0.0/16',
          'allow-privileged': true,
          'shutdown-delay-duration': '0s',
          profiling: false,
          // Nobody makes the ServiceAccount `default` that this plugin would want for a pod.
          'disable-admission-plugins': 'ServiceAccount',
        }),
        ...(options.apiServerFlags ?? []),
      ],
      inFolder('api.log'),
    );
    apiServer = child;
    const probe = createKubeClient(access());
    try {
      const end = performance.now() + READY_MS;
      for (;;) {
        if (child.exited) throw new Error(`kube-apiserver ended:\n${child.log().slice(-3000)}`);
        if (etcd.exited) throw new Error(`etcd ended:\n${etcd.log().slice(-3000)}`);
        if (performance.now() > end) throw new Error(`kube-apiserver is not ready:\n${child.log().slice(-3000)}`);
        // The answer of readyz is plain text, so it is `Garbage` once it is good.
        const ready = await probe.get('/readyz', { deadlineMs: 2000 }).then(
          () => false,
          (error: { code?: string }) => error.code === 'Garbage',
        );
        if (ready) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      // Ready is said before `default` exists.
      while ((await probe.get('/api/v1/namespaces/default')).kind !== 'Ok') {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    } finally {
      await probe.close();
    }
  };

  const stop = async (): Promise<void> => {
    await Promise.all(clients.map((client) => client.close()));
    // No state is kept, so nothing is lost by not waiting for an orderly end.
    await apiServer?.end('SIGKILL');
    await etcd.end('SIGKILL');
    fs.rmSync(folder, { recursive: true, force: true });
    releaseFolder();
  };

  try {
    await startApiServer();
  } catch (error) {
    await stop();
    throw error;
  }

  const admin = clientFor();
  const apply = async (...objects: KubernetesObject[]): Promise<void> => {
    for (const object of objects) {
      const answer = await admin.patch(await applyPath(admin, object), object, 'apply', {
        fieldManager: 'test',
        force: true,
      });
      if (answer.kind === 'Failed') {
        throw new Error(`${object.kind} ${object.metadata.name}: ${answer.status} ${answer.reason}: ${answer.message}`);
      }
    }
  };

  const plane: ControlPlane = {
    server,
    ca,
    folder,
    binaries,
    apiServerPid: () => apiServer?.pid ?? 0,
    etcdPid: () => etcd.pid,
    access,
    token: (name) => userOf(name).token,
    clientFor,
    kubeconfig(name = 'admin') {
      const file = inFolder(`${name}.kubeconfig`);
      const config = {
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [
          { name: 'test', cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') } },
        ],
        users: [{ name, user: { token: userOf(name).token } }],
        contexts: [{ name: 'test', context: { cluster: 'test', user: name, namespace: 'default' } }],
        'current-context': 'test',
      };
      fs.writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
      return file;
    },
    apply,
    async applyCrds() {
      const files = fs.readdirSync(path.join(ROOT, 'crds')).filter((file) => file.endsWith('.yaml'));
      const definitions = files.flatMap((file) =>
        parseAllDocuments(fs.readFileSync(path.join(ROOT, 'crds', file), 'utf8')).map(
          (document) => document.toJS() as KubernetesObject,
        ),
      );
      await apply(...definitions);
      await Promise.all(definitions.map((definition) => served(admin, definition)));
    },
    async kubectl(args, given = {}) {
      const child = promisify(execFile)(path.join(binaries, 'kubectl'), args, {
        env: { ...process.env, KUBECONFIG: plane.kubeconfig(given.user), HOME: folder },
        maxBuffer: 2 ** 26,
      });
      child.child.stdin?.end(given.input ?? '');
      return await child;
    },
    async killApiServer() {
      await apiServer?.end('SIGKILL');
    },
    startApiServer,
    async compact() {
      // etcd's JSON gateway; any range answers with the revision of now.
      const key = Buffer.from('/').toString('base64');
      const range = await postJson(`${etcdUrl}/v3/kv/range`, { key });
      const { revision } = (range as { header: { revision: string } }).header;
      await postJson(`${etcdUrl}/v3/kv/compaction`, { revision, physical: true });
    },
    log,
    stop,
  };
  if (options.crds === true) await plane.applyCrds();
  return plane;
}

const flags = (values: Readonly<Record<string, string | number | boolean>>): string[] =>
  Object.entries(values).map(([name, value]) => `--${name}=${value}`);

async function postJson(url: string, body: unknown): Promise<unknown> {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  return response.json();
}

/** Looked up at the server, as kubectl does: no list of kinds to keep. */
async function applyPath(client: KubeClient, object: KubernetesObject): Promise<string> {
  const root = object.apiVersion === 'v1' ? '/api/v1' : `/apis/${object.apiVersion}`;
  const end = performance.now() + 10_000;
  for (;;) {
    const found = await client.get<{ resources: { name: string; kind: string; namespaced: boolean }[] }>(root);
    const resource =
      found.kind === 'Ok'
        ? found.value.resources.find((each) => each.kind === object.kind && !each.name.includes('/'))
        : undefined;
    if (resource !== undefined) {
      const namespace = resource.namespaced ? `/namespaces/${object.metadata.namespace ?? 'default'}` : '';
      return `${root}${namespace}/${resource.name}/${object.metadata.name}`;
    }
    if (performance.now() > end) throw new Error(`the API server serves no ${object.apiVersion} ${object.kind}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Established is not yet served: a list must answer. */
async function served(client: KubeClient, definition: KubernetesObject): Promise<void> {
  const { group, names, versions } = definition['spec'] as {
    group: string;
    names: { plural: string };
    versions: { name: string }[];
  };
  const end = performance.now() + 15_000;
  for (;;) {
    const answer = await client.list(`/apis/${group}/${versions[0]!.name}/${names.plural}`, { limit: 1 });
    if (answer.kind === 'Ok') return;
    if (performance.now() > end) throw new Error(`${names.plural} is not served: ${answer.message}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
