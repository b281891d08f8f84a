// The first program of a cluster: lays out its network and folders, starts the rest in order, says on standard output how
// far it is (one JSON value a line), makes volumes, and ends everything when its standard input closes or a program dies.
// For a node it runs in namespaces of its own (see start.ts): when it ends, the kernel ends all that is in them.
// Run by start.ts: supervisor.ts PLAN
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import {
  apiServer,
  bootstrapObjects,
  type ClusterPlan,
  containerd,
  controllerManager,
  coreDns,
  DNS_ADDRESS,
  etcd,
  files,
  kubelet,
  kubeProxy,
  masquerade,
  NODE_NAME,
  nodeLink,
  OWN_FOLDERS,
  type Program,
  restartFile,
  scheduler,
} from './plan.ts';
import { provisionVolumes } from './volumes.ts';

export type Progress = { kind: 'Step'; text: string } | { kind: 'Ready' } | { kind: 'Failed'; text: string };

const READY_WITHIN_MS = 90_000;
const END_WITHIN_MS = 3000;

const planFile = process.argv[2];
if (planFile === undefined) throw new Error('usage: supervisor.ts PLAN');
const plan = JSON.parse(fs.readFileSync(planFile, 'utf8')) as ClusterPlan;
const own = files(plan.folder);
const children: { name: string; process: ChildProcess }[] = [];
const ending = new AbortController();

const say = (progress: Progress): void => {
  try {
    fs.writeSync(1, `${JSON.stringify(progress)}\n`);
  } catch {
    // Whoever started us has gone; our standard input tells as well.
  }
};
const step = (text: string): void => say({ kind: 'Step', text });
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** The end of a program's log, for the message about its failure. */
function logOf(name: string): string {
  const file = path.join(own.logs, `${name}.log`);
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').slice(-12).join('\n') : '';
}

function start(program: Program): void {
  const out = fs.openSync(path.join(own.logs, `${program.name}.log`), 'a');
  const child = spawn(program.command, program.args, {
    stdio: ['ignore', out, out],
    env: { ...process.env, ...program.env },
  });
  fs.closeSync(out);
  const kept = { name: program.name, process: child };
  children.push(kept);
  child.once('error', (error) => void end(`${program.name} could not be started: ${error.message}`));
  child.once('exit', (code, signal) => {
    // A test that kills a program says first that it is to be started again (`restartFile`).
    const again = restartFile(plan.folder, program.name);
    if (!ending.signal.aborted && fs.existsSync(again)) {
      fs.rmSync(again);
      children.splice(children.indexOf(kept), 1);
      return start(program);
    }
    void end(`${program.name} ended (${signal ?? code}):\n${logOf(program.name)}`);
  });
}

async function end(reason?: string): Promise<void> {
  if (ending.signal.aborted) return;
  ending.abort();
  if (reason !== undefined) say({ kind: 'Failed', text: reason });
  const alive = children.filter(({ process: child }) => child.exitCode === null && child.signalCode === null);
  await Promise.race([
    Promise.all(
      alive.map(({ process: child }) => {
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        return gone;
      }),
    ),
    new Promise((resolve) => setTimeout(resolve, END_WITHIN_MS)),
  ]);
  for (const { process: child } of alive) child.kill('SIGKILL');
  process.exit(reason === undefined ? 0 : 1);
}

async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    ending.signal.throwIfAborted();
    if (await holds()) return;
    if (Date.now() > deadline) throw new Error(`${what} took longer than ${READY_WITHIN_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** One request to the API server as admin. `status` 0: it could not be reached. */
function request(method: string, at: string, body?: unknown): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const call = https.request(
      {
        host: plan.nodeAddress,
        port: plan.apiPort,
        path: at,
        method,
        ca: fs.readFileSync(own.ca),
        timeout: 5000,
        headers: { authorization: `Bearer ${plan.components.admin.token}`, 'content-type': 'application/json' },
      },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          text += chunk;
        });
        answer.once('end', () => resolve({ status: answer.statusCode ?? 0, text }));
        answer.once('error', () => resolve({ status: 0, text: '' }));
      },
    );
    call.once('timeout', () => call.destroy());
    call.once('error', () => resolve({ status: 0, text: '' }));
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function network(): Promise<void> {
  const link = nodeLink(plan.index);
  await until('The link to the host', () => {
    try {
      run('ip', 'link', 'show', link);
      return true;
    } catch {
      return false;
    }
  });
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'address', 'add', `${plan.nodeAddress}/24`, 'dev', link);
  run('ip', 'link', 'set', link, 'up');
  run('ip', 'route', 'add', 'default', 'via', plan.hostAddress);
  run('ip', 'address', 'add', `${DNS_ADDRESS}/32`, 'dev', 'lo');
  fs.writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
  const rules = path.join(plan.folder, 'masquerade.nft');
  fs.writeFileSync(rules, masquerade());
  run('nft', '-f', rules);
}

function mounts(): void {
  for (const [index, folder] of OWN_FOLDERS.entries()) {
    const instead = path.join(own.instead, String(index));
    fs.mkdirSync(instead, { recursive: true });
    fs.mkdirSync(folder, { recursive: true });
    run('mount', '--bind', instead, folder);
    // Containers' mounts below are seen by the kubelet and the other way round.
    run('mount', '--make-shared', folder);
  }
}

async function bootstrap(): Promise<void> {
  const paths: Record<string, string> = {
    StorageClass: '/apis/storage.k8s.io/v1/storageclasses',
    ClusterRole: '/apis/rbac.authorization.k8s.io/v1/clusterroles',
    ClusterRoleBinding: '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
    Service: '/api/v1/namespaces/kube-system/services',
    EndpointSlice: '/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices',
  };
  await until(
    'The namespace kube-system',
    async () => (await request('GET', '/api/v1/namespaces/kube-system')).status === 200,
  );
  for (const object of bootstrapObjects()) {
    const { kind } = object as { kind: string };
    const answer = await request('POST', paths[kind] ?? '', object);
    if (answer.status >= 300 && answer.status !== 409) throw new Error(`${kind}: ${answer.status} ${answer.text}`);
  }
}

async function main(): Promise<void> {
  if (process.env['SALLYPORT_CLUSTER_DETACHED'] !== '1') {
    process.stdin.resume();
    process.stdin.once('end', () => void end());
    process.stdin.once('error', () => void end());
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void end());

  if (plan.size === 'node') {
    await network();
    mounts();
  }
  step('Starting etcd and the API server');
  start(etcd(plan));
  start(apiServer(plan));
  if (plan.size === 'node') start(containerd(plan));
  await until('The API server', async () => (await request('GET', '/readyz')).status === 200);
  if (plan.size === 'control') return say({ kind: 'Ready' });

  step('Starting controllers, scheduler, kubelet, kube-proxy and CoreDNS');
  await bootstrap();
  start(controllerManager(plan));
  start(scheduler(plan));
  start(coreDns(plan));
  await until('containerd', () => fs.existsSync(own.socket));
  run('ctr', '-a', own.socket, '-n', 'k8s.io', 'images', 'import', path.join(plan.folder, 'pause.tar'));
  start(kubelet(plan));
  start(kubeProxy(plan));
  void provisionVolumes({ request, folder: own.volumes, node: NODE_NAME, signal: ending.signal }).catch((error) =>
    end(`The volume provisioner failed: ${String(error)}`),
  );
  step('Waiting for the node');
  await until('The node', async () => {
    const answer = await request('GET', `/api/v1/nodes/${NODE_NAME}`);
    if (answer.status !== 200) return false;
    const node = JSON.parse(answer.text) as { status?: { conditions?: { type: string; status: string }[] } };
    return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  });
  await until(
    'The ServiceAccount default',
    async () => (await request('GET', '/api/v1/namespaces/default/serviceaccounts/default')).status === 200,
  );
  say({ kind: 'Ready' });
}

main().catch((error: unknown) => void end(error instanceof Error ? error.message : String(error)));
