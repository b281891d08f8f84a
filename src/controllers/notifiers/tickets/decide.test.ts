import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AccessGrantStatus } from '../../../api/grant.ts';
import type { TicketPolicy } from '../../../api/notifier.ts';
import type { Principal } from '../../../policy/principal.ts';
import { BEFORE_START_MS, judgeReading, type TicketCase, ticketNeed, ticketWithholds } from './decide.ts';
import type { TicketReading } from './system.ts';

const ticket: TicketPolicy = { notifier: { name: 'jira' }, pattern: '^OPS-[0-9]+$', states: ['10002'] };
const person = (username: string, ...aliases: string[]): Principal => ({ username, groups: [], aliases });
const alice = person('oidc:alice@corp.example', 'alice@corp.example');
const accounts = new Map([
  ['oidc:alice@corp.example', 'acc-alice'],
  ['bert', 'acc-bert'],
]);
const read = (more: Partial<TicketReading & { kind: 'Read' }> = {}): TicketReading => ({
  kind: 'Read',
  state: '10002',
  stateName: 'Approved',
  assignee: 'acc-alice',
  approvedBy: [{ account: 'acc-carl', names: ['carl', 'carl@corp.example', 'Carl'] }],
  ...more,
});
const judge = (reading: TicketReading, change: Partial<Parameters<typeof judgeReading>[1]> = {}) =>
  judgeReading(reading, {
    ticket,
    number: 'OPS-1',
    purpose: 'Request',
    votes: false,
    people: [alice],
    accounts,
    ...change,
  });

test('a good ticket says nothing at the request, and fills its own step when that is open', () => {
  assert.deepEqual([judge(read()).kind], ['Silent']);
  const gate = judge(read(), { purpose: 'Gate' });
  assert.deepEqual(
    [gate.kind, gate.kind === 'Vote' && [gate.voter, gate.decision]],
    ['Vote', ['ticket-check:jira', 'Approve']],
  );
});

test('INV-04: what could not be read votes for nothing and against nothing', () => {
  for (const purpose of ['Request', 'Gate', 'Start'] as const)
    assert.equal(judge({ kind: 'Unknown', reason: 'no answer' }, { purpose, votes: true }).kind, 'Unknown');
});

test('a bad ticket denies, and revokes what was planned', () => {
  for (const reading of [{ kind: 'Absent' } as const, read({ state: '1' }), read({ state: '10002 ' })]) {
    for (const [purpose, decision] of [
      ['Request', 'Deny'],
      ['Gate', 'Deny'],
      ['Start', 'Revoke'],
    ] as const) {
      const verdict = judge(reading, { purpose });
      assert.equal(verdict.kind === 'Vote' && verdict.decision, decision);
    }
  }
  // The name of a state is not its id.
  assert.equal(judge(read({ state: '3', stateName: '10002' })).kind, 'Vote');
});

test('the assignee is whom the access is for, by account id', () => {
  const strict = { ticket: { ...ticket, assigneeIsRequester: true } };
  assert.equal(judge(read(), strict).kind, 'Silent');
  for (const assignee of ['acc-bert', 'ACC-ALICE', 'alice@corp.example']) {
    const verdict = judge(read({ assignee }), strict);
    assert.equal(verdict.kind === 'Vote' && verdict.decision, 'Deny', assignee);
  }
  const { assignee: _none, ...unassigned } = read() as TicketReading & { kind: 'Read' };
  assert.equal(judge(unassigned, strict).kind, 'Vote');
  // Whose account nobody has said is nobody's; a beneficiary counts instead of the robot.
  assert.equal(judge(read(), { ...strict, people: [person('mallory')] }).kind, 'Vote');
  assert.equal(judge(read({ assignee: 'acc-bert' }), { ...strict, people: [alice, person('bert')] }).kind, 'Silent');
});

test('INV-08: the vote of a ticket that its own requester approved is void, by any name', () => {
  const good = judge(read(), { votes: true });
  assert.deepEqual(good.kind === 'Vote' && [good.voter, good.decision], ['ticket:jira', 'Approve']);
  const carl = { account: 'acc-carl', names: ['carl'] };
  const void_ = (by: { account: string; names: string[] }[], people = [alice]) =>
    assert.equal(judge(read({ approvedBy: by }), { votes: true, people }).kind, 'Silent', JSON.stringify(by));
  void_([]);
  void_([{ account: 'acc-alice', names: [] }]);
  void_([{ account: 'ACC-ALICE', names: [] }]);
  void_([carl, { account: 'other', names: ['Alice@Corp.Example'] }]);
  void_([{ account: 'other', names: ['ALICE'] }]);
  void_([{ account: 'ａｌｉｃｅ@corp.example', names: [] }]);
  // Of somebody without a known account it can not be told.
  void_([carl], [person('mallory')]);
  void_([carl], [alice, person('mallory')]);
  void_([{ account: 'acc-bert', names: [] }], [alice, person('bert')]);
});

const lead = { name: 'lead', count: 1, approvers: [{ kind: 'Group' as const, name: 'dba' }] };
const own = { name: 'Ticket', count: 1, approvers: [{ kind: 'User' as const, name: 'ticket-check:jira' }] };
const counted = (step: string): NonNullable<AccessGrantStatus['approvals']>[number] => ({
  step,
  approver: 'x',
  approval: { name: 'a', uid: 'u' },
  at: '2026-01-01T00:00:00Z',
});
const facts = (change: Partial<TicketCase>): TicketCase => ({
  status: { phase: 'Pending' },
  ticket,
  steps: [lead, own],
  requestedMs: 0,
  votes: [],
  looked: false,
  nowMs: 1_000,
  ...change,
});

test('it is asked at the request, when its step is open, and before a planned start', () => {
  assert.deepEqual(ticketNeed(facts({})), { kind: 'Read', purpose: 'Request', approvals: false, afterMs: 0 });
  assert.deepEqual(ticketNeed(facts({ looked: true })), { kind: 'Nothing' });
  const open = { phase: 'Pending', approvals: [counted('lead')] } as const;
  assert.deepEqual(ticketNeed(facts({ status: { ...open, approvals: [...open.approvals] }, looked: true })), {
    kind: 'Read',
    purpose: 'Gate',
    approvals: false,
    afterMs: Date.parse('2026-01-01T00:00:00Z'),
  });
  const startMs = 10 * BEFORE_START_MS;
  const planned: AccessGrantStatus = {
    phase: 'Pending',
    notBefore: new Date(startMs).toISOString(),
    expiresAt: new Date(startMs * 2).toISOString(),
  };
  const gate = { voter: 'ticket-check:jira', decision: 'Approve' as const, atMs: 2_000 };
  assert.deepEqual(ticketNeed(facts({ status: planned, votes: [gate] })), {
    kind: 'Nothing',
    nextMs: startMs - BEFORE_START_MS,
  });
  const late = facts({ status: planned, votes: [gate], nowMs: startMs - 1_000 });
  assert.deepEqual(ticketNeed(late), {
    kind: 'Read',
    purpose: 'Start',
    approvals: false,
    afterMs: startMs - BEFORE_START_MS,
  });
  assert.match(ticketWithholds(planned, ticket, [gate]) ?? '', /not been read for its start/);
  const kept = { ...gate, decision: 'Keep' as const, atMs: startMs - 1_000 };
  assert.deepEqual(ticketNeed({ ...late, votes: [gate, kept] }), { kind: 'Nothing' });
  assert.equal(ticketWithholds(planned, ticket, [gate, kept]), undefined);
  // One that kept an earlier window is none for this.
  assert.ok(ticketWithholds(planned, ticket, [gate, { ...kept, atMs: 3_000 }]) !== undefined);
  // What began when the ticket was read needs no second look.
  assert.equal(ticketWithholds({ ...planned, notBefore: new Date(2_000).toISOString() }, ticket, [gate]), undefined);
});

test('its vote is wanted where the open step names it, once', () => {
  const named = { ...lead, approvers: [{ kind: 'User' as const, name: 'ticket:jira' }] };
  const auto = { ticket: { ...ticket, autoApprove: true }, steps: [named, own], looked: true };
  assert.deepEqual(ticketNeed(facts(auto)), { kind: 'Read', purpose: 'Request', approvals: true, afterMs: 0 });
  const vote = { voter: 'ticket:jira', decision: 'Approve' as const, atMs: 5 };
  assert.deepEqual(ticketNeed(facts({ ...auto, votes: [vote] })), { kind: 'Nothing' });
  assert.deepEqual(ticketNeed(facts({ ...auto, ticket })), { kind: 'Nothing' });
});

test('a vote from before its step was open, by whatever clock, is cast again', () => {
  const opened = Date.parse('2026-01-01T00:00:00Z');
  const open = facts({ status: { phase: 'Pending', approvals: [counted('lead')] }, looked: true });
  const gate = { voter: 'ticket-check:jira', decision: 'Approve' as const, atMs: opened };
  assert.equal(ticketNeed({ ...open, votes: [gate] }).kind, 'Read');
  assert.equal(ticketNeed({ ...open, votes: [{ ...gate, atMs: opened + 1 }] }).kind, 'Nothing');
});
