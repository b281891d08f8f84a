// Life on a whole cluster: replicas that come and go, credentials that change, groups, upgrades, deletions. One cluster
// with a node; the criteria build on each other, from what disturbs least to the end of everything.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  type Listener,
  type LiveSession,
  type LiveSessions,
  laptopSessions,
  listen,
  podSessions,
} from '../../e2e/live-sessions.ts';
import { NEXT_TAG, nextImage } from '../../e2e/next-image.ts';
import { askPsql, ordersAccess, PASSWORDS, startOrdersScene } from '../../e2e/orders.ts';
import { processesOf } from '../../e2e/pods.ts';
import { trustedRoot, verifyRecords } from '../../e2e/records.ts';
import { NAMESPACE, type Ran, RELEASE, run, type Scene, say, succeeded as ok } from '../../e2e/scene.ts';
import { testCertificates } from '../../support/certificates.ts';
import { restartFile } from '../../support/cluster/node/plan.ts';
import { clientPod, postgresTarget, targetNames } from '../../support/cluster/node/postgres-image/manifests.ts';
import { helm } from '../../support/helm.ts';
import type { CriteriaGroup, Criterion } from '../criterion.ts';

const DRAIN_S = 20;
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const now = (): number => Date.now() / 1000;

interface Meta {
  name: string;
  uid: string;
  labels?: Record<string, string>;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
}
interface Pod {
  metadata: Meta;
  spec: { containers: { image: string }[] };
  status: {
    phase: string;
    conditions?: { type: string; status: string }[];
    containerStatuses?: { restartCount: number }[];
  };
}

export function lifeCriteria(given: () => Scene): Criterion[] {
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

  return [
    {
      claim: 'processes at rest: what operator and proxy keep in memory',
      async check() {
        await given().ready('orders-db');
        await pause(5_000);
        const operators = (await operatorPods()).map((pod) =>
          rssOf(only(processesOf(pod.metadata.uid, 'main.js\0operator'), 'operator')),
        );
        const [proxy] = await podsOf('sallyport-orders-db');
        assert.ok(proxy !== undefined);
        const rss = rssOf(only(processesOf(proxy.metadata.uid, 'main.js\0proxy'), 'proxy'));
        for (const each of operators) assert.ok(each < 256, `operator ${each} MB`);
        assert.ok(rss < 160, `proxy ${rss} MB`);
        return `RSS of operators ${operators.map((each) => each.toFixed(0)).join(' and ')} MB, of a proxy ${rss.toFixed(0)} MB`;
      },
    },
    {
      claim: 'a Connection with two replicas: both are ready and certified, a budget lets one go at a time, both serve',
      async check() {
        const began = performance.now();
        await connect('pair', { replicas: 2, drainTimeout: `${DRAIN_S}s` });
        await given().ready('pair');
        await given().until('both pods', async () =>
          (await podsOf('sallyport-pair')).filter(podReady).length === 2 ? true : undefined,
        );
        const took = performance.now() - began;
        const budget = JSON.parse(await inNamespace('get', 'pdb', 'sallyport-pair', '-o', 'json')) as {
          spec: { maxUnavailable: number };
        };
        assert.equal(budget.spec.maxUnavailable, 1);
        await grantFor('pair');
        await given().apply(...[1, 2, 3].map((n) => clientPod({ namespace: NAMESPACE, name: `client-${n}` })));
        await inNamespace('wait', '--for=condition=Ready', 'pod', 'client-1', 'client-2', 'client-3', '--timeout=60s');
        const live = await spread('both');
        const perReplica = await given().until('sessions on both', async () => {
          const replicas = await list<{ metadata: Meta; spec: { sessions: number } }>(
            'proxyreplicas',
            '-n',
            NAMESPACE,
            '-l',
            'sallyport.dev/workload=sallyport-pair',
          );
          const counts = replicas.map(({ spec }) => spec.sessions);
          return counts.length === 2 && counts.every((count) => count > 0) ? counts : undefined;
        });
        const looked = await live.look();
        await live.stop();
        for (const each of looked) assert.equal(each.error, '', each.name);
        return `both ready after ${seconds(took)}; ${perReplica.join(' and ')} of 12 sessions`;
      },
    },
    {
      claim: 'with two replicas Ctrl-C cancels the running statement, through the Service and through the tunnel',
      async check() {
        const listener = await tunnel();
        const dsn = await podDsn('pair', 'client-1', 'client-2', 'client-3');
        const inPods = await Promise.all(
          ['client-1', 'client-2', 'client-3'].map(async (pod) =>
            given()
              .cluster.kubectl(['-n', NAMESPACE, 'exec', pod, '--', 'sh', '-c', CANCELLED, 'cancel', dsn])
              .catch((error: unknown) => String(error)),
          ),
        );
        for (const text of inPods) assert.match(text, /canceling statement|cancelled|withdrawn/i, text);
        const onLaptop = await Promise.all(
          Array.from({ length: 8 }, () => run('/bin/sh', ['-c', CANCELLED, 'cancel', listener.dsn])),
        );
        const good = onLaptop.filter(({ stdout }) => /canceling statement/.test(stdout)).length;
        assert.equal(
          good,
          8,
          `${good} of 8 through the tunnel: ${onLaptop.map(({ stdout, stderr }) => stdout + stderr).join('|')}`,
        );
        return `3 of 3 through the Service, ${good} of 8 through the tunnel`;
      },
    },
    {
      claim: 'one of two replicas is deleted or killed: sessions on the other go on, and revocation works on both',
      async check() {
        const live = await spread('kill');
        const [first, second] = (await podsOf('sallyport-pair')).sort((a, b) =>
          a.metadata.name < b.metadata.name ? -1 : 1,
        );
        assert.ok(first !== undefined && second !== undefined);
        const killedAt = now();
        process.kill(only(processesOf(second.metadata.uid, 'main.js\0proxy'), 'proxy'), 'SIGKILL');
        await pause(6_000);
        const afterKill = await live.look();
        const died = afterKill.filter(({ endedAt }) => endedAt !== undefined).length;
        assert.ok(died > 0 && died < 12, `${died} of 12 ended with the killed process`);
        for (const each of afterKill)
          if (each.endedAt === undefined) assert.ok((each.ticks.at(-1) ?? 0) > killedAt + 3, `${each.name} goes on`);
        const back = await given().until('the killed one to be ready', async () => {
          const pods = await podsOf('sallyport-pair');
          const again = pods.some(({ status }) => (status.containerStatuses?.[0]?.restartCount ?? 0) > 0);
          return again && pods.filter(podReady).length === 2 ? now() - killedAt : undefined;
        });
        await live.stop();
        // Sessions on both again, then one pod is deleted: its sessions have the drain time.
        const more = await spread('delete');
        const deletedAt = now();
        await inNamespace('delete', 'pod', first.metadata.name, '--wait=false');
        await pause((DRAIN_S - 5) * 1000);
        const during = await more.look();
        for (const each of during)
          assert.equal(
            each.endedAt,
            undefined,
            `${each.name} ended ${(each.endedAt ?? 0) - deletedAt} s after the deletion: ${each.error}`,
          );
        await given().until('the deleted pod to be gone', async () =>
          (await podsOf('sallyport-pair')).every(({ metadata }) => metadata.uid !== first.metadata.uid)
            ? true
            : undefined,
        );
        await pause(2_000);
        const after = await more.look();
        const cut = after.filter(({ endedAt }) => endedAt !== undefined);
        assert.ok(cut.length > 0 && cut.length < 12, `${cut.length} of 12 cut`);
        for (const each of cut) assert.match(each.error, /FATAL:.*Sallyport/s, each.error);
        await given().until('both again', async () =>
          (await podsOf('sallyport-pair')).filter(podReady).length === 2 ? true : undefined,
        );
        // A new grant's sessions land on both; revoking it cuts them wherever they are.
        await more.stop();
        const rest = await spread('revoke');
        const grant = (
          await list<{ metadata: Meta; spec: { connectionRef: Meta }; status: { phase: string } }>(
            'accessgrants',
            '-n',
            NAMESPACE,
          )
        ).find(({ spec, status }) => spec.connectionRef.name === 'pair' && status.phase === 'Active')?.metadata.name;
        assert.ok(grant !== undefined);
        const revokedAt = now();
        ok(await given().access('carol', ['revoke', grant, '--reason', 'enough', '--yes']), 'revoke');
        await given().until(
          'all cut',
          async () => ((await rest.look()).every(({ endedAt }) => endedAt !== undefined) ? true : undefined),
          20_000,
        );
        const ends = await rest.look();
        for (const each of ends) assert.match(each.error, /FATAL:.*Sallyport.*revoked/s, each.error);
        await Promise.all([rest.stop(), reopen()]);
        await grantFor('pair');
        return `kill -9: ${died} of 12 ended, ready again after ${back.toFixed(1)} s; deleted pod: ${cut.length} of 12 cut, none before ${(Math.min(...cut.map(({ endedAt }) => endedAt ?? 0)) - deletedAt).toFixed(0)} s of ${DRAIN_S}; revocation cut 12 of 12 on both within ${(Math.max(...ends.map(({ endedAt }) => endedAt ?? 0)) - revokedAt).toFixed(0)} s of asking`;
      },
    },
    {
      claim: 'a rotated Secret is used by the next login, without a restart',
      async check() {
        const listener = await tunnel();
        const before = (await podsOf('sallyport-pair')).map(({ metadata }) => metadata.uid).sort();
        const rotated = 'pw-writer-rotated-9b1d';
        const target = (await list<Pod>('pods', '-n', NAMESPACE, '-l', 'app=orders-db'))[0]?.metadata.name ?? '';
        const superuser =
          'export PGPASSWORD=pw-superuser-1c9e; exec psql -h /tmp -U postgres -d postgres -v ON_ERROR_STOP=1';
        await given().cluster.kubectl(['-n', NAMESPACE, 'exec', '-i', target, '--', 'sh', '-c', superuser], {
          input: `alter role orders_writer password '${rotated}';\n`,
        });
        await given().apply({
          apiVersion: 'v1',
          kind: 'Secret',
          metadata: { name: 'orders-db-writer', namespace: NAMESPACE },
          stringData: { username: 'orders_writer', password: rotated, 'sallyport-hosts': `orders-db.${NAMESPACE}.svc` },
        });
        const began = performance.now();
        let refused = '';
        await given().until(
          'six logins in a row',
          async () => {
            for (let login = 0; login < 6; login += 1) {
              const ran = await psql(listener.dsn, 'select 1');
              if (ran.code !== 0) {
                refused = ran.stderr.trim().split('\n')[0] ?? '';
                await pause(1_000);
                return undefined;
              }
            }
            return true;
          },
          180_000,
        );
        assert.deepEqual((await podsOf('sallyport-pair')).map(({ metadata }) => metadata.uid).sort(), before);
        return `logins work ${seconds(performance.now() - began)} after the Secret changed; until then: ${refused}`;
      },
    },
    {
      claim: 'INV-10: operators killed three times and an API server restarted: live sessions do not notice',
      async check() {
        const dsn = await podDsn('pair', 'client-1', 'client-2');
        const live = [
          await podSessions(given(), 'client-1', 'restart', 5, dsn),
          await podSessions(given(), 'client-2', 'restart', 5, dsn),
        ];
        const all = async (): Promise<LiveSession[]> => (await Promise.all(live.map((each) => each.look()))).flat();
        await given().until('10 sessions', async () =>
          (await all()).filter(({ ticks }) => ticks.length > 1).length === 10 ? true : undefined,
        );
        for (let round = 0; round < 3; round += 1) {
          for (const pod of await operatorPods())
            for (const pid of processesOf(pod.metadata.uid, 'main.js\0operator')) process.kill(pid, 'SIGKILL');
          await pause(2_000);
        }
        const killedAt = performance.now();
        await given().until(
          'operators to be ready',
          async () => ((await operatorPods()).filter(podReady).length === 2 ? true : undefined),
          120_000,
        );
        const operatorsBack = performance.now() - killedAt;
        const { cluster } = given();
        fs.writeFileSync(restartFile(cluster.folder, 'kube-apiserver'), '');
        const api = processIds('kube-apiserver', cluster.folder);
        process.kill(only(api, 'kube-apiserver'), 'SIGKILL');
        const apiKilledAt = performance.now();
        await given().until('the API server', async () =>
          (await kubectl('get', '--raw', '/readyz')).includes('ok') ? true : undefined,
        );
        const apiBack = performance.now() - apiKilledAt;
        await pause(3_000);
        const looked = await all();
        for (const each of looked) {
          assert.equal(each.error, '', each.name);
          assert.equal(each.endedAt, undefined, each.name);
        }
        const gap = Math.max(
          ...looked.flatMap(({ ticks }) => ticks.slice(1).map((tick, index) => tick - (ticks[index] ?? tick))),
        );
        // What has to work again afterwards: a request, an approval, a login through a new tunnel.
        const grant = await given().until('a grant after it all', () => grantFor('orders-db'), 60_000);
        const row = ok(await askPsql(given(), 'alice', 'orders-db', 'select 40 + 2'), 'connect');
        assert.match(row.stdout, /42/);
        await Promise.all(live.map((each) => each.stop()));
        await reopen();
        return `10 sessions, longest pause ${gap} s; operators ready ${seconds(operatorsBack)} after the third kill; API server away ${seconds(apiBack)}; ${grant} made and used after`;
      },
    },
    {
      claim:
        'a group of three Connections has one workload; one joins and one leaves, the others’ sessions have their drain',
      async check() {
        const names = ['g-one', 'g-two', 'g-three'];
        const proxy = { group: 'team', drainTimeout: `${DRAIN_S}s` };
        for (const name of names) await connect(name, proxy);
        for (const name of names) await given().ready(name);
        const sets = (await inNamespace('get', 'statefulsets', '-o', 'name'))
          .split('\n')
          .filter((name) => name.includes('shared-team'));
        assert.deepEqual(sets, ['statefulset.apps/sallyport-shared-team']);
        await grantFor('g-one');
        const dsn = await podDsn('g-one', 'client-1');
        const live = await podSessions(given(), 'client-1', 'group', 3, dsn);
        await given().until('sessions', async () =>
          (await live.look()).filter(({ ticks }) => ticks.length > 1).length === 3 ? true : undefined,
        );
        const uidOf = async (): Promise<string> => (await podsOf('sallyport-shared-team'))[0]?.metadata.uid ?? '';
        const before = await uidOf();
        const began = now();
        await connect('g-four', proxy);
        await given().ready('g-four');
        const joined = now() - began;
        await inNamespace('delete', 'connection', 'g-two', '--timeout=30s');
        await pause(5_000);
        const after = await uidOf();
        const looked = await live.look();
        for (const { name, endedAt, error } of looked)
          if (endedAt !== undefined) {
            assert.match(error, /FATAL:.*Sallyport/s, error);
            assert.ok(endedAt - began >= DRAIN_S - 2, `${name} ended after ${endedAt - began} s`);
          }
        const dropped = looked.filter(({ endedAt }) => endedAt !== undefined).length;
        await live.stop();
        await inNamespace('delete', 'connection', 'g-one', 'g-three', 'g-four', '--timeout=30s');
        await given().until(
          'the group to be gone',
          async () => ((await podsOf('sallyport-shared-team')).length === 0 ? true : undefined),
          90_000,
        );
        return `one joined after ${joined.toFixed(1)} s, one left; the pod ${after === before ? 'stayed' : 'was replaced'}, ${dropped} of 3 sessions ended, none before its drain time`;
      },
    },
    {
      claim:
        'INV-07: a deleted Connection leaves its claim; made again it takes it over, and old and new records verify',
      async check() {
        const claimOf = async (): Promise<string> =>
          JSON.stringify(
            (
              await list<{ metadata: Meta }>('pvc', '-n', NAMESPACE, '-l', 'sallyport.dev/workload=sallyport-orders-db')
            ).map(({ metadata }) => [metadata.name, metadata.uid]),
          );
        const before = await claimOf();
        const connection = JSON.parse(await inNamespace('get', 'connection', 'orders-db', '-o', 'json')) as {
          metadata: Meta;
          spec: object;
        };
        await inNamespace('delete', 'connection', 'orders-db', '--timeout=30s');
        const began = performance.now();
        const left = async (): Promise<string[]> =>
          (
            await inNamespace(
              'get',
              'statefulset,pod,service,serviceaccount,role,rolebinding,networkpolicy,enforcementbundle,proxyreplica',
              '-o',
              'name',
            )
          )
            .split('\n')
            .filter((name) => name.includes('sallyport-orders-db') || name.includes(connection.metadata.uid));
        await given().until(
          'its objects to be gone',
          async () => {
            const names = await left();
            if (names.length > 0) throw new Error(names.join(' '));
            return true;
          },
          90_000,
        );
        const gone = performance.now() - began;
        assert.equal(await claimOf(), before);
        await given().apply({
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'Connection',
          metadata: { name: 'orders-db', namespace: NAMESPACE },
          spec: connection.spec,
        });
        await given().ready('orders-db');
        assert.equal(await claimOf(), before);
        await grantFor('orders-db');
        ok(await askPsql(given(), 'alice', 'orders-db', 'select 2'), 'connect again');
        const root = await trustedRoot(given(), 'sallyport-orders-db');
        const verified = await verifyRecords(given(), 'records-sallyport-orders-db-0', root);
        return `objects gone after ${seconds(gone)}, the claim stayed and was taken over; ${verified}`;
      },
    },
    {
      claim:
        'the operator is upgraded under 20 live sessions: none is dropped before drainTimeout, none is turned away',
      async check() {
        const listener = await tunnel();
        await given().cluster.loadImage(nextImage());
        const dsn = await podDsn('pair', 'client-1', 'client-2', 'client-3');
        const live = [
          await spread('spread'),
          await laptopSessions(given(), 'upgrade', 2, listener.dsn),
          ...(await Promise.all(
            ['client-1', 'client-2', 'client-3'].map((pod) => podSessions(given(), pod, 'upgrade', 2, dsn)),
          )),
        ];
        const all = async (): Promise<LiveSession[]> => (await Promise.all(live.map((each) => each.look()))).flat();
        await given().until('20 sessions', async () =>
          (await all()).filter(({ ticks }) => ticks.length > 1).length === 20 ? true : undefined,
        );
        const began = now();
        const watch = watchUpgrade(given(), listener.dsn, dsn);
        try {
          await helm(
            '4',
            [
              'upgrade',
              'sallyport',
              'charts/sallyport',
              '-n',
              RELEASE,
              '--reset-then-reuse-values',
              '--set-string',
              `image.tag=${NEXT_TAG}`,
              '--wait',
              '--timeout',
              '180s',
            ],
            { kubeconfig: given().cluster.kubeconfig },
          );
          const operatorsAt = now();
          say(`operators are new after ${(operatorsAt - began).toFixed(0)} s`);
          await given().until(
            'proxies to be new',
            async () => {
              const pods = await podsOf('sallyport-pair');
              return pods.length === 2 &&
                pods.every((pod) => podReady(pod) && pod.spec.containers[0]?.image.endsWith(`:${NEXT_TAG}`))
                ? true
                : undefined;
            },
            240_000,
          );
          const proxiesAt = now();
          await pause(2_000);
          const seen = await watch.stop();
          const looked = await all();
          say(
            `admission refused: ${seen.admission.failures.join(' | ')}; logins failed: ${seen.logins.failures.join(' | ')}`,
          );
          const starts = [...seen.deletedAt.values()].sort((a, b) => a - b);
          assert.equal(starts.length, 2, `${starts.length} pods were replaced`);
          const lives: number[] = [];
          for (const { name, endedAt, error, ticks } of looked) {
            assert.ok(endedAt !== undefined, `${name} still lives on a pod that is gone`);
            assert.match(error, /FATAL:.*Sallyport/s, `${name}: ${error}`);
            const drained = Math.min(...starts.map((at) => endedAt - at).filter((lived) => lived > DRAIN_S - 3));
            assert.ok(drained <= DRAIN_S + 10, `${name} ended ${drained} s after a pod began to go`);
            assert.ok(endedAt - (ticks.at(-1) ?? 0) <= 4, `${name} was silent before its end`);
            lives.push(drained);
          }
          assert.equal(seen.admission.failures.length, 0, `admission refused ${seen.admission.failures.join(' | ')}`);
          assert.equal(
            seen.logins.failures.length,
            0,
            `${seen.logins.failures.length} of ${seen.logins.count} logins failed: ${seen.logins.failures.slice(0, 3).join(' | ')}`,
          );
          return `operators new after ${(operatorsAt - began).toFixed(0)} s, proxies after ${(proxiesAt - began).toFixed(0)} s; sessions ended ${Math.min(...lives).toFixed(0)}-${Math.max(...lives).toFixed(0)} s after their pod was told to go (drain ${DRAIN_S} s); ${seen.logins.count} new logins and ${seen.admission.count} admissions meanwhile, none failed`;
        } finally {
          await watch.stop();
        }
      },
    },
    {
      claim:
        'a namespace with Connections, grants, holds and live sessions is gone within 60 s, whatever drainTimeout says',
      async check() {
        const namespace = 'leaving';
        await given().apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
        // Its own target: a Connection does not reach Services of another namespace.
        const certificate = await testCertificates(targetNames('orders-db', namespace));
        const [connection, policy] = ordersAccess(certificate.ca) as [
          { metadata: object; spec: object },
          { metadata: object; spec: object },
        ];
        const bindings = await Promise.all(
          ['sallyport-requester', 'sallyport-approver'].map(
            async (name) => JSON.parse(await inNamespace('get', 'rolebinding', name, '-o', 'json')) as object,
          ),
        );
        const secret = {
          username: 'orders_writer',
          password: PASSWORDS.orders_writer,
          'sallyport-hosts': `orders-db.${namespace}.svc`,
        };
        await given().apply(
          ...postgresTarget({
            namespace,
            name: 'orders-db',
            password: 'pw-superuser-2',
            roles: PASSWORDS,
            certificate: certificate.server,
          }),
          { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'orders-db-writer', namespace }, stringData: secret },
          ...bindings.map((binding) => ({
            ...binding,
            metadata: { name: (binding as { metadata: Meta }).metadata.name, namespace },
          })),
          {
            ...connection,
            metadata: { name: 'orders-db', namespace },
            spec: {
              ...connection.spec,
              postgresql: { host: `orders-db.${namespace}.svc`, databases: ['orders'], tls: { ca: certificate.ca } },
              accounts: [{ name: 'writer', secretRef: { name: 'orders-db-writer' } }],
              proxy: { drainTimeout: '30m' },
            },
          },
          { ...policy, metadata: { name: 'team', namespace }, spec: { ...policy.spec, accounts: ['writer'] } },
        );
        await given().ready('orders-db', namespace);
        const asked = await given().access('alice', [
          '-n',
          namespace,
          'request',
          'orders-db',
          '--for',
          '1h',
          '--reason',
          'leaving',
          '-o',
          'name',
        ]);
        ok(
          await given().access('carol', [
            '-n',
            namespace,
            'approve',
            asked.stdout.trim().split('/').at(-1) ?? '',
            '--yes',
          ]),
          'approve',
        );
        const sleeping = given().start('alice', [
          '-n',
          namespace,
          'connect',
          'orders-db',
          '--',
          'psql',
          '-X',
          '-c',
          'select pg_sleep(600)',
        ]);
        const held = given().start('alice', [
          '-n',
          namespace,
          'connect',
          'orders-db',
          '--',
          'psql',
          '-X',
          '-c',
          "update orders set state = 'x'",
        ]);
        await given().until('a hold and a session', async () => {
          const [holds, sessions] = await Promise.all(
            ['commandholds', 'accesssessions'].map((kind) => kubectl('-n', namespace, 'get', kind, '-o', 'name')),
          );
          return holds?.trim() && sessions?.trim() ? true : undefined;
        });
        const began = performance.now();
        const namespaceGone = kubectl('delete', 'namespace', namespace, '--timeout=100s');
        const cut = await Promise.all([sleeping.done, held.done]);
        const cutAfter = performance.now() - began;
        await namespaceGone;
        const gone = performance.now() - began;
        assert.ok(gone < 60_000, seconds(gone));
        for (const { stderr } of cut) assert.match(stderr, /FATAL:.*Sallyport/s, stderr);
        return `gone after ${seconds(gone)}; its sessions were cut after ${seconds(cutAfter)}`;
      },
    },
    {
      claim:
        'helm uninstall and then deleting the CRDs, with live Connections, take less than 60 s; claims of records stay',
      async check() {
        const listener = await tunnel();
        const claims = async (): Promise<string[]> =>
          (
            await list<{ metadata: Meta; status: { phase: string } }>(
              'pvc',
              '-n',
              NAMESPACE,
              '-l',
              'app.kubernetes.io/managed-by=sallyport',
            )
          ).map(({ metadata, status }) => `${metadata.name} ${metadata.uid} ${status.phase}`);
        const before = await claims();
        const live = await laptopSessions(given(), 'uninstall', 3, listener.dsn);
        await given().until('sessions', async () =>
          (await live.look()).filter(({ ticks }) => ticks.length > 1).length === 3 ? true : undefined,
        );
        const began = performance.now();
        await helm('4', ['uninstall', 'sallyport', '-n', RELEASE, '--wait', '--timeout', '100s'], {
          kubeconfig: given().cluster.kubeconfig,
        });
        const uninstalled = performance.now() - began;
        await pause(3_000);
        for (const each of await live.look()) assert.equal(each.error, '', `${each.name} goes on without an operator`);
        const crds = (await kubectl('get', 'crd', '-o', 'name'))
          .split('\n')
          .filter((name) => name.endsWith('.sallyport.dev'));
        const deleting = performance.now();
        await kubectl('delete', ...crds, '--timeout=100s');
        const deleted = performance.now() - deleting;
        await given().until('the proxies to be gone', async () => {
          const pods = await list<Pod>('pods', '-A', '-l', 'app.kubernetes.io/managed-by=sallyport');
          return pods.length === 0 ? true : undefined;
        });
        const gone = performance.now() - deleting;
        assert.ok(uninstalled < 60_000, `uninstall ${seconds(uninstalled)}`);
        assert.ok(gone < 60_000, `CRDs and all ${seconds(gone)}`);
        assert.deepEqual(await claims(), before);
        const ends = await live.look();
        for (const each of ends) assert.match(each.error, /FATAL:.*Sallyport/s, `${each.name}: ${each.error}`);
        const leftovers = (
          await kubectl(
            'get',
            'validatingadmissionpolicies,mutatingwebhookconfigurations,clusterroles,clusterrolebindings',
            '-o',
            'name',
          )
        )
          .split('\n')
          .filter((name) => name.includes('sallyport'));
        assert.deepEqual(
          leftovers.filter((name) => !name.includes('sallyport-e2e')),
          [],
        );
        await live.stop();
        await reopen();
        await kubectl('delete', 'namespace', RELEASE, '--timeout=60s');
        return `uninstalled after ${seconds(uninstalled)}, sessions went on; CRDs deleted after ${seconds(deleted)}, proxies gone after ${seconds(gone)}; ${before.length} claims stay`;
      },
    },
  ];
}

/** Starts a long statement and gives psql what Ctrl-C gives it. */
const CANCELLED = `
psql "$1" -X -c 'select pg_sleep(60)' > /dev/null 2> /tmp/cancel-$$ &
pid=$!
sleep 2
kill -INT $pid
n=0
while kill -0 $pid 2>/dev/null && [ $n -lt 8 ]; do sleep 1; n=$((n+1)); done
kill -KILL $pid 2>/dev/null
cat /tmp/cancel-$$
rm -f /tmp/cancel-$$
echo "after $n s"
`;

/** A program of the cluster, among all on this machine. */
function processIds(program: string, folder: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const line = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return path.basename(line[0] ?? '') === program && line.some((word) => word.includes(folder));
      } catch {
        return false;
      }
    });
}

interface Watched {
  logins: { count: number; failures: string[] };
  admission: { count: number; failures: string[] };
  /** By pod uid: Unix seconds at which it was told to go. */
  deletedAt: Map<string, number>;
}

/** New logins by both ways, dry-run requests, and when pods are told to go; about one of each a second. */
function watchUpgrade(scene: Scene, tunnelDsn: string, podDsn: string): { stop(): Promise<Watched> } {
  const watched: Watched = {
    logins: { count: 0, failures: [] },
    admission: { count: 0, failures: [] },
    deletedAt: new Map(),
  };
  let stopped = false;
  const loop = async (everyMs: number, act: () => Promise<void>): Promise<void> => {
    while (!stopped) {
      const began = performance.now();
      await act();
      await pause(Math.max(100, everyMs - (performance.now() - began)));
    }
  };
  const stamp = (): string => new Date().toISOString().slice(11, 19);
  const login = (how: string, run: () => Promise<string>) => async (): Promise<void> => {
    watched.logins.count += 1;
    const why = await run();
    if (why !== '') watched.logins.failures.push(`${stamp()} ${how}: ${why.trim()}`);
  };
  const grant = JSON.stringify({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessGrant',
    metadata: { generateName: 'try-', namespace: NAMESPACE },
    spec: { connectionRef: { name: 'pair' }, duration: '1h', reason: 'a try' },
  });
  const loops = [
    loop(
      1_500,
      login('tunnel', async () => (await run('psql', [tunnelDsn, '-X', '-A', '-t', '-c', 'select 1'])).stderr),
    ),
    loop(
      1_500,
      login('Service', () =>
        scene
          .inNamespace(
            'exec',
            'client-1',
            '--',
            'sh',
            '-c',
            `cat > /dev/null; psql "$1" -X -A -t -c 'select 1' 2>&1 > /dev/null; true`,
            'login',
            podDsn,
          )
          .catch(String),
      ),
    ),
    loop(700, async () => {
      watched.admission.count += 1;
      await scene.cluster
        .kubectl(['create', '--dry-run=server', '-f', '-'], { user: 'alice', input: grant })
        .catch((error: unknown) => {
          watched.admission.failures.push(`${stamp()} ${String(error)}`);
        });
    }),
    loop(1_000, async () => {
      const text = await scene
        .inNamespace('get', 'pods', '-l', 'sallyport.dev/workload=sallyport-pair', '-o', 'json')
        .catch(() => '{"items":[]}');
      for (const { metadata } of (JSON.parse(text) as { items: Pod[] }).items)
        if (metadata.deletionTimestamp !== undefined)
          watched.deletedAt.set(
            metadata.uid,
            Date.parse(metadata.deletionTimestamp) / 1000 - (metadata.deletionGracePeriodSeconds ?? 0),
          );
    }),
  ];
  return {
    async stop() {
      stopped = true;
      await Promise.all(loops);
      return watched;
    },
  };
}

let scene: Scene | undefined;
const theScene = (): Scene => {
  assert.ok(scene !== undefined, 'the scene was not started');
  return scene;
};

export const life: CriteriaGroup = {
  name: 'life',
  async start() {
    scene = await startOrdersScene(say);
  },
  async stop() {
    await scene?.stop();
  },
  criteria: lifeCriteria(theScene),
};
