// How things are told on the page: what a decision will do, how long, since when. Pure.
import { formatDuration } from '../api/duration.ts';
import type { AccessGrant } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import type { Decision, GrantConcern, History, StepView } from './concerns.ts';
import { html, type Markup } from './html.ts';

/** A moment; the script writes it in the reader's own zone. */
export function moment(text: string | undefined): Markup {
  const at = text === undefined ? Number.NaN : Date.parse(text);
  if (Number.isNaN(at)) return html`–`;
  const iso = new Date(at).toISOString();
  return html`<time datetime="${iso}" data-moment>${iso.slice(0, 16).replace('T', ' ')} UTC</time>`;
}

/** Time that is left, counted down by the script. */
export function countdown(text: string, nowMs: number): Markup {
  const at = Date.parse(text);
  const left = Number.isNaN(at) ? 0 : Math.max(0, at - nowMs);
  return html`<time datetime="${Number.isNaN(at) ? '' : new Date(at).toISOString()}" data-countdown>${span(left)}</time>`;
}

/** `1h30m`, `45s`: not more exact than it needs to be. */
export function span(ms: number): string {
  if (ms < 1000) return '0s';
  if (ms < 3_600_000) return formatDuration(Math.floor(ms / 1000) * 1000);
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 48 * 60) return formatDuration(minutes * 60_000);
  return `${Math.floor(minutes / 1440)} days`;
}

export function personOf(grant: AccessGrant): string {
  return grant.spec.requester?.username ?? 'nobody known';
}

export function whatOf(grant: AccessGrant): string {
  const account = grant.status?.account ?? grant.spec.account;
  return `${grant.spec.connectionRef.name}${account === undefined ? '' : ` as ${account}`}`;
}

export const DECISION_WORDS: Readonly<Record<Decision, string>> = {
  Approve: 'Approve',
  Deny: 'Deny',
  Revoke: 'Revoke',
  Withdraw: 'Withdraw',
  SignOff: 'Sign off',
  Keep: 'Keep',
};

const forHow = (grant: AccessGrant): string => `for ${grant.spec.duration ?? 'the time the policy gives'}`;

/** What the decision will do to a request or grant. */
export function grantConsequence(decision: Decision, concern: GrantConcern): string {
  const { grant, steps } = concern;
  const who = personOf(grant);
  const access = `${who} may use ${whatOf(grant)} ${forHow(grant)}`;
  switch (decision) {
    case 'Approve': {
      const open = steps.find((step) => step.state === 'Open');
      const missing = (open?.count ?? 1) - (open?.have ?? 0) - 1;
      const later = steps.filter((step) => step.state === 'Later');
      if (missing > 0)
        return `${missing} more of step ${open?.name} still must approve; after that ${nextOr(later, access)}.`;
      if (later.length > 0) return `Step ${later[0]!.name} is asked next; nobody gets access yet.`;
      return grant.spec.notBefore === undefined
        ? `From this moment ${access}. Every command is recorded.`
        : `From ${grant.spec.notBefore} on ${access}. Every command is recorded.`;
    }
    case 'Deny':
      return `The request ends for good. ${who} is told your reason and may ask again.`;
    case 'Revoke':
      return `${who}’s access ends at once: open sessions are cut and running statements cancelled.`;
    case 'Withdraw':
      return grant.status?.phase === 'Active'
        ? 'Your access ends at once; your open sessions are cut.'
        : 'Your request ends for good; nobody needs to decide it any more.';
    case 'SignOff':
      return `You confirm that you looked at what ${who} did without approval, and that it was right to.`;
    case 'Keep':
      return 'The access stays as it is.';
  }
}

const nextOr = (later: readonly StepView[], access: string): string =>
  later.length > 0 ? `step ${later[0]!.name} is asked` : access;

export function holdConsequence(decision: Decision, hold: CommandHold): string {
  const who = hold.spec.requester.username;
  const needed = Math.max(...hold.spec.requirements.map((each) => each.count), 1);
  switch (decision) {
    case 'Approve':
      return needed > 1
        ? `Once ${needed} have consented exactly this statement runs, once. Nothing has reached the database yet.`
        : 'Exactly this statement runs now, once. Nothing has reached the database yet.';
    case 'Deny':
      return `The statement does not run; ${who} is told your reason, and the session goes on.`;
    default:
      return 'The statement does not run; your session goes on.';
  }
}

export function historyText(history: History, nowMs: number): string {
  if (history.grants === 0) {
    return history.denied === 0
      ? 'First request for this in 90 days.'
      : `No access here in 90 days; ${times(history.denied)} denied.`;
  }
  const ago = history.lastAtMs === undefined ? '' : `, last ${span(nowMs - history.lastAtMs)} ago`;
  const denied = history.denied === 0 ? '' : `; ${times(history.denied)} denied`;
  return `Had it ${times(history.grants)} in 90 days${ago}${denied}.`;
}

const times = (count: number): string => (count === 1 ? 'once' : `${count} times`);
