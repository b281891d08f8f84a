import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MSG } from '../wire/message-numbers.ts';
import { Flow, RESERVE } from './flow.ts';
import { bare, channelData, dataOf, extendedData, STDERR } from './messages.ts';

interface Bed {
  flow: Flow;
  sent: Buffer[];
  granted: number;
  kept: number;
}

function bedOf(initial: number | undefined, reserve: number): Bed {
  const bed: Bed = { flow: undefined as unknown as Flow, sent: [], granted: initial ?? 0, kept: 0 };
  bed.flow = new Flow(initial, {
    send: (payload) => void bed.sent.push(Buffer.from(payload)),
    grant: (bytes) => {
      bed.granted += bytes;
    },
    kept: () => bed.kept,
    reserve,
  });
  return bed;
}

const text = (sent: readonly Buffer[]): string =>
  sent
    .filter((payload) => payload[0] === MSG.CHANNEL_DATA)
    .map((payload) => dataOf(payload)!.toString('latin1'))
    .join('');

test('INV-11: the sender is never given more than the receiver takes, nothing is lost or reordered, whatever the windows', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('data' as const), bytes: fc.nat(3_000), recorded: fc.boolean() }),
    fc.record({ kind: fc.constant('adjust' as const), bytes: fc.nat(5_000) }),
    fc.record({ kind: fc.constant('written' as const) }),
    fc.record({ kind: fc.constant('control' as const) }),
  );
  fc.assert(
    fc.property(
      fc.nat(8_000),
      fc.integer({ min: 1, max: 4_000 }),
      fc.array(step, { maxLength: 60 }),
      fc.boolean(),
      (window, maxPacket, steps, opensLate) => {
        const bed = bedOf(10_000, 0);
        const { flow } = bed;
        let given = window;
        let input = '';
        let used = 0;
        let controls = 0;
        if (!opensLate) flow.open({ number: 7, window, maxPacket });
        for (const one of steps) {
          switch (one.kind) {
            case 'data': {
              const bytes = Math.min(one.bytes, bed.granted - used);
              if (bytes === 0) break;
              used += bytes;
              assert.ok(flow.received(bytes));
              const data = String.fromCharCode(97 + (input.length % 26)).repeat(bytes);
              input += data;
              flow.data(channelData(0, Buffer.from(data)), one.recorded);
              break;
            }
            case 'adjust':
              if (!flow.isOpen) break;
              given += one.bytes;
              assert.ok(flow.adjust(one.bytes));
              break;
            case 'written':
              flow.written(flow.waiting);
              break;
            case 'control':
              controls += 1;
              flow.control(bare(MSG.CHANNEL_EOF, 0));
          }
          assert.ok(text(bed.sent).length <= given, 'more was sent than the receiver takes');
          assert.ok(bed.sent.every((payload) => (dataOf2(payload)?.length ?? 0) <= maxPacket));
        }
        assert.equal(flow.received(bed.granted - used + 1), false);
        if (opensLate) flow.open({ number: 7, window, maxPacket });
        flow.written(flow.waiting);
        flow.adjust(input.length);
        assert.equal(text(bed.sent), input);
        assert.equal(bed.sent.filter((payload) => payload[0] === MSG.CHANNEL_EOF).length, controls);
        assert.ok(bed.sent.every((payload) => payload.readUInt32BE(1) === 7));
        assert.ok(flow.isEmpty);
      },
    ),
    { numRuns: 300 },
  );
});

function dataOf2(payload: Buffer): Buffer | undefined {
  return payload[0] === MSG.CHANNEL_DATA ? dataOf(payload) : undefined;
}

test('our own lines find room in a reserve that the sender is not given', () => {
  const bed = bedOf(undefined, RESERVE);
  bed.flow.open({ number: 1, window: 10_000, maxPacket: 32_768 });
  const first = bed.flow.firstGrant();
  assert.equal(first, 10_000 - RESERVE);
  assert.ok(bed.flow.received(first));
  bed.flow.data(channelData(0, Buffer.alloc(first)), true);
  bed.flow.data(extendedData(0, STDERR, Buffer.alloc(1_000)), true);
  assert.ok(bed.flow.isEmpty);
  assert.equal(bed.sent.length, 2);
});

test('INV-01: nothing passes before it is recorded, nor what comes behind it', () => {
  const bed = bedOf(10_000, 0);
  bed.flow.open({ number: 1, window: 10_000, maxPacket: 32_768 });
  bed.flow.data(channelData(0, Buffer.from('a')), false);
  bed.flow.data(channelData(0, Buffer.from('b')), true);
  bed.flow.control(bare(MSG.CHANNEL_EOF, 0));
  assert.equal(bed.sent.length, 0);
  bed.flow.written(1);
  assert.deepEqual(
    bed.sent.map((payload) => payload[0]),
    [MSG.CHANNEL_DATA, MSG.CHANNEL_DATA, MSG.CHANNEL_EOF],
  );
});

test('a window can not be adjusted above what it can be', () => {
  const bed = bedOf(10_000, 0);
  bed.flow.open({ number: 1, window: 2 ** 32 - 10, maxPacket: 32_768 });
  assert.equal(bed.flow.adjust(10), false);
});

test('what a receiver that closed does not take any more is dropped; how it ended still passes', () => {
  const bed = bedOf(10_000, 0);
  bed.flow.open({ number: 1, window: 1, maxPacket: 32_768 });
  bed.flow.data(channelData(0, Buffer.from('abc')), true);
  bed.flow.control(bare(MSG.CHANNEL_CLOSE, 0));
  bed.flow.discardData();
  assert.equal(bed.sent.at(-1)?.[0], MSG.CHANNEL_CLOSE);
  assert.equal(text(bed.sent), 'a');
});
