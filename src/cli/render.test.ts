import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { age, block, clockTime, facts, line, table } from './render.ts';

test('a table is aligned and has no trailing space', () => {
  assert.equal(
    table(
      ['NAME', 'WHO', 'AGE'],
      [
        ['orders-db-7fk2p', 'alice', '5s'],
        ['x', '', ''],
      ],
    ),
    'NAME              WHO     AGE\norders-db-7fk2p   alice   5s\nx\n',
  );
});

test('INV-11: whatever others wrote, a terminal sees printable text and the line breaks of a block', () => {
  // oxlint-disable-next-line no-control-regex
  const harmful = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/u;
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.doesNotMatch(line(text), harmful);
      assert.ok(!line(text).includes('\n'));
      assert.doesNotMatch(block(text), harmful);
      assert.doesNotMatch(table(['A', 'B'], [[text, text]]), harmful);
    }),
    { numRuns: 300 },
  );
  assert.equal(line('a\u001b[2Jb\u202ec'), 'a\\u{1b}[2Jb\\u{202e}c');
  assert.equal(block('select 1;\r\n\tdrop'), '    select 1;\n      drop');
});

test('facts line up and leave out what is not there; times are short', () => {
  assert.equal(
    facts([
      ['Who', 'alice'],
      ['Why', undefined],
      ['How long', '1h'],
    ]),
    'Who        alice\nHow long   1h\n',
  );
  assert.deepEqual(
    [age(5_000), age(600_000), age(3 * 3_600_000 + 240_000), age(200_000_000)],
    ['5s', '10m', '3h4m', '2d'],
  );
  const now = Date.parse('2026-01-01T12:00:00Z');
  assert.equal(clockTime('2026-01-01T15:04:00Z', now), '15:04:00Z');
  assert.equal(clockTime('2026-01-02T15:04:00Z', now), '2026-01-02 15:04:00Z');
});
