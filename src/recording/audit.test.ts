import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { openTestLog, recordFolder, testSigner, written } from '../../test/support/records.ts';
import { manualClock } from '../system/manual-clock.ts';
import {
  type ColumnRead,
  columnReads,
  commandsWithoutSignOff,
  findDenial,
  listSessions,
  parseColumnPattern,
} from './audit.ts';
import type { CommandBody, ResultBody } from './envelope.ts';
import type { ProcessRecordLog } from './log/process-log.ts';
import type { SessionRecorder } from './recorder.ts';
import { viewRecords } from './store-view.ts';
import { verifyRecords } from './verify.ts';

function begin(log: ProcessRecordLog, id: string, username: string, name = 'orders-db'): SessionRecorder {
  const session = log.session(id);
  session.append('start', {
    protocol: 'postgresql',
    connection: { uid: `c-${name}`, name, namespace: 'payments' },
    grant: { name: 'g-1', uid: 'g', policy: 'payments/team' },
    principal: { username, groups: [] },
    account: 'reader',
    client: { address: '127.0.0.1' },
    policyGeneration: 1,
  });
  return session;
}

function run(
  session: SessionRecorder,
  command: Partial<CommandBody> & { id: number; columns?: string[]; relations?: string[] },
  result?: Partial<ResultBody> & { origins?: string[] },
): void {
  const { columns = [], relations = [], ...rest } = command;
  session.append('command', {
    verb: 'SELECT',
    text: 'select',
    effects: [],
    decision: 'Allow',
    facts: { postgresql: { columns, relations } },
    ...rest,
  });
  if (result === undefined) return;
  const { origins, ...body } = result;
  session.append('result', {
    id: command.id,
    ...body,
    ...(origins === undefined ? {} : { facts: { postgresql: { origins } } }),
  });
}

test('who read a column: by name, by what the server said, perhaps, refused, unknown', async (t) => {
  const folder = recordFolder(t);
  const log = await openTestLog(folder);
  const alice = begin(log, 's-alice', 'alice');
  const number = 'public.cards.number';
  run(alice, { id: 1, columns: [number], relations: ['public.cards'] }, { rows: 2, masked: 2 });
  run(alice, { id: 2, columns: ['public.cards.id'], relations: ['public.cards'] }, { rows: 1 });
  run(
    alice,
    { id: 3, columns: ['public.cards.*'], relations: ['public.cards'] },
    { rows: 4, origins: [number, 'public.cards.id'], masked: 4 },
  );
  run(alice, { id: 4, columns: ['*'], relations: ['public.cards'] }, { rows: 4 });
  run(alice, { id: 5, columns: ['*.*.number'], relations: ['public.orders'] }, { rows: 4 });
  run(alice, { id: 6, columns: [number], relations: ['public.cards'], decision: 'Deny', denial: 'd-51c0' });
  run(alice, { id: 7, columns: [number], relations: ['public.cards'] });
  run(
    alice,
    { id: 8, columns: [number], relations: ['public.cards'] },
    { error: { code: '57014', message: 'cancelled' } },
  );
  alice.append('end', { reason: 'Done' });
  alice.close();
  const bob = begin(log, 's-bob', 'bob', 'other-db');
  run(bob, { id: 1, columns: [number], relations: ['public.cards'] }, { rows: 9 });
  assert.equal(await written(bob), undefined);
  const summary = ({ session, command, how, outcome, rows }: ColumnRead): string =>
    `${session} ${command} ${how} ${outcome} ${rows}`;
  const expected = [
    's-alice 1 Used Masked 2',
    's-alice 3 Returned Masked 4',
    's-alice 4 Possible Clear 4',
    's-alice 6 Used Refused 0',
    's-alice 8 Used Failed 0',
    's-alice 7 Used Unknown 0',
  ];
  for (let round = 0; round < 2; round += 1) {
    using view = viewRecords(folder);
    assert.deepEqual(
      [...columnReads(view, parseColumnPattern('orders-db/public.cards.number')!)].map(summary),
      expected,
    );
    assert.deepEqual(
      [...columnReads(view, parseColumnPattern('*/public.cards.number')!, { user: 'bob' })].map(summary),
      ['s-bob 1 Used Clear 9'],
    );
    assert.deepEqual([...columnReads(view, parseColumnPattern('payments/other-db/*.cards.*')!)].map(summary), [
      's-bob 1 Used Clear 9',
    ]);
    assert.equal(
      [...columnReads(view, parseColumnPattern('orders-db/public.cards.cvv')!)].map(summary).join(),
      's-alice 3 Possible Masked 4,s-alice 4 Possible Clear 4',
    );
    const denial = findDenial(view, 'd-51c0');
    assert.equal(denial?.record.seq, 11);
    assert.equal(denial.start?.body.principal.username, 'alice');
    assert.equal(findDenial(view, 'd-0000'), undefined);
    // Sealed and live must answer alike.
    await log.sealNow();
  }
  await log.close();
});

test('names that are no column patterns', () => {
  for (const text of ['', 'cards.number', '/public.cards.number', 'db/cards.number', 'db/public..number'])
    assert.equal(parseColumnPattern(text), undefined, text);
  assert.deepEqual(parseColumnPattern('ns/db/a.b.c.d'), { connection: 'ns/db', parts: ['a.b', 'c', 'd'] });
});

test('sessions are counted, filtered and found over midnight; what nobody signed off is listed', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.parse('2026-01-01T23:50:00Z'));
  const log = await openTestLog(folder, { clock, signer: testSigner(undefined, clock.now()) });
  const alice = begin(log, 's-alice', 'alice');
  run(alice, { id: 1 }, { rows: 3, masked: 1 });
  await written(alice);
  await log.sealNow();
  clock.advance(3_600_000);
  run(alice, { id: 2, verb: 'CREATE TABLE', effects: [{ action: 'Define', object: ['public', 't'] }] }, { rows: 0 });
  run(
    alice,
    { id: 3, verb: 'GRANT', effects: [{ action: 'Grant', object: ['public', 't'] }], approvedBy: ['dba'], hold: 'h-1' },
    { rows: 0 },
  );
  run(alice, { id: 4, decision: 'Deny', denial: 'd-1' });
  await written(alice);
  alice.append('end', { reason: 'Done' });
  alice.close();
  const bob = begin(log, 's-bob', 'bob');
  await written(bob);
  using view = viewRecords(folder);
  assert.deepEqual(
    [...listSessions(view)].map(({ session, commands, denied, held, rows, masked, reason }) => ({
      session,
      commands,
      denied,
      held,
      rows,
      masked,
      reason,
    })),
    [
      { session: 's-alice', commands: 4, denied: 1, held: 1, rows: 3, masked: 1, reason: 'Done' },
      { session: 's-bob', commands: 0, denied: 0, held: 0, rows: 0, masked: 0, reason: undefined },
    ],
  );
  const late = [
    ...listSessions(view, { since: '2026-01-02T00:00:00.000Z', user: 'alice', connection: 'payments/orders-db' }),
  ];
  assert.deepEqual(
    late.map(({ session, commands, started }) => ({ session, commands, started })),
    [{ session: 's-alice', commands: 3, started: '2026-01-01T23:50:00.000Z' }],
  );
  assert.deepEqual(
    [...commandsWithoutSignOff(view)].map(({ command, actions }) => ({ command, actions })),
    [{ command: 2, actions: ['Define'] }],
  );
  await log.close();
});

test('INV-07: retention leaves a tombstone; more than that missing is still a loss', async (t) => {
  const folder = recordFolder(t);
  const clock = manualClock(Date.parse('2026-01-01T12:00:00Z'));
  const log = await openTestLog(folder, { clock, signer: testSigner(undefined, clock.now()) });
  for (const [id, days] of [
    ['s-first', 10],
    ['s-second', 10],
    ['s-third', 0],
  ] as const) {
    const session = begin(log, id, 'alice');
    session.append('end', { reason: 'Done' });
    await written(session);
    session.close();
    await log.sealNow();
    clock.advance(days * 86_400_000);
  }
  const pruned = await log.prune(Date.parse('2026-01-05T00:00:00Z'), { username: 'retention' });
  assert.deepEqual(pruned, [{ date: '2026-01-01', segments: 2 }]);
  const report = verifyRecords(folder);
  assert.deepEqual(report.findings, []);
  assert.ok(report.notes.some((note) => note.includes('2026-01-01')));
  assert.equal(fs.existsSync(`${folder}/sealed/2026-01-01`), false);
  await log.close();
  assert.deepEqual(verifyRecords(folder).findings, []);
  fs.rmSync(`${folder}/sealed/2026-01-11`, { recursive: true });
  assert.ok(verifyRecords(folder).findings.some(({ code, session }) => code === 'Missing' && session === 's-second'));
});
