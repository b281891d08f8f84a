// Proxies hear of each shard on its own, in no order that could be relied on: what leaves a shard is gone for them, wherever
// else it may be by then. So every single write is judged, by what was in that shard before.
import assert from 'node:assert/strict';
import test from 'node:test';
import type { GrantShardName, GrantsShard, ShardEnvelope } from '../../policy/bundle.ts';
import type { ShardPublisher } from '../ports.ts';
import { alice, connection, policy, type World, world } from '../test-operator.ts';

const FREE = policy('payments', 'team', 'dev', 'dba').replace(/^.*approval:.*$\n/m, '');

/** Keeps shards over restarts, as an API server does. */
function storage() {
  const shards = new Map<string, Map<string, ShardEnvelope>>();
  /** Uids that were taken out of a shard, write by write. */
  const taken: { shard: string; uid: string }[] = [];
  const uidsOf = (envelope: ShardEnvelope | undefined): string[] =>
    envelope?.shard.startsWith('grants-') === true
      ? (JSON.parse(envelope.payload) as GrantsShard).grants.map(({ uid }) => uid)
      : [];
  const of = (uid: string): Map<string, ShardEnvelope> => {
    const known = shards.get(uid) ?? new Map<string, ShardEnvelope>();
    shards.set(uid, known);
    return known;
  };
  const replace = (uid: string, shard: string, envelope: ShardEnvelope | undefined): void => {
    const now = new Set(uidsOf(envelope));
    for (const grant of uidsOf(of(uid).get(shard))) if (!now.has(grant)) taken.push({ shard, uid: grant });
    if (envelope === undefined) of(uid).delete(shard);
    else of(uid).set(shard, envelope);
  };
  const publisher: ShardPublisher = {
    publish: (envelope) => replace(envelope.connectionUid, envelope.shard, envelope),
    withdraw: (uid, shard) => replace(uid, shard, undefined),
    keepOnly(uid, wanted) {
      for (const shard of of(uid).keys()) if (!wanted.has(shard)) replace(uid, shard, undefined);
    },
    placed: (uid) =>
      new Map(
        [...of(uid)].flatMap(([shard, envelope]) =>
          uidsOf(envelope).map((grant) => [grant, shard as GrantShardName] as const),
        ),
      ),
  };
  const layout = (): Record<string, number> =>
    Object.fromEntries(
      [...shards.values()].flatMap((each) =>
        [...each]
          .filter(([name]) => name.startsWith('grants-'))
          .map(([name, envelope]) => [name, uidsOf(envelope).length]),
      ),
    );
  return { publisher, taken, layout };
}

const ask = async (at: World, count: number, duration: string): Promise<string[]> => {
  const uids: string[] = [];
  for (let index = 0; index < count; index += 1) uids.push((await at.grant(alice, { duration })).metadata.uid);
  return uids;
};

test('INV-10: a grant in force leaves its shard at no moment, however many come and go and whoever begins anew', async (context) => {
  const { publisher, taken, layout } = storage();
  const at = await world(context, connection('payments') + FREE, undefined, () => ({ publisher }));
  const steady = await ask(at, 4, '2h');
  const crowd = await ask(at, 59, '1h');
  assert.deepEqual(layout(), { 'grants-0': 63 });
  // Over the limit of one shard, by one who knows what was where and by one who has to look.
  crowd.push(...(await ask(at, 1, '1h')));
  await at.restart();
  crowd.push(...(await ask(at, 6, '1h')));
  assert.deepEqual([layout(), taken], [{ 'grants-0': 64, 'grants-1': 6 }, []]);
  const late = await ask(at, 1, '2h');
  await at.restart();
  assert.deepEqual([layout(), taken], [{ 'grants-0': 64, 'grants-1': 7 }, []]);
  // And back below it: only those whose time is over go.
  at.clock.advance(3_600_000 + 1_000);
  await at.settle();
  assert.deepEqual(layout(), { 'grants-0': 4, 'grants-1': 1 });
  assert.deepEqual(taken.map(({ uid }) => uid).toSorted(), crowd.toSorted());
  taken.splice(0);
  await at.restart();
  await ask(at, 1, '30m');
  assert.deepEqual([layout(), taken], [{ 'grants-0': 5, 'grants-1': 1 }, []]);
  at.clock.advance(3_600_000);
  await at.settle();
  assert.deepEqual(layout(), { 'grants-0': 0 }, 'an empty shard goes, the first apart');
  assert.equal(taken.length, steady.length + late.length + 1);
});
