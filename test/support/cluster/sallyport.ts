// Sallyport on a bare API server, without a node: the chart's own objects, and the operator and its proxies as processes
// of this machine that may be killed, stopped and continued. This file plays what a node would: it makes the pods of the
// operator and of StatefulSets, hands out tokens that are bound to them, tells readiness, and is the webhook's Service.
// What runs is the compiled program with the operator's and proxies' own rights; only folders, ports and where targets'
// names lead are others. Proxies listen on the ports that the operator gives them, so one workload at a time.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ProcessLimits } from '../../../src/gateway/limits.ts';
import type { KubeAnswer } from '../../../src/kube/answer.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import { chartObjects, KUBERNETES_USERS, podObject, RELEASE_NAMESPACE } from '../chart.ts';
import { type Child, freePorts, startChild } from './children.ts';
import type { ControlPlane, ControlPlaneUser } from './control-plane.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const OPERATOR = 'sallyport';
const STATEFULSETS = 'system:serviceaccount:kube-system:statefulset-controller';
const NODE = 'system:node:n1';
const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sallyport';
const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${RELEASE_NAMESPACE}/leases/sallyport`;

/** To be among the users of the control plane. */
export const SALLYPORT_USERS: readonly ControlPlaneUser[] = KUBERNETES_USERS;

export interface Program {
  /** The pod it plays. */
  readonly pod: string;
  readonly healthPort: number;
  readonly running: boolean;
  /** 0 where it does not run. */
  readonly pid: number;
  /** Everything this pod's processes have written. */
  log(): string;
  /** Starts it (again); resolves once it is ready. */
  start(withinMs?: number): Promise<void>;
  /** Starts it without waiting for readiness. */
  spawn(): void;
  /** SIGKILL, unless told otherwise; resolves once it is gone. */
  end(signal?: NodeJS.Signals): Promise<void>;
  pause(): void;
  resume(): void;
  readiness(): Promise<{ ok: boolean; text: string }>;
  /** MB. */
  rss(): number;
}

export interface ProxyProgram extends Program {
  readonly tunnelPort: number;
  readonly recordsFolder: string;
  /** As kubelet swaps a mounted Secret. */
  mount(secret: string, values: Readonly<Record<string, string>>): void;
}

export interface Sallyport {
  plane: ControlPlane;
  /** As cluster-admin. */
  admin: KubeClient;
  operators: readonly Program[];
  /** The operator that holds the Lease, as the Lease says. */
  leader(): Promise<Program | undefined>;
  /** Resolves with whoever leads; `not`: somebody else than this one. */
  untilLed(not?: Program, withinMs?: number): Promise<Program>;
  /** Frees the Lease of an operator that is dead, so that nobody has to wait until it runs out. */
  freeLease(): Promise<void>;
  /** Waits for the StatefulSet of a workload, makes its one pod, and starts it; resolves once it is ready. */
  startProxy(
    namespace: string,
    workload: string,
    secrets: Readonly<Record<string, Readonly<Record<string, string>>>>,
    limits?: Partial<ProcessLimits>,
  ): Promise<ProxyProgram>;
  stop(): Promise<void>;
}

export interface SallyportOptions {
  /** How many operators. Default 1. */
  operators?: number;
  /** `--set` of the chart. */
  values?: readonly string[];
  /** Of Node itself, for the operators. Default: as in the image. */
  nodeFlags?: readonly string[];
  logLevel?: string;
}

export function ok<T>(answer: KubeAnswer<T>): T {
  if (answer.kind === 'Failed') throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
  return answer.value;
}

/** Polls until `look` gives something but undefined and false; what it throws meanwhile is told at the end. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  withinMs = 30_000,
  everyMs = 50,
): Promise<T> {
  const end = performance.now() + withinMs;
  let last = '';
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = String(error);
    }
    if (performance.now() > end) throw new Error(`waited ${withinMs} ms in vain for ${what}. ${last}`);
    await sleep(everyMs);
  }
}

/** `plane` must have been started with SALLYPORT_USERS. Resolves once every operator is ready and one leads. */
export async function startSallyport(plane: ControlPlane, options: SallyportOptions = {}): Promise<Sallyport> {
  await promisify(execFile)(
    process.execPath,
    [path.join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'],
    { cwd: ROOT },
  );
  const admin = plane.clientFor();
  const controller = plane.clientFor(STATEFULSETS);
  const folder = path.join(plane.folder, 'sallyport');
  fs.mkdirSync(folder, { mode: 0o700 });
  const undo: (() => Promise<void> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };

  const objects = (await chartObjects(options.values)).filter(
    ({ kind, metadata }) =>
      kind !== 'CustomResourceDefinition' && kind !== 'Deployment' && metadata.name !== 'sallyport-webhook',
  );
  await plane.applyCrds();
  await plane.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: RELEASE_NAMESPACE } }, ...objects);

  /** The Pod object and what kubelet mounts for it. Returns its uid. */
  const makePod = async (
    namespace: string,
    pod: { name: string; serviceAccount: string; labels?: Record<string, string> },
  ): Promise<{ uid: string; account: string }> => {
    const made = ok(
      await controller.create<{ metadata: { uid: string } }>(`/api/v1/namespaces/${namespace}/pods`, podObject(pod)),
    );
    const { uid } = made.metadata;
    const { token } = ok(
      await plane
        .clientFor(NODE)
        .create<{ status: { token: string } }>(
          `/api/v1/namespaces/${namespace}/serviceaccounts/${pod.serviceAccount}/token`,
          {
            apiVersion: 'authentication.k8s.io/v1',
            kind: 'TokenRequest',
            spec: { expirationSeconds: 86_400, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod.name, uid } },
          },
        ),
    ).status;
    const account = path.join(folder, namespace, pod.name, 'serviceaccount');
    fs.mkdirSync(account, { recursive: true, mode: 0o700 });
    for (const [name, text] of Object.entries({ token, 'ca.crt': plane.ca, namespace }))
      fs.writeFileSync(path.join(account, name), text, { mode: 0o600 });
    return { uid, account };
  };

  const { hostname, port: apiPort } = new URL(plane.server);
  const environment = (more: Record<string, string>): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    NODE_NO_WARNINGS: '1',
    NODE_ENV: 'production',
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: apiPort,
    ...more,
  });
  const program = (given: {
    pod: string;
    home: string;
    launcher: string;
    healthPort: number;
    flags?: readonly string[];
    env: NodeJS.ProcessEnv;
  }): Program => {
    const launcher = path.join(given.home, 'launcher.mjs');
    fs.writeFileSync(launcher, given.launcher);
    const logFile = path.join(given.home, 'log');
    let child: Child | undefined;
    const self: Program = {
      pod: given.pod,
      healthPort: given.healthPort,
      get running() {
        return child !== undefined && !child.exited;
      },
      get pid() {
        return child === undefined || child.exited ? 0 : child.pid;
      },
      log: () => child?.log() ?? '',
      spawn() {
        if (self.running) throw new Error(`${given.pod} runs already`);
        child = startChild(process.execPath, [...(given.flags ?? []), launcher], logFile, given.env);
      },
      async start(withinMs = 60_000) {
        self.spawn();
        await until(
          `${given.pod} to be ready`,
          async () => {
            if (!self.running) throw new Error(`it ended:\n${self.log().slice(-3000)}`);
            const { ok: good, text } = await self.readiness();
            if (!good) throw new Error(`${text}\n${self.log().slice(-2000)}`);
            return true;
          },
          withinMs,
        );
      },
      end: async (signal = 'SIGKILL') => child?.end(signal),
      pause: () => void process.kill(self.pid, 'SIGSTOP'),
      resume: () => void process.kill(self.pid, 'SIGCONT'),
      async readiness() {
        try {
          const response = await fetch(`http://127.0.0.1:${given.healthPort}/readyz`, {
            signal: AbortSignal.timeout(2_000),
          });
          return { ok: response.status === 200, text: await response.text() };
        } catch (error) {
          return { ok: false, text: String(error) };
        }
      },
      rss: () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${self.pid}/status`, 'utf8'))![1]) / 1024,
    };
    undo.push(() => self.end());
    return self;
  };

  const makeOperator = async (pod: string): Promise<Program & { webhookPort: number }> => {
    const { uid, account } = await makePod(RELEASE_NAMESPACE, { name: pod, serviceAccount: OPERATOR });
    const [healthPort, webhookPort] = (await freePorts(2)) as [number, number];
    const home = path.dirname(account);
    const made = program({
      pod,
      home,
      healthPort,
      flags: options.nodeFlags ?? [],
      launcher: launcher('cli/cluster/operator.js', 'operatorCommand', [
        JSON.stringify({
          healthPort: String(healthPort),
          webhookPort: String(webhookPort),
          logLevel: options.logLevel ?? 'info',
        }),
        JSON.stringify({ serviceAccount: account }),
      ]),
      env: environment({
        SALLYPORT_NAMESPACE: RELEASE_NAMESPACE,
        SALLYPORT_IMAGE: 'localhost/sallyport:test',
        SALLYPORT_STATE: path.join(home, 'state'),
        POD_NAME: pod,
        POD_UID: uid,
      }),
    });
    return Object.assign(made, { webhookPort });
  };

  interface Lease {
    metadata: object;
    spec?: { holderIdentity?: string };
  }
  const lease = async (): Promise<Lease | undefined> => {
    const answer = await admin.get<Lease>(LEASE);
    return answer.kind === 'Ok' ? answer.value : undefined;
  };

  try {
    const operators: (Program & { webhookPort: number })[] = [];
    for (let index = 0; index < (options.operators ?? 1); index += 1)
      operators.push(await makeOperator(`sallyport-${'abcdef'[index]}`));
    const service = await playService(() => operators.filter(({ running }) => running).map((each) => each.webhookPort));
    undo.push(service.close);
    await plane.apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'sallyport-webhook', namespace: RELEASE_NAMESPACE },
      spec: { type: 'ExternalName', externalName: 'localhost' },
    });
    ok(
      await admin.patch(
        CONFIGURATION,
        [{ op: 'add', path: '/webhooks/0/clientConfig/service/port', value: service.port }],
        'json',
      ),
    );
    await Promise.all(operators.map((each) => each.start()));

    const self: Sallyport = {
      plane,
      admin,
      operators,
      async leader() {
        const holder = (await lease())?.spec?.holderIdentity ?? '';
        return operators.find(({ pod }) => holder.startsWith(`${pod}_`));
      },
      untilLed: (not, withinMs = 60_000) =>
        until(
          'a leader',
          async () => {
            const found = await self.leader();
            return found !== undefined && found !== not && found.running && found;
          },
          withinMs,
        ),
      async freeLease() {
        const found = await lease();
        if (found === undefined) return;
        ok(await admin.patch(LEASE, { spec: { holderIdentity: '' } }, 'merge'));
      },
      async startProxy(namespace, workload, secrets, limits = {}) {
        const path_ = `/apis/apps/v1/namespaces/${namespace}/statefulsets/${workload}`;
        const set = await until(`StatefulSet ${workload}`, async () => {
          const answer = await admin.get<StatefulSet>(path_);
          return answer.kind === 'Ok' && answer.value;
        });
        const { spec, metadata } = set.spec.template;
        const pod = `${workload}-0`;
        const { uid, account } = await makePod(namespace, {
          name: pod,
          serviceAccount: spec.serviceAccountName,
          labels: metadata.labels,
        });
        const home = path.dirname(account);
        const [healthPort, tunnelPort] = (await freePorts(2)) as [number, number];
        const args = spec.containers[0]!.args;
        const trust = args.flatMap((arg, index) => (arg === '--trust' ? [args[index + 1]!] : []));
        const operatorNamespace = args[args.indexOf('--operator-namespace') + 1]!;
        const recordsFolder = path.join(home, 'records');
        const credentials = path.join(home, 'credentials');
        const made: Program = program({
          pod,
          home,
          healthPort,
          launcher: launcher(
            'cli/cluster/proxy.js',
            'proxyCommand',
            [
              JSON.stringify({ trust, operatorNamespace }),
              `{ ...${JSON.stringify({ records: recordsFolder, credentials, serviceAccount: account, healthPort, tunnelPort, limits })},
                 dialGuard: createDialGuard({ allowLoopback: true, resolve: async () => ['127.0.0.1'] }) }`,
            ],
            `import { createDialGuard } from ${JSON.stringify(path.join(ROOT, 'dist/gateway/dial-guard.js'))};`,
          ),
          env: environment({ POD_NAME: pod, POD_UID: uid, POD_NAMESPACE: namespace }),
        });
        let version = 0;
        const proxy: ProxyProgram = Object.assign(made, {
          tunnelPort,
          recordsFolder,
          mount(secret: string, values: Readonly<Record<string, string>>) {
            const at = path.join(credentials, secret);
            const next = `..${(version += 1)}`;
            fs.mkdirSync(path.join(at, next), { recursive: true });
            for (const [key, text] of Object.entries(values)) fs.writeFileSync(path.join(at, next, key), text);
            fs.symlinkSync(next, path.join(at, '..data.new'));
            fs.renameSync(path.join(at, '..data.new'), path.join(at, '..data'));
            for (const key of Object.keys(values))
              if (!fs.existsSync(path.join(at, key))) fs.symlinkSync(`..data/${key}`, path.join(at, key));
          },
        });
        for (const [secret, values] of Object.entries(secrets)) proxy.mount(secret, values);
        fs.mkdirSync(recordsFolder, { recursive: true });
        await proxy.start();
        // As kubelet and the StatefulSet's controller would tell.
        ok(await controller.patch(`${path_}/status`, { status: { replicas: 1, readyReplicas: 1 } }, 'merge'));
        return proxy;
      },
      stop,
    };
    await self.untilLed();
    return self;
  } catch (error) {
    await stop();
    throw error;
  }
}

interface StatefulSet {
  spec: {
    template: {
      metadata: { labels: Record<string, string> };
      spec: { serviceAccountName: string; containers: { args: string[] }[] };
    };
  };
}

/** What the program's entry does, for one command with places of its own. */
function launcher(module: string, command: string, args: readonly string[], more = ''): string {
  return `import { systemIo } from ${JSON.stringify(path.join(ROOT, 'dist/cli/io.js'))};
import { ${command} } from ${JSON.stringify(path.join(ROOT, 'dist', module))};
${more}
const interrupted = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => interrupted.abort());
process.exit(await ${command}(systemIo(interrupted.signal), ${args.join(', ')}));
`;
}

/** A Service with the endpoints `ports` gives: each connection goes to one of them, the next where one refuses. */
async function playService(ports: () => readonly number[]): Promise<{ port: number; close(): Promise<void> }> {
  const open = new Set<net.Socket>();
  let turn = 0;
  const server = net.createServer({ pauseOnConnect: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined).on('close', () => open.delete(socket));
    const tryNext = (left: readonly number[]): void => {
      const [port, ...rest] = left;
      if (port === undefined) return void socket.destroy();
      const upstream = net.connect(port, '127.0.0.1');
      upstream.once('error', () => tryNext(rest));
      upstream.once('connect', () => {
        upstream.removeAllListeners('error');
        upstream.on('error', () => socket.destroy()).on('close', () => socket.destroy());
        socket.on('close', () => upstream.destroy());
        socket.pipe(upstream);
        upstream.pipe(socket);
      });
    };
    const all = ports();
    turn += 1;
    tryNext(all.map((_, index) => all[(index + turn) % all.length]!));
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
