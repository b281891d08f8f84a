import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compact, isDone, MOST_DONE, markDone, readLedger, shortId, writeLedger } from './ledger.ts';
import { messageId } from './message.ts';

const NOW = Date.parse('2026-03-01T12:00:00Z');
const message = (index: number, atMs: number) => ({
  id: messageId('n', { uid: String(index), event: 'GrantRequested' }),
  at: new Date(atMs).toISOString(),
});

test('whatever order things are told in: what was done stays done, what waits is never taken for done, bounds hold', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ ageMs: fc.integer({ min: 0, max: 3 * 3_600_000 }), done: fc.boolean() }), {
        minLength: MOST_DONE,
        maxLength: 3 * MOST_DONE,
      }),
      (events) => {
        let ledger = readLedger(undefined, NOW - 4 * 3_600_000);
        const messages = events.map((event, index) => ({ ...event, ...message(index, NOW - event.ageMs) }));
        const waiting = messages.filter(({ done }) => !done).map(({ ageMs }) => NOW - ageMs);
        for (const each of messages.filter(({ done }) => done)) {
          markDone(ledger, each);
          compact(ledger, waiting.length === 0 ? undefined : Math.min(...waiting), NOW);
          if (ledger.done.size % 100 === 0) ledger = readLedger({ outbox: writeLedger(ledger) }, NOW - 4 * 3_600_000);
        }
        for (const each of messages) {
          if (each.done) assert.ok(isDone(ledger, each.id, NOW - each.ageMs));
          else if (ledger.done.size <= 2 * MOST_DONE) assert.ok(!isDone(ledger, each.id, NOW - each.ageMs));
        }
        assert.ok(ledger.done.size <= 2 * MOST_DONE + 1);
      },
    ),
    { numRuns: 20 },
  );
});

test('what happened before the notifier was made is not told', () => {
  const ledger = readLedger(undefined, NOW);
  assert.ok(isDone(ledger, message(1, NOW - 1).id, NOW - 1));
  assert.ok(!isDone(ledger, message(1, NOW).id, NOW));
  assert.equal(shortId(message(1, NOW).id).length, 16);
});
