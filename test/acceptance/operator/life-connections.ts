// Connections that join and leave a group, and that are deleted and made again.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { podSessions } from '../../e2e/live-sessions.ts';
import { askPsql } from '../../e2e/orders.ts';
import { trustedRoot, verifyRecords } from '../../e2e/records.ts';
import { NAMESPACE, succeeded as ok, type Scene } from '../../e2e/scene.ts';
import type { Criterion } from '../criterion.ts';
import { DRAIN_S, type LifeBed, type Meta, now, seconds } from './life-bed.ts';

export function connectionCriteria(given: () => Scene, bed: LifeBed): Criterion[] {
  const { inNamespace, list, podsOf, grantFor, connect, podDsn } = bed;
  return [
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
  ];
}
