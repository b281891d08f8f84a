// An upgrade under live sessions, and how a namespace, the operator and its kinds go.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { type LiveSession, laptopSessions, podSessions } from '../../e2e/live-sessions.ts';
import { NEXT_TAG, nextImage } from '../../e2e/next-image.ts';
import { ordersAccess, PASSWORDS } from '../../e2e/orders.ts';
import { NAMESPACE, succeeded as ok, RELEASE, type Scene, say } from '../../e2e/scene.ts';
import { testCertificates } from '../../support/certificates.ts';
import { postgresTarget, targetNames } from '../../support/cluster/node/postgres-image/manifests.ts';
import { helm } from '../../support/helm.ts';
import type { Criterion } from '../criterion.ts';
import { DRAIN_S, type LifeBed, type Meta, now, type Pod, seconds } from './life-bed.ts';
import { watchUpgrade } from './upgrade-watch.ts';

export function endCriteria(given: () => Scene, bed: LifeBed): Criterion[] {
  const { kubectl, inNamespace, list, podsOf, podReady, podDsn, tunnel, spread, reopen } = bed;
  return [
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
        const psql = (statement: string) =>
          given().start('alice', ['-n', namespace, 'connect', 'orders-db', '--', 'psql', '-X', '-c', statement]);
        const sleeping = psql('select pg_sleep(600)');
        const held = psql("update orders set state = 'x'");
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
