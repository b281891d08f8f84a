// How a live session proves again who uses it: by a newer token of the same person, for the session itself and no other.
//
// Guarantees: a proof that is no good, or of somebody else, changes nothing, so nobody who can reach this ends another's
// session with it; one that is good and no longer fits ends it. A session that a ticket or the key of its grant opened
// needs a ticket of it beside the token: both halves of who it was. A ticket alone renews nothing: its key lies on a disk, whoever sits there.
import { causeOf, TOKEN_REFUSED } from '../identity/oidc/describe-fault.ts';
import { type ProvenToken, verifyToken } from '../identity/oidc/verify-token.ts';
import { verifyTicket } from '../identity/tickets.ts';
import type { Cut } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import { owns } from './grant-of.ts';
import type { LiveSession } from './live-session.ts';
import { LOGIN_USES, tellOfUnknownKey } from './proof.ts';
import type { SessionWorld } from './session-world.ts';

export interface RenewalProof {
  token: string;
  /** A fresh one of the session's grant, where a ticket or its key opened the session. */
  ticket?: string;
}

export type Renewal =
  /** `endsAtMs`: when the next is due at the latest; absent: the policy wants none. */
  | { kind: 'Renewed'; endsAtMs?: number }
  | { kind: 'Refused'; code: 'NoSession' | 'InvalidProof' | 'NotNewer' | 'LimitReached'; message: string }
  /** The token is good, and what it says ended the session. */
  | { kind: 'Cut'; message: string };

export interface RenewalRequest {
  proof: RenewalProof;
  /** Whose failures it would be. */
  address: string;
  session: {
    id: string;
    bundle: ConnectionBundle;
    /** undefined: it is not live, or ending. */
    live(): LiveSession | undefined;
    cutting(): Cut | undefined;
  };
}

const NO_SESSION: Renewal = { kind: 'Refused', code: 'NoSession', message: 'There is no such session here.' };

export async function renewSession(world: SessionWorld, request: RenewalRequest): Promise<Renewal> {
  const renewal = await tryRenewal(world, request);
  world.metrics.renewal(renewal.kind);
  return renewal;
}

async function tryRenewal(world: SessionWorld, request: RenewalRequest): Promise<Renewal> {
  const { session, proof, address } = request;
  const { clock, log } = world.options;
  const failed = (cause: string, message: string): Renewal => {
    world.failures.failed(address);
    log('warn', 'a session was not renewed', { session: session.id, address, cause });
    return { kind: 'Refused', code: 'InvalidProof', message };
  };
  if (!world.failures.allows(address)) {
    return { kind: 'Refused', code: 'LimitReached', message: 'Too many failed logins from this address.' };
  }
  const verdict = await verifyToken(proof.token, {
    providers: session.bundle.view?.identity?.providers ?? [],
    uses: LOGIN_USES,
    nowMs: clock.now(),
  });
  if (verdict.kind === 'Bad') {
    tellOfUnknownKey(world, verdict);
    return failed(causeOf(verdict), TOKEN_REFUSED.replace(/\.$/, `, ${session.id}.`));
  }
  const { token } = verdict;
  const live = session.live();
  // Whether there is such a session is told to those alone who could be its user.
  if (live === undefined) return NO_SESSION;
  const fault = strangeness(world, session.bundle, live, token, proof.ticket);
  if (fault !== undefined) return failed(fault, 'This token or ticket is not of the person whose session it is.');
  const { login } = live;
  if (login.kind === 'Token' && token.iatMs <= login.token.iatMs) {
    return { kind: 'Refused', code: 'NotNewer', message: 'This token is not newer than the one the session has.' };
  }
  live.renewed(token);
  const cut = session.cutting();
  if (cut !== undefined) return { kind: 'Cut', message: cut.message };
  log('info', 'a session was renewed', { session: session.id, provider: token.provider });
  const endsAtMs = live.proofEndsAtMs();
  return { kind: 'Renewed', ...(endsAtMs === undefined ? {} : { endsAtMs }) };
}

/** Why the proof is not of the session's own user; for the log. */
function strangeness(
  world: SessionWorld,
  bundle: ConnectionBundle,
  { login, opened, grantInUse: grant }: LiveSession,
  token: ProvenToken,
  ticket: string | undefined,
): string | undefined {
  if (login.kind === 'Token' && login.token.principal.uid !== token.principal.uid) return 'another person';
  if (!owns(grant, { ...token.principal, provider: token.provider })) return 'not the holder of its grant';
  if (opened !== 'Ticket' && opened !== 'Key') return undefined;
  if (ticket === undefined) return 'no ticket beside the token';
  const verdict = verifyTicket(ticket, {
    connectionUid: bundle.uid,
    nowMs: world.options.clock.now(),
    grant: (uid) => (uid === grant.uid ? bundle.grant(uid) : undefined),
    isVoid: (jti) => bundle.isVoid(jti),
  });
  return verdict.kind === 'Bad' ? `ticket: ${verdict.fault}` : undefined;
}
