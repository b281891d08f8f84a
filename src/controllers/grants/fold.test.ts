import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import type { Principal } from '../../policy/principal.ts';
import { modelGrant } from './fold.model.ts';
import { foldGrant, type GrantCase, type GrantLife, type SealedLife, type Vote } from './fold.ts';

const person = (username: string, groups: string[] = [], extra: Partial<Principal> = {}): Principal => ({
  username,
  groups,
  aliases: [],
  ...extra,
});
const alice = person('alice');
const dba1 = person('dana', ['dba']);
const dba2 = person('doris', ['dba']);
const boss = person('bert', ['leads']);

const base: GrantCase = {
  t0Ms: 1000,
  durationMs: 600,
  timeoutMs: 500,
  requester: alice,
  namespace: 'payments',
  steps: [{ name: 'dba', count: 1, approvers: [{ kind: 'Group', name: 'dba' }] }],
  objectors: [{ kind: 'Group', name: 'dba' }],
};
let counter = 0;
const vote = (voter: Principal, decision: Vote['decision'], atMs: number): Vote => {
  counter += 1;
  return { uid: `v${String(counter).padStart(4, '0')}`, name: `v${counter}`, atMs, decision, voter };
};
const twoSteps: GrantCase = {
  ...base,
  steps: [
    { name: 'lead', count: 1, approvers: [{ kind: 'Group', name: 'leads' }] },
    { name: 'dba', count: 2, approvers: [{ kind: 'Group', name: 'dba' }] },
  ],
  objectors: [
    { kind: 'Group', name: 'leads' },
    { kind: 'Group', name: 'dba' },
  ],
};

test('an approval by an approver activates, and time ends it', () => {
  const votes = [vote(dba1, 'Approve', 1100)];
  const active = foldGrant(base, votes, undefined, 1100);
  assert.equal(active.phase, 'Active');
  assert.deepEqual([active.startMs, active.endMs, active.nextMs], [1100, 1700, 1700]);
  assert.equal(foldGrant(base, votes, undefined, 1699).phase, 'Active');
  assert.equal(foldGrant(base, votes, undefined, 1700).phase, 'Expired');
});

test('INV-08: the requester never counts, by name, alias, uid or a voter in between', () => {
  const asDba = (extra: Partial<Principal>, username = 'someone'): Vote =>
    vote(person(username, ['dba'], extra), 'Approve', 1100);
  assert.equal(foldGrant(base, [asDba({}, 'alice')], undefined, 1200).phase, 'Pending');
  assert.equal(foldGrant(base, [asDba({}, 'ALICE')], undefined, 1200).phase, 'Pending');
  assert.equal(foldGrant(base, [asDba({ aliases: ['alice'] })], undefined, 1200).phase, 'Pending');
  const withUid = { ...base, requester: { ...alice, uid: 'u1' } };
  assert.equal(foldGrant(withUid, [asDba({ uid: 'u1' })], undefined, 1200).phase, 'Pending');
  // x knows alice's alias and mallory's: so mallory is alice, once x has voted.
  const between = vote(person('x', [], { aliases: ['alice', 'mallory'] }), 'Approve', 1050);
  const life = foldGrant(base, [between, asDba({}, 'mallory')], undefined, 1200);
  assert.equal(life.phase, 'Pending');
  assert.deepEqual([...life.verdicts.values()], ['Requester', 'Requester']);
});

test('INV-08: nobody but an approver of the open step counts, and one person counts once over all steps', () => {
  assert.equal(foldGrant(base, [vote(boss, 'Approve', 1100)], undefined, 1200).phase, 'Pending');
  assert.equal(foldGrant(base, [vote(person('eve', ['DBA']), 'Approve', 1100)], undefined, 1200).phase, 'Pending');
  const both = person('both', ['leads', 'dba']);
  const life = foldGrant(
    twoSteps,
    [vote(both, 'Approve', 1050), vote(both, 'Approve', 1060), vote(dba1, 'Approve', 1070)],
    undefined,
    1200,
  );
  assert.equal(life.phase, 'Pending');
  assert.deepEqual(life.open && [life.open.step.name, life.open.have], ['dba', 1]);
  assert.deepEqual([...life.verdicts.values()], ['Counted', 'VotedAlready', 'Counted']);
});

test('a vote before its step opened does not count, the same person voting again does', () => {
  const early = [vote(dba1, 'Approve', 1050), vote(boss, 'Approve', 1060), vote(dba2, 'Approve', 1070)];
  assert.equal(foldGrant(twoSteps, early, undefined, 1200).phase, 'Pending');
  const again = [...early, vote(dba1, 'Approve', 1080)];
  assert.equal(foldGrant(twoSteps, again, undefined, 1200).startMs, 1080);
});

test('at the deadline it is over: a vote in the same millisecond is late, a denial wins', () => {
  assert.equal(foldGrant(base, [vote(dba1, 'Approve', 1500)], undefined, 1500).phase, 'Expired');
  assert.equal(foldGrant(base, [vote(dba1, 'Deny', 1500)], undefined, 1500).phase, 'Denied');
  assert.equal(foldGrant(base, [vote(dba1, 'Approve', 1499)], undefined, 1500).phase, 'Active');
});

test('no request is timed out before every vote that was in time can have been seen', () => {
  const slow = { ...base, graceMs: 50 };
  const waiting = foldGrant(slow, [], undefined, 1549);
  assert.deepEqual([waiting.phase, waiting.finishedAtMs, waiting.nextMs], ['Pending', undefined, 1550]);
  const { verdicts: _verdicts, open: _open, nextMs: _next, ...sealed } = waiting;
  assert.equal(
    foldGrant(slow, [vote(dba1, 'Approve', 1499)], sealed, 1549).phase,
    'Active',
    'heard late, cast in time',
  );
  assert.equal(foldGrant(slow, [vote(dba1, 'Approve', 1500)], sealed, 1549).phase, 'Pending', 'cast too late');
  const over = foldGrant(slow, [], sealed, 1550);
  assert.deepEqual([over.phase, over.finishedAtMs], ['Expired', 1500]);
});

test('a denial in the same millisecond as the last approval wins', () => {
  const votes = [vote(dba1, 'Approve', 1100), vote(dba2, 'Deny', 1100)];
  assert.equal(foldGrant(base, votes, undefined, 1200).phase, 'Denied');
});

test('only the requester withdraws, only approvers deny and revoke', () => {
  assert.equal(foldGrant(base, [vote(dba1, 'Withdraw', 1100)], undefined, 1200).phase, 'Pending');
  assert.equal(foldGrant(base, [vote(alice, 'Withdraw', 1100)], undefined, 1200).phase, 'Denied');
  assert.equal(foldGrant(base, [vote(boss, 'Deny', 1100)], undefined, 1200).phase, 'Pending');
  const granted = vote(dba1, 'Approve', 1100);
  assert.equal(foldGrant(base, [granted, vote(dba2, 'Revoke', 1150)], undefined, 1200).phase, 'Revoked');
  assert.equal(foldGrant(base, [granted, vote(alice, 'Withdraw', 1150)], undefined, 1200).phase, 'Revoked');
  assert.equal(foldGrant(base, [granted, vote(boss, 'Revoke', 1150)], undefined, 1200).phase, 'Active');
});

test('a future window waits for its beginning and is measured from it', () => {
  const later = { ...base, notBeforeMs: 2000 };
  const votes = [vote(dba1, 'Approve', 1100)];
  const waiting = foldGrant(later, votes, undefined, 1900);
  assert.deepEqual([waiting.phase, waiting.startMs, waiting.endMs], ['Pending', 2000, 2600]);
  // Approved: the deadline of 1500 is no longer one.
  assert.equal(foldGrant(later, votes, undefined, 2000).phase, 'Active');
  assert.equal(foldGrant(later, [...votes, vote(dba2, 'Deny', 1950)], undefined, 2000).phase, 'Denied');
  // Approved within its window: shorter, never longer.
  const late = foldGrant({ ...later, timeoutMs: 5000 }, [vote(dba1, 'Approve', 2400)], undefined, 2400);
  assert.deepEqual([late.phase, late.startMs, late.endMs], ['Active', 2400, 2600]);
  const tooLate = foldGrant({ ...later, timeoutMs: 5000 }, [vote(dba1, 'Approve', 2600)], undefined, 2700);
  assert.equal(tooLate.phase, 'Expired');
});

test('an extension begins when its parent ends, and is cut with it', () => {
  const extension = { ...base, parent: { endMs: 3000 } };
  const votes = [vote(dba1, 'Approve', 1100)];
  const life = foldGrant(extension, votes, undefined, 1200);
  assert.deepEqual([life.phase, life.startMs, life.endMs], ['Pending', 3000, 3600]);
  assert.equal(foldGrant({ ...base, parent: { endMs: 3000, cutAtMs: 2000 } }, votes, undefined, 3100).phase, 'Denied');
  const sealed = foldGrant(extension, votes, undefined, 3000);
  const cut = foldGrant({ ...base, parent: { endMs: 3000, cutAtMs: 3100 } }, votes, sealed, 3200);
  assert.equal(cut.phase, 'Revoked');
  const plain = foldGrant({ ...base, parent: { endMs: 1050 } }, votes, undefined, 1200);
  assert.deepEqual([plain.startMs, plain.endMs], [1100, 1700]);
});

test('what was sealed Active stays when the policy changes, and an earlier denial that comes late revokes it', () => {
  const votes = [vote(dba1, 'Approve', 1100)];
  const sealed = foldGrant(base, votes, undefined, 1100);
  const stricter = { ...base, steps: twoSteps.steps };
  assert.equal(foldGrant(stricter, votes, sealed, 1300).phase, 'Active');
  const denied = foldGrant(base, [...votes, vote(dba2, 'Deny', 1050)], sealed, 1300);
  assert.equal(denied.phase, 'Revoked');
});

const people = [
  alice,
  person('ALICE', ['dba']),
  dba1,
  dba2,
  person('dana2', ['dba'], { aliases: ['dana'] }),
  boss,
  person('link', [], { aliases: ['doris', 'carl'] }),
  person('carl', ['dba', 'leads']),
  person('', ['dba']),
];
const voteArbitrary = fc
  .record({
    who: fc.integer({ min: 0, max: people.length - 1 }),
    at: fc.integer({ min: 0, max: 30 }),
    decision: fc.constantFrom<Vote['decision']>(
      'Approve',
      'Approve',
      'Approve',
      'Approve',
      'Deny',
      'Revoke',
      'Withdraw',
    ),
    id: fc.integer({ min: 0, max: 999_999 }),
  })
  .map(
    ({ who, at, decision, id }): Vote => ({
      uid: `u${id}`,
      name: `n${id}`,
      atMs: 1000 + at * 50,
      decision,
      voter: people[who]!,
    }),
  );
const caseArbitrary = fc
  .record({
    counts: fc.array(fc.record({ group: fc.constantFrom('dba', 'leads'), count: fc.integer({ min: 1, max: 2 }) }), {
      maxLength: 3,
    }),
    duration: fc.integer({ min: 1, max: 12 }),
    timeout: fc.integer({ min: 1, max: 20 }),
    notBefore: fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined }),
    parentEnd: fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined }),
    parentCut: fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined }),
  })
  .map(({ counts, duration, timeout, notBefore, parentEnd, parentCut }): GrantCase => {
    const steps = counts.map(({ group, count }, index) => ({
      name: `s${index}`,
      count,
      approvers: [{ kind: 'Group' as const, name: group }],
    }));
    return {
      ...base,
      durationMs: duration * 50,
      timeoutMs: timeout * 50,
      steps,
      objectors: steps.flatMap((step) => step.approvers),
      ...(parentEnd !== undefined
        ? {
            parent: {
              endMs: 1000 + parentEnd * 50,
              ...(parentCut !== undefined ? { cutAtMs: 1000 + parentCut * 50 } : {}),
            },
          }
        : notBefore !== undefined
          ? { notBeforeMs: 1000 + notBefore * 50 }
          : {}),
    };
  });
const votesArbitrary = fc.uniqueArray(voteArbitrary, { maxLength: 12, selector: (each) => each.uid });
const nowArbitrary = fc.integer({ min: 0, max: 60 }).map((step) => 1000 + step * 25);

test('INV-08: the fold agrees with a model that is written another way', () => {
  fc.assert(
    fc.property(caseArbitrary, votesArbitrary, nowArbitrary, (grant, votes, now) => {
      const life = foldGrant(grant, votes, undefined, now);
      const model = modelGrant(grant, votes, now);
      assert.deepEqual(
        {
          phase: life.phase,
          startMs: life.startMs,
          endMs: life.endMs,
          counted: life.counted.map((each) => each.vote.uid),
        },
        model,
      );
    }),
    { numRuns: 1500 },
  );
});

const sealOf = ({ verdicts: _verdicts, open: _open, nextMs: _next, ...sealed }: GrantLife): SealedLife => sealed;

test('INV-10: looking at it at any moments in between changes nothing, and terminal phases never revive', () => {
  fc.assert(
    fc.property(
      caseArbitrary,
      votesArbitrary,
      fc.array(nowArbitrary, { maxLength: 6 }),
      nowArbitrary,
      (grant, votes, looks, end) => {
        let sealed: SealedLife | undefined;
        for (const at of looks.filter((each) => each <= end).sort((a, b) => a - b)) {
          // Only what had been cast by then was to be seen then.
          const life = foldGrant(
            grant,
            votes.filter((each) => each.atMs <= at),
            sealed,
            at,
          );
          if (sealed !== undefined && ['Denied', 'Expired', 'Revoked'].includes(sealed.phase)) {
            assert.equal(life.phase, sealed.phase);
          }
          sealed = sealOf(life);
        }
        const stepwise = foldGrant(grant, votes, sealed, end);
        const atOnce = foldGrant(grant, votes, undefined, end);
        assert.deepEqual(
          [stepwise.phase, stepwise.startMs, stepwise.endMs, stepwise.finishedAtMs],
          [atOnce.phase, atOnce.startMs, atOnce.endMs, atOnce.finishedAtMs],
        );
      },
    ),
    { numRuns: 1500 },
  );
});
