import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import type { Resource } from '../../api/resource.ts';
import type { Journal } from './journal.ts';
import { type Change, createState, type Entry, keyOf, type State } from './state.ts';

const put = (name: string, value = 0): Change => ({
  op: 'Put',
  object: {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'Connection',
    metadata: { name, uid: name, resourceVersion: '0', generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { value },
  },
});
const drop = (name: string): Change => ({ op: 'Delete', key: `Connection//${name}` });

function memoryJournal(compactEvery = Number.POSITIVE_INFINITY): Journal<Entry> & { entries: Entry[] } {
  let since = 0;
  const journal = {
    entries: [] as Entry[],
    append(added: readonly Entry[]) {
      journal.entries.push(...added);
      since += added.length;
    },
    get wantsCompaction() {
      return since >= compactEvery;
    },
    compact(all: readonly Entry[]) {
      journal.entries = [...all];
      since = 0;
    },
    close() {},
  };
  return journal;
}
const listed = (state: State): string[] =>
  [...state.objects.values()].map(({ object }) => `${keyOf(object)}@${object.metadata.resourceVersion}`).sort();

const changes = fc.array(
  fc
    .tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.option(fc.nat(9)))
    .map(([name, value]) => (value === null ? drop(name) : put(name, value))),
  { maxLength: 40 },
);

test('INV-10: what is read back after any history, compacted or not, is what was there, and versions go on', () => {
  fc.assert(
    fc.property(changes, fc.integer({ min: 1, max: 10 }), (history, every) => {
      const journal = memoryJournal(every);
      const state = createState(journal, []);
      for (const change of history) state.commit([change]);
      const again = createState(memoryJournal(), journal.entries);
      assert.deepEqual(listed(again), listed(state));
      assert.equal(again.version, state.version);
    }),
    { numRuns: 100 },
  );
});

test('a list and the events after it always give what is there now', async () => {
  await fc.assert(
    fc.asyncProperty(changes, fc.nat(40), async (history, at) => {
      const state = createState(memoryJournal(), []);
      const view = new Map<string, Resource>();
      history.forEach((change, index) => {
        if (index === Math.min(at, history.length - 1)) {
          for (const [key, { object }] of state.objects) view.set(key, object);
          state.watch(
            'Connection',
            state.version,
            ({ type, object }) => {
              assert.equal(type === 'Added', !view.has(keyOf(object)));
              if (type === 'Deleted') view.delete(keyOf(object));
              else view.set(keyOf(object), object);
            },
            () => assert.fail('gone'),
          );
        }
        state.commit([change]);
      });
      await turn();
      if (history.length > 0) assert.deepEqual([...view.values()].map(keyOf).sort(), [...state.objects.keys()].sort());
    }),
    { numRuns: 50 },
  );
});

test('INV-11: history is bounded; who is too far behind is told to list again', async () => {
  const state = createState(memoryJournal(), []);
  state.commit([put('first')]);
  let gone = 0;
  let events = 0;
  state.watch(
    'Connection',
    1,
    () => events++,
    () => gone++,
  );
  state.commit(Array.from({ length: 5000 }, (_, index) => put('a', index)));
  await turn();
  assert.deepEqual([gone, events], [1, 0]);
  state.watch(
    'Connection',
    state.version - 4096,
    () => events++,
    () => gone++,
  );
  await turn();
  assert.deepEqual([gone, events], [1, 4096]);
});

test('INV-04: changes that the disk refused have not happened', async () => {
  const journal = memoryJournal();
  const state = createState(journal, []);
  state.commit([put('a')]);
  state.watch(
    'Connection',
    state.version,
    () => assert.fail('event'),
    () => assert.fail('gone'),
  );
  journal.append = () => {
    throw new Error('full');
  };
  assert.throws(() => state.commit([put('b'), drop('a')]), /full/);
  await turn();
  assert.deepEqual(listed(state), ['Connection//a@1']);
});

test('a watcher that stops inside its own callback hears nothing more', async () => {
  const state = createState(memoryJournal(), []);
  let events = 0;
  const stop = state.watch(
    'Connection',
    0,
    () => {
      events++;
      stop();
    },
    () => {},
  );
  state.commit([put('a'), put('b')]);
  await turn();
  assert.equal(events, 1);
});
