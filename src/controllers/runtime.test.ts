import assert from 'node:assert/strict';
import test from 'node:test';
import type { Resource } from '../api/resource.ts';
import type { ResourceStore, WatchEvent } from '../store/resource-store.ts';
import { systemClock } from '../system/clock.ts';
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
  assert.deepEqual(heard, ['Deleted a', 'Added c'], 'what did not change is not told again');
  assert.equal(cache.get({ kind: 'AccessLock', namespace: 'ns', name: 'a' }), undefined);
  cache.stop();
});

const lock = (name: string, uid: string, version: number): Resource => ({
  apiVersion: 'sallyport.dev/v1alpha1',
  kind: 'AccessLock',
  metadata: { name, namespace: 'ns', uid, resourceVersion: String(version), generation: 1, creationTimestamp: '' },
  spec: {},
});

/** A store whose list and watch a test plays. */
function playedStore(first: Resource[] = []) {
  const played = {
    listed: first,
    version: '1',
    tell: (_event: WatchEvent): void => undefined,
    gone: (): void => undefined,
    store: {
      list: async () => ({ items: played.listed, resourceVersion: played.version }),
      watch: (_kind: string, _from: string, onEvent: (event: WatchEvent) => void, onGone: () => void) => {
        played.tell = onEvent;
        played.gone = onGone;
        return () => undefined;
      },
    } as unknown as ResourceStore,
  };
  return played;
}

test('INV-10: an object that was deleted and made anew while nobody listened is told as deleted and as added', async () => {
  const played = playedStore([lock('a', 'u1', 5), lock('b', 'u2', 6)]);
  const heard: string[] = [];
  const cache = await openCache(
    played.store,
    ['AccessLock'],
    ({ type, object, previous }) => heard.push(`${type} ${object.metadata.uid} ${previous?.metadata.uid ?? '-'}`),
    quiet,
    manualClock(),
  );
  assert.deepEqual(heard.splice(0), ['Added u1 -', 'Added u2 -']);
  played.listed = [lock('a', 'u3', 9), lock('b', 'u2', 6)];
  played.gone();
  await turn();
  assert.deepEqual(heard.splice(0), ['Deleted u1 u1', 'Added u3 -']);
  played.tell({ type: 'Deleted', object: lock('a', 'u1', 8) });
  assert.deepEqual(heard, [], 'a late word of the one before says nothing of the one that is there');
  assert.equal(cache.get({ kind: 'AccessLock', namespace: 'ns', name: 'a' })?.metadata.uid, 'u3');
  cache.stop();
});

test('INV-10: what the cache holds never goes back to an older version', async () => {
  const played = playedStore([lock('a', 'u1', 9)]);
  const heard: string[] = [];
  const cache = await openCache(
    played.store,
    ['AccessLock'],
    ({ object }) => heard.push(object.metadata.resourceVersion),
    quiet,
    manualClock(),
  );
  const held = (): string | undefined =>
    cache.get({ kind: 'AccessLock', namespace: 'ns', name: 'a' })?.metadata.resourceVersion;
  cache.remember(lock('a', 'u1', 8));
  assert.equal(held(), '9', 'an answer that came late');
  cache.remember(lock('a', 'u1', 12));
  played.tell({ type: 'Modified', object: lock('a', 'u1', 11) });
  assert.equal(held(), '12', 'an event from before the write');
  played.listed = [lock('a', 'u1', 10)];
  played.gone();
  await turn();
  assert.equal(held(), '12', 'a list from before the write');
  played.tell({ type: 'Modified', object: lock('a', 'u1', 12) });
  assert.deepEqual(heard, ['9', '12'], 'the write itself is told, once');
  cache.remember(lock('a', 'u2', 20));
  assert.equal(held(), '12', 'another object of that name');
  played.tell({ type: 'Deleted', object: lock('a', 'u1', 13) });
  cache.remember(lock('a', 'u1', 14));
  assert.equal(held(), undefined, 'nothing comes back');
  cache.stop();
});

test('kinds are listed at the same time, each once; where one can not be listed nothing is watched', async () => {
  const asked: string[] = [];
  const gates: (() => void)[] = [];
  let watched = 0;
  let fail = false;
  const store = {
    list: async (kind: string) => {
      asked.push(kind);
      await new Promise<void>((resolve) => gates.push(resolve));
      if (fail && kind === 'CommandHold') throw new Error('no');
      return { items: [], resourceVersion: '1' };
    },
    watch: () => {
      watched += 1;
      return () => (watched -= 1);
    },
  } as unknown as ResourceStore;
  const kinds = ['AccessLock', 'CommandHold', 'AccessGrant', 'AccessLock'] as const;
  const open = openCache(store, kinds, quiet, quiet, manualClock());
  await turn();
  assert.deepEqual(asked, ['AccessLock', 'CommandHold', 'AccessGrant']);
  for (const gate of gates.splice(0)) gate();
  (await open).stop();
  assert.equal(watched, 0);
  fail = true;
  const failed = openCache(store, kinds, quiet, quiet, manualClock());
  await turn();
  for (const gate of gates.splice(0)) gate();
  await assert.rejects(failed, /no/);
  await turn();
  assert.equal(watched, 0);
});

test('a call that ignores its signal holds neither its key, nor the others, nor stop', async () => {
  let calls = 0;
  let aborted = 0;
  const told: string[] = [];
  const queue = createQueue({
    name: 'test',
    clock: systemClock,
    log: (_level, _message, fields) => told.push(String(fields?.['error'])),
    concurrency: 1,
    deadlineMs: 20,
    reconcile: (key, signal) => {
      calls += 1;
      signal.addEventListener('abort', () => (aborted += 1));
      return key === 'deaf' && calls < 3 ? new Promise(() => undefined) : Promise.resolve(undefined);
    },
  });
  queue.add('deaf');
  queue.add('other');
  const end = Date.now() + 10_000;
  while (calls < 3 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(calls >= 3, 'the other key, and the deaf one again');
  assert.match(told[0]!, /signal was ignored/);
  calls = 0;
  queue.add('deaf');
  await turn();
  await queue.stop();
  assert.equal(aborted, 2);
});

test('changes of a failing key have it tried at once, but only a few times', async () => {
  const clock = manualClock();
  let calls = 0;
  const queue = createQueue({
    name: 'test',
    clock,
    log: quiet,
    reconcile: async () => {
      calls += 1;
      // Its own writes are changes of it.
      if (calls < 10_000) queueMicrotask(() => queue.add('a'));
      throw new Error('no');
    },
  });
  queue.add('a');
  for (let round = 0; round < 50; round += 1) await turn();
  assert.equal(calls, 6, 'the first and a burst of five');
  for (let second = 0; second < 60; second += 1) {
    clock.advance(1_000);
    for (let round = 0; round < 5; round += 1) await turn();
  }
  assert.ok(calls > 10 && calls <= 6 + 60 + 12, `${calls} calls in a minute`);
  await queue.stop();
});

test('a key that rests is called for the first change at once, and for all that follow in one go', async () => {
  const clock = manualClock();
  let calls = 0;
  const queue = createQueue({
    name: 'test',
    clock,
    log: quiet,
    restMs: 50,
    reconcile: async () => {
      calls += 1;
      return undefined;
    },
  });
  queue.add('a');
  await turn();
  assert.equal(calls, 1);
  for (let round = 0; round < 5; round += 1) queue.add('a');
  await turn();
  assert.deepEqual([calls, queue.idle], [1, false]);
  clock.advance(50);
  await turn();
  assert.deepEqual([calls, queue.idle], [2, true]);
  clock.advance(50);
  queue.add('a');
  await turn();
  assert.equal(calls, 3);
  await queue.stop();
});

test('sockets and timers have their turn while keys are worked off that wait for nothing', async () => {
  let calls = 0;
  const queues = ['a', 'b'].map((name) =>
    createQueue({
      name,
      clock: manualClock(),
      log: quiet,
      reconcile: () => {
        calls += 1;
        return Promise.resolve(undefined);
      },
    }),
  );
  for (let key = 0; key < 200; key += 1) for (const queue of queues) queue.add(String(key));
  let turns = 0;
  let most = 0;
  for (let before = calls; calls < 400; before = calls) {
    await turn();
    turns += 1;
    most = Math.max(most, calls - before);
    assert.ok(turns < 1000);
  }
  assert.ok(most <= 32, `${most} calls in one turn`);
  await turn();
  assert.ok(queues.every((queue) => queue.idle));
});
