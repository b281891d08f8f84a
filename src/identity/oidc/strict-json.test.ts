import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type JsonFault, readStrictJson, readStrictObject } from './strict-json.ts';

const BOUNDS = { bytes: 1000 };
const fault = (text: string | Uint8Array, bounds = BOUNDS): JsonFault | 'Good' => {
  const reading = readStrictJson(typeof text === 'string' ? Buffer.from(text) : text, bounds);
  return reading.kind === 'Bad' ? reading.fault : 'Good';
};

test('every JSON value reads as JSON.parse reads it, however it is spaced', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom('', ' ', '\t', '\n  '), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      if (!text.isWellFormed() || /\\ud[89a-f]/i.test(text)) return;
      const reading = readStrictJson(Buffer.from(text), { bytes: 1 << 20 });
      assert.equal(reading.kind, 'Good', text);
      assert.equal(JSON.stringify(reading.kind === 'Good' && reading.value), JSON.stringify(JSON.parse(text)));
    }),
    { numRuns: 200 },
  );
});

test('what is read, JSON.parse reads as well, and to the same value', () => {
  const piece = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"b"',
    '"',
    '\\',
    '1',
    '-0',
    '1e3',
    'null',
    'true',
    ' ',
    '.',
    'e',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
      const text = pieces.join('');
      const reading = readStrictJson(Buffer.from(text), BOUNDS);
      let parsed: unknown;
      let infinite = false;
      try {
        parsed = JSON.parse(text, (_key, value: unknown) => {
          infinite ||= typeof value === 'number' && !Number.isFinite(value);
          return value;
        });
      } catch {
        assert.equal(reading.kind, 'Bad', text);
        return;
      }
      if (reading.kind === 'Good') assert.equal(JSON.stringify(reading.value), JSON.stringify(parsed));
      // 1e311 is no number to us.
      else assert.ok(reading.fault === 'RepeatedMember' || (infinite && reading.fault === 'NotJson'), text);
    }),
    { numRuns: 2000 },
  );
});

test('what has two readings, or none, is refused by its cause', () => {
  const cases: [string | Uint8Array, JsonFault][] = [
    ['{"a":1,"a":2}', 'RepeatedMember'],
    ['{"a":1,"\\u0061":2}', 'RepeatedMember'],
    ['[{"x":{"a":1,"b":2,"a":1}}]', 'RepeatedMember'],
    ['{"__proto__":1,"__proto__":2}', 'RepeatedMember'],
    ['{} {}', 'NotJson'],
    ['{}\0', 'NotJson'],
    ['', 'NotJson'],
    ['\ufeff{}', 'NotJson'],
    ['\u00a0{}', 'NotJson'],
    ['{a:1}', 'NotJson'],
    ["{'a':1}", 'NotJson'],
    ['{"a":1,}', 'NotJson'],
    ['[1,]', 'NotJson'],
    ['01', 'NotJson'],
    ['+1', 'NotJson'],
    ['.5', 'NotJson'],
    ['1.', 'NotJson'],
    ['1e999', 'NotJson'],
    ['-', 'NotJson'],
    ['Infinity', 'NotJson'],
    ['"\t"', 'NotJson'],
    ['"\\x41"', 'NotJson'],
    ['"\\u12"', 'NotJson'],
    ['nulll', 'NotJson'],
    ['"\\ud800"', 'NotUtf8'],
    [Buffer.from([0x22, 0xff, 0x22]), 'NotUtf8'],
    [Buffer.from([0x22, 0xc0, 0xaf, 0x22]), 'NotUtf8'],
    [Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 'NotUtf8'],
    [`${'['.repeat(17)}${']'.repeat(17)}`, 'TooDeep'],
    [`"${'x'.repeat(1000)}"`, 'TooLarge'],
  ];
  for (const [text, expected] of cases) assert.equal(fault(text), expected, String(text));
  assert.equal(fault(`${'['.repeat(16)}${']'.repeat(16)}`), 'Good');
  assert.equal(fault('"\\ud83d\\ude00"'), 'Good');
});

test('INV-11: names that every object has are names like any other', () => {
  const read = readStrictObject(Buffer.from('{"__proto__":{"admin":true},"constructor":1,"toString":2}'), BOUNDS)!;
  assert.deepEqual(Object.keys(read), ['__proto__', 'constructor', 'toString']);
  assert.equal(read['admin'], undefined);
  assert.equal(Object.getPrototypeOf(read), null);
  assert.equal('hasOwnProperty' in read, false);
  for (const text of ['[]', '"x"', 'null', '7', '{'])
    assert.equal(readStrictObject(Buffer.from(text), BOUNDS), undefined);
});

test('INV-11: a megabyte of brackets, quotes or backslashes costs no stack', () => {
  for (const unit of ['[', '{"a":', '"\\"', '\\', '"a",']) {
    const text = unit.repeat(1 << 18);
    assert.notEqual(fault(text, { bytes: 1 << 24 }), 'Good');
  }
  assert.equal(fault(`"${'\\n'.repeat(1 << 18)}"`, { bytes: 1 << 24 }), 'Good');
});
