// What each denial code means and what a person can do about it: the source of docs/reference/errors.md.
import type { DenialCode } from './decision.ts';

export const DENIALS: Readonly<Record<DenialCode, { meaning: string; next: string }>> = {
  RuleDenied: {
    meaning: 'A Deny rule of a policy that selects the Connection matched.',
    next: '`sallyport why DENIAL` names the policy and rule; ask its authors.',
  },
  NoRuleAllows: {
    meaning: 'No Allow rule of the policy you run under permits some effect of the command.',
    next: '`sallyport why DENIAL` lists the effects; use an account or policy that allows them.',
  },
  NotUnderstood: {
    meaning: 'Rules or masks apply, and the command could not be understood.',
    next: 'Check its syntax; rewrite it in a form PostgreSQL 18 parses.',
  },
  PolicyNotAccepted: {
    meaning: 'A policy that selects the Connection is invalid, so everything it selects is denied.',
    next: 'Its authors mend it; `sallyport policy lint` names file, line and field. No restart is needed.',
  },
  MaskedData: {
    meaning: 'The command would reveal, compare, sort by or pass on a masked column.',
    next: 'Select the column bare, or leave it out.',
  },
  HoldDenied: { meaning: 'An approver denied the held command.', next: 'Their reason is in the message.' },
  HoldTimedOut: {
    meaning: 'Nobody consented to the held command in time.',
    next: 'An approval given later is good for 10 minutes: run the same command again.',
  },
  HoldWithdrawn: { meaning: 'You cancelled the held command.', next: 'Run it again when somebody can approve it.' },
  GrantEnded: { meaning: 'The grant is over.', next: '`sallyport request CONNECTION`.' },
  Locked: { meaning: 'A lock is in force.', next: 'Security set it, with a reason; `sallyport unlock` lifts it.' },
  ControllerSilent: {
    meaning: 'No signed heartbeat of the controller for five minutes; nothing new runs.',
    next: 'It recovers by itself when the controller is back.',
  },
  RecordsUnwritable: {
    meaning: 'The command could not be recorded, so it did not run.',
    next: 'The gateway’s operators make room for records; it recovers by itself.',
  },
  LimitReached: { meaning: 'A size or number is above the Connection’s limits.', next: 'The message names the limit.' },
  Unsupported: { meaning: 'Something the gateway never lets through.', next: 'The hint names what to use instead.' },
};
