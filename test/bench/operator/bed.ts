// An API server with etcd, the chart's rights, and the compiled operator as a process of its own beside it, so that its
// memory and processor are its own. There is no node: no pod runs, and nothing but the operator writes.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { promisify } from 'node:util';
import { loadSecretKeys } from '../../../src/controllers/pki/secret-keys.ts';
import { createSealer, type Sealer } from '../../../src/controllers/seal.ts';
import type { KubeAnswer } from '../../../src/kube/answer.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import { systemClock } from '../../../src/system/clock.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { applyChart, RELEASE_NAMESPACE } from '../../support/chart.ts';
import { type Child, startChild } from '../../support/cluster/children.ts';
import { type ControlPlane, type KubernetesObject, startControlPlane } from '../../support/cluster/control-plane.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const RIGHTS = new Set(['Namespace', 'ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding']);
/** As the image runs it. */
export const NODE_FLAGS = ['--max-semi-space-size=4', '--disable-warning=ExperimentalWarning'];
// As the image sets it.
process.env['MALLOC_ARENA_MAX'] ??= '2';
const OPERATOR = 'system:serviceaccount:sallyport-system:sallyport';

export interface OperatorProcess {
  pid: number;
  log(): string;
  /** Bytes resident now, and at most so far; and those of now that are no file's, so that nobody shares them. */
  memory(): { nowBytes: number; peakBytes: number; ownBytes: number };
  /** Milliseconds of processor so far. */
  cpuMs(): number;
  readonly exited: boolean;
  end(signal?: NodeJS.Signals): Promise<void>;
}

export interface Bed {
  plane: ControlPlane;
  /** Where the compiled program is. */
  dist: string;
  sealer: Sealer;
  admin: KubeClient;
  /** With the operator's own rights and its place in the server's queues. */
  asOperator: KubeClient;
  startOperator(): OperatorProcess;
  /** Requests the API server has answered since it started, by `verb resource/subresource`. */
  requests(): Promise<Map<string, number>>;
  /** Version of the whole store: rises by one with each write that changes something. */
  revision(): Promise<number>;
  stop(): Promise<void>;
}

/** Compiled once a run, so that no types are stripped in the process that is measured. Returns the folder. */
export async function compiled(): Promise<string> {
  const folder = path.join(ROOT, 'node_modules/.cache/sallyport-bench');
  const dist = path.join(folder, 'dist');
  fs.rmSync(dist, { recursive: true, force: true });
  const tsc = path.join(ROOT, 'node_modules/.bin/tsc');
  await promisify(execFile)(tsc, ['-p', 'tsconfig.build.json', '--outDir', dist], { cwd: ROOT }).catch(
    (error: { stdout?: string }) => {
      throw new Error(`it does not compile:\n${error.stdout ?? String(error)}`);
    },
  );
  fs.copyFileSync(path.join(ROOT, 'package.json'), path.join(folder, 'package.json'));
  return dist;
}

export async function startBed(): Promise<Bed> {
  const [dist, plane] = await Promise.all([
    compiled(),
    startControlPlane({
      users: [{ name: OPERATOR, groups: ['system:serviceaccounts', `system:serviceaccounts:${RELEASE_NAMESPACE}`] }],
    }),
  ]);
  await applyChart(plane, ({ kind }) => RIGHTS.has(kind));
  const admin = plane.clientFor();
  const keys = await loadSecretKeys({
    client: admin,
    namespace: RELEASE_NAMESPACE,
    clock: systemClock,
    random: systemRandom,
  });
  const folder = path.join(plane.folder, 'serviceaccount');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'token'), plane.token(OPERATOR), { mode: 0o600 });
  fs.writeFileSync(path.join(folder, 'ca.crt'), plane.ca);
  fs.writeFileSync(path.join(folder, 'namespace'), RELEASE_NAMESPACE);
  const entry = path.join(plane.folder, 'operator.mjs');
  const { hostname, port } = new URL(plane.server);
  const env = {
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    SALLYPORT_NAMESPACE: RELEASE_NAMESPACE,
    SALLYPORT_IMAGE: 'registry.example/sallyport:bench',
    SALLYPORT_STATE: path.join(plane.folder, 'state'),
    POD_NAME: 'sallyport-0',
  };
  fs.writeFileSync(
    entry,
    `import { operatorCommand } from ${JSON.stringify(path.join(dist, 'cli/cluster/operator.js'))};
import { systemIo } from ${JSON.stringify(path.join(dist, 'cli/io.js'))};
Object.assign(process.env, ${JSON.stringify(env)});
const interrupted = new AbortController();
process.once('SIGTERM', () => interrupted.abort());
process.exit(await operatorCommand(systemIo(interrupted.signal), { webhookPort: '0', healthPort: '0' }, { serviceAccount: ${JSON.stringify(folder)} }));
`,
  );
  let runs = 0;
  const children: Child[] = [];
  return {
    plane,
    dist,
    sealer: createSealer(keys.key),
    admin,
    asOperator: plane.clientFor(OPERATOR),
    startOperator() {
      const flags = [...NODE_FLAGS, ...(process.env['SCALE_NODE_FLAGS']?.split(' ') ?? [])];
      const child = startChild(process.execPath, [...flags, entry], path.join(plane.folder, `operator-${runs++}.log`));
      children.push(child);
      return {
        pid: child.pid,
        log: () => child.log(),
        ...processOf(child.pid),
        get exited() {
          return child.exited;
        },
        end: (signal) => child.end(signal),
      };
    },
    requests: () => requestsOf(plane),
    async revision() {
      const answer = await admin.list('/api/v1/namespaces', { limit: 1 });
      return Number(value(answer).metadata.resourceVersion);
    },
    async stop() {
      for (const child of children) await child.end('SIGKILL');
      await plane.stop();
    },
  };
}

/** What the kernel says of a process of this machine. */
export function processOf(pid: number): Pick<OperatorProcess, 'memory' | 'cpuMs'> {
  const field = (text: string, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return {
    memory() {
      const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
      return { nowBytes: field(text, 'VmRSS'), peakBytes: field(text, 'VmHWM'), ownBytes: field(text, 'RssAnon') };
    },
    cpuMs() {
      const text = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      // utime and stime (proc(5)), in ticks of 10 ms.
      return (Number(fields[11]) + Number(fields[12])) * 10;
    },
  };
}

export function value<T>(answer: KubeAnswer<T>): T {
  if (answer.kind === 'Failed') throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
  return answer.value;
}

/** Does `work` for each of `items`, `width` at a time. */
export async function eachOf<T>(items: Iterable<T>, width: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let next = iterator.next(); next.done !== true; next = iterator.next()) await work(next.value);
    }),
  );
}

const PLURALS: Readonly<Record<string, string>> = {
  Connection: 'connections',
  AccessPolicy: 'accesspolicies',
  AccessGrant: 'accessgrants',
};
export const pathOf = (object: KubernetesObject): string =>
  `/apis/${object.apiVersion}/namespaces/${object.metadata.namespace}/${PLURALS[object.kind]}`;

export const WIDTH = 16;
export async function createAll(client: KubeClient, objects: Iterable<KubernetesObject>): Promise<void> {
  await eachOf(objects, WIDTH, async (object) => value(await client.create(pathOf(object), object)));
}

const WRITES = new Set(['POST', 'PUT', 'PATCH', 'APPLY', 'DELETE']);
/** What was written between two looks, the API server's own housekeeping apart. */
export function writesBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Map<string, number> {
  const writes = new Map<string, number>();
  for (const [what, count] of after) {
    const more = count - (before.get(what) ?? 0);
    const [verb = '', resource = ''] = what.split(' ');
    if (
      more > 0 &&
      WRITES.has(verb) &&
      !/^(leases|tokenreviews|subjectaccessreviews|flowschemas|prioritylevel)/.test(resource)
    )
      writes.set(what, more);
  }
  return writes;
}

async function requestsOf(plane: ControlPlane): Promise<Map<string, number>> {
  const text = await new Promise<string>((resolve, reject) => {
    const request = https.get(
      `${plane.server}/metrics`,
      { ca: plane.ca, headers: { authorization: `Bearer ${plane.token()}` }, timeout: 30_000 },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('end', () => resolve(body));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error('the metrics do not come')));
  });
  const counts = new Map<string, number>();
  for (const [, labels = '', count] of text.matchAll(/^apiserver_request_total\{([^}]*)\} (\S+)$/gm)) {
    const label = (name: string): string => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
    const code = label('code');
    const resource = [label('resource'), label('subresource')].filter((part) => part !== '').join('/');
    const key = `${label('verb')} ${resource}${code.startsWith('2') ? '' : ` ${code}`}`;
    counts.set(key, (counts.get(key) ?? 0) + Number(count));
  }
  return counts;
}
