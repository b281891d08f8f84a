// A cluster with a node and the chart installed without values: what every end-to-end test starts from.
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { Connection } from '../../src/api/connection.ts';
import type { AccessGrant } from '../../src/api/grant.ts';
import { SALLYPORT_IMAGE, sallyportImage } from '../support/cluster/node/sallyport-image.ts';
import { type NodeCluster, startNodeCluster } from '../support/cluster/node/start.ts';
import { helm } from '../support/helm.ts';

export const ROOT = path.resolve(import.meta.dirname, '../..');
export const KUBECTL_ACCESS = path.join(ROOT, 'bin/kubectl-access');
export const NAMESPACE = 'payments';
export const RELEASE = 'sallyport-system';

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
  /** What programs of this user’s laptop are started with. */
  environment(user: string): NodeJS.ProcessEnv;
  /** `kubectl access …` in NAMESPACE as this user, from the laptop. */
  access(user: string, args: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<Ran>;
  /** The same in the background; `done` resolves with its end. */
  start(user: string, args: readonly string[], options?: { input?: string }): { done: Promise<Ran>; kill(): void };
  /** `request --wait` that waits: the grant’s name. `more`: further options. */
  requested(user: string, connection: string, more?: readonly string[]): Promise<{ name: string; done: Promise<Ran> }>;
  /** kubectl in NAMESPACE as the cluster’s administrator. */
  inNamespace(...args: string[]): Promise<string>;
  /** `kubectl get` there. */
  read<T>(...args: string[]): Promise<T>;
  apply(...objects: object[]): Promise<void>;
  /** Polls until `look` gives something. Throws with `what` after `withinMs`. */
  until<T>(what: string, look: () => Promise<T | undefined>, withinMs?: number): Promise<T>;
  /** Waits for a Connection; tells what is in its way where it does not come. */
  ready(connection: string, namespace?: string): Promise<void>;
  stop(): Promise<void>;
}

/** Of every end-to-end group: what it is at, unless E2E_QUIET is set. */
export function say(text: string): void {
  if (process.env['E2E_QUIET'] === undefined) console.error(`      ${text.trimEnd()}`);
}

/** Fails with all that a program said. */
export function succeeded(ran: Ran, what: string): Ran {
  if (ran.code !== 0) throw new Error(`${what}: exit ${ran.code}\n${ran.stdout}${ran.stderr}`);
  return ran;
}

export const isReady = ({ status }: Pick<Connection, 'status'>): boolean =>
  status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') ?? false;

/** `images` writes archives of targets into a folder; `prepare` puts up what the group connects to. */
export async function startScene(
  progress: (text: string) => void,
  images: (folder: string) => string[],
  prepare: (scene: Scene) => Promise<void>,
): Promise<Scene> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-e2e-'));
  progress('building the images');
  const archives = [sallyportImage(), ...images(folder)];
  progress('starting a cluster');
  const cluster = await startNodeCluster({ images: archives, progress });
  const scene = sceneOf(cluster, folder, progress);
  try {
    progress('installing the chart');
    await install(scene, progress);
    await scene.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    await scene.apply(...people());
    progress('starting the target');
    await prepare(scene);
    return scene;
  } catch (error) {
    await scene.stop();
    throw error;
  }
}

async function install(scene: Scene, progress: (text: string) => void): Promise<void> {
  const { cluster } = scene;
  const began = performance.now();
  // The image is not in a registry: that is the only thing that has to be said.
  const set = ['image.repository=localhost/sallyport', 'image.pullPolicy=Never'].flatMap((value) => ['--set', value]);
  await helm(
    '4',
    [
      'install',
      'sallyport',
      'charts/sallyport',
      '-n',
      RELEASE,
      '--create-namespace',
      ...set,
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
}

function sceneOf(cluster: NodeCluster, folder: string, progress: (text: string) => void): Scene {
  const environment = (user: string): NodeJS.ProcessEnv => ({
    ...process.env,
    // So that `kubectl access` is a verb there, for what other programs are told to run.
    PATH: `${path.dirname(KUBECTL_ACCESS)}:${cluster.plan.binaries}:${process.env['PATH']}`,
    KUBECONFIG: cluster.kubeconfigFor(user),
    SALLYPORT_HOME: path.join(folder, `home-${user}`),
    HOME: path.join(folder, `home-${user}`),
    NO_COLOR: '1',
  });
  const start: Scene['start'] = (user, args, options = {}) => {
    const child = spawn(KUBECTL_ACCESS, ['-n', NAMESPACE, ...args], { env: environment(user), cwd: folder });
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
  const until: Scene['until'] = async (what, look, withinMs = 60_000) => {
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
  };
  const inNamespace: Scene['inNamespace'] = (...args) => cluster.kubectl(['-n', NAMESPACE, ...args]);
  const read = async <T>(...args: string[]): Promise<T> =>
    JSON.parse(await inNamespace('get', ...args, '-o', 'json')) as T;
  const names = async (): Promise<string[]> =>
    (await read<{ items: AccessGrant[] }>('accessgrants')).items.map(({ metadata }) => metadata.name);
  return {
    cluster,
    folder,
    image: SALLYPORT_IMAGE,
    installMs: 0,
    environment,
    start,
    until,
    inNamespace,
    read,
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
    async ready(name, namespace = NAMESPACE) {
      await until(
        `Connection ${name} Ready`,
        async () => (isReady(await read<Connection>('connection', name, '-n', namespace)) ? true : undefined),
        90_000,
      ).catch(async (error: unknown) => {
        const about = [
          inNamespace('get', 'connection,pods,proxyreplicas', '-o', 'wide'),
          inNamespace('describe', 'connection', name),
          inNamespace('logs', `sallyport-${name}-0`, '--tail=30'),
          cluster.kubectl(['-n', RELEASE, 'logs', 'deployment/sallyport', '--all-pods', '--tail=30']),
        ];
        for (const text of about) progress((await text.catch(String)).slice(-3000));
        throw error;
      });
    },
    async requested(user, connection, more = []) {
      const known = new Set(await names());
      const request = start(user, ['request', connection, '--reason', 'INC-1234', '--wait', '-o', 'name', ...more]);
      const name = await Promise.race([
        until('the request', async () => (await names()).find((each) => !known.has(each))),
        request.done.then(({ stdout, stderr }) => Promise.reject(new Error(`request ended: ${stdout}${stderr}`))),
      ]);
      return { name, done: request.done };
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

/** Runs a program to its end. */
export function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, [...args], { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
    });
  });
}
