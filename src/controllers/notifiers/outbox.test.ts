import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../../system/manual-clock.ts';
import { systemRandom } from '../../system/random.ts';
import type { Delivery } from './media/medium.ts';
import { type Message, messageId } from './message.ts';
import { createOutbox, MOST_WAITING, type Settled } from './outbox.ts';

const START = Date.parse('2026-03-01T12:00:00Z');
const message = (index: number, event: Message['event'] = 'GrantRequested'): Message => ({
  id: messageId('n', { uid: `u${index}`, event }),
  event,
  at: new Date(START + index).toISOString(),
  namespace: 'payments',
  kind: 'AccessGrant',
  name: `g${index}`,
  uid: `u${index}`,
  title: '',
  lines: [],
  facts: {},
});

function bed(answer: (message: Message, maybeSent: boolean) => Delivery) {
  const clock = manualClock(START);
  const attempts: { name: string; maybeSent: boolean; atMs: number }[] = [];
  const settled: Settled[] = [];
  let storeFails = false;
  const outcomes: string[] = [];
  const outbox = createOutbox({
    medium: {
      deliver: async (each, maybeSent) => {
        attempts.push({ name: each.name, maybeSent, atMs: clock.now() });
        return answer(each, maybeSent);
      },
    },
    clock,
    random: systemRandom,
    log: () => undefined,
    name: 'n',
    onSettled: async (batch) => {
      if (storeFails) throw new Error('conflict');
      settled.push(batch);
    },
    count: (outcome) => void outcomes.push(outcome),
  });
  const turn = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 250) {
      clock.advance(Math.min(250, ms - passed));
      for (let round = 0; round < 20; round += 1) await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { clock, outbox, attempts, settled, outcomes, turn, failStore: (fails: boolean) => (storeFails = fails) };
}
const named = (each: readonly { name: string }[]): string[] => each.map(({ name }) => name);

test('emergencies go first, the rest in the order in which it happened, each once', async () => {
  let release: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const { outbox, attempts, turn, settled } = bed(() => ({ kind: 'Taken' }));
  outbox.use({
    deliver: async (each) => (
      await gate, attempts.push({ name: each.name, maybeSent: false, atMs: 0 }), { kind: 'Taken' }
    ),
  });
  for (const index of [1, 3, 2]) outbox.add(message(index), false);
  outbox.add(message(9, 'BreakGlass'), false);
  outbox.add(message(3), false);
  release!();
  await turn(1_000);
  assert.deepEqual(named(attempts), ['g1', 'g9', 'g2', 'g3']);
  assert.deepEqual(settled.flatMap(({ taken }) => named(taken)).sort(), ['g1', 'g2', 'g3', 'g9']);
  assert.ok(outbox.idle);
});

test('while the receiver is away nothing is lost, pauses grow, and what may have arrived is said', async () => {
  let away = true;
  const { outbox, attempts, turn, settled, outcomes } = bed(() =>
    away ? { kind: 'Unavailable', reason: 'no answer', sent: true } : { kind: 'Taken' },
  );
  outbox.add(message(1), false);
  outbox.add(message(2), false);
  await turn(60_000);
  assert.ok(attempts.length >= 5 && attempts.length <= 14, String(attempts.length));
  assert.ok(attempts.every(({ name }) => name === 'g1'));
  assert.deepEqual([attempts[0]!.maybeSent, attempts[1]!.maybeSent], [false, true]);
  assert.deepEqual([settled.at(-1)!.trouble, settled.at(-1)!.waiting], ['no answer', 2]);
  away = false;
  await turn(10 * 60_000);
  assert.deepEqual(
    settled.flatMap(({ taken }) => named(taken)),
    ['g1', 'g2'],
  );
  assert.equal(settled.at(-1)!.trouble, undefined);
  assert.equal(outcomes.filter((each) => each === 'Delivered').length, 2);
});

test('a receiver that asks for a pause gets it', async () => {
  let asked = false;
  const { outbox, attempts, turn } = bed(() => {
    if (asked) return { kind: 'Taken' };
    asked = true;
    return { kind: 'Unavailable', reason: 'too many', retryAfterMs: 30_000, sent: false };
  });
  outbox.add(message(1), false);
  await turn(29_000);
  assert.equal(attempts.length, 1);
  await turn(2_000);
  assert.equal(attempts.length, 2);
});

test('one message that is not wanted is given up and holds up no other', async () => {
  const { outbox, attempts, turn, settled } = bed((each) =>
    each.name === 'g1' ? { kind: 'Refused', reason: 'invalid_blocks' } : { kind: 'Taken' },
  );
  outbox.add(message(1), false);
  outbox.add(message(2), false);
  await turn(1_000);
  assert.ok(named(attempts).includes('g2'));
  await turn(120_000);
  assert.equal(attempts.filter(({ name }) => name === 'g1').length, 4);
  assert.deepEqual(
    settled.flatMap(({ dropped }) => named(dropped)),
    ['g1'],
  );
});

test('INV-11: what waits is bounded, and an emergency is the last to be given up', async () => {
  const { outbox, turn, settled } = bed(() => ({ kind: 'Unavailable', reason: 'away', sent: false }));
  outbox.add(message(0, 'BreakGlass'), false);
  for (let index = 1; index < MOST_WAITING + 50; index += 1) outbox.add(message(index), false);
  await turn(2_000);
  assert.ok(outbox.waiting <= MOST_WAITING);
  assert.equal(settled.flatMap(({ dropped }) => dropped).length, 50);
  assert.ok(settled.flatMap(({ dropped }) => dropped).every(({ event }) => event !== 'BreakGlass'));
});

test('after a day nobody tries any more', async () => {
  const { outbox, turn, settled, clock } = bed(() => ({ kind: 'Unavailable', reason: 'away', sent: false }));
  outbox.add(message(1), false);
  await turn(1_000);
  clock.advance(25 * 3_600_000);
  await turn(10 * 60_000);
  assert.deepEqual(
    settled.flatMap(({ dropped }) => named(dropped)),
    ['g1'],
  );
  assert.equal(outbox.waiting, 0);
});

test('what could not be kept is kept later; nothing is sent again meanwhile', async () => {
  const { outbox, attempts, turn, settled, failStore } = bed(() => ({ kind: 'Taken' }));
  failStore(true);
  outbox.add(message(1), false);
  await turn(2_000);
  assert.equal(settled.length, 0);
  failStore(false);
  await turn(2_000);
  assert.deepEqual([named(settled[0]!.taken), attempts.length], [['g1'], 1]);
});
