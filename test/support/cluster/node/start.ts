// Starts a whole Kubernetes on this machine: etcd, API server, controllers, scheduler, kubelet, containerd, kube-proxy and
// CoreDNS in network, mount and process namespaces of their own. So several clusters stand beside each other, the host's
// own containers and rules are never touched, and one signal ends every pod, mount and program of a cluster.
// Needs root, Debian's containerd and runc, and the programs that scripts/cluster/binaries.sh builds. `size: 'control'`
// is etcd and the API server on loopback alone, and needs neither root nor packages.
// What it does not give: NetworkPolicy enforcement, load balancers, images from the network.
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { writeImage } from '../../../../image/oci.ts';
import { testCertificates } from '../../certificates.ts';
import { freePorts } from '../children.ts';
import {
  API_SERVICE_ADDRESS,
  type ClusterPlan,
  type ClusterSize,
  type ClusterUser,
  COMPONENTS,
  type ComponentName,
  cgroupOf,
  cniConfig,
  containerdConfig,
  corefile,
  files,
  hostLink,
  kubeconfig,
  kubeconfigOf,
  kubeletConfig,
  nodeLink,
  PAUSE_IMAGE,
  TEST_USERS,
  tokenFile,
} from './plan.ts';
import type { Progress } from './supervisor.ts';

const root = path.resolve(import.meta.dirname, '../../../..');
const CGROUPS = '/sys/fs/cgroup';
const START_WITHIN_MS = 150_000;
const PROGRAMS = ['containerd', 'runc', 'nft', 'ip', 'conntrack', 'unshare', 'ctr'];
const PACKAGES = ['containerd', 'runc', 'containernetworking-plugins', 'nftables', 'conntrack', 'iproute2'];

export interface ClusterOptions {
  /** Default `node`. */
  size?: ClusterSize;
  /** Default: a new one under the system's temporary folder. Must not exist or be empty. */
  folder?: string;
  /** Beside `admin`. Default TEST_USERS. */
  users?: readonly { name: string; groups: readonly string[] }[];
  /** OCI archives that are loaded before this resolves. */
  images?: readonly string[];
  /** Lives on when this process ends; `stopCluster(folder)` ends it. */
  detached?: boolean;
  progress?: (text: string) => void;
}

/** What is kept in `state.json`, for `stopCluster`. */
export interface ClusterState {
  /** Of the process whose end ends the cluster, and when it started (field 22 of /proc/PID/stat), against reuse. */
  pid: number;
  startedAt: string;
  plan: ClusterPlan;
  /** The first process inside: it is gone when all others are. */
  inside?: { pid: number; startedAt: string };
  /** Inode of the cgroup that reserves the plan's index: another cluster may have the index by now. */
  reservation?: number;
}

export interface NodeCluster {
  folder: string;
  plan: ClusterPlan;
  /** Path of a kubeconfig with a context for each user; `admin` is current. */
  kubeconfig: string;
  /** Path of a kubeconfig of one user. */
  kubeconfigFor(user: string): string;
  /** `https://address:port`, as the host and pods reach it. */
  server: string;
  /** PEM. */
  ca: string;
  tokenOf(user: string): string;
  /** Address at which pods reach servers of the host that listen on it (or on 0.0.0.0). */
  hostAddress: string;
  /** Makes an OCI archive's image known to the node; use it with `imagePullPolicy: Never`. */
  loadImage(tar: string): Promise<void>;
  /** Rejects with standard error where it exits other than 0. */
  kubectl(args: readonly string[], options?: { user?: string; input?: string }): Promise<string>;
  /** The end of a program's log: etcd, kube-apiserver, kubelet, … */
  log(program: string): string;
  stop(): Promise<void>;
}

/** Debian's packages, where root may install them. Throws with what is missing. */
export function ensurePackages(progress: (text: string) => void = () => undefined): void {
  const missing = (): string[] => [
    ...PROGRAMS.filter(
      (name) => !['/usr/bin', '/usr/sbin', '/bin', '/sbin'].some((at) => fs.existsSync(`${at}/${name}`)),
    ),
    ...(fs.existsSync('/usr/lib/cni/ptp') ? [] : ['/usr/lib/cni/ptp']),
  ];
  if (missing().length === 0) return;
  progress(`Installing Debian packages: ${PACKAGES.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  try {
    execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore' });
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...PACKAGES], { env, stdio: 'ignore' });
  } catch {
    // What is missing is named below.
  }
  const still = missing();
  if (still.length > 0) {
    throw new Error(`A cluster with a node needs ${still.join(', ')} (Debian packages ${PACKAGES.join(' ')})`);
  }
}

/** The folder with the cluster's programs; builds them where they are missing, with progress on standard error. */
export function clusterBinaries(size: ClusterSize): string {
  return execFileSync(path.join(root, 'scripts/cluster/binaries.sh'), [size], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
}

/** Why a cluster with a node can not be had here; undefined where it can. For tests that skip. */
export function whyNoNodeCluster(): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  try {
    execFileSync(path.join(root, 'scripts/cluster/binaries.sh'), ['--check', 'node'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs the programs of a cluster: run scripts/cluster/binaries.sh node';
  }
}

/** An OCI archive of the pause container, built once with Go. */
function pauseImage(): string {
  const cache = path.join(cacheFolder(), 'pause');
  const file = path.join(cache, 'pause.tar');
  if (fs.existsSync(file)) return file;
  const stage = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-pause-'));
  try {
    execFileSync(
      'go',
      ['build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', path.join(stage, 'pause'), '.'],
      {
        cwd: path.join(import.meta.dirname, 'pause'),
        env: { ...process.env, CGO_ENABLED: '0', GOWORK: 'off' },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
    const config = { entrypoint: ['/pause'], user: '65535:65535' };
    writeImage(file, { name: PAUSE_IMAGE, architecture, layers: [stage], config });
    return file;
  } finally {
    fs.rmSync(stage, { recursive: true, force: true });
  }
}

export function cacheFolder(): string {
  return (
    process.env['SALLYPORT_CACHE'] ??
    path.join(process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache'), 'sallyport')
  );
}

const startedAt = (pid: number): string | undefined => {
  try {
    // The name in parentheses may hold spaces.
    return fs
      .readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')[19];
  } catch {
    return undefined;
  }
};

/** The state of the cluster in `folder` if its process lives. */
export function runningCluster(folder: string): ClusterState | undefined {
  const state = readState(folder);
  return state !== undefined && startedAt(state.pid) === state.startedAt ? state : undefined;
}

function readState(folder: string): ClusterState | undefined {
  try {
    return JSON.parse(fs.readFileSync(files(folder).state, 'utf8')) as ClusterState;
  } catch {
    return undefined;
  }
}

/** Ends the cluster of `folder` and deletes the folder. False where there was none. */
export async function stopCluster(folder: string): Promise<boolean> {
  const state = readState(folder);
  if (state === undefined) return false;
  const lives = (): boolean => startedAt(state.pid) === state.startedAt;
  // With a node: the first process of the process namespace is killed with it, and with that all others, pods included.
  if (lives()) process.kill(state.pid, state.plan.size === 'node' ? 'SIGKILL' : 'SIGTERM');
  const deadline = Date.now() + 20_000;
  while (lives() || (state.inside !== undefined && startedAt(state.inside.pid) === state.inside.startedAt)) {
    if (Date.now() > deadline) throw new Error(`Process ${state.pid} of the cluster does not end`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await cleanUp(state);
  return true;
}

/** The namespaces' mounts go with their last process; the link, cgroups and files do not. */
async function cleanUp(state: ClusterState, withinMs = 20_000): Promise<void> {
  const { plan } = state;
  const deadline = Date.now() + withinMs;
  for (;;) {
    try {
      if (plan.size === 'node' && state.reservation !== undefined && reservationOf(plan.index) === state.reservation) {
        // Not left to the kernel: connections that were cut keep the namespace, and with it the link, for minutes.
        if (linkExists(hostLink(plan.index))) {
          execFileSync('ip', ['link', 'delete', hostLink(plan.index)], { stdio: ['ignore', 'ignore', 'pipe'] });
        }
        // The reservation last.
        for (const hierarchy of hierarchies().toReversed()) removeCgroup(path.join(hierarchy, cgroupOf(plan.index)));
      }
      fs.rmSync(plan.folder, { recursive: true, force: true });
      return;
    } catch (error) {
      // Processes that were killed a moment ago are still leaving.
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Roots of the machine's cgroup hierarchies: one, or with cgroup v1 one a controller. */
function hierarchies(): string[] {
  if (fs.existsSync(path.join(CGROUPS, 'cgroup.controllers'))) return [CGROUPS];
  return fs
    .readdirSync(CGROUPS)
    .toSorted()
    .map((name) => path.join(CGROUPS, name));
}

function reservationOf(index: number): number | undefined {
  const [first = ''] = hierarchies();
  return fs.statSync(path.join(first, cgroupOf(index)), { throwIfNoEntry: false })?.ino;
}

/** Makes the first cgroup of the lowest index that nobody has: the kernel lets one of two do that. */
function reserveIndex(): number {
  const [first = ''] = hierarchies();
  for (let index = 0; index < 256; index++) {
    try {
      fs.mkdirSync(path.join(first, cgroupOf(index)));
      return index;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  throw new Error('256 clusters run on this machine; stop one');
}

function removeCgroup(folder: string): void {
  if (!fs.existsSync(folder)) return;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeCgroup(path.join(folder, entry.name));
  }
  fs.rmdirSync(folder);
}

const linkExists = (name: string): boolean => fs.existsSync(`/sys/class/net/${name}`);

async function makePlan(options: ClusterOptions, folder: string): Promise<ClusterPlan> {
  const size = options.size ?? 'node';
  const user = (known: { name: string; groups: readonly string[] }): ClusterUser => ({
    ...known,
    token: randomBytes(18).toString('base64url'),
  });
  const components = Object.fromEntries(
    Object.entries(COMPONENTS).map(([name, known]) => [name, user(known)]),
  ) as Record<ComponentName, ClusterUser>;
  const shared = { size, folder, binaries: clusterBinaries(size), components };
  const users = (options.users ?? TEST_USERS).map(user);
  if (size === 'node') {
    const index = reserveIndex();
    const addresses = { hostAddress: `10.213.${index}.1`, nodeAddress: `10.213.${index}.2` };
    return { ...shared, ...addresses, users, index, apiPort: 6443, etcdPort: 2379, etcdPeerPort: 2380 };
  }
  const [apiPort = 0, etcdPort = 0, etcdPeerPort = 0] = await freePorts(3);
  const addresses = { hostAddress: '127.0.0.1', nodeAddress: '127.0.0.1' };
  return { ...shared, ...addresses, users, index: 0, apiPort, etcdPort, etcdPeerPort };
}

async function writeFiles(plan: ClusterPlan): Promise<string> {
  const own = files(plan.folder);
  for (const folder of [own.logs, own.pki, own.kubeconfigs, own.containerd, own.cni, own.volumes, own.instead]) {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  }
  const service = 'kubernetes.default.svc.cluster.local';
  const certificates = await testCertificates([
    ...[1, 2, 3, 5].map((labels) => service.split('.').slice(0, labels).join('.')),
    'localhost',
    plan.nodeAddress,
    API_SERVICE_ADDRESS,
    '127.0.0.1',
  ]);
  const write = (file: string, text: string): void => fs.writeFileSync(file, text, { mode: 0o600 });
  write(own.ca, certificates.ca);
  write(own.apiCertificate, certificates.server.cert);
  write(own.apiKey, certificates.server.key);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  write(own.serviceAccountKey, privateKey.export({ type: 'sec1', format: 'pem' }) as string);
  const everybody = [...Object.values(plan.components), ...plan.users];
  write(own.tokens, tokenFile(everybody));
  for (const user of everybody) write(kubeconfigOf(plan.folder, user.name), kubeconfig(plan, certificates.ca, [user]));
  write(own.kubeconfig, kubeconfig(plan, certificates.ca, [plan.components.admin, ...plan.users]));
  if (plan.size === 'node') {
    write(own.containerdConfig, containerdConfig(plan));
    write(path.join(own.cni, '10-pods.conflist'), cniConfig());
    write(own.kubeletConfig, kubeletConfig(plan));
    write(own.corefile, corefile(plan));
    write(path.join(plan.folder, 'resolv.conf'), '');
    fs.copyFileSync(pauseImage(), path.join(plan.folder, 'pause.tar'));
  }
  write(own.plan, JSON.stringify(plan));
  return certificates.ca;
}

/** The cgroup must be in every hierarchy before the kubelet starts. */
function makeCgroups(plan: ClusterPlan): void {
  for (const hierarchy of hierarchies()) {
    const folder = path.join(hierarchy, cgroupOf(plan.index));
    fs.mkdirSync(folder, { recursive: true });
    if (path.basename(hierarchy) !== 'cpuset') continue;
    // A new cpuset is empty, and nothing may run in it until it is told which processors and memory it has.
    for (const name of ['cpuset.cpus', 'cpuset.mems']) {
      fs.writeFileSync(path.join(folder, name), fs.readFileSync(path.join(hierarchy, name)));
    }
  }
}

/** The first process inside reaps orphans, and ends with the supervisor. Its standard input is the supervisor's. */
const INIT = 'mount --make-rshared / && exec 3<&0 && { "$@" <&3 3<&- & exec 3<&-; wait $!; }';

function spawnSupervisor(plan: ClusterPlan, detached: boolean): ChildProcess {
  const supervisor = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    path.join(import.meta.dirname, 'supervisor.ts'),
  ];
  const command = [...supervisor, files(plan.folder).plan];
  const isolated = [
    ['unshare', '--net', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc'],
    ['--propagation', 'private', '/bin/sh', '-c', INIT, 'init', ...command],
  ].flat();
  const [program = '', ...args] = plan.size === 'node' ? isolated : command;
  const log = fs.openSync(path.join(files(plan.folder).logs, 'supervisor.log'), 'a');
  // A file, not a pipe, so that a detached cluster never writes to a reader that has gone.
  const progress = fs.openSync(progressFile(plan.folder), 'a');
  const child = spawn(program, args, {
    // The supervisor ends when this pipe closes: at the latest when this process is killed.
    stdio: [detached ? 'ignore' : 'pipe', progress, log],
    detached: true,
    env: { ...process.env, SALLYPORT_CLUSTER_DETACHED: detached ? '1' : '' },
  });
  fs.closeSync(log);
  fs.closeSync(progress);
  child.stdin?.on('error', () => undefined);
  return child;
}

const progressFile = (folder: string): string => path.join(folder, 'progress');

async function untilReady(plan: ClusterPlan, child: ChildProcess, progress: (text: string) => void): Promise<void> {
  const deadline = Date.now() + START_WITHIN_MS;
  let seen = 0;
  for (;;) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    const lines = fs.readFileSync(progressFile(plan.folder), 'utf8').split('\n').slice(0, -1);
    for (const line of lines.slice(seen)) {
      const said = JSON.parse(line) as Progress;
      if (said.kind === 'Ready') return;
      if (said.kind === 'Failed') throw new Error(said.text);
      progress(said.text);
    }
    seen = lines.length;
    if (ended || Date.now() > deadline) {
      const log = fs.readFileSync(path.join(files(plan.folder).logs, 'supervisor.log'), 'utf8');
      throw new Error(`The cluster ${ended ? 'ended while starting' : 'did not become ready'}:\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Lays the link between host and cluster, as soon as the cluster's namespaces exist. Returns their first process. */
async function connectNamespaces(plan: ClusterPlan, unsharePid: number): Promise<number> {
  const deadline = Date.now() + 10_000;
  const ours = fs.readlinkSync('/proc/self/ns/net');
  for (;;) {
    try {
      const [inside = ''] = fs
        .readFileSync(`/proc/${unsharePid}/task/${unsharePid}/children`, 'utf8')
        .trim()
        .split(' ');
      if (inside !== '' && fs.readlinkSync(`/proc/${inside}/ns/net`) !== ours) {
        const host = hostLink(plan.index);
        const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
        ip('link', 'add', host, 'type', 'veth', 'peer', 'name', nodeLink(plan.index), 'netns', inside);
        ip('address', 'add', `${plan.hostAddress}/24`, 'dev', host);
        ip('link', 'set', host, 'up');
        return Number(inside);
      }
    } catch (error) {
      if (!fs.existsSync(`/proc/${unsharePid}`)) throw error;
      if (linkExists(hostLink(plan.index))) throw error;
    }
    if (Date.now() > deadline) throw new Error("The cluster's namespaces could not be made; see supervisor.log");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const TEMPORARY = 'sallyport-cluster-';

/** Deletes what clusters left whose process was killed with the test that started them. */
async function sweep(): Promise<void> {
  for (const name of fs.readdirSync(os.tmpdir())) {
    const folder = path.join(os.tmpdir(), name);
    if (!name.startsWith(TEMPORARY)) continue;
    const state = readState(folder);
    if (state === undefined || runningCluster(folder) !== undefined) continue;
    // What can not be deleted now is tried again by the next.
    await cleanUp(state, 2000).catch(() => undefined);
  }
}

export async function startNodeCluster(options: ClusterOptions = {}): Promise<NodeCluster> {
  const progress = options.progress ?? (() => undefined);
  const size = options.size ?? 'node';
  if (size === 'node') ensurePackages(progress);
  await sweep();
  const folder = options.folder ?? fs.mkdtempSync(path.join(os.tmpdir(), TEMPORARY));
  if (runningCluster(folder) !== undefined) throw new Error(`A cluster runs in ${folder}; stop it first`);
  if (readState(folder) !== undefined) await stopCluster(folder);
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const plan = await makePlan(options, folder);
  const ca = await writeFiles(plan);
  if (size === 'node') makeCgroups(plan);

  fs.writeFileSync(progressFile(folder), '');
  const child = spawnSupervisor(plan, options.detached === true);
  const { pid } = child;
  if (pid === undefined) throw new Error('The cluster could not be started: is `unshare` (util-linux) there?');
  const reservation = size === 'node' ? reservationOf(plan.index) : undefined;
  const state: ClusterState = {
    pid,
    startedAt: startedAt(pid) ?? '',
    plan,
    ...(reservation === undefined ? {} : { reservation }),
  };
  fs.writeFileSync(files(folder).state, JSON.stringify(state), { mode: 0o600 });
  const cluster = clusterAt(state, ca);
  try {
    if (size === 'node') {
      const first = await connectNamespaces(plan, pid);
      state.inside = { pid: first, startedAt: startedAt(first) ?? '' };
      fs.writeFileSync(files(folder).state, JSON.stringify(state), { mode: 0o600 });
    }
    await untilReady(plan, child, progress);
    for (const image of options.images ?? []) {
      progress(`Loading ${path.basename(image)}`);
      await cluster.loadImage(image);
    }
  } catch (error) {
    if (!options.detached) await stopCluster(folder);
    throw error;
  }
  child.unref();
  (child.stdin as unknown as { unref?(): void } | null)?.unref?.();
  return cluster;
}

/** The cluster that runs in `folder`, started by another process; undefined where none does. */
export function openCluster(folder: string): NodeCluster | undefined {
  const state = runningCluster(folder);
  return state && clusterAt(state, fs.readFileSync(files(folder).ca, 'utf8'));
}

function clusterAt(state: ClusterState, ca: string): NodeCluster {
  const { plan } = state;
  const own = files(plan.folder);
  const run = (command: string, args: readonly string[], input = ''): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = execFile(command, args, { maxBuffer: 2 ** 26, timeout: 300_000 }, (error, stdout, stderr) => {
        if (error) reject(new Error(`${path.basename(command)} ${args.join(' ')}: ${stderr || error.message}`));
        else resolve(stdout);
      });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
    });
  return {
    folder: plan.folder,
    plan,
    kubeconfig: own.kubeconfig,
    kubeconfigFor: (user) => kubeconfigOf(plan.folder, user),
    server: `https://${plan.nodeAddress}:${plan.apiPort}`,
    ca,
    tokenOf(name) {
      const user = [...Object.values(plan.components), ...plan.users].find((known) => known.name === name);
      if (user === undefined) throw new Error(`The cluster has no user ${name}`);
      return user.token;
    },
    hostAddress: plan.hostAddress,
    async loadImage(tar) {
      await run('ctr', ['-a', own.socket, '-n', 'k8s.io', 'images', 'import', tar]);
    },
    kubectl: (args, { user = 'admin', input } = {}) =>
      run(path.join(plan.binaries, 'kubectl'), ['--kubeconfig', kubeconfigOf(plan.folder, user), ...args], input),
    log: (program) => {
      const file = path.join(own.logs, `${program}.log`);
      return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    },
    stop: async () => void (await stopCluster(plan.folder)),
  };
}
