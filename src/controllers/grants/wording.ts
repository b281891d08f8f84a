// What a grant's status tells people: why it waits, why it ended, what a vote was worth. Pure; decides nothing.
import type { AccessGrant, AccessGrantStatus } from '../../api/grant.ts';
import type { Condition } from '../../api/schema.ts';
import { subjectText } from '../../policy/subjects.ts';
import { withCondition } from '../conditions.ts';
import type { Choice } from './decide.ts';
import { type GrantLife, isTerminal, type VoteVerdict } from './fold.ts';

export function waitingText(open: NonNullable<GrantLife['open']>): string {
  const who = open.step.approvers.map(subjectText).join(' or ') || 'nobody (the step names no approvers)';
  const left = open.step.count - open.have;
  return `${left} ${open.have > 0 ? 'more ' : ''}of ${who} (step ${open.step.name})`;
}

export function messageOf(life: GrantLife, choice: Choice): { message?: string } {
  const by = life.finishedBy ? ` by ${life.finishedBy}` : '';
  const why = life.reason ? `: "${life.reason}"` : '';
  const text: Record<string, string> = {
    Denied: `Denied${by}${why}`,
    Revoked: `Revoked${by}${why}`,
    Withdrawn: `Withdrawn${by}${why}`,
    TimedOut:
      choice.kind === 'Refused' && choice.message !== ''
        ? `No policy allowed it in time. ${choice.message}`
        : 'Not approved in time',
    Ended: 'Its time is over',
    ParentCut: 'The grant it extends was revoked',
  };
  return life.ending === undefined ? {} : { message: (text[life.ending] ?? life.ending).slice(0, 1024) };
}

export function described(
  verdict: VoteVerdict,
  phase: string,
  lacks?: string,
): {
  counted: boolean;
  reason: string;
  message: string;
} {
  const text: Record<VoteVerdict, string> = {
    Counted: 'It counts.',
    Requester: 'Nobody approves their own request, under any name they have.',
    NotApprover: 'Its author is no approver of the step that was open.',
    VotedAlready: 'This person has been counted already.',
    StepUp: `${capital(lacks ?? 'the policy wants another login')}. Log in again and decide on the approval page; kubectl can not say how one logged in.`,
    TooLate: `The request was ${phase} by then.`,
    TooEarly: 'It was made before its step was open.',
    NotNeeded: 'All approvals were there already.',
  };
  return { counted: verdict === 'Counted', reason: verdict, message: text[verdict] };
}

const capital = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

export function conditionsOf(
  grant: AccessGrant,
  status: AccessGrantStatus,
  ending: string | undefined,
  nowMs: number,
  withheld?: string,
): Condition[] {
  const base = { observedGeneration: grant.metadata.generation };
  const terminal = isTerminal(status.phase);
  const approved = status.expiresAt !== undefined;
  let conditions = grant.status?.conditions;
  conditions = withCondition(
    conditions,
    {
      ...base,
      type: 'Approved',
      status: approved ? 'True' : terminal ? 'False' : 'Unknown',
      reason: approved
        ? ending === 'BreakGlass'
          ? 'BreakGlass'
          : 'Approved'
        : terminal
          ? (ending ?? 'Denied')
          : 'Waiting',
      message: approved
        ? 'All approvals are there.'
        : (status.message ?? `Waits for ${status.waitingFor ?? 'its approvers'}`),
    },
    nowMs,
  );
  conditions = withCondition(
    conditions,
    {
      ...base,
      type: 'Active',
      status: status.phase === 'Active' && withheld === undefined ? 'True' : 'False',
      reason:
        status.phase === 'Active' && withheld !== undefined
          ? 'PolicyChanged'
          : status.phase === 'Active'
            ? 'InForce'
            : terminal
              ? status.phase
              : approved
                ? 'NotYet'
                : 'NotApproved',
      message:
        status.phase === 'Active' && withheld !== undefined
          ? `It gives no access: ${withheld}.`
          : status.phase === 'Active'
            ? `In force until ${status.expiresAt}.`
            : (status.message ?? (approved ? `Begins at ${status.notBefore}.` : 'Not approved yet.')),
    },
    nowMs,
  );
  return withCondition(
    conditions,
    {
      ...base,
      type: 'Finished',
      status: terminal ? 'True' : 'False',
      reason: terminal ? (ending ?? status.phase) : 'Open',
      message: status.message ?? 'It has not ended.',
    },
    nowMs,
  );
}
