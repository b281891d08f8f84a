// The review that an emergency leaves due. Pure.
import type { AccessGrantStatus } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Condition } from '../../api/schema.ts';
import { excluded } from '../../policy/persons.ts';
import type { Principal } from '../../policy/principal.ts';
import { stepUpLack } from '../../policy/step-up.ts';
import { matchesAny, subjectText } from '../../policy/subjects.ts';
import { rfc3339, withCondition } from '../conditions.ts';
import type { GrantFacts } from './decide.ts';
import { stepUpOn } from './request-faults.ts';
import type { ProvenVote } from './votes.ts';
import { described } from './wording.ts';

/**
 * Break-glass access is kept while its review is due; a reviewer unrelated to the requester signs it off. Who signed is
 * sealed: a condition that somebody wrote signs nothing.
 */
export function withSignOff(
  facts: GrantFacts,
  status: AccessGrantStatus,
  votes: readonly ProvenVote[],
  requester: Principal,
  verdicts: Map<string, { counted: boolean; reason: string; message: string }>,
  known?: AccessPolicy,
): AccessGrantStatus {
  const ref = status.policy;
  // A sealed grant that nobody opened was no emergency.
  const emergency = facts.grant.spec.breakGlass === true || status.sealedUses !== undefined;
  if (!emergency || status.expiresAt === undefined || ref === undefined) return status;
  // Where its policy is gone, one that took its name says who reviews: an emergency is never past reviewing.
  const policy =
    known ?? facts.policy(ref.namespace, ref.name, ref.uid) ?? facts.policyNamed?.(ref.namespace, ref.name);
  const reviewers = policy?.spec.breakGlass?.reviewers ?? [];
  let { signOff } = status;
  const needs = stepUpOn(policy, 'Approve');
  for (const vote of votes.filter((each) => each.decision === 'SignOff')) {
    const self = excluded(
      vote.voter,
      [requester],
      votes.map((each) => each.voter),
    );
    const lack = stepUpLack(needs, vote.login, vote.atMs);
    const verdict = self
      ? 'Requester'
      : !matchesAny(reviewers, vote.voter, policy?.metadata.namespace)
        ? 'NotApprover'
        : lack !== undefined
          ? 'StepUp'
          : signOff !== undefined && signOff.approval.uid !== vote.uid
            ? 'NotNeeded'
            : 'Counted';
    verdicts.set(vote.uid, described(verdict, status.phase, lack));
    if (verdict !== 'Counted') continue;
    signOff ??= {
      by: vote.voter.username.slice(0, 256),
      approval: { name: vote.name, uid: vote.uid },
      at: rfc3339(vote.atMs),
      ...(vote.reason ? { reason: vote.reason } : {}),
    };
  }
  const condition: Omit<Condition, 'lastTransitionTime'> = signOff
    ? { type: 'SignedOff', status: 'True', reason: 'Reviewed', message: `Signed off by ${signOff.by}.` }
    : {
        type: 'SignedOff',
        status: 'False',
        reason: 'ReviewDue',
        message: `${facts.grant.spec.breakGlass === true ? 'Taken without approval' : `Opened ${status.sealedUses?.length ?? 0} times while the operator could not be heard`}; ${reviewers.map(subjectText).join(' or ') || 'nobody (the policy names no reviewers)'} is to sign it off.`,
      };
  return {
    ...status,
    ...(signOff === undefined ? {} : { signOff }),
    conditions: withCondition(status.conditions, condition, facts.nowMs),
  };
}
