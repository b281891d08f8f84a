import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reportOf } from './probe.ts';
import { differs } from './replica.ts';

const AT = Date.parse('2026-01-01T00:00:00Z');

test('the same answer of a target again is the same report', () => {
  const first = reportOf({ kind: 'Reachable', version: 'PostgreSQL 18.4' }, undefined, AT);
  assert.deepEqual(first, { reachable: true, message: 'PostgreSQL 18.4', at: '2026-01-01T00:00:00Z' });
  assert.equal(reportOf({ kind: 'Reachable', version: 'PostgreSQL 18.4' }, first, AT + 300_000), first);
  const failed = reportOf({ kind: 'Failed', reason: 'x'.repeat(5000), hint: 'look' }, first, AT + 300_000);
  assert.equal(failed.reachable, false);
  assert.equal(failed.message.length, 1000);
  assert.equal(failed.at, '2026-01-01T00:05:00Z');
  assert.equal(reportOf({ kind: 'Failed', reason: 'x'.repeat(5000), hint: 'look' }, failed, AT + 600_000), failed);
});

test('when it was written is no difference; the number of sessions alone is a small one', () => {
  const report = { csr: 'c', sessions: 2, recordsWritable: true, connections: [] };
  assert.equal(differs({ ...report, observedAt: '2026-01-01T00:00:00Z' }, report), 'Nothing');
  assert.equal(differs({ ...report, sessions: 3 }, report), 'SessionsOnly');
  assert.equal(differs({}, { ...report }), 'Something');
  assert.equal(differs({ ...report, recordsWritable: false }, report), 'Something');
  assert.equal(differs({ ...report, csr: 'of the process before' }, report), 'Something');
});
