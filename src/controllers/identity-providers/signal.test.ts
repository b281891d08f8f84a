import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProxyReplica, ProxyReplicaSpec } from '../../api/replica.ts';
import { createSignal, toldByReplica } from './signal.ts';

const replica = (unknownKeys?: ProxyReplicaSpec['unknownKeys']): ProxyReplica =>
  ({
    metadata: { name: 'sallyport-orders-0' },
    spec: unknownKeys === undefined ? {} : { unknownKeys },
  }) as ProxyReplica;
const at = (minute: number): string => `2026-01-01T00:0${minute}:00Z`;

test('a proxy’s word is told when it changes, and once', () => {
  const corp = { provider: 'corp', at: at(1) };
  assert.deepEqual(toldByReplica(replica(), undefined), []);
  assert.deepEqual(toldByReplica(replica([corp]), replica()), ['corp']);
  assert.deepEqual(toldByReplica(replica([corp]), replica([corp])), []);
  const again = replica([
    { provider: 'ci', at: at(1) },
    { ...corp, at: at(2) },
  ]);
  assert.deepEqual(toldByReplica(again, replica([corp])), ['ci', 'corp']);
});

test('INV-11: one signal a minute and provider goes out; a failure is logged and nothing waits for it', async () => {
  const sent: unknown[] = [];
  const logged: string[] = [];
  let now = 0;
  const signal = createSignal({
    client: {
      patch(path, body) {
        assert.match(path, /namespaces\/sallyport-system\/leases\/sallyport-unknown-keys$/);
        sent.push(body);
        return sent.length === 1
          ? Promise.reject(new Error('no connection'))
          : Promise.resolve({ kind: 'Ok', value: {} } as never);
      },
    },
    namespace: 'sallyport-system',
    clock: { now: () => now, monotonic: () => now, after: () => () => undefined },
    log: (_level, message) => void logged.push(message),
  });
  for (; now < 120_000; now += 1_000) signal('corp');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(sent.length, 2);
  assert.match(JSON.stringify(sent[1]), /unknown-key\.sallyport\.dev\/[0-9a-f]{32}":"1970-01-01T00:01:00\.000Z corp"/);
  assert.equal(logged.length, 1);
});
