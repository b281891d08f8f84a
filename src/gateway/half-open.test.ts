import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../system/manual-clock.ts';
import { createHalfOpenPlaces, type HalfOpenPlace } from './half-open.ts';

const LIMITS = { halfOpen: 6, halfOpenPerAddress: 4, halfOpenShareMs: 10_000 };

function door() {
  const clock = manualClock();
  const places = createHalfOpenPlaces(clock, LIMITS);
  const gone: string[] = [];
  let count = 0;
  /** Its name is its address and how many came before it. */
  const come = (address: string): HalfOpenPlace => {
    clock.advance(1);
    const name = `${address}#${count++}`;
    return places.take(address, () => gone.push(name));
  };
  return { clock, places, gone, come };
}

test('INV-11: an address has its share and no more, until its oldest has had its time', () => {
  const { clock, places, gone, come } = door();
  for (let at = 0; at < 4; at++) assert.equal(come('10.0.0.1').kind, 'Taken');
  assert.deepEqual(come('::ffff:10.0.0.1'), { kind: 'Refused', reason: 'HalfOpenPerAddress' });
  assert.deepEqual(gone, []);
  clock.advance(LIMITS.halfOpenShareMs);
  assert.equal(come('10.0.0.1').kind, 'Taken');
  assert.deepEqual(gone, ['10.0.0.1#0']);
  assert.equal(places.size, 4);
});

test('INV-11: whoever holds the most gives way to who holds less, the oldest first', () => {
  const { places, gone, come } = door();
  for (let at = 0; at < 4; at++) come('10.0.0.1');
  for (let at = 0; at < 2; at++) come('10.0.0.2');
  assert.equal(come('10.0.0.3').kind, 'Taken');
  assert.equal(come('10.0.0.3').kind, 'Taken');
  assert.deepEqual(gone, ['10.0.0.1#0', '10.0.0.1#1']);
  // Two each: nobody has more than the newcomer would take from.
  assert.deepEqual(come('10.0.0.3'), { kind: 'Refused', reason: 'HalfOpen' });
  assert.equal(come('10.0.0.4').kind, 'Taken', 'who has none gets one');
  assert.equal(places.size, LIMITS.halfOpen);
});

test('INV-11: where every place is another address’s, the oldest gives way', () => {
  const { gone, come } = door();
  for (let at = 1; at <= 6; at++) come(`10.0.0.${at}`);
  assert.equal(come('10.0.1.1').kind, 'Taken');
  assert.deepEqual(gone, ['10.0.0.1#0']);
});

test('a place is given back once, and not by who gave way', () => {
  const { places, come } = door();
  const first = come('10.0.0.1');
  for (let at = 0; at < 5; at++) come(`10.0.1.${at % 3}`);
  come('10.0.2.1');
  assert.equal(places.size, 6);
  const last = come('10.0.3.1');
  assert.ok(first.kind === 'Taken' && last.kind === 'Taken');
  last.giveBack();
  last.giveBack();
  assert.equal(places.size, 5);
});
