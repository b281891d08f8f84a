// What a hostile program writes to a recorded terminal must not act on whoever replays it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RecordEnvelope } from '../../../src/recording/envelope.ts';
import { createTeller } from '../../../src/recording/replay.ts';
import { createCast } from '../../../src/recording/terminal/cast.ts';
import { createSanitiser } from '../../../src/recording/terminal/sanitiser.ts';
import { createTimeline } from '../../../src/recording/terminal/timeline.ts';
import { assertHarmless, ESC, HOSTILE } from '../../support/hostile-terminal.ts';
import { openScreen } from '../../support/terminal-screen.ts';

const cut = (text: string, sizes: readonly number[]): string[] => {
  const pieces: string[] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(text.slice(at, at + size));
    at += size;
  }
  return [...pieces, text.slice(at)];
};
function sanitised(text: string, sizes: readonly number[] = []): string {
  const sanitiser = createSanitiser();
  return (
    cut(text, sizes)
      .map((piece) => sanitiser.push(piece))
      .join('') + sanitiser.end()
  );
}

for (const [what, attack] of HOSTILE)
  test(`INV-11: replayed, ${what} does nothing beyond the screen`, async () => {
    const text = `before ${attack} after ${ESC}[1mbold`;
    const shown = sanitised(text);
    assertHarmless(shown);
    const screen = openScreen(80, 24);
    await screen.write(shown);
    assert.deepEqual([screen.answers, screen.reached], [[], []]);
    assert.equal(screen.modes['mouseTrackingMode'], 'none');
    assert.deepEqual(
      [screen.modes['bracketedPasteMode'], screen.modes['sendFocusMode'], screen.modes['applicationCursorKeysMode']],
      [false, false, false],
    );
    assert.equal(screen.look().screen, 'normal');
    screen.close();
  });

const piece = fc.oneof(
  fc.constantFrom(...HOSTILE.map(([, attack]) => attack)),
  fc.string({ unit: 'binary', maxLength: 10 }),
  fc.string({
    unit: fc.constantFrom(
      ESC,
      '[',
      ']',
      'P',
      '?',
      '2',
      ';',
      ':',
      '5',
      'h',
      'm',
      'J',
      '\\',
      '\u0007',
      '\u0018',
      '(',
      '0',
      'c',
      ' ',
      '!',
      'p',
      '>',
    ),
    maxLength: 20,
  }),
  fc
    .tuple(
      fc.constantFrom('', '?', '>', '=', '!', '<'),
      fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 4 }),
      fc.integer({ min: 0x40, max: 0x7e }),
    )
    .map(([prefix, numbers, final]) => `${ESC}[${prefix}${numbers.join(';')}${String.fromCharCode(final)}`),
);

test('INV-11: whatever a program writes, in any pieces, only listed sequences are replayed', () => {
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 60 }),
      (parts, sizes) => {
        const text = parts.join('').toWellFormed();
        const whole = sanitised(text);
        assertHarmless(whole);
        // Pieces are whole code points, as the decoder gives them.
        assert.equal(sanitised(text, sizesOf(text, sizes)), whole);
      },
    ),
    { numRuns: 1000 },
  );
});

function sizesOf(text: string, sizes: readonly number[]): number[] {
  const points = Array.from(text);
  const out: number[] = [];
  let at = 0;
  for (const size of sizes) {
    out.push(points.slice(at, at + size).join('').length);
    at += size;
  }
  return out;
}

test('INV-11: the terminal is as it was after any recording, and nothing was answered', async () => {
  const fresh = openScreen(80, 24);
  await fresh.write('plain');
  const [plain] = fresh.look().lines;
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 20 }), async (parts) => {
      const screen = openScreen(80, 24);
      await screen.write(sanitised(parts.join('').toWellFormed()));
      await screen.write('\r\u001b[2K');
      await screen.write('plain');
      const { lines, screen: shown, cursor } = screen.look();
      assert.equal(shown, 'normal');
      assert.deepEqual([screen.answers, screen.reached], [[], []]);
      assert.equal(lines[cursor[1]], plain);
      const { originMode, wraparoundMode, insertMode } = screen.modes;
      assert.deepEqual([originMode, wraparoundMode, insertMode], [false, true, false]);
      screen.close();
    }),
    { numRuns: 150 },
  );
});

test('an asciicast of a hostile session is valid and harmless', () => {
  const at = (second: number): string => new Date(Date.UTC(2026, 0, 31, 15, 4, second)).toISOString();
  const record = (seq: number, kind: string, body: object): RecordEnvelope => ({
    v: 1,
    stream: 's-x',
    seq,
    ts: at(seq),
    kind,
    channel: 2,
    body,
  });
  const timeline = createTimeline(2);
  const cast = createCast('s-x', undefined);
  let text = '';
  const add = (one: RecordEnvelope): void => {
    for (const moment of timeline.add(one)) text += cast.add(moment);
  };
  const terminal = { term: 'xterm\u001b]0;x\u0007', columns: 1e9, rows: -1 };
  add(
    record(1, 'command', { id: 1, verb: 'shell', text: `${ESC}[2J`, decision: 'Allow', facts: { ssh: { terminal } } }),
  );
  let seq = 2;
  for (const [, attack] of HOSTILE) {
    add(record(seq, 'output', { id: 1, stream: 'terminal', text: attack, bytes: Buffer.byteLength(attack) }));
    seq += 1;
  }
  add(record(seq, 'hold', { hold: `h-1${ESC}c`, event: 'Opened' }));
  add(record(seq + 1, 'resize', { id: 1, columns: '1x1', rows: 30 }));
  add(record(seq + 2, 'output', { id: 1, stream: 'terminal', text: 5, base64: {}, bytes: 'x' }));
  add(record(seq + 3, 'result', { id: 1, facts: { ssh: { exitStatus: 3 } } }));
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  const [header, ...events] = lines as [
    { version: number; term: object; command: string },
    ...[number, string, string][],
  ];
  assert.deepEqual([header.version, header.term], [3, { cols: 80, rows: 24, type: 'xterm\\u{1b}]0;x\\u{7}' }]);
  assert.equal(header.command, '\\u{1b}[2J');
  for (const [interval, code, data] of events) {
    assert.ok(interval >= 0 && interval <= 60);
    assert.match(code, /^[ormx]$/);
    assertHarmless(data);
  }
  assert.deepEqual(events.at(-1), [0, 'x', '3']);
  assert.ok(events.some(([, code, data]) => code === 'm' && data === 'hold h-1\\u{1b}c Opened'));
});

test('records of any shape are shown somehow', () => {
  const body = fc.dictionary(
    fc.constantFrom(
      'id',
      'verb',
      'text',
      'base64',
      'bytes',
      'stream',
      'facts',
      'own',
      'decision',
      'hold',
      'event',
      'by',
      'error',
      'columns',
      'rows',
      'reason',
    ),
    fc.oneof(
      fc.jsonValue(),
      fc.constantFrom(
        0,
        3,
        1e9,
        'terminal',
        'exec',
        'AAAA',
        { toString: 1 },
        { ssh: { terminal: {}, exitStatus: 'x', exitSignal: 5 } },
      ),
    ),
  );
  const records = fc.array(
    fc.record({
      kind: fc.constantFrom('start', 'command', 'output', 'resize', 'hold', 'result', 'end', 'x'),
      body: fc.oneof(body, fc.jsonValue()),
    }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(records, (given) => {
      const timeline = createTimeline(0);
      const cast = createCast('s-x', undefined);
      const teller = createTeller();
      let told = '';
      let shown = '';
      given.forEach((one, seq) => {
        const record = {
          v: 1,
          stream: 's-x',
          seq,
          ts: '2026-01-31T15:04:05.678Z',
          channel: 0,
          ...one,
        } as RecordEnvelope;
        told += teller.tell(record);
        for (const moment of timeline.add(record)) shown += cast.add(moment);
      });
      for (const moment of timeline.end()) shown += cast.add(moment);
      assert.doesNotMatch(told + teller.end(), /(?!\n)[\p{Cc}\p{Cf}]/u);
      for (const line of shown.split('\n')) if (line !== '') JSON.parse(line);
    }),
    { numRuns: 500 },
  );
});
