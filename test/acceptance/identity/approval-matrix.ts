// Cases of the approval matrix: steps x counts x aliases x oneself x time-outs x withdrawals x made anew x approve and
// deny at once, drawn at random from a seed, and what the model says of each (src/controllers/grants/fold.model.ts).
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import type { Subject } from '../../../src/api/schema.ts';
import { VOTE_GRACE_MS } from '../../../src/controllers/grants/decide.ts';
import { modelGrant } from '../../../src/controllers/grants/fold.model.ts';
import type { GrantCase, Step, Vote } from '../../../src/controllers/grants/fold.ts';
import type { Principal } from '../../../src/policy/principal.ts';

export interface MatrixStep {
  name: string;
  count: number;
  group: string;
}
export interface MatrixPolicy {
  name: string;
  steps: readonly MatrixStep[];
}

const step = (name: string, group: string, count: number): MatrixStep => ({ name, group, count });
/** Every order and count that matters: none, one of one, two of one, one after the other, one group twice. */
export const POLICIES: readonly MatrixPolicy[] = [
  { name: 'none', steps: [] },
  { name: 'one', steps: [step('dba', 'dba', 1)] },
  { name: 'two', steps: [step('dba', 'dba', 2)] },
  { name: 'then', steps: [step('lead', 'leads', 1), step('dba', 'dba', 1)] },
  { name: 'then-two', steps: [step('lead', 'leads', 1), step('dba', 'dba', 2)] },
  { name: 'twice', steps: [step('first', 'dba', 1), step('second', 'dba', 1)] },
];

export const subjectsOf = ({ group }: MatrixStep): Subject[] => [{ kind: 'Group', name: group }];

/** What somebody does, in order. `gap`: how long after what was before, in units of whoever plays it; 0: at once. */
export interface MatrixAct {
  who: number;
  decision: 'Approve' | 'Deny' | 'Revoke' | 'Withdraw';
  gap: number;
  /** About an earlier object of the same name, or another spec. */
  stray: 'No' | 'Uid' | 'Hash';
}
export interface MatrixCase {
  policy: number;
  requester: number;
  acts: readonly MatrixAct[];
  /** How long after the last act one looks, in units. */
  rest: number;
  /** After which acts the operator gets to look; bits. */
  looks: number;
}

export function matrixCases(people: number, requesters: number): fc.Arbitrary<MatrixCase> {
  return fc.record({
    policy: fc.integer({ min: 0, max: POLICIES.length - 1 }),
    requester: fc.integer({ min: 0, max: requesters - 1 }),
    acts: fc.array(
      fc.record({
        who: fc.integer({ min: 0, max: people - 1 }),
        decision: fc.constantFrom<MatrixAct['decision']>(
          'Approve',
          'Approve',
          'Approve',
          'Approve',
          'Approve',
          'Deny',
          'Revoke',
          'Withdraw',
        ),
        gap: fc.constantFrom(0, 0, 1, 1, 2, 6),
        stray: fc.constantFrom<MatrixAct['stray']>('No', 'No', 'No', 'No', 'No', 'No', 'Uid', 'Hash'),
      }),
      { maxLength: 8 },
    ),
    rest: fc.constantFrom(0, 1, 12),
    looks: fc.nat(255),
  });
}

/** The model’s answer; who counted is told by when: of votes in one millisecond the operator may have heard either first. */
export interface Expected {
  phase: string;
  startMs: number | undefined;
  endMs: number | undefined;
  countedMs: number[];
}

/** What the model says at `nowMs`, from the stamps that admission made. */
export function expected(
  grant: AccessGrant,
  votes: readonly AccessApproval[],
  policy: MatrixPolicy,
  times: { timeoutMs: number; durationMs: number; nowMs: number },
): Expected {
  const steps: Step[] = policy.steps.map((each) => ({
    name: each.name,
    count: each.count,
    approvers: subjectsOf(each),
  }));
  const given: GrantCase = {
    t0Ms: Date.parse(grant.spec.requester!.at!),
    durationMs: times.durationMs,
    timeoutMs: times.timeoutMs,
    requester: principalOf(grant.spec.requester!),
    steps,
    objectors: steps.flatMap(({ approvers }) => approvers),
    namespace: grant.metadata.namespace ?? '',
  };
  const counted: Vote[] = votes.map(({ metadata, spec }) => ({
    uid: metadata.uid,
    name: metadata.name,
    atMs: Date.parse(spec.approver!.at!),
    decision: spec.decision as Vote['decision'],
    voter: principalOf(spec.approver!),
  }));
  const { counted: uids, ...rest } = modelGrant(given, counted, times.nowMs);
  const said: Expected = { ...rest, countedMs: uids.map((uid) => counted.find((vote) => vote.uid === uid)!.atMs) };
  // It is called off only once every timely vote can have been seen.
  const early = times.nowMs < given.t0Ms + given.timeoutMs + VOTE_GRACE_MS;
  return said.phase === 'Expired' && said.startMs === undefined && early ? { ...said, phase: 'Pending' } : said;
}

function principalOf(stamp: NonNullable<AccessGrant['spec']['requester']>): Principal {
  const { username, uid, groups = [], aliases = [], kubernetes } = stamp;
  return { username, groups, aliases, ...(uid ? { uid } : {}), ...(kubernetes ? { kubernetes } : {}) };
}

/** Throws where what the operator wrote is not what the model says. */
export function compare(grant: AccessGrant, model: Expected, about: unknown): void {
  const { status } = grant;
  // In use before the objection of that moment was heard of: then it is revoked, not denied.
  if (status?.phase === 'Revoked' && model.phase === 'Denied') {
    assert.ok(Date.parse(status.finishedAt!) <= Date.parse(status.notBefore!), JSON.stringify(about));
    return;
  }
  const ms = (text: string | undefined): number | undefined => (text === undefined ? undefined : Date.parse(text));
  assert.deepEqual(
    {
      phase: status?.phase,
      startMs: ms(status?.expiresAt === undefined ? undefined : status.notBefore),
      endMs: ms(status?.expiresAt),
      countedMs: (status?.approvals ?? []).map(({ at }) => Date.parse(at)),
    },
    model,
    `the operator and the model differ on ${JSON.stringify(about)}: ${JSON.stringify(status)}`,
  );
}
