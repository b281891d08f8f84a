import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { AccessLock } from '../../api/lock.ts';
import { type BundleGrant, type GrantShardName, SHARD_LIMIT } from '../../policy/bundle.ts';
import { bundleLocks, grantShards } from './build.ts';

const grantArbitrary = fc.record({ uid: fc.uuid(), groups: fc.integer({ min: 0, max: 200 }) }).map(
  ({ uid, groups }): BundleGrant => ({
    name: `orders-db-${uid.slice(0, 5)}`,
    uid,
    specHash: '0'.repeat(64),
    principal: {
      username: 'alice',
      groups: Array.from({ length: groups }, (_, index) => `group-${index}`),
      aliases: [],
    },
    via: 'Local',
    account: 'writer',
    policy: 'payments/team',
    commandHashes: [],
    notBeforeMs: 0,
    expiresAtMs: 1,
    ticketUntilExpiry: false,
  }),
);

test('every grant is in exactly one shard, and shards stay within their limit', () => {
  fc.assert(
    fc.property(fc.uniqueArray(grantArbitrary, { maxLength: 300, selector: (each) => each.uid }), (grants) => {
      const shards = grantShards(grants);
      const all = [...shards.values()].flat();
      assert.equal(all.length, grants.length);
      assert.deepEqual(new Set(all), new Set(grants));
      for (const shard of shards.values()) assert.ok(JSON.stringify({ grants: shard }).length <= SHARD_LIMIT);
      assert.ok(shards.has('grants-0'));
      for (const [name, part] of shards) assert.ok(part.length > 0 || name === 'grants-0', `${name} is empty`);
    }),
    { numRuns: 60 },
  );
});

const placesOf = (shards: ReadonlyMap<GrantShardName, readonly BundleGrant[]>): Map<string, GrantShardName> =>
  new Map([...shards].flatMap(([name, part]) => part.map(({ uid }) => [uid, name] as const)));

test('INV-10: whoever comes and goes, a grant that stays never moves to another shard', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(grantArbitrary, { minLength: 1, maxLength: 300, selector: (each) => each.uid }),
      fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 8 }),
      (all, windows) => {
        let places = new Map<string, GrantShardName>();
        for (const [start, length] of windows) {
          // Whatever order the cache has them in.
          const from = start % all.length;
          const some = [...all.slice(from), ...all.slice(0, from)].slice(0, length % (all.length + 1));
          const shards = grantShards(some, places);
          const now = placesOf(shards);
          assert.equal(now.size, some.length);
          for (const [uid, place] of now) assert.equal(place, places.get(uid) ?? place);
          for (const shard of shards.values()) assert.ok(JSON.stringify({ grants: shard }).length <= SHARD_LIMIT);
          assert.deepEqual(grantShards(some.toReversed(), now), shards, 'the same again, from what is stored');
          places = now;
        }
      },
    ),
    { numRuns: 40 },
  );
});

test('shards run empty from the highest on, and one grant more changes one of them', () => {
  const grants = fc.sample(grantArbitrary, { numRuns: 200, seed: 7 }).map((grant) => ({
    ...grant,
    principal: { ...grant.principal, groups: [] },
  }));
  const full = grantShards(grants);
  assert.deepEqual([...full.keys()], ['grants-0', 'grants-1', 'grants-2', 'grants-3']);
  // One of the second shard and one of the third are still there; who comes goes to the first.
  const left = [full.get('grants-1')![0]!, full.get('grants-2')![0]!];
  const next = grantShards([...left, ...grants.slice(0, 1)], placesOf(grantShards(left, placesOf(full))));
  assert.deepEqual(
    [...next].map(([name, part]) => [name, part.length]),
    [
      ['grants-0', 1],
      ['grants-1', 1],
      ['grants-2', 1],
    ],
  );
});

test('INV-04: what a proxy would not take at all is split, wherever it was; what names no shard is placed anew', () => {
  const big = (uid: string): BundleGrant => ({
    ...fc.sample(grantArbitrary, { numRuns: 1, seed: 3 })[0]!,
    uid,
    commandHashes: Array.from({ length: 1_500 }, (_, index) => `${index}`.padStart(64, '0')),
  });
  const grants = ['a', 'b', 'c', 'd'].map(big);
  const all = new Map(grants.map(({ uid }) => [uid, 'grants-2' as const]));
  const shards = grantShards(grants, all);
  for (const shard of shards.values()) assert.ok(JSON.stringify({ grants: shard }).length <= SHARD_LIMIT);
  assert.equal([...shards.values()].flat().length, 4);
  assert.equal(shards.get('grants-2')!.length, 2);
  for (const name of ['grants-', 'grants--1', 'grants-4096', 'grants-1.5', 'policy'])
    assert.deepEqual([...grantShards([big('a')], new Map([['a', name as GrantShardName]])).keys()], ['grants-0']);
});

const lock = (target: AccessLock['spec']['target'], until?: string): AccessLock => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessLock',
  metadata: {
    name: 'l',
    namespace: 'payments',
    uid: 'u',
    resourceVersion: '1',
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: { target, reason: 'r', ...(until !== undefined ? { until } : {}) },
});

test('INV-03: a lock reaches what it names, for its time, and one whose time can not be read stays', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const db = { name: 'orders-db' };
  assert.equal(bundleLocks(db, [lock({ user: 'alice' })], now).length, 1);
  assert.deepEqual(bundleLocks(db, [lock({ connection: 'orders-db' })], now)[0]?.target, { connection: true });
  assert.equal(bundleLocks(db, [lock({ connection: 'another' })], now).length, 0);
  assert.equal(bundleLocks(db, [lock({ everything: true }, '2025-12-31T00:00:00Z')], now).length, 0);
  assert.equal(bundleLocks(db, [lock({ everything: true }, '2026-01-01T01:00:00Z')], now).length, 1);
  assert.equal(bundleLocks(db, [lock({ everything: true }, 'soon')], now).length, 1);
});
