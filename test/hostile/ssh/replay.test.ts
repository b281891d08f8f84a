// What a hostile program writes to a recorded terminal must not act on whoever replays it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RecordEnvelope } from '../../../src/recording/envelope.ts';
import { createTeller } from '../../../src/recording/replay.ts';
import { createCast } from '../../../src/recording/terminal/cast.ts';
import { createSanitiser } from '../../../src/recording/terminal/sanitiser.ts';
import { createTimeline } from '../../../src/recording/terminal/timeline.ts';
import { openScreen } from '../../support/terminal-screen.ts';

const ESC = '\u001b';
const ST = `${ESC}\\`;
const HOSTILE: readonly [string, string][] = [
  ['a title', `${ESC}]0;owned\u0007`],
  ['a title by ST', `${ESC}]2;owned${ST}`],
  ['a title to read back', `${ESC}]0;\nrm -rf ~\n\u0007${ESC}[21t`],
  ['a link', `${ESC}]8;;file:///etc/passwd\u0007click${ESC}]8;;\u0007`],
  ['the clipboard', `${ESC}]52;c;cm0gLXJmIH4K\u0007`],
  ['asking for the clipboard', `${ESC}]52;c;?\u0007`],
  ['colours asked for', `${ESC}]11;?\u0007${ESC}]4;1;?\u0007`],
  ['a notification', `${ESC}]9;pay me\u0007${ESC}]777;notify;a;b\u0007`],
  ['a file', `${ESC}]1337;File=inline=1:AAAA\u0007`],
  ['a font', `${ESC}]50;#1\u0007`],
  ['DECRQSS', `${ESC}P$q"p${ST}`],
  ['terminfo asked for', `${ESC}P+q544e${ST}`],
  ['keys defined anew', `${ESC}P0;1|17/0a726d${ST}`],
  ['APC', `${ESC}_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA${ST}`],
  ['PM', `${ESC}^x${ST}`],
  ['SOS', `${ESC}Xx${ST}`],
  ['device attributes', `${ESC}[c${ESC}[>c${ESC}[=c${ESC}Z`],
  ['status reports', `${ESC}[5n${ESC}[6n${ESC}[?6n${ESC}[?15n${ESC}[?26n`],
  ['terminal parameters', `${ESC}[x${ESC}[1x`],
  ['modes asked for', `${ESC}[?1$p${ESC}[4$p${ESC}[?u`],
  ['windows', `${ESC}[8;1;1t${ESC}[2t${ESC}[14t${ESC}[18t${ESC}[3;0;0t`],
  ['answerback', '\u0005'],
  ['the bell', '\u0007'],
  ['mouse', `${ESC}[?1000h${ESC}[?1002h${ESC}[?1003h${ESC}[?1006h${ESC}[?9h`],
  ['focus, paste, keys', `${ESC}[?1004h${ESC}[?2004h${ESC}[?1h${ESC}=${ESC}[>4;2m${ESC}[>1u`],
  ['hidden among good modes', `${ESC}[?25;1000;2004h`],
  ['scrollback', `${ESC}[3J`],
  ['a full reset', `${ESC}c`],
  ['C1', '\u009b31m\u009d0;owned\u009c\u0090$q"p\u009c\u0085\u008d'],
  ['8-bit C1 as bytes', '\ufffd0;owned'],
  ['printing', `${ESC}[5i${ESC}[4i${ESC}[?5i`],
  ['sequences in sequences', `${ESC}[${ESC}]0;owned\u0007${ESC}[3${ESC}[31m`],
  ['a string that another sequence ends', `${ESC}]0;ow${ESC}[31mned\u0007`],
  ['cancelled', `${ESC}]0;own\u0018ed\u0007${ESC}[3\u001a1m`],
  ['a number without end', `${ESC}[${'9'.repeat(500)}C${ESC}[999999999b${ESC}[${'1;'.repeat(500)}m`],
  ['text turned around', '\u202egpj.exe\u202c\u2066x\u2069'],
  ['never closed', `${ESC}]0;owned`],
];

/** Only listed sequences, whole; nothing else of the controls. */
// oxlint-disable-next-line no-control-regex
const HARMLESS =
  // oxlint-disable-next-line no-control-regex
  /^(?:[^\u0000-\u001f\u007f-\u009f]|[\b\t\n\v\f\r\u000e\u000f]|\u001b[78DEMH]|\u001b[()][0AB]|\u001b\[[0-9;:]{0,200}[ABCDEFGHIJKLMPSTXZ@`abdefgmrsuhl]|\u001b\[\?[0-9;]{0,80}[hlJK])*$/u;
const MODES = new Set(['5', '6', '7', '25', '45', '47', '69', '1047', '1048', '1049']);

function assertHarmless(text: string): void {
  assert.match(text, HARMLESS);
  // oxlint-disable-next-line no-control-regex
  for (const [, modes] of text.matchAll(/\u001b\[\?([0-9;]+)[hl]/g))
    for (const mode of modes!.split(';')) assert.ok(MODES.has(mode), `mode ${mode}`);
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(text, /\u001b\[\??3J|[\u202a-\u202e\u2066-\u2069]/);
}

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
