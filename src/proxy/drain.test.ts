import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConnectionSpec } from '../api/connection.ts';
import { longestDrainMs } from './drain.ts';

const connection = (drainTimeout?: string): { spec: ConnectionSpec } => ({
  spec: {
    type: 'PostgreSQL',
    postgresql: { host: 'db.example', databases: ['orders'] },
    accounts: [{ name: 'reader', secretRef: { name: 'reader' } }],
    ...(drainTimeout === undefined ? {} : { proxy: { drainTimeout } }),
  } as ConnectionSpec,
});

test('a drain time below the default is kept: the pod is killed when its grace period is over', () => {
  assert.equal(longestDrainMs([connection('5s')]), 5_000);
  assert.equal(longestDrainMs([connection('0s')]), 0);
});

test('of a group the longest counts, and who says nothing asks for 30 s', () => {
  assert.equal(longestDrainMs([connection('5s'), connection()]), 30_000);
  assert.equal(longestDrainMs([connection('5s'), connection('10m'), connection()]), 600_000);
  assert.equal(longestDrainMs([]), 30_000);
});
