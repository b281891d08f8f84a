import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HealthFacts, readinessOf } from './health.ts';

const good: HealthFacts = {
  draining: false,
  replica: undefined,
  identity: [],
  records: undefined,
  tunnel: true,
  connections: [{ name: 'orders-db', listening: true, silent: undefined, wasReady: true }],
  feed: [],
  outOfTouch: undefined,
};
const reasons = (change: Partial<HealthFacts>): readonly string[] => readinessOf({ ...good, ...change }).reasons;

test('INV-04: a proxy is ready only when everything that it serves by is there', () => {
  assert.deepEqual(readinessOf(good), { ok: true, reasons: [] });
  assert.deepEqual(reasons({ replica: 'no status' }), ['no status']);
  assert.deepEqual(reasons({ identity: ['no certificate'] }), ['no certificate']);
  assert.deepEqual(reasons({ records: 'no space' }), ['no space']);
  assert.deepEqual(reasons({ tunnel: false }), ['the tunnel is not open yet']);
  assert.deepEqual(reasons({ draining: true, records: 'no space' }), ['it is shutting down']);
  assert.match(reasons({ connections: [] })[0]!, /no Connection to serve/);
});

test('a Connection that has not come yet is named, with what its watches say', () => {
  const connections = [{ name: 'orders-db', listening: false, silent: 'its policy has not arrived', wasReady: false }];
  assert.deepEqual(reasons({ connections, feed: ['bundle a.policy can not be read: 403 Forbidden'] }), [
    'orders-db: its policy has not arrived',
    'orders-db: its port is not open',
    'bundle a.policy can not be read: 403 Forbidden',
  ]);
});

test('silence of the operator alone leaves a pod ready; silence that only this pod hears does not', () => {
  const connections = [{ name: 'orders-db', listening: true, silent: 'no heartbeat for 400 s', wasReady: true }];
  assert.deepEqual(reasons({ connections }), []);
  assert.deepEqual(reasons({ connections, outOfTouch: 'connect ECONNREFUSED' }), [
    'orders-db: no heartbeat for 400 s',
    'the API server can not be heard: connect ECONNREFUSED',
  ]);
  assert.deepEqual(reasons({ outOfTouch: 'connect ECONNREFUSED' }), []);
});
