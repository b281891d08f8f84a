import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../test/support/any-text.ts';
import { ALL_DETECTORS, maskDetectedText } from '../policy/detectors/detectors.ts';
import { createMaskedStream, LONGEST_MASKED } from './masked-stream.ts';

const CARD = '4556737586899855';

function storedOf(data: Buffer, pieces: readonly number[] = []): { bytes: Buffer; masked: number } {
  const stream = createMaskedStream(ALL_DETECTORS);
  const out: Buffer[] = [];
  let masked = 0;
  const add = (stored: { bytes: Buffer; masked: number }): void => {
    out.push(stored.bytes);
    masked += stored.masked;
  };
  let at = 0;
  for (const size of pieces) {
    if (at >= data.length) break;
    add(stream.push(data.subarray(at, at + size)));
    at += size;
  }
  add(stream.push(data.subarray(at)));
  add(stream.flush());
  return { bytes: Buffer.concat(out), masked };
}
const stored = (text: string): string => storedOf(Buffer.from(text)).bytes.toString();
const stars = (count: number): string => '*'.repeat(count);

const edits = fc.constantFrom(
  '\b',
  '\b \b',
  '\u001b[D',
  '\u001b[3D',
  '\u001b[2C',
  '\u001b[2P',
  '\u001b[3@',
  '\u001b[4D\u001b[K',
);
const sequences = fc.constantFrom(
  '\u001b[1m',
  '\u001b[0;31m',
  '\u001b[K',
  '\u001b(B',
  '\u001b[C',
  '\u001b[?25l',
  '\u0000',
);
const planted = fc.array(sequences, { maxLength: 6 }).chain((inside) =>
  fc.array(fc.nat(CARD.length), { minLength: inside.length, maxLength: inside.length }).map((places) => {
    let card = CARD;
    [...places]
      .sort((a, b) => b - a)
      .forEach((place, index) => {
        card = card.slice(0, place) + inside[index]! + card.slice(place);
      });
    return card;
  }),
);
const noise = fc.oneof(
  anyText({ maxLength: 40 }),
  fc.string({
    unit: fc.constantFrom('a', '1', ' ', '.', '-', '@', '+', '(', '\n', '\r', ':', 'é', '€'),
    maxLength: 60,
  }),
  fc.constantFrom(
    'DE89 3704 0044 0532 0130 00',
    'alice@corp.example',
    '+49 170 1234567',
    '-----BEGIN ',
    '\u001b]0;title\u0007',
  ),
  fc.constantFrom(
    '-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAB==\n-----END RSA PRIVATE KEY-----\n',
    '\u001b',
    '\u001b[12;',
    'eyJ',
  ),
  sequences,
  edits,
  fc.string({ unit: fc.constantFrom('a', '7', '.', '-', ' '), minLength: 900, maxLength: 2500 }),
);
const cut = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 200 });

test('INV-06: what is stored of a stream is the same for any pieces, as long as what came, and holds no planted card', () => {
  fc.assert(
    fc.property(
      fc.array(noise, { maxLength: 8 }),
      planted,
      fc.array(noise, { maxLength: 4 }),
      cut,
      (before, card, after, pieces) => {
        // Glued to other digits, or at the end of a sequence that is not finished, it is none.
        const text = `${before.join('')}\u0018\n:${card}:${after.join('')}`;
        const bytes = Buffer.from(text);
        const whole = storedOf(bytes);
        const cutUp = storedOf(bytes, pieces);
        assert.deepEqual(cutUp, whole);
        assert.equal(whole.bytes.length, bytes.length);
        // eslint-disable-next-line no-control-regex
        assert.ok(
          !whole.bytes
            .toString()
            .replace(/\u001b(?:\[[0-9;?]*[A-Za-z]|\(B)|\u0000/g, '')
            .includes(CARD),
        );
      },
    ),
    { numRuns: 300 },
  );
});

test('INV-06: it is what detectors find in each line as a whole', () => {
  const word = fc.oneof(
    fc.constantFrom(
      CARD,
      '4556 7375 8689 9855',
      'DE89370400440532013000',
      'GB29 NWBK 6016 1331 9268 19',
      'a@b.co',
      '123-45-6789',
    ),
    fc.constantFrom(
      '(555) 123-4567',
      '1 (555) 123 4567',
      '+49 170 1234567',
      'sk_live_0123456789abcdef',
      'DE89 3704 00',
    ),
    fc.string({
      unit: fc.constantFrom('a', 'D', 'E', '4', '1', '.', '-', '@', '(', ')', '+', 'é', "'"),
      maxLength: 12,
    }),
    fc.constantFrom('the', 'quick', '12', '2026-01-31', '10.0.0.1', 'root@web-1:~$', ' ', '  '),
  );
  const line = fc.array(word, { maxLength: 40 }).map((words) => words.join(' ').slice(0, 1000));
  fc.assert(
    fc.property(line, cut, (text, pieces) => {
      assert.equal(storedOf(Buffer.from(text), pieces).bytes.toString(), maskDetectedText(text));
    }),
    { numRuns: 1000 },
  );
});

test('a value is found through colours, wrapped lines of a shell, titles and numbers of sequences', () => {
  assert.equal(stored('\u001b[1m4556\u001b[0m737586899855\n'), `\u001b[1m****\u001b[0m${stars(12)}\n`);
  assert.equal(stored('$ echo 455673758 \r6899855\r\n'), `$ echo ${stars(9)} \r${stars(7)}\r\n`);
  assert.equal(stored(`\u001b]0;${CARD}\u0007${CARD}\n`), `\u001b]0;${stars(16)}\u0007${stars(16)}\n`);
  assert.equal(stored(`\u001b[${CARD}m`), `\u001b[${stars(16)}m`);
  assert.equal(stored(`\u001b[${CARD}`), `\u001b[${stars(16)}`);
  // Far apart on the screen, they are two numbers.
  assert.equal(stored('45567375\u001b[2;1H86899855 '), '45567375\u001b[2;1H86899855 ');
});

test('INV-06: a value is found in a line that was edited, and so is what was written there before', () => {
  const half = CARD.slice(0, 8);
  const rest = CARD.slice(8);
  for (const [what, text] of [
    ['a digit too many, taken back', `$ pay ${half}7\b \b${rest}\r\n`],
    ['a wrong digit, written over', `$ pay ${half}0\b${rest}\r\n`],
    ['back and over', `$ pay ${half}00\u001b[2D${rest}\r\n`],
    ['back and forth', `$ pay ${half}\b\b\u001b[2C${rest}\r\n`],
    ['cut to the end of the line', `$ pay ${half}12\u001b[2D\u001b[K${rest}\r\n`],
    ['deleted within', `$ pay ${half}99${rest}\u001b[10D\u001b[2P\r\n`],
    ['inserted within', `$ pay ${half.slice(0, 4)}${rest}\u001b[8D\u001b[4@${half.slice(4)}\r\n`],
    ['every digit twice', `$ pay ${Array.from(CARD, (digit) => `${digit}${digit}\b`).join('')}\r\n`],
    ['gone again', `$ pay ${CARD}${'\b \b'.repeat(16)}\r\n`],
    ['gone at once', `$ pay ${CARD}\u001b[16D\u001b[K\r\n`],
  ] as const) {
    const left = stored(text);
    assert.equal(Buffer.byteLength(left), Buffer.byteLength(text), what);
    assert.ok(
      (left.replace(/\u001b\[[0-9]*[A-Z@]/g, '').match(/[0-9]/g) ?? []).length <= 2,
      `${what}: ${JSON.stringify(left)}`,
    );
  }
});

test('lines that are written over again and again are stored soon', () => {
  for (const turns of ['|\b/\b-\b', ' 45%\b\b\b\b', '1\b22\b', '\u001b[3D   ']) {
    const stream = createMaskedStream();
    let kept = 0;
    for (let turn = 0; turn < 5000; turn += 1) {
      kept += turns.length - stream.push(Buffer.from(turns)).bytes.length;
      assert.ok(kept <= 4200, `${kept} withheld`);
    }
  }
});

test('private keys are masked over lines, to their end and no further', () => {
  const key = '-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNzaC1rZXk=\r\nAAAA\r\n-----END OPENSSH PRIVATE KEY-----';
  assert.equal(stored(`$ cat id\r\n${key}\r\n$ ls\r\n`), `$ cat id\r\n${key.replace(/[^\r\n]/g, '*')}\r\n$ ls\r\n`);
  assert.equal(storedOf(Buffer.from(key)).masked, 1);
  // Nobody hides what they do behind a key that only begins.
  assert.ok(
    stored('echo -----BEGIN PRIVATE KEY\nMII\n[deploy@web ~]# rm -rf /srv\n').endsWith('[deploy@web ~]# rm -rf /srv\n'),
  );
  const endless = stored(`-----BEGIN PRIVATE KEY-----\n${'A'.repeat(2 * LONGEST_MASKED)}\nwhoami\n`);
  assert.ok(endless.endsWith('A\nwhoami\n'));
});

test('tokens of any length are masked, and what is withheld is bounded', () => {
  const token = `eyJhbGciOiJIUzI1NiJ9.${'eyJzdWIi'.repeat(600)}.${'s'.repeat(43)}`;
  assert.equal(stored(`token=${token} next `).slice(-token.length - 6), `${stars(token.length)} next `);
  assert.equal(stored(`eyJ${'a'.repeat(5000)} x `), `${stars(5003)} x `);
  const stream = createMaskedStream();
  let kept = 0;
  for (let index = 0; index < 20_000; index += 1) {
    const piece = index % 3 === 0 ? Buffer.from('\u001b[1m') : Buffer.from('7');
    kept += piece.length - stream.push(piece).bytes.length;
    assert.ok(kept <= 32 * 1024, `${kept} withheld`);
  }
  // What has no text before it does not wait.
  const idle = createMaskedStream();
  assert.equal(idle.push(Buffer.from('\u001b[31m')).bytes.length, 5);
  assert.equal(idle.push(Buffer.from('done: ')).bytes.length, 6);
});
