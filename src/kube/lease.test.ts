import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createModel, type Model } from '../../test/support/cluster/model.ts';
import type { Clock } from '../system/clock.ts';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import { EPOCH_ANNOTATION, type LeaderElection, startLeaderElection } from './lease.ts';

const FOLDER = '/apis/coordination.k8s.io/v1/namespaces/ns/leases';
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function pass(clock: { advance(ms: number): void }, ms: number, stepMs = 250): Promise<void> {
  for (let gone = 0; gone < ms; gone += stepMs) {
    for (let turns = 0; turns < 6; turns++) await turn();
    clock.advance(stepMs);
  }
  for (let turns = 0; turns < 6; turns++) await turn();
}
interface Candidate {
  election: LeaderElection;
  epochs: number[];
  leading: boolean;
  signal: AbortSignal | undefined;
}
function candidate(model: Model, identity: string, clock: Clock, client = model.client): Candidate {
  const self: Candidate = {
    epochs: [],
    leading: false,
    signal: undefined,
    election: startLeaderElection({
      client,
      namespace: 'ns',
      name: 'sallyport',
      identity,
      clock,
      random: systemRandom,
      log: () => undefined,
      onAcquired(epoch, signal) {
        self.epochs.push(epoch);
        self.leading = true;
        self.signal = signal;
      },
      onLost() {
        self.leading = false;
      },
    }),
  };
  return self;
}
/** The same time, seen with another wall clock, and stopped at will as by SIGSTOP. */
function skewed(clock: Clock, wallMs: number): Clock & { stopped: boolean } {
  const self = {
    stopped: false,
    now: () => clock.now() + wallMs,
    monotonic: () => clock.monotonic(),
    after(ms: number, callback: () => void) {
      let cancel = (): void => undefined;
      const fire = (): void => {
        // Timers of a stopped process fire when it goes on.
        if (self.stopped) cancel = clock.after(50, fire);
        else callback();
      };
      cancel = clock.after(ms, fire);
      return () => cancel();
    },
  };
  return self;
}

test('INV-10: one leads, another follows when it is stopped, with a higher epoch', async () => {
  const clock = manualClock();
  const model = createModel();
  const one = candidate(model, 'one', clock);
  await pass(clock, 1000);
  const two = candidate(model, 'two', clock);
  await pass(clock, 60_000);
  assert.ok(one.leading && one.election.held());
  assert.ok(!two.leading && !two.election.held());
  assert.equal(two.election.holder(), one.election.identity);
  const stopping = one.election.stop();
  await pass(clock, 6000);
  await stopping;
  assert.ok(!one.leading && one.signal?.aborted);
  assert.ok(two.leading, 'a lease that was given back is taken at once');
  assert.ok(two.epochs[0]! > one.epochs[0]!);
  assert.equal(model.objects(FOLDER).get('sallyport')?.metadata.annotations?.[EPOCH_ANNOTATION], String(two.epochs[0]));
  const done = two.election.stop();
  await pass(clock, 1000);
  await done;
});

test('INV-10: wherever the clocks stand, an unreachable holder stops before another starts', async () => {
  const clock = manualClock();
  const model = createModel();
  // The holder's clock is an hour ahead, then one behind: others' times are never compared with one's own.
  for (const skewMs of [3_600_000, -3_600_000]) {
    let cut = false;
    const broken = { ...model.client };
    for (const verb of ['get', 'create', 'replace'] as const) {
      broken[verb] = ((...args: never[]) =>
        cut ? new Promise(() => undefined) : (model.client[verb] as (...given: never[]) => unknown)(...args)) as never;
    }
    const one = candidate(model, 'one', skewed(clock, skewMs), broken);
    await pass(clock, 3000);
    assert.ok(one.leading);
    const two = candidate(model, 'two', clock);
    await pass(clock, 10_000);
    cut = true;
    let overlap = false;
    // 15 s, a renewal and a retry.
    for (let step = 0; step < 300; step++) {
      await pass(clock, 100, 100);
      overlap ||= one.election.held() && two.election.held();
      overlap ||= one.leading && two.leading;
    }
    assert.ok(!overlap);
    assert.ok(!one.leading && two.leading, `${one.leading} ${two.leading}`);
    assert.ok(two.epochs[0]! > one.epochs[0]!);
    const done = two.election.stop();
    await pass(clock, 1000);
    await done;
    model.put(FOLDER, 'sallyport', undefined);
  }
});

test('INV-10: a process that slept through its lease does not hold it when it wakes', async () => {
  const clock = manualClock();
  const model = createModel();
  const sleepy = skewed(clock, 0);
  const one = candidate(model, 'one', sleepy);
  await pass(clock, 5000);
  const two = candidate(model, 'two', clock);
  await pass(clock, 3000);
  assert.ok(one.election.held());
  sleepy.stopped = true;
  await pass(clock, 25_000);
  assert.ok(two.leading && two.election.held());
  assert.ok(!one.election.held(), 'by its own clock, before any of its timers fired');
  sleepy.stopped = false;
  await pass(clock, 1000);
  assert.ok(!one.leading && one.signal?.aborted);
  await pass(clock, 30_000);
  assert.ok(two.leading && !one.leading);
  const done = Promise.all([one.election.stop(), two.election.stop()]);
  await pass(clock, 1000);
  await done;
});

test('INV-10: with any faults and delays no two hold it at once, and epochs rise', async () => {
  const fault = fc.constantFrom('Reset', 'End', 'Refuse', undefined, undefined, undefined);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fault, { maxLength: 60 }),
      fc.array(fc.integer({ min: 0, max: 6000 }), { maxLength: 60 }),
      async (faults, delays) => {
        const clock = manualClock();
        const model = createModel();
        let [nextFault, nextDelay] = [0, 0];
        model.fault = () => faults[nextFault++];
        model.delay = () =>
          new Promise((resolve) => {
            const ms = delays[nextDelay++] ?? 0;
            if (ms === 0) resolve();
            else clock.after(ms, resolve);
          });
        const candidates = ['one', 'two', 'three'].map((name) => candidate(model, name, clock));
        let epochs: number[] = [];
        for (let step = 0; step < 240; step++) {
          await pass(clock, 500, 500);
          const holders = candidates.filter(({ election, leading }) => leading || election.held());
          assert.ok(holders.length <= 1, 'two hold it');
          const last = holders[0]?.epochs.at(-1);
          if (last !== undefined && last !== epochs.at(-1)) epochs = [...epochs, last];
        }
        assert.deepEqual(
          epochs,
          [...new Set(epochs)].sort((a, b) => a - b),
        );
        assert.equal(candidates.filter(({ leading }) => leading).length, 1, 'in the end somebody leads');
        const done = Promise.all(candidates.map(({ election }) => election.stop()));
        await pass(clock, 30_000, 500);
        await done;
      },
    ),
    { numRuns: 15 },
  );
});

test('a lease that is deleted is lost, and then taken anew', async () => {
  const clock = manualClock();
  const model = createModel();
  const one = candidate(model, 'one', clock);
  await pass(clock, 5000);
  model.put(FOLDER, 'sallyport', undefined);
  await pass(clock, 15_000);
  assert.equal(one.epochs.length, 2);
  assert.ok(one.epochs[1]! > one.epochs[0]!);
  assert.ok(one.leading);
  const done = one.election.stop();
  await pass(clock, 1000);
  await done;
});

test('INV-10: a leader that says nothing more is followed within 18 seconds, whenever it fell silent', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 40 }), async (quarters) => {
      const model = createModel();
      const clock = manualClock();
      const ours = skewed(clock, 0);
      const a = candidate(model, 'a', ours);
      await pass(clock, 1_000);
      const b = candidate(model, 'b', clock);
      await pass(clock, 5_000 + quarters * 250);
      assert.deepEqual([a.leading, b.leading], [true, false]);
      ours.stopped = true;
      await pass(clock, 18_000);
      assert.equal(b.leading, true);
      ours.stopped = false;
      await pass(clock, 1_000);
      assert.equal(a.leading, false);
      const ended = Promise.all([a.election.stop(), b.election.stop()]);
      await pass(clock, 1_000);
      await ended;
    }),
    { numRuns: 8 },
  );
});
