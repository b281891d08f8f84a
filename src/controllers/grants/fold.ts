// The life of one grant as a pure fold over its votes and the clock. The same inputs give the same phase, however often
// and in whatever order they were looked at; what was sealed is never counted again. Guarantees: a vote counts only
// between the opening of its step and the deadline, only by an approver of that step who is not the requester, and one
// person counts once; terminal phases never revive. It does not check seals: votes handed in are proven already.
//
// Times are the sealed admission times in milliseconds; order is (time, rank, uid), rank: Deny and Revoke, Withdraw,
// deadline and end, Approve.
import type { GrantPhase } from '../../api/grant.ts';
import type { Subject } from '../../api/schema.ts';
import { samePerson } from '../../policy/persons.ts';
import type { Principal } from '../../policy/principal.ts';
import { matchesAny } from '../../policy/subjects.ts';

export interface Vote {
  /** Uid of the AccessApproval. */
  uid: string;
  name: string;
  atMs: number;
  decision: 'Approve' | 'Deny' | 'Revoke' | 'Withdraw';
  voter: Principal;
  reason?: string;
  /** Why an Approve does not do although its author may approve: how they had logged in. A clause for people. */
  lacks?: string;
}

export interface Step {
  name: string;
  count: number;
  approvers: readonly Subject[];
}

export interface GrantCase {
  t0Ms: number;
  notBeforeMs?: number;
  durationMs: number;
  timeoutMs: number;
  /** A vote that was admitted in time may be seen so much later: no request is timed out before. Default 0. */
  graceMs?: number;
  requester: Principal;
  beneficiary?: Principal;
  /** Steps still in the way: none for Standing policies and break-glass. */
  steps: readonly Step[];
  /** Who may deny or revoke: approvers of any step, whether or not the steps were skipped. */
  objectors: readonly Subject[];
  /** Namespace of the policy, for ServiceAccount subjects. */
  namespace: string;
  /** Of an extension: when the parent ends, and when it was cut if it was. */
  parent?: { endMs: number; cutAtMs?: number };
}

/** What was sealed earlier. `startMs` and `endMs` exist once it was approved. */
export interface SealedLife {
  phase: GrantPhase;
  counted: readonly CountedVote[];
  deadlineMs: number;
  startMs?: number;
  endMs?: number;
  finishedAtMs?: number;
  finishedBy?: string;
  ending?: Ending;
}

export type Ending = 'Denied' | 'Withdrawn' | 'TimedOut' | 'Ended' | 'Revoked' | 'ParentCut' | 'Invalid';

export interface CountedVote {
  step: string;
  approver: string;
  vote: { name: string; uid: string };
  atMs: number;
  reason?: string;
}

export type VoteVerdict =
  | 'Counted'
  | 'Requester'
  | 'NotApprover'
  | 'VotedAlready'
  | 'StepUp'
  | 'TooLate'
  | 'TooEarly'
  | 'NotNeeded';

export interface GrantLife extends SealedLife {
  /** The step that is open, while votes are missing. */
  open?: { step: Step; have: number };
  verdicts: ReadonlyMap<string, VoteVerdict>;
  /** The reason of the vote that ended it. */
  reason?: string;
  /** When time alone will change the phase next. */
  nextMs?: number;
}

const RANK = { Deny: 0, Revoke: 0, Withdraw: 1, Approve: 3 } as const;
const TIME_RANK = 2;

export const isTerminal = (phase: GrantPhase): boolean =>
  phase === 'Denied' || phase === 'Expired' || phase === 'Revoked';

export function foldGrant(
  grant: GrantCase,
  votes: readonly Vote[],
  sealed: SealedLife | undefined,
  nowMs: number,
): GrantLife {
  if (sealed !== undefined && isTerminal(sealed.phase)) return { ...sealed, verdicts: new Map() };

  const verdicts = new Map<string, VoteVerdict>();
  const counted: CountedVote[] = [...(sealed?.startMs !== undefined ? sealed.counted : [])];
  const deadlineMs =
    sealed?.deadlineMs ??
    Math.min(
      grant.t0Ms + grant.timeoutMs,
      grant.notBeforeMs === undefined ? Infinity : grant.notBeforeMs + grant.durationMs,
    );
  // Whether somebody was an approver was judged when their vote was sealed: a policy that changed since undoes nothing.
  const sealedStep = new Map((sealed?.counted ?? []).map((each) => [each.vote.uid, each.step]));
  const people = openPeople([grant.requester, ...(grant.beneficiary ? [grant.beneficiary] : [])]);
  const voted: Principal[] = [];

  let phase: GrantPhase = sealed?.startMs !== undefined ? sealed.phase : 'Pending';
  let startMs = sealed?.startMs;
  let endMs = sealed?.endMs;
  let stepIndex = 0;
  let have = 0;
  let openedMs = grant.t0Ms;
  let finish: { atMs: number; by?: string; ending: Ending; reason?: string } | undefined;

  const finished = (next: GrantPhase, atMs: number, ending: Ending, by?: string, reason?: string): void => {
    phase = next;
    finish = { atMs, ending, ...(by ? { by } : {}), ...(reason ? { reason } : {}) };
  };
  const approved = (atMs: number): void => {
    if (grant.parent !== undefined && atMs < grant.parent.endMs) {
      startMs = grant.parent.endMs;
      endMs = grant.parent.endMs + grant.durationMs;
    } else {
      startMs = Math.max(atMs, grant.notBeforeMs ?? atMs);
      endMs = (grant.notBeforeMs ?? atMs) + grant.durationMs;
    }
  };
  /** Lets time pass up to (ms, rank), that moment excluded. */
  const passTime = (ms: number, rank: number): void => {
    const due = (at: number): boolean => at < ms || (at === ms && TIME_RANK < rank);
    if (phase === 'Pending' && startMs === undefined && due(deadlineMs)) finished('Expired', deadlineMs, 'TimedOut');
    if (phase === 'Pending' && startMs !== undefined && due(startMs)) {
      if (startMs >= endMs!) finished('Expired', startMs, 'Ended');
      else phase = 'Active';
    }
    if (phase === 'Active' && due(endMs!)) finished('Expired', endMs!, 'Ended');
  };
  const stop = (
    atMs: number,
    ending: 'Denied' | 'Revoked' | 'Withdrawn' | 'ParentCut',
    by?: string,
    reason?: string,
  ): void => {
    // What was sealed Active was in use: it can only be revoked, however early the objection was made.
    if (phase === 'Active') finished('Revoked', atMs, ending === 'Denied' ? 'Revoked' : ending, by, reason);
    else finished('Denied', atMs, ending === 'Revoked' ? 'Denied' : ending, by, reason);
  };

  if (phase === 'Pending' && startMs === undefined && grant.steps.length === 0) approved(grant.t0Ms);

  type Event = { atMs: number; rank: number; uid: string; vote?: Vote };
  // An objection can not be older than what it objects to; a clock that was set back must not silence it.
  const events: Event[] = votes.map((vote) => ({
    atMs: vote.decision === 'Approve' ? vote.atMs : Math.max(vote.atMs, grant.t0Ms),
    rank: RANK[vote.decision],
    uid: vote.uid,
    vote,
  }));
  if (grant.parent?.cutAtMs !== undefined) {
    events.push({ atMs: Math.max(grant.parent.cutAtMs, grant.t0Ms), rank: 0, uid: '' });
  }
  events.sort((a, b) => a.atMs - b.atMs || a.rank - b.rank || (a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0));

  for (const event of events) {
    if (event.atMs > nowMs) break;
    passTime(event.atMs, event.rank);
    const { vote } = event;
    if (vote === undefined) {
      if (!isTerminal(phase)) stop(event.atMs, 'ParentCut');
      continue;
    }
    people.add(vote.voter);
    const own = people.same(vote.voter, grant.requester);
    const self = own || (grant.beneficiary !== undefined && people.same(vote.voter, grant.beneficiary));
    const mayObject = matchesAny(grant.objectors, vote.voter, grant.namespace);
    if (isTerminal(phase)) {
      verdicts.set(vote.uid, 'TooLate');
    } else if (vote.decision === 'Withdraw') {
      verdicts.set(vote.uid, self ? 'Counted' : 'NotApprover');
      if (self) stop(event.atMs, 'Withdrawn', vote.voter.username, vote.reason);
    } else if (vote.decision === 'Deny' || vote.decision === 'Revoke') {
      verdicts.set(vote.uid, mayObject ? 'Counted' : 'NotApprover');
      if (mayObject)
        stop(event.atMs, vote.decision === 'Deny' ? 'Denied' : 'Revoked', vote.voter.username, vote.reason);
    } else if (startMs !== undefined) {
      if (!counted.some((each) => each.vote.uid === vote.uid)) verdicts.set(vote.uid, 'NotNeeded');
    } else {
      const step = grant.steps[stepIndex]!;
      const verdict: VoteVerdict = self
        ? 'Requester'
        : vote.atMs < openedMs
          ? 'TooEarly'
          : // Somebody without any identifier could vote as often as they like.
            !samePerson(vote.voter, vote.voter)
            ? 'NotApprover'
            : voted.some((other) => people.same(other, vote.voter))
              ? 'VotedAlready'
              : sealedStep.get(vote.uid) === step.name
                ? 'Counted'
                : !matchesAny(step.approvers, vote.voter, grant.namespace)
                  ? 'NotApprover'
                  : vote.lacks !== undefined
                    ? 'StepUp'
                    : 'Counted';
      verdicts.set(vote.uid, verdict);
      if (verdict !== 'Counted') continue;
      voted.push(vote.voter);
      counted.push({
        step: step.name,
        approver: vote.voter.username,
        vote: { name: vote.name, uid: vote.uid },
        atMs: vote.atMs,
        ...(vote.reason ? { reason: vote.reason } : {}),
      });
      have += 1;
      if (have < step.count) continue;
      have = 0;
      stepIndex += 1;
      openedMs = vote.atMs;
      if (stepIndex === grant.steps.length) approved(vote.atMs);
    }
  }
  passTime(nowMs, Infinity);

  // Terminal phases never revive, so a time-out is not called before every timely vote can have been seen.
  const settledMs = deadlineMs + (grant.graceMs ?? 0);
  if (finish?.ending === 'TimedOut' && nowMs < settledMs) {
    phase = 'Pending';
    finish = undefined;
  }
  const waitsForVotes = phase === 'Pending' && startMs === undefined;
  const nextMs = waitsForVotes ? settledMs : phase === 'Pending' ? startMs : phase === 'Active' ? endMs : undefined;
  return {
    phase,
    counted,
    deadlineMs,
    ...(startMs !== undefined ? { startMs, endMs: endMs! } : {}),
    ...(finish !== undefined
      ? {
          finishedAtMs: finish.atMs,
          ending: finish.ending,
          ...(finish.by ? { finishedBy: finish.by } : {}),
          ...(finish.reason ? { reason: finish.reason } : {}),
        }
      : {}),
    ...(waitsForVotes ? { open: { step: grant.steps[stepIndex]!, have } } : {}),
    verdicts,
    ...(nextMs !== undefined && Number.isFinite(nextMs) ? { nextMs } : {}),
  };
}

interface People {
  add(principal: Principal): void;
  same(a: Principal, b: Principal): boolean;
}

/**
 * Who is the same person as whom, transitively over everybody seen so far. It only grows: a later voter who ties two
 * earlier ones together does not undo what they decided, or the outcome would depend on when one looked.
 */
export function openPeople(first: readonly Principal[]): People {
  let classes: Principal[][] = [];
  const add = (principal: Principal): void => {
    const touching = classes.filter((members) => members.some((member) => samePerson(member, principal)));
    const rest = classes.filter((members) => !touching.includes(members));
    classes = [...rest, [...touching.flat(), principal]];
  };
  for (const principal of first) add(principal);
  return {
    add,
    same: (a, b) => samePerson(a, b) || classes.some((members) => members.includes(a) && members.includes(b)),
  };
}
