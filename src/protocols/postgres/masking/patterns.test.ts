import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { completePattern, matchesPattern, nameKey } from './patterns.ts';

test('patterns match whole names, whatever the letter case', () => {
  assert.ok(matchesPattern('*.cards.number', 'Sales.Cards.Number'));
  assert.ok(matchesPattern('sales.*.num*er', 'sales.cards.number'));
  assert.ok(matchesPattern('*', 'a.b.c'));
  assert.ok(!matchesPattern('*.cards.number', 'sales.cards.numbers'));
  assert.ok(!matchesPattern('cards.number', 'sales.cards.number'));
  assert.equal(completePattern('cards.number', 3), '*.cards.number');
  assert.equal(completePattern('number', 3), '*.*.number');
});

test('a pattern full of stars takes no longer', () => {
  assert.ok(!matchesPattern(`${'*a'.repeat(2000)}b`, 'a'.repeat(4000)));
});

test('INV-06: names that a server cuts to one identifier share a key', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', minLength: 60, maxLength: 90 }),
      fc.integer({ min: 60, max: 63 }),
      (name, cut) => {
        if (!name.isWellFormed()) return;
        const whole = Buffer.from(name);
        // The server's cut, at a character of its own encoding.
        let at = Math.min(cut, whole.length);
        while (at > 0 && at < whole.length && (whole[at]! & 0xc0) === 0x80) at -= 1;
        if (at < 60) return;
        assert.equal(nameKey(whole.toString('utf8', 0, at)), nameKey(name));
      },
    ),
    { numRuns: 200 },
  );
  assert.equal(nameKey('prÜf'), nameKey('prüf'));
  assert.notEqual(nameKey('Number'), nameKey('number'));
});
