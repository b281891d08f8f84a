// What becomes of a held command, from the votes on it. Pure. Every rule that held brings a requirement and all must be
// met; the person who sent the command never counts, each other person once a requirement. A denial by any approver of
// any requirement ends it. What was sealed is not counted again.
import { specHash } from '../../api/canonical.ts';
import type { AccessApproval } from '../../api/grant.ts';
import type { CommandHold, CommandHoldStatus } from '../../api/hold.ts';
import { groupPersons } from '../../policy/persons.ts';
import type { Principal } from '../../policy/principal.ts';
import { matchesAny } from '../../policy/subjects.ts';
import { rfc3339 } from '../conditions.ts';
import { type ProvenVote, provenNow, provenVotes } from '../grants/votes.ts';
import type { Sealer } from '../seal.ts';

/** An approval is good for one run of the same command for this long. */
export const USABLE_MS = 600_000;
const PURPOSE = 'CommandHold';

export interface HoldDecision {
  status: CommandHoldStatus;
  votes: ReadonlyMap<string, { counted: boolean; reason: string; message: string }>;
  nextMs?: number;
}

const sealedFacts = (hold: CommandHold, status: CommandHoldStatus): unknown => ({
  hash: specHash(hold.spec),
  phase: status.phase,
  decidedBy: status.decidedBy,
  decidedAt: status.decidedAt,
  usableUntil: status.usableUntil,
});

/** The decision on a hold if the operator sealed it. Withdrawn and timed out are the proxy's word and need no seal: they allow nothing. */
export function sealedHold(hold: CommandHold, sealer: Pick<Sealer, 'checkFacts'>): CommandHoldStatus | undefined {
  const { status } = hold;
  if (status === undefined || status.phase === 'Waiting') return undefined;
  if (status.phase === 'Withdrawn' || status.phase === 'TimedOut') return status;
  return sealer.checkFacts(PURPOSE, hold.metadata.uid, sealedFacts(hold, status), status.seal) ? status : undefined;
}

export function decideHold(
  hold: CommandHold,
  approvals: readonly AccessApproval[],
  sealer: Sealer,
  clockMs: number,
  /** Why what the hold says of itself is not to be believed. */
  doubt?: string,
  /** Others whose command it is: who asked for the grant and whom it is for, as their stamps say. */
  barred: readonly Principal[] = [],
): HoldDecision {
  const { votes, rejected } = provenVotes(
    {
      kind: 'CommandHold',
      namespace: hold.metadata.namespace,
      name: hold.metadata.name,
      uid: hold.metadata.uid,
      specHash: specHash(hold.spec),
    },
    approvals,
    sealer,
  );
  const nowMs = provenNow(clockMs, votes);
  const verdicts = new Map<string, { counted: boolean; reason: string; message: string }>();
  for (const [uid, message] of rejected) verdicts.set(uid, { counted: false, reason: 'Invalid', message });
  const tell = (vote: ProvenVote, counted: boolean, reason: string, message: string): void => {
    verdicts.set(vote.uid, { counted, reason, message });
  };
  const before = sealedHold(hold, sealer);
  if (before !== undefined) {
    for (const vote of votes) tell(vote, false, 'TooLate', `The command was ${before.phase} by then.`);
    return { status: before, votes: verdicts };
  }
  const finish = (status: CommandHoldStatus): HoldDecision => ({
    status: { ...status, seal: sealer.sealFacts(PURPOSE, hold.metadata.uid, sealedFacts(hold, status)) },
    votes: verdicts,
  });

  if (doubt !== undefined) {
    for (const vote of votes) tell(vote, false, 'Invalid', doubt);
    return finish({ phase: 'Denied', decidedAt: rfc3339(nowMs), reason: doubt.slice(0, 1024) });
  }
  const { spec } = hold;
  const requester: Principal = {
    username: spec.requester.username,
    ...(spec.requester.uid ? { uid: spec.requester.uid } : {}),
    groups: spec.requester.groups ?? [],
    aliases: spec.requester.aliases ?? [],
  };
  const requestedMs = Date.parse(spec.requestedAt);
  const untilMs = Date.parse(spec.until);
  const namespace = hold.metadata.namespace;
  const counted: ProvenVote[] = [];
  const seen: Principal[] = [requester, ...barred];
  let denial: ProvenVote | undefined;
  let withdrawal: ProvenVote | undefined;
  let approval: ProvenVote | undefined;
  const rank = (vote: ProvenVote): number => (vote.decision === 'Approve' ? 1 : 0);
  const ordered = [...votes].sort((a, b) => a.atMs - b.atMs || rank(a) - rank(b) || (a.uid < b.uid ? -1 : 1));
  for (const vote of ordered) {
    seen.push(vote.voter);
    // Only those seen so far: a later voter must not undo what was decided.
    const persons = groupPersons([...seen, ...counted.map((each) => each.voter)]);
    const me = persons[seen.length - 1];
    const self = persons.slice(0, barred.length + 1).includes(me!);
    const concerned = spec.requirements.some((each) => matchesAny(each.approvers, vote.voter, namespace));
    if (denial !== undefined || withdrawal !== undefined || approval !== undefined || vote.atMs >= untilMs) {
      tell(vote, false, 'TooLate', 'The command was decided or had timed out by then.');
    } else if (vote.decision === 'Withdraw') {
      if (self) withdrawal = vote;
      tell(
        vote,
        self,
        self ? 'Counted' : 'NotApprover',
        self ? 'It counts.' : 'Only who sent a command can withdraw it.',
      );
    } else if (vote.decision === 'Deny' || vote.decision === 'Revoke') {
      if (concerned) denial = vote;
      tell(
        vote,
        concerned,
        concerned ? 'Counted' : 'NotApprover',
        concerned ? 'It counts.' : 'Its author is no approver of this command.',
      );
    } else if (vote.decision !== 'Approve') {
      tell(vote, false, 'NotNeeded', 'A held command is approved or denied.');
    } else if (self) {
      tell(vote, false, 'Requester', 'Nobody approves their own command, under any name they have.');
    } else if (vote.atMs < requestedMs - 2_000) {
      tell(vote, false, 'TooEarly', 'It was made before the command was.');
    } else if (!concerned) {
      tell(vote, false, 'NotApprover', 'Its author is no approver of this command.');
    } else if (counted.some((_, index) => persons[seen.length + index] === me)) {
      tell(vote, false, 'VotedAlready', 'This person has been counted already.');
    } else {
      tell(vote, true, 'Counted', 'It counts.');
      counted.push(vote);
      const met = spec.requirements.every(
        (each) => counted.filter((one) => matchesAny(each.approvers, one.voter, namespace)).length >= each.count,
      );
      if (met && spec.requirements.length > 0) approval = vote;
    }
  }
  const decidedAt = (vote: ProvenVote): Pick<CommandHoldStatus, 'decidedAt'> => ({ decidedAt: rfc3339(vote.atMs) });
  if (denial !== undefined || withdrawal !== undefined) {
    const by = denial ?? withdrawal!;
    const reason = by.reason ?? (denial === undefined ? 'withdrawn by its author' : undefined);
    return finish({ phase: 'Denied', decidedBy: [by.voter.username], ...decidedAt(by), ...(reason ? { reason } : {}) });
  }
  if (approval !== undefined) {
    const reason = counted.map((each) => each.reason).find((each) => each !== undefined);
    return finish({
      phase: 'Approved',
      decidedBy: counted.map((each) => each.voter.username),
      ...decidedAt(approval),
      ...(reason ? { reason } : {}),
      usableUntil: rfc3339(approval.atMs + USABLE_MS),
    });
  }
  if (nowMs >= untilMs) return { status: { phase: 'TimedOut', decidedAt: rfc3339(untilMs) }, votes: verdicts };
  return {
    status: {
      phase: 'Waiting',
      ...(counted.length > 0 ? { decidedBy: counted.map((each) => each.voter.username) } : {}),
    },
    votes: verdicts,
    nextMs: untilMs,
  };
}
