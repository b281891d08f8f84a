import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { problemOfName, readRecord } from './records.ts';

test('lines are read strictly', () => {
  assert.deepEqual(readRecord('C0644 12 a b'), { kind: 'File', mode: 0o644, size: 12, name: 'a b' });
  assert.deepEqual(readRecord('D4755 0 d'), { kind: 'Directory', mode: 0o4755, name: 'd' });
  assert.deepEqual(readRecord('T1700000000 0 1700000001 999999'), { kind: 'Times' });
  assert.deepEqual(readRecord('E'), { kind: 'End' });
  assert.deepEqual(readRecord('\x01scp: no'), { kind: 'Trouble', fatal: false });
  assert.deepEqual(readRecord('\x02lost'), { kind: 'Trouble', fatal: true });
  for (const none of [
    '',
    'C',
    'C644 1 a',
    'C0648 1 a',
    'C0644 -1 a',
    'C0644 1',
    'C0644 1 ',
    'E ',
    'T1 2 3',
    'X',
    'C0644 99999999999999999 a',
    'C0644  1 a',
  ])
    assert.equal(readRecord(none), undefined, none);
});

test('a name that is let through names something in its directory', () => {
  fc.assert(
    fc.property(
      fc
        .array(fc.constantFrom('.', '/', 'a', '\n', '\0', '\x1b', '\xff', ' '), { minLength: 1, maxLength: 4 })
        .map((parts) => parts.join('')),
      (name) => {
        if (problemOfName(name) === undefined) assert.match(name, /^(?!\.{1,2}$)[^/\x00-\x1f\x7f]+$/);
        else assert.match(name, /^\.{1,2}$|[/\x00-\x1f\x7f]/);
      },
    ),
  );
});
