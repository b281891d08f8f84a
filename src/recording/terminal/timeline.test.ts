import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RecordEnvelope } from '../envelope.ts';
import { createMaskedStream } from '../masked-stream.ts';
import { createCast } from './cast.ts';
import { createTimeline, type Moment } from './timeline.ts';

const START = Date.UTC(2026, 0, 31, 15, 4, 5);
const record = (seconds: number, kind: string, body: object): RecordEnvelope => ({
  v: 1,
  stream: 's-x',
  seq: seconds,
  ts: new Date(START + seconds * 1000).toISOString(),
  kind,
  channel: 0,
  body,
});
const shell = record(0, 'command', {
  id: 0,
  verb: 'shell',
  text: '',
  decision: 'Allow',
  facts: { ssh: { terminal: { term: 'xterm', columns: 100, rows: 30 } } },
});
const told = (moments: readonly Moment[]): unknown[] =>
  moments.map((moment) => {
    const { kind, atMs, ...rest } = moment;
    return [kind, (atMs - START) / 1000, ...Object.values(rest)];
  });

test('text that was stored late is shown when its bytes passed', () => {
  const timeline = createTimeline(0);
  assert.deepEqual(told(timeline.add(shell)), [['Begin', 0, 0, 100, 30, 'xterm', '']]);
  const output = (seconds: number, body: object): unknown[] =>
    told(timeline.add(record(seconds, 'output', { id: 0, stream: 'terminal', ...body })));
  assert.deepEqual(output(1, { bytes: 1 }), []);
  assert.deepEqual(output(2, { bytes: 1 }), []);
  assert.deepEqual(output(3, { text: 'ab ', bytes: 1 }), [
    ['Output', 1, 'a'],
    ['Output', 2, 'b'],
    ['Output', 3, ' '],
  ]);
  // What the gateway says, and what happens meanwhile, keeps its place behind what is withheld.
  assert.deepEqual(output(4, { bytes: 1 }), []);
  assert.deepEqual(output(5, { text: 'held\r\n', bytes: 6, own: true }), []);
  assert.deepEqual(told(timeline.add(record(6, 'hold', { hold: 'h-3b7', event: 'Approved', by: ['bob'] }))), []);
  assert.deepEqual(output(7, { text: 'x', bytes: 0 }), [
    ['Output', 4, 'x'],
    ['Output', 5, 'held\r\n'],
    ['Marker', 6, 'hold h-3b7 Approved by bob'],
  ]);
  // A character in two packets is shown with its last byte.
  const euro = Buffer.from('€');
  output(8, { base64: euro.subarray(0, 1).toString('base64'), bytes: 1 });
  assert.deepEqual(output(9, { base64: euro.subarray(1).toString('base64'), bytes: 2 }), [['Output', 9, '€']]);
  assert.deepEqual(told(timeline.add(record(10, 'resize', { id: 0, columns: 90, rows: 20 }))), [
    ['Resize', 10, 90, 20],
  ]);
  // What has no text by the end gets none.
  output(11, { bytes: 5 });
  assert.deepEqual(told(timeline.add(record(12, 'result', { id: 0, facts: { ssh: { exitSignal: 'TERM' } } }))), [
    ['Exit', 12, 143],
  ]);
  assert.deepEqual(told(timeline.end()), []);
});

test('of a command without a terminal, both streams are shown as a terminal shows them', () => {
  const timeline = createTimeline(0);
  timeline.add(record(0, 'command', { id: 0, verb: 'exec', text: 'make', decision: 'Allow', facts: { ssh: {} } }));
  const moments = [
    ...timeline.add(record(1, 'output', { id: 0, stream: 'stdin', text: 'in\n', bytes: 3 })),
    ...timeline.add(record(2, 'output', { id: 0, stream: 'stdout', text: 'out\n', bytes: 4 })),
    ...timeline.add(record(3, 'output', { id: 0, stream: 'stderr', text: 'err\n', bytes: 4 })),
  ];
  assert.deepEqual(told(moments), [
    ['Output', 2, 'out\r\n'],
    ['Output', 3, 'err\r\n'],
  ]);
});

test('INV-06: what was masked and cut up in any way is shown whole, each byte at its time', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string({ maxLength: 20 }), fc.constantFrom('4556737586899855 ', 'é€\u001b[1m', 'a@b.co')), {
        maxLength: 12,
      }),
      fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 60 }),
      (parts, sizes) => {
        const bytes = Buffer.from(parts.join('').toWellFormed());
        const mask = createMaskedStream();
        const whole = createMaskedStream();
        const expected = Buffer.concat([whole.push(bytes).bytes, whole.flush().bytes]);
        const timeline = createTimeline(0);
        const moments = timeline.add(shell);
        let at = 0;
        const passed: number[] = [];
        for (const size of [...sizes, bytes.length + 1]) {
          const piece = bytes.subarray(at, at + size);
          at += piece.length;
          passed.push(at);
          const base64 = mask.push(piece).bytes.toString('base64');
          moments.push(
            ...timeline.add(
              record(passed.length, 'output', { id: 0, stream: 'terminal', base64, bytes: piece.length }),
            ),
          );
        }
        const base64 = mask.flush().bytes.toString('base64');
        moments.push(
          ...timeline.add(record(99, 'output', { id: 0, stream: 'terminal', base64, bytes: 0 })),
          ...timeline.end(),
        );
        let shown = '';
        for (const moment of moments) {
          if (moment.kind !== 'Output') continue;
          shown += moment.text;
          assert.ok(Buffer.byteLength(shown) <= passed[(moment.atMs - START) / 1000 - 1]!, 'shown before it passed');
        }
        assert.equal(shown, expected.toString());
      },
    ),
    { numRuns: 200 },
  );
});

test('an asciicast has its header, relative times and the exit status', () => {
  const timeline = createTimeline(0);
  const cast = createCast('s-x', undefined);
  const text = [
    shell,
    record(2, 'output', { id: 0, stream: 'terminal', text: '\u001b[?1049h$ \u001b]0;t\u0007', bytes: 16 }),
    record(5, 'resize', { id: 0, columns: 90, rows: 20 }),
    record(6, 'result', { id: 0, facts: { ssh: { exitStatus: 0 } } }),
    record(7, 'end', { reason: 'ClientClosed' }),
  ]
    .flatMap((one) => timeline.add(one))
    .map((moment) => cast.add(moment))
    .join('');
  assert.equal(
    text + cast.end(),
    `{"version":3,"term":{"cols":100,"rows":30,"type":"xterm"},"timestamp":${START / 1000},"title":"s-x"}
[2,"o","\\u001b[?1049h$ "]
[3,"r","90x20"]
[1,"o","\\u001b[?1049l\\u001b[m"]
[0,"x","0"]
`,
  );
});
