// What criteria about life on a whole cluster share: its pods, grants, and sessions spread over replicas.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
  type Listener,
  type LiveSession,
  type LiveSessions,
  laptopSessions,
  listen,
  podSessions,
} from '../../e2e/live-sessions.ts';
import { ordersAccess } from '../../e2e/orders.ts';
import { NAMESPACE, succeeded as ok, type Ran, RELEASE, run, type Scene } from '../../e2e/scene.ts';

export const DRAIN_S = 20;
export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
export const now = (): number => Date.now() / 1000;

export interface Meta {
  name: string;
  uid: string;
  labels?: Record<string, string>;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
}
export interface Pod {
  metadata: Meta;
  spec: { containers: { image: string }[] };
  status: {
    phase: string;
    conditions?: { type: string; status: string }[];
    containerStatuses?: { restartCount: number }[];
  };
}

/** Who works on the cluster and how; `tunnel` is one listener for all criteria. */
export function lifeBed(given: () => Scene) {
  const kubectl = (...args: string[]): Promise<string> => given().cluster.kubectl(args);
  const inNamespace = (...args: string[]): Promise<string> => kubectl('-n', NAMESPACE, ...args);
  const list = async <T>(...args: string[]): Promise<T[]> =>
    (JSON.parse(await kubectl('get', ...args, '-o', 'json')) as { items: T[] }).items;
  const podsOf = (workload: string): Promise<Pod[]> =>
    list<Pod>('pods', '-n', NAMESPACE, '-l', `sallyport.dev/workload=${workload}`);
  const podReady = (pod: Pod): boolean =>
    pod.metadata.deletionTimestamp === undefined &&
    (pod.status.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');

  async function grantFor(connection: string, duration = '4h'): Promise<string> {
    const asked = await given().access('alice', [
      'request',
      connection,
      '--for',
      duration,
      '--reason',
      'life',
      '-o',
      'name',
    ]);
    // 75: it is made, and waits.
    assert.ok(asked.code === 0 || asked.code === 75, asked.stderr);
    const grant = asked.stdout.trim().split('/').at(-1) ?? '';
    ok(await given().access('carol', ['approve', grant, '--yes']), 'approve');
    return grant;
  }
  /** A Connection to the target of the scene, and its policy. */
  async function connect(name: string, proxy: object): Promise<void> {
    const ca = await inNamespace('get', 'connection', 'orders-db', '-o', 'jsonpath={.spec.postgresql.tls.ca}');
    const [connection, policy] = ordersAccess(ca, name) as [{ spec: object }, object];
    await given().apply({ ...connection, spec: { ...connection.spec, proxy } }, policy);
  }
  /** A DSN for pods, whose CA is at hand there. Good for five minutes of logins. */
  async function podDsn(connection: string, ...pods: string[]): Promise<string> {
    const printed = ok(await given().access('alice', ['dsn', connection]), 'dsn').stdout.trim();
    const ca = await inNamespace('get', 'connection', connection, '-o', 'jsonpath={.status.caBundle}');
    for (const pod of pods)
      await given().cluster.kubectl(
        ['-n', NAMESPACE, 'exec', '-i', pod, '--', 'sh', '-c', `cat > /tmp/${connection}.crt`],
        { input: ca },
      );
    return printed.replace(/sslrootcert=[^&\s]+/, `sslrootcert=/tmp/${connection}.crt`);
  }
  const psql = (dsn: string, sql: string): Promise<Ran> => run('psql', [dsn, '-X', '-A', '-t', '-c', sql]);

  const rssOf = (pid: number): number =>
    Number(/VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  const operatorPods = (): Promise<Pod[]> => list<Pod>('pods', '-n', RELEASE, '-l', 'app.kubernetes.io/name=sallyport');
  const only = (pids: readonly number[], what: string): number => {
    assert.equal(pids.length, 1, `${what}: ${pids.length} processes`);
    return pids[0] ?? 0;
  };

  let open: Listener | undefined;
  /** One listener for all of `pair`; its client has a grant. */
  const tunnel = async (): Promise<Listener> => (open ??= await listen(given(), 'alice', 'pair'));
  /** Twelve sessions from nine places: all on one of two replicas once in 256 times. */
  async function spread(name: string): Promise<LiveSessions> {
    const pods = ['client-1', 'client-2', 'client-3'];
    const dsn = await podDsn('pair', ...pods);
    const listeners = await Promise.all(Array.from({ length: 6 }, () => listen(given(), 'alice', 'pair')));
    const groups = await Promise.all([
      ...listeners.map((each, index) => laptopSessions(given(), `${name}-${index}`, 1, each.dsn)),
      ...pods.map((pod) => podSessions(given(), pod, name, 2, dsn)),
    ]);
    const look = async (): Promise<LiveSession[]> => (await Promise.all(groups.map((each) => each.look()))).flat();
    await given().until('12 sessions', async () =>
      (await look()).filter(({ ticks }) => ticks.length > 1).length === 12 ? true : undefined,
    );
    return {
      look,
      async stop() {
        await Promise.all(groups.map((each) => each.stop()));
        await Promise.all(listeners.map((each) => each.stop()));
      },
    };
  }
  const reopen = async (): Promise<void> => {
    await open?.stop();
    open = undefined;
  };

  return {
    kubectl,
    inNamespace,
    list,
    podsOf,
    podReady,
    grantFor,
    connect,
    podDsn,
    psql,
    rssOf,
    operatorPods,
    only,
    tunnel,
    spread,
    reopen,
  };
}
export type LifeBed = ReturnType<typeof lifeBed>;
