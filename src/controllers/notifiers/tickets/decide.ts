// What the ticket system has to say of one grant, and when it is to be asked. Pure. Its words are votes like any other:
// AccessApprovals that the operator stamps and seals, counted by the same fold, so that each counts once whatever dies in
// between. A policy with `ticket` has a last step of that name, which the ticket alone fills, from a reading made then; a
// bad ticket denies at once; a planned window needs another good reading when it begins, and is withheld until then.
// What is not known allows nothing and denies nothing: it is asked again until the request's own time is over.
import type { AccessApproval, AccessGrant, AccessGrantStatus } from '../../../api/grant.ts';
import { TICKET_STEP, type TicketPolicy, ticketChecker, ticketVoter } from '../../../api/notifier.ts';
import type { AccessPolicy } from '../../../api/policy.ts';
import { identifiersOf, samePerson } from '../../../policy/persons.ts';
import type { Principal } from '../../../policy/principal.ts';
import type { Step } from '../../grants/fold.ts';
import { matchesTicket } from './pattern.ts';
import type { TicketReading } from './system.ts';

/** The step that a policy's ticket adds behind its others; none for break-glass, which the caller leaves out. */
export function ticketSteps(policy: Pick<AccessPolicy, 'spec'>): Step[] {
  const { ticket } = policy.spec;
  return ticket === undefined
    ? []
    : [{ name: TICKET_STEP, count: 1, approvers: [{ kind: 'User', name: ticketChecker(ticket.notifier.name) }] }];
}

/** Why a request can not even be looked at; undefined: it names a ticket of the right form, or needs none. */
export function ticketFault(policy: Pick<AccessPolicy, 'spec' | 'metadata'>, grant: AccessGrant): string | undefined {
  const { ticket } = policy.spec;
  if (ticket === undefined) return undefined;
  const named = grant.spec.ticket ?? '';
  if (named !== '' && matchesTicket(ticket.pattern, named)) return undefined;
  const what = named === '' ? 'names none' : `names one that is not of the form ${ticket.pattern}`;
  return `Policy ${policy.metadata.name} gives access for a ticket only, and the request ${what}. Request it with --ticket.`;
}

/** How long before a planned start its ticket is read. */
export const BEFORE_START_MS = 60_000;

export type TicketPurpose = 'Request' | 'Gate' | 'Start';

export interface TicketCase {
  status: AccessGrantStatus;
  ticket: TicketPolicy;
  steps: readonly Pick<Step, 'name' | 'count' | 'approvers'>[];
  /** When it was asked for, ms. */
  requestedMs: number;
  /** Good votes of the ticket system on this very grant. */
  votes: readonly { voter: string; decision: AccessApproval['spec']['decision']; atMs: number }[];
  /** Whether this process has read the ticket for the request. */
  looked: boolean;
  nowMs: number;
}

export type TicketNeed =
  | { kind: 'Nothing'; nextMs?: number }
  /** `afterMs`: a vote must be later than that to count; clocks of those who stamp may differ. */
  | { kind: 'Read'; purpose: TicketPurpose; approvals: boolean; afterMs: number };

/** What is to be asked now. */
export function ticketNeed(facts: TicketCase): TicketNeed {
  const { status, ticket, votes, nowMs } = facts;
  const nothing: TicketNeed = { kind: 'Nothing' };
  if (status.phase !== 'Pending' && status.phase !== 'Active') return nothing;
  const checker = ticketChecker(ticket.notifier.name);
  if (status.expiresAt === undefined) {
    const open = openStep(facts);
    if (open === undefined) return nothing;
    const afterMs = openedMs(facts);
    if (open.name === TICKET_STEP) {
      const said = votes.some((vote) => vote.voter === checker && vote.decision === 'Approve' && vote.atMs > afterMs);
      return said ? nothing : { kind: 'Read', purpose: 'Gate', approvals: false, afterMs };
    }
    const votesHere = mayVote(facts, open, afterMs);
    return facts.looked && !votesHere ? nothing : { kind: 'Read', purpose: 'Request', approvals: votesHere, afterMs };
  }
  const startMs = Date.parse(status.notBefore ?? '');
  if (!isPlanned(status, votes, checker)) return nothing;
  if (keptSince(votes, checker, startMs)) return nothing;
  return nowMs < startMs - BEFORE_START_MS
    ? { kind: 'Nothing', nextMs: startMs - BEFORE_START_MS }
    : { kind: 'Read', purpose: 'Start', approvals: false, afterMs: startMs - BEFORE_START_MS };
}

/** When the step that is open was opened: by the last vote that counted, or by the request. */
function openedMs({ status, requestedMs }: TicketCase): number {
  return (status.approvals ?? []).reduce((latest, vote) => Math.max(latest, Date.parse(vote.at)), requestedMs);
}

/** Whether the ticket was read for a start that lay ahead when the ticket filled its step. */
function isPlanned(status: AccessGrantStatus, votes: TicketCase['votes'], checker: string): boolean {
  const gate = votes.find((vote) => vote.voter === checker && vote.decision === 'Approve');
  return gate !== undefined && Date.parse(status.notBefore ?? '') - gate.atMs > BEFORE_START_MS;
}

const keptSince = (votes: TicketCase['votes'], checker: string, startMs: number): boolean =>
  votes.some((vote) => vote.voter === checker && vote.decision === 'Keep' && vote.atMs >= startMs - BEFORE_START_MS);

/** Why an approved grant gives no access yet. */
export function ticketWithholds(
  status: AccessGrantStatus,
  ticket: TicketPolicy,
  votes: TicketCase['votes'],
): string | undefined {
  const checker = ticketChecker(ticket.notifier.name);
  if (!isPlanned(status, votes, checker) || keptSince(votes, checker, Date.parse(status.notBefore ?? '')))
    return undefined;
  return `its ticket has not been read for its start yet; ${ticket.notifier.name} is asked again`;
}

function openStep(facts: Pick<TicketCase, 'status' | 'steps'>): TicketCase['steps'][number] | undefined {
  const counted = facts.status.approvals ?? [];
  return facts.steps.find((step) => counted.filter((vote) => vote.step === step.name).length < step.count);
}

/** Whether the step that is open names the ticket system, and its one vote is still to come. */
function mayVote({ ticket, votes }: TicketCase, open: TicketCase['steps'][number], afterMs: number): boolean {
  const voter = ticketVoter(ticket.notifier.name);
  return (
    ticket.autoApprove === true &&
    open.approvers.some((subject) => subject.kind === 'User' && subject.name === voter) &&
    !votes.some((vote) => vote.voter === voter && vote.decision === 'Approve' && vote.atMs > afterMs)
  );
}

export type TicketVerdict =
  | { kind: 'Vote'; voter: string; decision: 'Approve' | 'Deny' | 'Revoke' | 'Keep'; reason: string }
  /** It is all right so far, and its vote is not wanted, or void. `again`: it may become good. */
  | { kind: 'Silent'; again: boolean; reason: string }
  | { kind: 'Unknown'; reason: string; retryAfterMs?: number };

/**
 * `people`: the requester, and the beneficiary where there is one. `accounts`: whose account in the ticket system is
 * whose, by user name.
 */
export function judgeReading(
  reading: TicketReading,
  asked: {
    ticket: TicketPolicy;
    number: string;
    purpose: TicketPurpose;
    votes: boolean;
    people: readonly Principal[];
    accounts: ReadonlyMap<string, string>;
  },
): TicketVerdict {
  const { ticket, number, purpose } = asked;
  const checker = ticketChecker(ticket.notifier.name);
  const bad = (why: string): TicketVerdict => ({
    kind: 'Vote',
    voter: checker,
    decision: purpose === 'Start' ? 'Revoke' : 'Deny',
    reason: why,
  });
  switch (reading.kind) {
    case 'Unknown':
      return {
        kind: 'Unknown',
        reason: reading.reason,
        ...(reading.retryAfterMs === undefined ? {} : { retryAfterMs: reading.retryAfterMs }),
      };
    case 'Absent':
      return bad(`There is no ticket ${number}.`);
    case 'Read':
      break;
  }
  if (!ticket.states.includes(reading.state))
    return bad(
      `Ticket ${number} is in state ${reading.stateName} (${reading.state}), which allows no access. Request it again once it is in another.`,
    );
  // Whom the access is for: the last of them.
  const user = asked.people.at(-1);
  const account = user === undefined ? undefined : asked.accounts.get(user.username);
  if (ticket.assigneeIsRequester === true) {
    if (account === undefined)
      return bad(
        `Nobody has said which account in the ticket system is ${user?.username ?? 'whose'}; see accounts of ${ticket.notifier.name}.`,
      );
    if (reading.assignee !== account) return bad(`Ticket ${number} is not assigned to ${user!.username}.`);
  }
  const good = `Ticket ${number} is in state ${reading.stateName}.`;
  if (purpose === 'Gate') return { kind: 'Vote', voter: checker, decision: 'Approve', reason: good };
  if (purpose === 'Start') return { kind: 'Vote', voter: checker, decision: 'Keep', reason: good };
  if (!asked.votes) return { kind: 'Silent', again: false, reason: good };
  const void_ = whyVoid(reading, asked);
  return void_ === undefined
    ? {
        kind: 'Vote',
        voter: ticketVoter(ticket.notifier.name),
        decision: 'Approve',
        reason: `${good} It was approved by ${reading.approvedBy.map((by) => by.names[0] ?? by.account).join(', ')}.`,
      }
    : { kind: 'Silent', again: reading.approvedBy.length === 0, reason: void_ };
}

/** To allow, ids are compared exactly; to exclude, any name will do. Whose account is not known could be anybody's. */
function whyVoid(
  reading: TicketReading & { kind: 'Read' },
  { people, accounts }: { people: readonly Principal[]; accounts: ReadonlyMap<string, string> },
): string | undefined {
  if (reading.approvedBy.length === 0) return 'Nobody has approved it in the ticket system.';
  for (const person of people) {
    const account = accounts.get(person.username);
    if (account === undefined) return `It is not known which account there is ${person.username}.`;
    for (const by of reading.approvedBy) {
      const same =
        by.account.toLowerCase() === account.toLowerCase() ||
        [by.account, ...by.names].some((name) => samePerson({ username: name }, person)) ||
        bareNames(person).some((name) => by.names.some((each) => samePerson({ username: each }, { username: name })));
      if (same) return `${person.username} approved it in the ticket system, so its vote is void.`;
    }
  }
  return undefined;
}

/** Names without a provider's prefix, and what stands before the @ of an address. */
function bareNames(person: Principal): string[] {
  return [...identifiersOf(person)].flatMap((name) => {
    const bare = name.slice(name.lastIndexOf(':') + 1);
    return [bare, bare.split('@')[0] ?? ''].filter((each) => each !== '');
  });
}
