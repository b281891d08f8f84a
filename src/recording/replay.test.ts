import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../test/support/any-text.ts';
import type { RecordEnvelope } from './envelope.ts';
import { replayEvent } from './replay.ts';
import { alignedTable, byteCount } from './text.ts';

const event = (kind: string, body: unknown, seq = 1): RecordEnvelope => ({
  v: 1,
  stream: 's-x',
  seq,
  ts: '2026-01-31T15:04:05.678Z',
  kind,
  body,
});
const start = event('start', {
  protocol: 'postgresql',
  connection: { uid: 'c', namespace: 'payments', name: 'orders-db' },
  grant: { name: 'orders-db-7fk2p', uid: 'g', policy: 'payments/orders-team' },
  principal: { username: 'alice@corp.example', groups: ['dev'] },
  account: 'reader',
  client: { address: '127.0.0.1', application: 'psql' },
  policyGeneration: 1,
});

test('a session reads like a story', () => {
  const told = [
    start,
    event('command', {
      id: 1,
      verb: 'SELECT',
      text: 'select id,\n  number from cards where id = $1',
      parameters: ['7', null],
      effects: [],
      decision: 'Allow',
      by: [{ policy: 'payments/orders-team', rule: 'read' }],
      approvedBy: ['dba@corp.example'],
      hold: 'h-3b7',
      facts: {},
    }),
    event('result', {
      id: 1,
      tag: 'SELECT 3',
      rows: 3,
      bytes: 1234,
      masked: 2,
      durationMs: 1.5,
      columns: ['id', 'number'],
      sample: [
        ['7', '****1111'],
        ['12345', null],
      ],
    }),
    event('command', {
      id: 2,
      verb: 'DROP TABLE',
      text: 'drop table orders',
      effects: [],
      decision: 'Deny',
      code: 'RuleDenied',
      denial: 'd-51c0',
      by: [{ policy: 'payments/orders-team', rule: 'no-ddl' }],
      facts: {},
    }),
    event('hold', {
      hold: 'h-3b8',
      event: 'Denied',
      by: ['dba@corp.example'],
      reason: 'add a WHERE',
      commandHash: 'x',
    }),
    event('result', { id: 3, error: { code: '42P01', message: 'relation "x" does not exist' } }),
    event('end', { reason: 'Expired', message: 'grant expired' }),
  ];
  const text = told.map((record, index) => replayEvent(record, told[index - 1])).join('');
  assert.equal(
    text,
    `--- 2026-01-31 ---
15:04:05.678Z  alice@corp.example began a postgresql session on payments/orders-db as reader
    grant orders-db-7fk2p under policy payments/orders-team, from 127.0.0.1 (psql), groups dev
    let in by a ticket of the grant
15:04:05.678Z  #1 SELECT: allowed by payments/orders-team "read", hold h-3b7, approved by dba@corp.example
    select id,
      number from cards where id = $1
    $1   '7'
    $2   NULL
15:04:05.678Z  #1 answered: SELECT 3, 3 rows, 1.2 kB, 2 values masked, 1.5 ms
    id      number
    7       ****1111
    12345   NULL
    … 1 rows more
15:04:05.678Z  #2 DROP TABLE: refused by payments/orders-team "no-ddl" (denial d-51c0) RuleDenied
    drop table orders
15:04:05.678Z  hold h-3b8 Denied by dba@corp.example: add a WHERE
15:04:05.678Z  #3 failed
    error 42P01: relation "x" does not exist
15:04:05.678Z  ended: Expired
    grant expired
`,
  );
});

const hostile = fc.oneof(
  anyText({ maxLength: 30 }),
  fc.constantFrom(
    '\u001b]0;owned\u0007',
    '\u001b[2J',
    '\u009b31m',
    '\u202egnp.exe',
    '\u2066x\u2069',
    '\r\nend',
    '\u2028',
    '\ufeff',
    '\ud800',
    '\u0000',
    '\u{e0041}',
  ),
);

test('nothing recorded can move the cursor, turn the text, or forge a line', () => {
  fc.assert(
    fc.property(
      hostile,
      fc.constantFrom('start', 'command', 'result', 'notice', 'hold', 'end', 'new-kind'),
      (text, kind) => {
        const body = {
          id: text,
          verb: text,
          text,
          message: text,
          parameters: [text],
          denial: text,
          code: text,
          hold: text,
          event: text,
          reason: text,
          decision: 'Deny',
          by: [{ policy: text, rule: text }],
          warnings: [{ policy: text, rule: text }],
          approvedBy: [text],
          tag: text,
          rows: 5,
          columns: [text],
          sample: [[text, null]],
          error: { code: text, message: text },
          protocol: text,
          account: text,
          connection: { namespace: text, name: text },
          grant: { name: text, policy: text },
          principal: { username: text, groups: [text] },
          client: { address: text, application: text },
        };
        const told = replayEvent(event(kind, body), start);
        assert.doesNotMatch(told, /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
        const forged = told
          .split('\n')
          .slice(1, -1)
          .filter((line) => !line.startsWith('    '));
        assert.deepEqual(forged, []);
      },
    ),
    { numRuns: 200 },
  );
});

test('bodies of any shape are told somehow', () => {
  fc.assert(
    fc.property(fc.constantFrom('start', 'command', 'result', 'hold', 'end', 'x'), fc.jsonValue(), (kind, body) => {
      assert.match(replayEvent(event(kind, body), start), /^15:04:05\.678Z {2}/);
    }),
    { numRuns: 200 },
  );
});

test('tables are aligned, long cells are cut', () => {
  assert.equal(
    alignedTable(
      [
        ['a', 'b'],
        ['long cell', 'x'.repeat(100)],
      ],
      { widest: 9 },
    ),
    `a           b\nlong cell   ${'x'.repeat(8)}…\n`,
  );
  assert.equal(byteCount(999), '999 B');
  assert.equal(byteCount(1_234_567), '1.2 MB');
});
