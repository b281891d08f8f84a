import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createModel, type Model } from '../../test/support/cluster/model.ts';
import { type Clock, systemClock } from '../system/clock.ts';
import { manualClock } from '../system/manual-clock.ts';
import type { KubeObject } from './object.ts';
import { type Reflector, type ReflectorEvent, startReflector } from './reflector.ts';

interface Thing extends KubeObject {
  value?: number;
}

/** Pauses pass at once. */
const hasty: Clock = {
  ...systemClock,
  after(_ms, callback) {
    const handle = setImmediate(callback);
    return () => clearImmediate(handle);
  },
};
const PATH = '/things';
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function until(holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    assert.ok(turns < 20_000, 'it never came true');
    await turn();
  }
}

/** What somebody knows who only hears the events. */
function listener(): {
  known: Map<string, Thing>;
  events: string[];
  problems: string[];
  onEvent(event: ReflectorEvent<Thing>): void;
} {
  const known = new Map<string, Thing>();
  // A handler's throw would only be logged.
  const problems: string[] = [];
  const events: string[] = [];
  return {
    known,
    events,
    problems,
    onEvent({ type, object, previous }) {
      const { name } = object.metadata;
      events.push(`${type} ${name}`);
      const before = known.get(name)?.metadata;
      if (previous?.metadata.uid !== before?.uid) problems.push(`previous of ${name} is not what was told before`);
      if ((type === 'Added') !== (before === undefined))
        problems.push(`${type} ${name}, known: ${before !== undefined}`);
      if (type === 'Modified' && before?.uid !== object.metadata.uid) problems.push(`${name} became another object`);
      if (Number(before?.resourceVersion) > Number(object.metadata.resourceVersion)) problems.push(`${name} went back`);
      if (type === 'Deleted') known.delete(name);
      else known.set(name, object);
    },
  };
}
const versions = (objects: Iterable<Thing>): string[] =>
  [...objects].map(({ metadata }) => `${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`).sort();
const inStep = (model: Model, reflector: Reflector<Thing>): boolean =>
  versions(reflector.list()).join() === versions(model.objects(PATH).values()).join();

test('INV-10: whatever breaks, the cache becomes what the server has, and every difference is told', async () => {
  const fault = fc.constantFrom('Reset', 'End', 'Gone', 'Refuse', undefined, undefined, undefined, undefined);
  const operation = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('Put' as const), name: fc.nat(6) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('Delete' as const), name: fc.nat(6) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('Other' as const), name: fc.nat(6) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('Compact' as const), name: fc.nat(6) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('Turns' as const), name: fc.nat(6) }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { maxLength: 60 }),
      fc.array(fault, { maxLength: 80 }),
      async (operations, faults) => {
        const model = createModel();
        model.put(PATH, 'n0', {});
        model.put(PATH, 'n1', {});
        let next = 0;
        model.fault = () => faults[next++];
        const heard = listener();
        const reflector = startReflector<Thing>({
          client: model.client,
          path: PATH,
          clock: hasty,
          pageSize: 2,
          onEvent: heard.onEvent,
        });
        for (const { kind, name } of operations) {
          if (kind === 'Put') model.put(PATH, `n${name}`, {});
          else if (kind === 'Delete') model.put(PATH, `n${name}`, undefined);
          else if (kind === 'Other') model.put('/others', `n${name}`, {});
          else if (kind === 'Compact') model.compact();
          else for (let turns = 0; turns < name; turns++) await turn();
        }
        await until(() => inStep(model, reflector));
        assert.deepEqual(versions(heard.known.values()), versions(model.objects(PATH).values()));
        assert.deepEqual(heard.problems, []);
        await reflector.stop();
      },
    ),
    { numRuns: 150 },
  );
});

test('a deletion that nobody saw is told after the next list', async () => {
  const model = createModel();
  for (const name of ['a', 'b', 'c']) model.put(PATH, name, {});
  const heard = listener();
  const reflector = startReflector<Thing>({ client: model.client, path: PATH, clock: hasty, onEvent: heard.onEvent });
  await reflector.synced;
  let broken = true;
  model.fault = (what) => (broken && what !== 'get' ? 'Reset' : undefined);
  model.put(PATH, 'a', {});
  await turn();
  model.put(PATH, 'b', undefined);
  model.put(PATH, 'c', undefined);
  model.put(PATH, 'c', {});
  model.compact();
  await turn();
  broken = false;
  await until(() => inStep(model, reflector));
  assert.ok(heard.events.includes('Deleted b'));
  assert.ok(heard.events.indexOf('Deleted c') < heard.events.lastIndexOf('Added c'), 'it is another object by now');
  assert.deepEqual(heard.problems, []);
  await reflector.stop();
});

test('a handler that throws costs nobody else anything', async () => {
  const model = createModel();
  model.put(PATH, 'a', {});
  const errors: string[] = [];
  const reflector = startReflector<Thing>({
    client: model.client,
    path: PATH,
    clock: hasty,
    log: (level, message) => errors.push(`${level} ${message}`),
    onEvent: () => Promise.reject(new Error('a bug')),
  });
  await reflector.synced;
  model.put(PATH, 'b', {});
  await until(() => inStep(model, reflector));
  assert.deepEqual(new Set(errors), new Set(['error a handler of changes failed']));
  await reflector.stop();
});

test('a slow handler holds the stream back', async () => {
  const model = createModel();
  const reflector = startReflector<Thing>({
    client: model.client,
    path: PATH,
    clock: hasty,
    onEvent: () => gate.promise,
  });
  const gate = Promise.withResolvers<void>();
  await reflector.synced;
  for (let index = 0; index < 50; index++) model.put(PATH, `n${index}`, {});
  for (let turns = 0; turns < 20; turns++) await turn();
  assert.equal(reflector.list().length, 1);
  gate.resolve();
  await until(() => reflector.list().length === 50);
  await reflector.stop();
});

test('what was written is remembered, until the server tells of it or of something newer', async () => {
  const model = createModel();
  model.put(PATH, 'a', {});
  const heard = listener();
  const reflector = startReflector<Thing>({ client: model.client, path: PATH, clock: hasty, onEvent: heard.onEvent });
  await reflector.synced;
  let open = false;
  const gate = Promise.withResolvers<void>();
  model.fault = (what) => (what === 'watch' && !open ? 'Reset' : what === 'line' && !open ? 'Reset' : undefined);
  model.put(PATH, 'a', { kind: 'Older' });
  model.put(PATH, 'a', { kind: 'Mine' });
  reflector.remember(model.objects(PATH).get('a')!);
  assert.equal(reflector.get(undefined, 'a')?.kind, 'Mine');
  open = true;
  gate.resolve();
  await until(() => heard.known.get('a')?.kind === 'Mine');
  assert.deepEqual(heard.events, ['Added a', 'Modified a'], 'the older state is never told');
  reflector.remember({
    ...model.objects(PATH).get('a')!,
    metadata: { name: 'b', uid: 'other', resourceVersion: '99' },
  });
  assert.equal(reflector.get(undefined, 'b'), undefined, 'what was deleted does not come back');
  await reflector.stop();
});

test('indices follow', async () => {
  const model = createModel();
  model.put(PATH, 'a', { kind: 'X' });
  model.put(PATH, 'b', { kind: 'X' });
  const reflector = startReflector<Thing>({
    client: model.client,
    path: PATH,
    clock: hasty,
    indexers: { kind: (object) => [object.kind ?? ''] },
  });
  await reflector.synced;
  assert.equal(reflector.indexed('kind', 'X').length, 2);
  model.put(PATH, 'a', { kind: 'Y' });
  model.put(PATH, 'b', undefined);
  await until(() => inStep(model, reflector));
  assert.deepEqual(reflector.indexed('kind', 'X'), []);
  assert.equal(reflector.indexed('kind', 'Y')[0]?.metadata.name, 'a');
  await reflector.stop();
});

test('a server that refuses is asked again with growing pauses, and says why meanwhile', async () => {
  const clock = manualClock();
  const model = createModel();
  let refusing = true;
  model.fault = () => (refusing ? 'Refuse' : undefined);
  const reflector = startReflector<Thing>({ client: model.client, path: PATH, clock });
  for (let second = 0; second < 300; second++) {
    for (let turns = 0; turns < 4; turns++) await turn();
    clock.advance(1000);
  }
  assert.ok(model.calls.list > 10 && model.calls.list < 30, `${model.calls.list} lists in 5 minutes`);
  assert.match(reflector.status().problem ?? '', /503/);
  assert.equal(reflector.status().synced, false);
  refusing = false;
  for (let second = 0; second < 31; second++) {
    clock.advance(1000);
    await turn();
  }
  await reflector.synced;
  assert.equal(reflector.status().problem, undefined);
  await reflector.stop();
});

test('stopped before the first list it rejects', async () => {
  const model = createModel();
  model.fault = () => 'Reset';
  const reflector = startReflector<Thing>({ client: model.client, path: PATH });
  await turn();
  await reflector.stop();
  await assert.rejects(reflector.synced, /stopped/);
});
