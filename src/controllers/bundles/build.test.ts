import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { AccessLock } from '../../api/lock.ts';
import { type BundleGrant, SHARD_LIMIT } from '../../policy/bundle.ts';
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

test('every grant is in exactly one shard, shards stay within their limit, and one more grant moves few', () => {
  fc.assert(
    fc.property(fc.uniqueArray(grantArbitrary, { maxLength: 300, selector: (each) => each.uid }), (grants) => {
      const shards = grantShards(grants);
      const all = [...shards.values()].flat();
      assert.equal(all.length, grants.length);
      assert.deepEqual(new Set(all), new Set(grants));
      for (const shard of shards.values()) assert.ok(JSON.stringify({ grants: shard }).length <= SHARD_LIMIT);
      assert.ok(Number.isInteger(Math.log2(shards.size)));
    }),
    { numRuns: 60 },
  );
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
