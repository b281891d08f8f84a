import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readIdentification } from './identification.ts';

const read = (role: 'Server' | 'Client', text: string, sizes: readonly number[] = []) => {
  const bytes = Buffer.from(text, 'latin1');
  const reader = readIdentification(role);
  let at = 0;
  for (let i = 0; at < bytes.length; i += 1) {
    const size = sizes[i] ?? bytes.length;
    const found = reader.push(bytes.subarray(at, at + size));
    at += size;
    if (found !== undefined)
      return { version: found.version, rest: Buffer.concat([found.rest, bytes.subarray(at)]).toString('latin1') };
  }
  return undefined;
};

test('a line ends with CR LF or LF, and what follows is untouched', () => {
  assert.deepEqual(read('Server', 'SSH-2.0-x y\r\n\0\0'), { version: 'SSH-2.0-x y', rest: '\0\0' });
  assert.deepEqual(read('Server', 'SSH-2.0-x\nrest'), { version: 'SSH-2.0-x', rest: 'rest' });
  assert.equal(read('Server', 'SSH-2.0-x'), undefined);
});

test('the chunks do not matter', () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-zA-Z0-9 ]{0,40}$/), { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 60 }),
      (lines, sizes) => {
        const earlier = lines.map((line) => `${line}\r\n`).join('');
        assert.deepEqual(read('Client', `${earlier}SSH-2.0-S_1\r\nrest`, sizes), {
          version: 'SSH-2.0-S_1',
          rest: 'rest',
        });
      },
    ),
    { numRuns: 100 },
  );
});

test('a server may say something first, a client may not', () => {
  assert.equal(read('Client', 'welcome\r\nSSH-1.99-x\r\n')?.version, 'SSH-1.99-x');
  assert.throws(() => read('Server', 'welcome\r\nSSH-2.0-x\r\n'), /Invalid SSH identification/);
  assert.throws(() => read('Server', 'G'), /Invalid SSH identification/);
  assert.throws(() => read('Server', 'SSH-1.99-x\r\n'), /2\.0 is needed/);
  assert.throws(() => read('Client', 'SSH-1.5-x\r\n'), /2\.0 is needed/);
});

test('INV-11: what comes first is bounded: the line, the lines before it, and all of them', () => {
  assert.throws(() => read('Server', `SSH-2.0-${'x'.repeat(300)}`), /too long/);
  assert.ok(read('Server', `SSH-2.0-${'x'.repeat(245)}\r\n`));
  assert.throws(() => read('Server', `SSH-2.0-${'x'.repeat(246)}\r\n`), /too long/);
  assert.throws(() => read('Client', 'y'.repeat(9_000)), /too long/);
  assert.throws(() => read('Client', 'y\n'.repeat(1_100)), /too much/);
  assert.throws(() => read('Client', `${'y'.repeat(8_000)}\n`.repeat(9)), /too much/);
});

test('control bytes and bytes beyond ASCII are refused', () => {
  for (const bad of ['\0', '\x1b[2J', '\xff', 'a\rb'])
    assert.throws(() => read('Client', `SSH-2.0-${bad}\r\n`), /not plain text/, JSON.stringify(bad));
});
