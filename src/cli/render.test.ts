import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { anyText } from '../../test/support/any-text.ts';
import { age, block, clockTime, facts, jsonText, line, table, yamlText } from './render.ts';

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
    fc.property(anyText(), (text) => {
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

test('INV-11: JSON and YAML hold nothing that a terminal acts on, and read back the same', () => {
  const hostile = [
    '\u001b[2J',
    'a\tb',
    '\u009b31m\u009d0;x\u009c',
    'a\u202egpj\u2066',
    '\u0085',
    'x\u2028y\nz\u200b',
    '\u{e0041}',
  ];
  const value = { plain: 'x', hostile, ['key\u009b']: [{ deep: 'one\ntwo \u009c' }], number: 5 };
  for (const text of [jsonText(value), jsonText(value, 2), yamlText(value)]) {
    assert.doesNotMatch(text, /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    assert.deepEqual(parse(text), value);
  }
  fc.assert(
    fc.property(fc.array(anyText()), (texts) => {
      const given = texts.map((text) => text.toWellFormed());
      for (const text of [jsonText(given), yamlText(given)]) {
        assert.doesNotMatch(text, /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
        assert.deepEqual(parse(text), given);
      }
    }),
    { numRuns: 200 },
  );
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
