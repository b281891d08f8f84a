import assert from 'node:assert/strict';
import test from 'node:test';
import { manualClock } from '../system/manual-clock.ts';
import { usedTickets } from './used-tickets.ts';

test('INV-11: used tickets are remembered till their end, a bounded number, and none is forgotten for another', () => {
  const clock = manualClock();
  const used = usedTickets(clock, { grant: 2, all: 3 });
  const until = clock.now() + 1_000;
  assert.equal(used.take('a', '1', until), 'Taken');
  assert.equal(used.take('a', '1', until), 'Used');
  assert.equal(used.take('b', '1', until), 'Taken', 'another grant’s ticket of the same id is another');
  assert.equal(used.take('a', '2', until + 1_000), 'Taken');
  assert.equal(used.take('a', '3', until), 'Full');
  assert.equal(used.take('c', '1', until), 'Full');
  assert.equal(used.take('a', '1', until), 'Used');
  clock.advance(1_000);
  assert.equal(used.take('c', '1', until + 9_000), 'Taken');
  assert.equal(used.take('a', '2', until), 'Used');
  assert.equal(used.size, 2);
});
