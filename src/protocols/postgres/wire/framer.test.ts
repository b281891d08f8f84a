import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Framer, type Treatment } from './framer.ts';
import { message } from './messages.ts';

interface Event {
  kind: 'whole' | 'passed' | 'dropped';
  type: number;
  bytes: string;
}

/** Feeds chunks and collects what came out; pieces of one message are joined. */
function run(
  chunks: readonly Buffer[],
  treat: (type: number, total: number) => Treatment,
  pauseAfter = 0,
): { events: Event[]; problem: string | undefined } {
  const events: Event[] = [];
  let problem: string | undefined;
  let passing = '';
  let left = pauseAfter;
  const framer: Framer = new Framer({
    header: treat,
    whole: (type, buffer, start, end) => {
      events.push({ kind: 'whole', type, bytes: buffer.toString('hex', start, end) });
      if (pauseAfter > 0 && --left === 0) {
        left = pauseAfter;
        framer.pause();
      }
    },
    piece: (type, buffer, start, end, first, last) => {
      assert.equal(first, passing === '');
      passing += buffer.toString('hex', start, end);
      if (!last) return;
      events.push({ kind: 'passed', type, bytes: passing });
      passing = '';
    },
    dropped: (type) => events.push({ kind: 'dropped', type, bytes: '' }),
    broken: (text) => {
      problem = text;
    },
  });
  for (const chunk of chunks) {
    framer.push(chunk);
    while (framer.paused) framer.resume();
  }
  return { events, problem };
}

const byType = (type: number): Treatment => (type % 3 === 0 ? 'Whole' : type % 3 === 1 ? 'Pass' : 'Drop');
const messages = fc.array(
  fc.record({ type: fc.integer({ min: 1, max: 255 }), body: fc.uint8Array({ maxLength: 9000 }) }),
  { maxLength: 8 },
);

test('messages come out whole, in order and once, however the bytes are cut', () => {
  fc.assert(
    fc.property(
      messages,
      fc.array(fc.integer({ min: 1, max: 4000 }), { maxLength: 30 }),
      fc.integer({ min: 0, max: 2 }),
      (list, cuts, pauseAfter) => {
        const bytes = Buffer.concat(list.map((one) => message(one.type, Buffer.from(one.body))));
        const chunks: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          chunks.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        chunks.push(bytes.subarray(at));
        const { events, problem } = run(chunks, byType, pauseAfter);
        assert.equal(problem, undefined);
        assert.deepEqual(
          events,
          list.map((one) => {
            const kind = { Whole: 'whole', Pass: 'passed', Drop: 'dropped' }[byType(one.type)];
            return {
              kind,
              type: one.type,
              bytes: kind === 'dropped' ? '' : message(one.type, Buffer.from(one.body)).toString('hex'),
            };
          }),
        );
      },
    ),
    { numRuns: 150 },
  );
});

test('one byte at a time is no different', () => {
  const bytes = Buffer.concat([
    message(3, Buffer.alloc(20, 1)),
    message(4, Buffer.alloc(0)),
    message(5, Buffer.alloc(7)),
    message(6),
  ]);
  const { events } = run(
    Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)),
    byType,
  );
  assert.deepEqual(
    events.map((event) => event.kind),
    ['whole', 'passed', 'dropped', 'whole'],
  );
});

test('INV-11: a length below its own size or above the protocol’s bound stops the framer for good', () => {
  for (const length of [0, 1, 3, -1, -2147483648, 0x40000000, 0x7fffffff]) {
    const bad = Buffer.alloc(5);
    bad[0] = 3;
    bad.writeInt32BE(length, 1);
    const { events, problem } = run([bad, message(3)], byType);
    assert.match(problem ?? '', /claims a length of/);
    assert.deepEqual(events, []);
  }
});

test('INV-11: a claimed length costs no memory before its bytes arrive', () => {
  const framer = new Framer({
    header: () => 'Whole',
    whole: () => undefined,
    piece: () => undefined,
    dropped: () => undefined,
    broken: () => assert.fail(),
  });
  const head = Buffer.alloc(5);
  head[0] = 3;
  head.writeInt32BE(0x3fffff00, 1);
  framer.push(head);
  framer.push(Buffer.alloc(10));
  assert.ok(framer.buffered <= 4096);
});

test('arbitrary bytes never throw', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (chunks) => {
      run(
        chunks.map((chunk) => Buffer.from(chunk)),
        byType,
      );
    }),
    { numRuns: 300 },
  );
});
