import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { constantMember } from '../recorder.ts';
import { bodyJson, linePrefix, recordLine } from './line.ts';

test('a body is spelled as JSON.stringify spells it, whatever its members are', () => {
  const member = fc.oneof(
    fc.jsonValue(),
    fc.double(),
    fc.constant(undefined),
    fc.constant(Symbol('none')),
    fc.date({ noInvalidDate: true }),
    fc.string({ unit: 'binary' }),
  );
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: 'binary' }), member), (made) => {
      const body = { ...made }; // fast-check's own has no prototype
      assert.equal(bodyJson(body), JSON.stringify(body));
    }),
    { numRuns: 200 },
  );
  class Own {
    shown = 1;
    toJSON(): object {
      return { other: this.shown };
    }
  }
  assert.equal(bodyJson(new Own()), '{"other":1}');
  assert.equal(bodyJson({ toJSON: () => ({ own: 2 }) }), '{"own":2}');
});

test('what was declared constant is spelled alike', () => {
  const facts = constantMember({ postgresql: { tag: 'SELECT', relations: ['public."ä"'] } });
  const body = { id: 1, text: 'select \u2028 "', parameters: [null, 'x'], facts };
  const line = recordLine(linePrefix('s-1'), 3, '2026-01-31T15:04:05.678Z', 'command', body);
  assert.equal(
    line,
    `${JSON.stringify({ v: 1, stream: 's-1', seq: 3, ts: '2026-01-31T15:04:05.678Z', kind: 'command', body })}\n`,
  );
});

test('what can not be spelled throws, as it would in JSON.stringify', () => {
  const round: Record<string, unknown> = {};
  round.self = round;
  assert.throws(() => bodyJson(round), TypeError);
  assert.throws(() => bodyJson({ big: 1n }), TypeError);
});
