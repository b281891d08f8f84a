// A cluster with a node, the chart installed without values, and a PostgreSQL target in a pod: what every end-to-end test
// starts from.
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { stringify } from 'yaml';
import { testCertificates } from '../support/certificates.ts';
import { buildTestImages } from '../support/cluster/node/postgres-image/images.ts';
import { clientPod, postgresTarget, targetNames } from '../support/cluster/node/postgres-image/manifests.ts';
import { type NodeCluster, startNodeCluster } from '../support/cluster/node/start.ts';
import { helm } from '../support/helm.ts';

export const ROOT = path.resolve(import.meta.dirname, '../..');
const { version } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string };
export const NAMESPACE = 'payments';
export const RELEASE = 'sallyport-system';
/** Never to be seen by anybody but the target and the proxies. */
export const PASSWORDS = { orders_reader: 'pw-reader-7d1f0c', orders_writer: 'pw-writer-55e2aa' };

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Scene {
  cluster: NodeCluster;
  folder: string;
  /** Sallyport’s, as pods name it. */
  image: string;
  /** From `helm install` to the Deployment being available, milliseconds. */
  installMs: number;
  /** `kubectl access …` as this user, from the laptop. */
  access(user: string, args: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<Ran>;
  /** The same in the background; `done` resolves with its end. */
  start(user: string, args: readonly string[], options?: { input?: string }): { done: Promise<Ran>; kill(): void };
  apply(...objects: object[]): Promise<void>;
  /** Polls until `look` gives something. Throws with `what` after `withinMs`. */
  until<T>(what: string, look: () => Promise<T | undefined>, withinMs?: number): Promise<T>;
  stop(): Promise<void>;
}

export async function startScene(progress: (text: string) => void): Promise<Scene> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-e2e-'));
  progress('building the images');
  execFileSync(process.execPath, ['image/build.ts'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  const images = buildTestImages(folder);
  progress('starting a cluster');
  const cluster = await startNodeCluster({
    images: [path.join(ROOT, `image/out/sallyport-${version}-amd64.oci.tar`), images.client, images.postgres],
    progress,
  });
  const scene = sceneOf(cluster, folder);
  try {
    progress('installing the chart');
    const began = performance.now();
    // The image is not in a registry: that is the only thing that has to be said.
    await helm(
      '4',
      [
        'install',
        'sallyport',
        'charts/sallyport',
        '--namespace',
        RELEASE,
        '--create-namespace',
        '--set',
        'image.repository=localhost/sallyport',
        '--set',
        'image.pullPolicy=Never',
        '--wait',
        '--timeout',
        '120s',
      ],
      { kubeconfig: cluster.kubeconfig },
    ).catch(async (error: unknown) => {
      progress(await cluster.kubectl(['-n', RELEASE, 'describe', 'pods']).catch(String));
      progress(await cluster.kubectl(['-n', RELEASE, 'logs', 'deployment/sallyport', '--tail=40']).catch(String));
      throw error;
    });
    scene.installMs = performance.now() - began;
    progress('starting the target');
    const certificate = await testCertificates(targetNames('orders-db', NAMESPACE));
    await scene.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    await scene.apply(
      ...postgresTarget({
        namespace: NAMESPACE,
        name: 'orders-db',
        password: 'pw-superuser-1c9e',
        roles: PASSWORDS,
        certificate: certificate.server,
      }),
      clientPod({ namespace: NAMESPACE, name: 'client' }),
      ...Object.entries(PASSWORDS).map(([username, password]) => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: `orders-db-${username.replace('orders_', '')}`, namespace: NAMESPACE },
        stringData: { username, password, 'sallyport-hosts': `orders-db.${NAMESPACE}.svc` },
      })),
      ...people(),
    );
    await cluster.kubectl(['-n', NAMESPACE, 'rollout', 'status', 'deployment/orders-db', '--timeout=60s']);
    await scene.apply(...ordersAccess(certificate.ca));
    return scene;
  } catch (error) {
    await scene.stop();
    throw error;
  }
}

function sceneOf(cluster: NodeCluster, folder: string): Scene {
  const environment = (user: string): NodeJS.ProcessEnv => ({
    ...process.env,
    KUBECONFIG: cluster.kubeconfigFor(user),
    SALLYPORT_HOME: path.join(folder, `home-${user}`),
    HOME: path.join(folder, `home-${user}`),
    NO_COLOR: '1',
  });
  const start: Scene['start'] = (user, args, options = {}) => {
    const child = spawn(path.join(ROOT, 'bin/kubectl-access'), [...args], { env: environment(user), cwd: folder });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (part: Buffer) => (stdout += part.toString()));
    child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    const done = new Promise<Ran>((resolve) => {
      child.on('close', (code, signal) => resolve({ code: code ?? (signal === null ? -1 : 128), stdout, stderr }));
    });
    return { done, kill: () => void child.kill('SIGTERM') };
  };
  return {
    cluster,
    folder,
    image: `localhost/sallyport:${version}`,
    installMs: 0,
    start,
    async access(user, args, options = {}) {
      const run = start(user, args, options);
      const timer = setTimeout(() => run.kill(), options.timeoutMs ?? 60_000);
      const ran = await run.done;
      clearTimeout(timer);
      return ran;
    },
    async apply(...objects) {
      await cluster.kubectl(['apply', '--server-side', '-f', '-'], {
        input: objects.map((object) => stringify(object)).join('---\n'),
      });
    },
    async until(what, look, withinMs = 60_000) {
      const deadline = Date.now() + withinMs;
      let last = '';
      while (Date.now() < deadline) {
        try {
          const found = await look();
          if (found !== undefined) return found;
        } catch (error) {
          last = String(error);
        }
        await pause(200);
      }
      throw new Error(`${what}: not within ${withinMs} ms. ${last}`);
    },
    async stop() {
      await cluster.stop();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Alice and Bob are engineers, Carol a DBA who approves. */
function people(): object[] {
  const bind = (role: string, ...users: string[]): object => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: role, namespace: NAMESPACE },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: users.map((name) => ({ kind: 'User', name, apiGroup: 'rbac.authorization.k8s.io' })),
  });
  return [
    bind('sallyport-requester', 'alice', 'bob', 'carol'),
    bind('sallyport-approver', 'carol', 'bob'),
    bind('sallyport-auditor', 'auditor'),
  ];
}

/** A Connection and the policy over it, as a team would commit them. */
export function ordersAccess(ca: string, name = 'orders-db'): object[] {
  return [
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name, namespace: NAMESPACE },
      spec: {
        type: 'PostgreSQL',
        postgresql: { host: `orders-db.${NAMESPACE}.svc`, databases: ['orders'], tls: { ca } },
        accounts: [
          { name: 'writer', secretRef: { name: 'orders-db-writer' } },
          { name: 'reader', secretRef: { name: 'orders-db-reader' } },
        ],
      },
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: `${name}-team`, namespace: NAMESPACE },
      spec: {
        connectionSelector: { names: [name] },
        subjects: [{ kind: 'Group', name: 'payments' }],
        accounts: ['writer', 'reader'],
        access: 'Grant',
        maxDuration: '8h',
        approval: {
          timeout: '1h',
          steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }],
        },
        rules: [
          { name: 'read', action: 'Allow', sql: { effects: ['Read'] } },
          { name: 'write-orders', action: 'Allow', sql: { effects: ['Write'], tables: ['public.orders'] } },
          {
            name: 'unbounded-write',
            action: 'Hold',
            sql: { unbounded: true },
            hold: { approvers: [{ kind: 'Group', name: 'dba' }], timeout: '60s' },
          },
          { name: 'no-ddl', action: 'Deny', sql: { effects: ['Define', 'Grant'] } },
        ],
        masking: [{ name: 'cards', columns: ['*.cards.number'], with: 'Last4' }],
      },
    },
  ];
}

/** Runs a program to its end. */
export function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, [...args], { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
    });
  });
}

/** What an auditor runs over a claim that was left behind: the same image, the volume read-only. */
export const recordsReader = (name: string, image: string, claimName: string, root: string): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: NAMESPACE },
  spec: {
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 65532,
      fsGroup: 65532,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        name: 'verify',
        image,
        imagePullPolicy: 'Never',
        args: ['verify', '/records', '--root', root],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        volumeMounts: [{ name: 'records', mountPath: '/records', readOnly: true }],
      },
    ],
    volumes: [{ name: 'records', persistentVolumeClaim: { claimName, readOnly: true } }],
  },
});

/** One statement through `kubectl access connect`, as a person types it; the rows are bare. */
export const askPsql = (
  scene: Scene,
  user: string,
  connection: string,
  sql: string,
  extra: readonly string[] = [],
): Promise<Ran> =>
  scene.access(user, ['-n', NAMESPACE, 'connect', connection, ...extra, '--', 'psql', '-X', '-A', '-t', '-c', sql]);
