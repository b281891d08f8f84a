import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../../test/support/any-text.ts';
import { constantMembers } from '../recorder.ts';
import { type Line, linePrefix, recordLine } from './line.ts';

const spell = ({ head, tail }: Line): string => head + (tail?.toString('utf8') ?? '');
const members = fc.dictionary(anyText(), fc.jsonValue(), { minKeys: 1 });

test('INV-07: a line with constant members is the line of the whole body', () => {
  const prefix = linePrefix('s-1');
  const ts = '2026-01-31T15:04:05.678Z';
  fc.assert(
    fc.property(
      members,
      fc.option(members, { nil: {} }),
      fc.option(fc.nat(), { nil: undefined }),
      (constant, own, channel) => {
        const spelled = constantMembers(
          Object.fromEntries(Object.entries(constant).map(([key, value]) => [`c${key}`, value])),
        );
        const body = Object.fromEntries(Object.entries(own).map(([key, value]) => [`o${key}`, value]));
        const line = spell(recordLine(prefix, 3, ts, 'command', body, channel, spelled));
        const whole = spell(recordLine(prefix, 3, ts, 'command', { ...body, ...spelled.members }, channel));
        assert.equal(line, whole);
        const envelope = {
          v: 1,
          stream: 's-1',
          seq: 3,
          ts,
          kind: 'command',
          ...(channel === undefined ? {} : { channel }),
        };
        assert.equal(whole, `${JSON.stringify({ ...envelope, body: { ...body, ...spelled.members } })}\n`);
      },
    ),
    { numRuns: 200 },
  );
});
