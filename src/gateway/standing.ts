// Whether one session may go on, and what is said if not. Pure: everything it judges by is handed in.
import { formatDuration } from '../api/duration.ts';
import type { BundleGrant, CompiledPolicy, LockEntry } from '../policy/bundle.ts';
import { homeOf } from '../policy/prepare-session.ts';
import type { Principal } from '../policy/principal.ts';
import { matchesAny } from '../policy/subjects.ts';
import type { Cut, Gate } from '../protocols/protocol.ts';
import type { GrantEnd } from './bundle-store.ts';

/** `15:04:00Z`. */
export function clockTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(11, 19)}Z`;
}

/** What a session is judged by, gathered. */
export interface StandingFacts {
  sessionId: string;
  connection: { name: string };
  grant: BundleGrant;
  /** Whom the policy must still mean. */
  principal: Principal;
  /** undefined: the Connection is gone. */
  policies: readonly CompiledPolicy[] | undefined;
  /** How the grant ended, if it did; `listed`: the bundle still has it. */
  end: GrantEnd | undefined;
  listed: boolean;
  /** Until the grant ends, milliseconds. */
  remainingMs: number;
  lock: LockEntry | undefined;
  /** What became void of what the session was let in by. */
  proofVoid: 'Ticket' | 'Token' | 'Certificate' | undefined;
  /** Whose word it rested on is not trusted any more: what ended (trust.ts). */
  endedTrust: string | undefined;
  /** Since authentication and since the last byte either way; undefined limits are none. */
  ageMs: number;
  idleMs: number;
  /** From the issue of its ticket, certificate or newest token, or since its key was proven. */
  proofAgeMs: number;
  /** Until its newest token or its certificate expires; undefined: a ticket or a key. Looked at only where sessions must prove themselves again. */
  proofLeftMs: number | undefined;
  limits: { maxDurationMs?: number; idleTimeoutMs?: number; reauthenticateMs?: number };
  /** `sallyport` or `kubectl access`. */
  prefix: string;
}

/** Why the session must end now, most definite reason first; undefined: it may go on. */
export function cutFor(facts: StandingFacts): Cut | undefined {
  const { grant, limits, prefix, connection } = facts;
  const again = `${prefix} request ${connection.name} --for 1h`;
  const reconnect = `${prefix} connect ${connection.name}`;
  if (facts.policies === undefined) {
    return { code: 'PolicyChanged', message: `Connection ${connection.name} was removed` };
  }
  if (facts.lock !== undefined) {
    return { code: 'Locked', message: lockText(facts.lock), hint: 'Ask whoever set the lock to lift it.' };
  }
  if (facts.end !== undefined && facts.end.phase !== 'Expired') {
    return { code: 'Revoked', message: endText(grant, facts.end), hint: again };
  }
  if (facts.remainingMs <= 0 || facts.end?.phase === 'Expired') {
    return { code: 'Expired', message: `grant ${grant.name} expired at ${clockTime(grant.expiresAtMs)}`, hint: again };
  }
  if (!facts.listed) return { code: 'Revoked', message: endText(grant, { phase: 'Revoked' }), hint: again };
  if (facts.proofVoid !== undefined) {
    return { code: 'Revoked', message: VOID[facts.proofVoid], hint: reconnect };
  }
  if (facts.endedTrust !== undefined) return { code: 'Revoked', message: facts.endedTrust, hint: reconnect };
  const changed = misfit(facts, facts.policies);
  if (changed !== undefined) return { code: 'PolicyChanged', message: changed, hint: again };
  if (limits.maxDurationMs !== undefined && facts.ageMs >= limits.maxDurationMs) {
    const length = formatDuration(limits.maxDurationMs);
    return { code: 'MaxDuration', message: `the session reached its longest duration of ${length}`, hint: reconnect };
  }
  if (limits.reauthenticateMs !== undefined && proofLeft(facts) <= 0) {
    const message =
      facts.proofAgeMs >= limits.reauthenticateMs
        ? `the session must prove who it is again after ${formatDuration(limits.reauthenticateMs)}`
        : 'the token of this session is over, and it must prove who it is again';
    return { code: 'Reauthenticate', message, hint: reconnect };
  }
  if (limits.idleTimeoutMs !== undefined && facts.idleMs >= limits.idleTimeoutMs) {
    const length = formatDuration(limits.idleTimeoutMs);
    return { code: 'IdleTimeout', message: `the session was idle for ${length}`, hint: reconnect };
  }
  return undefined;
}

const VOID = {
  Ticket: 'the ticket of this session was declared void',
  Token: 'its user has logged out',
  Certificate: 'its user has logged out, or the authority of their certificate is not trusted any more',
} as const;

/** A policy that is merely not accepted denies each command (with its own reason) and may be mended; one that is gone or no longer means this person ends the session. */
function misfit(
  { grant, principal }: Pick<StandingFacts, 'grant' | 'principal'>,
  policies: readonly CompiledPolicy[],
): string | undefined {
  const own = policies.find(({ kind, name }) => kind === 'AccessPolicy' && name === grant.policy);
  if (own === undefined) return `policy ${grant.policy} does not select this Connection any more`;
  if (!own.accepted) return undefined;
  if (!matchesAny(own.subjects, principal, homeOf(own))) {
    return `policy ${grant.policy} does not name ${principal.username} or a group of theirs any more`;
  }
  if (!own.accounts.includes(grant.account)) {
    return `policy ${grant.policy} does not offer the account ${grant.account} any more`;
  }
  return undefined;
}

export function lockText(lock: LockEntry): string {
  const until =
    lock.untilMs === undefined ? '' : ` until ${new Date(lock.untilMs).toISOString().replace(/\.000Z$/, 'Z')}`;
  return `locked by ${lock.name}${until}: ${lock.reason}`;
}

export function endText(grant: BundleGrant, end: GrantEnd): string {
  const by = end.by === undefined ? '' : ` by ${end.by}`;
  switch (end.phase) {
    case 'Expired':
      return `grant ${grant.name} expired at ${clockTime(grant.expiresAtMs)}`;
    case 'Revoked':
      return `grant ${grant.name} was revoked${by}`;
    case 'Denied':
      return `grant ${grant.name} was denied${by}`;
    case 'Deleted':
      return `grant ${grant.name} was deleted${by}`;
  }
}

/** What gate() answers once a cut is on its way. */
export function gateOfCut(cut: Cut): Gate {
  const code = cut.code === 'Locked' ? 'Locked' : cut.code === 'PolicyChanged' ? 'PolicyNotAccepted' : 'GrantEnded';
  return { code, message: cut.message, ...(cut.hint === undefined ? {} : { hint: cut.hint }) };
}

/** Until the session has to prove again who it is, milliseconds; nobody can set a token's own end aside. */
export function proofLeft({
  limits,
  proofAgeMs,
  proofLeftMs,
}: Pick<StandingFacts, 'proofAgeMs' | 'proofLeftMs' | 'limits'>): number {
  if (limits.reauthenticateMs === undefined) return Number.POSITIVE_INFINITY;
  return Math.min(limits.reauthenticateMs - proofAgeMs, proofLeftMs ?? Number.POSITIVE_INFINITY);
}

/** How long the session may last yet by what only time changes, milliseconds; idleness is looked at on its own. */
export function timeLeft(
  facts: Pick<StandingFacts, 'remainingMs' | 'ageMs' | 'proofAgeMs' | 'proofLeftMs' | 'limits'>,
): number {
  const { limits } = facts;
  return Math.min(
    facts.remainingMs,
    limits.maxDurationMs === undefined ? Number.POSITIVE_INFINITY : limits.maxDurationMs - facts.ageMs,
    proofLeft(facts),
  );
}

const NOTICE_MS = 60_000;

/** Until somebody is to be told that they must prove again who they are, milliseconds. */
export function noticeDue(facts: Pick<StandingFacts, 'proofAgeMs' | 'proofLeftMs' | 'limits'>): number {
  return proofLeft(facts) - NOTICE_MS;
}

export function reauthenticateNotice(connection: string, prefix: string): { message: string; hint: string } {
  return {
    message: 'this session ends within a minute: it must prove again who it is',
    hint: `${prefix} connect ${connection} renews it by itself; other clients have to connect again.`,
  };
}

/**
 * The grant that continues another one: same person, account and policy, in force at this moment. Live sessions move to
 * it when theirs expires; never when it was revoked.
 */
export function successorOf(
  grant: BundleGrant,
  grants: Iterable<BundleGrant>,
  inForce: (candidate: BundleGrant) => boolean,
): BundleGrant | undefined {
  for (const next of grants) {
    if (next.extends !== grant.uid || next.account !== grant.account || next.policy !== grant.policy) continue;
    if (next.principal.username !== grant.principal.username || next.principal.uid !== grant.principal.uid) continue;
    if (inForce(next)) return next;
  }
  return undefined;
}
