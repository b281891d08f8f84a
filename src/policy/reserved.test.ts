import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Connection } from '../api/connection.ts';
import { conditionsFor } from './conditions.ts';
import { reservedInConnection, reservedInPolicy } from './reserved.ts';
import { connection as plain, policy, shardOf } from './test-resources.ts';

const review = { everyDays: 90, reviewers: [{ kind: 'Group' as const, name: 'security' }] };

test('a policy that counts on reviews to end access is not accepted where none are held', () => {
  const [compiled] = shardOf({ policies: [policy('team', { review: { ...review, onStale: 'Deny' } })] }).policies;
  assert.equal(compiled?.accepted, false);
  assert.match(compiled?.problem ?? '', /spec\.review\.onStale/);
});

test('what is not acted on is said where the policy is accepted', () => {
  const made = policy('team', { review });
  const [compiled] = shardOf({ policies: [made] }).policies;
  assert.equal(compiled?.accepted, true);
  const [told] = conditionsFor([{ on: 'orders-db', policy: compiled }], reservedInPolicy(made));
  assert.match(
    told?.message ?? '',
    /In force on orders-db\. Not acted on here: spec\.review \(this version holds no reviews/,
  );
  const plain = policy('team', {});
  assert.deepEqual(reservedInPolicy(plain), []);
  assert.doesNotMatch(conditionsFor([{ on: 'orders-db', policy: compiled }])[0]?.message ?? '', /Not acted on/);
});

const connection = (spec: Partial<Connection['spec']>): Connection => {
  const made = plain();
  return { ...made, spec: { ...made.spec, ...spec } };
};

test('a Connection hears only of what is in vain where it is', () => {
  const made = connection({
    proxy: { replicas: 2 },
    exposure: { type: 'LoadBalancer', annotations: { a: 'b' }, sourceRanges: ['10.0.0.0/8'] },
    recording: { storeRef: { name: 'default' } },
    networkPolicy: { targetPodSelector: { app: 'db' } },
  });
  assert.deepEqual(reservedInConnection(made, 'Cluster'), []);
  assert.deepEqual(
    reservedInConnection(made, 'Local').map(({ path }) => path),
    [
      '/spec/recording/storeRef',
      '/spec/proxy',
      '/spec/exposure/type',
      '/spec/exposure/annotations',
      '/spec/exposure/sourceRanges',
      '/spec/networkPolicy',
    ],
  );
  const tls = connection({ postgresql: { host: 'db.example', tls: { caFile: 'ca.pem' } } });
  assert.deepEqual(reservedInConnection(tls, 'Local'), []);
  assert.match(reservedInConnection(tls, 'Cluster')[0]?.hint ?? '', /into ca/);
});
