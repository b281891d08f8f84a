// Replicas and processes that come and go, and credentials that change.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type LiveSession, podSessions } from '../../e2e/live-sessions.ts';
import { askPsql } from '../../e2e/orders.ts';
import { processesOf } from '../../e2e/pods.ts';
import { NAMESPACE, succeeded as ok, run, type Scene } from '../../e2e/scene.ts';
import { restartFile } from '../../support/cluster/node/plan.ts';
import { clientPod } from '../../support/cluster/node/postgres-image/manifests.ts';
import { processesWhere } from '../../support/processes.ts';
import type { Criterion } from '../criterion.ts';
import { DRAIN_S, type LifeBed, type Meta, now, type Pod, seconds } from './life-bed.ts';

export function replicaCriteria(given: () => Scene, bed: LifeBed): Criterion[] {
  return [
    {
      claim: 'processes at rest: what operator and proxy keep in memory',
      async check() {
        await given().ready('orders-db');
        await pause(5_000);
        const operators = (await bed.operatorPods()).map((pod) =>
          bed.rssOf(bed.only(processesOf(pod.metadata.uid, 'main.js\0operator'), 'operator')),
        );
        const [proxy] = await bed.podsOf('sallyport-orders-db');
        assert.ok(proxy !== undefined);
        const rss = bed.rssOf(bed.only(processesOf(proxy.metadata.uid, 'main.js\0proxy'), 'proxy'));
        for (const each of operators) assert.ok(each < 256, `operator ${each} MB`);
        assert.ok(rss < 160, `proxy ${rss} MB`);
        return `RSS of operators ${operators.map((each) => each.toFixed(0)).join(' and ')} MB, of a proxy ${rss.toFixed(0)} MB`;
      },
    },
    {
      claim: 'a Connection with two replicas: both are ready and certified, a budget lets one go at a time, both serve',
      async check() {
        const began = performance.now();
        await bed.connect('pair', { replicas: 2, drainTimeout: `${DRAIN_S}s` });
        await given().ready('pair');
        await given().until('both pods', async () =>
          (await bed.podsOf('sallyport-pair')).filter(bed.podReady).length === 2 ? true : undefined,
        );
        const took = performance.now() - began;
        const budget = JSON.parse(await bed.inNamespace('get', 'pdb', 'sallyport-pair', '-o', 'json')) as {
          spec: { maxUnavailable: number };
        };
        assert.equal(budget.spec.maxUnavailable, 1);
        await bed.grantFor('pair');
        await given().apply(...[1, 2, 3].map((n) => clientPod({ namespace: NAMESPACE, name: `client-${n}` })));
        await bed.inNamespace(
          'wait',
          '--for=condition=Ready',
          'pod',
          'client-1',
          'client-2',
          'client-3',
          '--timeout=60s',
        );
        const live = await bed.spread('both');
        const perReplica = await given().until('sessions on both', async () => {
          const replicas = await bed.list<{ metadata: Meta; spec: { sessions: number } }>(
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
        const listener = await bed.tunnel();
        const dsn = await bed.podDsn('pair', 'client-1', 'client-2', 'client-3');
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
        const live = await bed.spread('kill');
        const [first, second] = (await bed.podsOf('sallyport-pair')).sort((a, b) =>
          a.metadata.name < b.metadata.name ? -1 : 1,
        );
        assert.ok(first !== undefined && second !== undefined);
        const killedAt = now();
        process.kill(bed.only(processesOf(second.metadata.uid, 'main.js\0proxy'), 'proxy'), 'SIGKILL');
        await pause(6_000);
        const afterKill = await live.look();
        const died = afterKill.filter(({ endedAt }) => endedAt !== undefined).length;
        assert.ok(died > 0 && died < 12, `${died} of 12 ended with the killed process`);
        for (const each of afterKill)
          if (each.endedAt === undefined) assert.ok((each.ticks.at(-1) ?? 0) > killedAt + 3, `${each.name} goes on`);
        const back = await given().until('the killed one to be ready', async () => {
          const pods = await bed.podsOf('sallyport-pair');
          const again = pods.some(({ status }) => (status.containerStatuses?.[0]?.restartCount ?? 0) > 0);
          return again && pods.filter(bed.podReady).length === 2 ? now() - killedAt : undefined;
        });
        await live.stop();
        // Sessions on both again, then one pod is deleted: its sessions have the drain time.
        const more = await bed.spread('delete');
        const deletedAt = now();
        await bed.inNamespace('delete', 'pod', first.metadata.name, '--wait=false');
        await pause((DRAIN_S - 5) * 1000);
        const during = await more.look();
        for (const each of during)
          assert.equal(
            each.endedAt,
            undefined,
            `${each.name} ended ${(each.endedAt ?? 0) - deletedAt} s after the deletion: ${each.error}`,
          );
        await given().until('the deleted pod to be gone', async () =>
          (await bed.podsOf('sallyport-pair')).every(({ metadata }) => metadata.uid !== first.metadata.uid)
            ? true
            : undefined,
        );
        await pause(2_000);
        const after = await more.look();
        const cut = after.filter(({ endedAt }) => endedAt !== undefined);
        assert.ok(cut.length > 0 && cut.length < 12, `${cut.length} of 12 cut`);
        for (const each of cut) assert.match(each.error, /FATAL:.*Sallyport/s, each.error);
        await given().until('both again', async () =>
          (await bed.podsOf('sallyport-pair')).filter(bed.podReady).length === 2 ? true : undefined,
        );
        // A new grant's sessions land on both; revoking it cuts them wherever they are.
        await more.stop();
        const rest = await bed.spread('revoke');
        const grant = (
          await bed.list<{ metadata: Meta; spec: { connectionRef: Meta }; status: { phase: string } }>(
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
        await Promise.all([rest.stop(), bed.reopen()]);
        await bed.grantFor('pair');
        return `kill -9: ${died} of 12 ended, ready again after ${back.toFixed(1)} s; deleted pod: ${cut.length} of 12 cut, none before ${(Math.min(...cut.map(({ endedAt }) => endedAt ?? 0)) - deletedAt).toFixed(0)} s of ${DRAIN_S}; revocation cut 12 of 12 on both within ${(Math.max(...ends.map(({ endedAt }) => endedAt ?? 0)) - revokedAt).toFixed(0)} s of asking`;
      },
    },
    {
      claim: 'a rotated Secret is used by the next login, without a restart',
      async check() {
        const listener = await bed.tunnel();
        const before = (await bed.podsOf('sallyport-pair')).map(({ metadata }) => metadata.uid).sort();
        const rotated = 'pw-writer-rotated-9b1d';
        const target = (await bed.list<Pod>('pods', '-n', NAMESPACE, '-l', 'app=orders-db'))[0]?.metadata.name ?? '';
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
              const ran = await bed.psql(listener.dsn, 'select 1');
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
        assert.deepEqual((await bed.podsOf('sallyport-pair')).map(({ metadata }) => metadata.uid).sort(), before);
        return `logins work ${seconds(performance.now() - began)} after the Secret changed; until then: ${refused}`;
      },
    },
    {
      claim: 'INV-10: operators killed three times and an API server restarted: live sessions do not notice',
      async check() {
        const dsn = await bed.podDsn('pair', 'client-1', 'client-2');
        const live = [
          await podSessions(given(), 'client-1', 'restart', 5, dsn),
          await podSessions(given(), 'client-2', 'restart', 5, dsn),
        ];
        const all = async (): Promise<LiveSession[]> => (await Promise.all(live.map((each) => each.look()))).flat();
        await given().until('10 sessions', async () =>
          (await all()).filter(({ ticks }) => ticks.length > 1).length === 10 ? true : undefined,
        );
        for (let round = 0; round < 3; round += 1) {
          for (const pod of await bed.operatorPods())
            for (const pid of processesOf(pod.metadata.uid, 'main.js\0operator')) process.kill(pid, 'SIGKILL');
          await pause(2_000);
        }
        const killedAt = performance.now();
        await given().until(
          'operators to be ready',
          async () => ((await bed.operatorPods()).filter(bed.podReady).length === 2 ? true : undefined),
          120_000,
        );
        const operatorsBack = performance.now() - killedAt;
        const { cluster } = given();
        fs.writeFileSync(restartFile(cluster.folder, 'kube-apiserver'), '');
        const api = processIds('kube-apiserver', cluster.folder);
        process.kill(bed.only(api, 'kube-apiserver'), 'SIGKILL');
        const apiKilledAt = performance.now();
        await given().until('the API server', async () =>
          (await bed.kubectl('get', '--raw', '/readyz')).includes('ok') ? true : undefined,
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
        const grant = await given().until('a grant after it all', () => bed.grantFor('orders-db'), 60_000);
        const row = ok(await askPsql(given(), 'alice', 'orders-db', 'select 40 + 2'), 'connect');
        assert.match(row.stdout, /42/);
        await Promise.all(live.map((each) => each.stop()));
        await bed.reopen();
        return `10 sessions, longest pause ${gap} s; operators ready ${seconds(operatorsBack)} after the third kill; API server away ${seconds(apiBack)}; ${grant} made and used after`;
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
  return processesWhere((read) => {
    const line = read('cmdline').split('\0');
    return path.basename(line[0] ?? '') === program && line.some((word) => word.includes(folder));
  });
}
