import assert from 'node:assert/strict';
import test from 'node:test';
import type { Resource } from '../api/resource.ts';
import type { ResourceStore } from '../store/resource-store.ts';
import { manualClock } from '../system/manual-clock.ts';
import { createQueue, openCache } from './runtime.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const quiet = (): void => undefined;

test('a key added many times while it runs runs once more, never beside itself', async () => {
  let running = 0;
  let most = 0;
  let calls = 0;
  const gates: (() => void)[] = [];
  const queue = createQueue({
    name: 'test',
    clock: manualClock(),
    log: quiet,
    reconcile: async () => {
      calls += 1;
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => gates.push(resolve));
      running -= 1;
      return undefined;
    },
  });
  for (let round = 0; round < 5; round += 1) queue.add('a');
  await turn();
  assert.equal(calls, 1);
  for (let round = 0; round < 5; round += 1) queue.add('a');
  gates.shift()!();
  await turn();
  assert.equal(calls, 2);
  gates.shift()!();
  await turn();
  assert.deepEqual([calls, most, queue.idle], [2, 1, true]);
});

test('a failing key is retried with growing pauses and holds up no other', async () => {
  const clock = manualClock();
  const calls: string[] = [];
  let healthy = false;
  const queue = createQueue({
    name: 'test',
    clock,
    log: quiet,
    reconcile: async (key) => {
      calls.push(key);
      if (key === 'bad' && !healthy) throw new Error('no');
      return undefined;
    },
  });
  queue.add('bad');
  queue.add('good');
  await turn();
  assert.deepEqual(calls, ['bad', 'good']);
  clock.advance(49);
  await turn();
  assert.equal(calls.length, 2);
  clock.advance(1);
  await turn();
  assert.equal(calls.length, 3);
  clock.advance(60);
  await turn();
  assert.equal(calls.length, 3, 'the second pause is longer');
  healthy = true;
  clock.advance(40);
  await turn();
  assert.equal(calls.length, 4);
  clock.advance(3_600_000);
  await turn();
  assert.equal(calls.length, 4, 'well again, it is left alone');
});

test('a key asks to be looked at later, the earliest wish counts, and stop withdraws it', async () => {
  const clock = manualClock();
  let calls = 0;
  const queue = createQueue({
    name: 'test',
    clock,
    log: quiet,
    reconcile: async () => {
      calls += 1;
      return { againInMs: 1000 };
    },
  });
  queue.add('a');
  await turn();
  clock.advance(1000);
  await turn();
  assert.equal(calls, 2);
  await queue.stop();
  clock.advance(5000);
  await turn();
  queue.add('a');
  await turn();
  assert.equal(calls, 2);
});

test('INV-10: a watch that is too old lists again, and goes on trying where the list fails', async () => {
  const clock = manualClock();
  const object = (name: string): Resource => ({
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessLock',
    metadata: { name, namespace: 'ns', uid: name, resourceVersion: '1', generation: 1, creationTimestamp: '' },
    spec: {},
  });
  let listed = [object('a'), object('b')];
  let failures = 0;
  let gone: () => void = () => undefined;
  const store = {
    list: async () => {
      if (failures > 0) {
        failures -= 1;
        throw new Error('the API server is away');
      }
      return { items: listed, resourceVersion: '7' };
    },
    watch: (_kind: string, _from: string, _onEvent: unknown, onGone: () => void) => {
      gone = onGone;
      return () => undefined;
    },
  } as unknown as ResourceStore;
  const heard: string[] = [];
  const cache = await openCache(
    store,
    ['AccessLock'],
    (event) => heard.push(`${event.type} ${event.object.metadata.name}`),
    quiet,
    clock,
  );
  heard.length = 0;
  listed = [object('b'), object('c')];
  failures = 2;
  gone();
  for (let round = 0; round < 3; round += 1) {
    await turn();
    clock.advance(2_000);
  }
  await turn();
  assert.deepEqual(heard, ['Deleted a', 'Modified b', 'Modified c']);
  assert.equal(cache.get({ kind: 'AccessLock', namespace: 'ns', name: 'a' }), undefined);
  cache.stop();
});
