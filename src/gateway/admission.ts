// Who is let in: a proof becomes a grant, and the grant is judged as any running session would be. What the client is
// told depends on what it has proven; the cause is logged.
import { claimedGrant, type TicketFault, verifyTicket } from '../identity/tickets.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import { foldIdentifier } from '../policy/persons.ts';
import type { Authentication, Proof } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import type { GatewayConnection } from './gateway.ts';
import { lockHolding } from './locks.ts';
import type { SessionWorld } from './session-world.ts';
import { clockTime, cutFor, endText } from './standing.ts';

type Refused = Extract<Authentication, { kind: 'Refused' }>;

export type Admission =
  | {
      kind: 'Admitted';
      grant: BundleGrant;
      jti: string;
      issuedAtMonotonic: number;
      /** Gives the session's places back; call once it is over. */
      release(): void;
    }
  | { kind: 'Refused'; answer: Refused };

export interface AdmissionRequest {
  proof: Proof;
  client: { address: string };
  sessionId: string;
  connection: GatewayConnection;
  bundle: ConnectionBundle;
}

const DEFAULT_SESSIONS = 500;
const DEFAULT_SESSIONS_PER_USER = 100;

export function admit(world: SessionWorld, request: AdmissionRequest): Admission {
  const { bundle, connection, client } = request;
  const { clock, log } = world.options;
  const secret = secretOf(request.proof);
  const connect = `${world.prefix} connect ${connection.name}`;

  const refuse = (answer: Omit<Refused, 'kind'>, cause: string, grant?: BundleGrant): Admission => {
    log('warn', 'a login was refused', {
      session: request.sessionId,
      connection: `${connection.namespace}/${connection.name}`,
      address: client.address,
      cause,
      ...(grant === undefined ? {} : { grant: grant.name, user: grant.principal.username }),
    });
    return { kind: 'Refused', answer: { kind: 'Refused', ...answer } };
  };
  const failed = (
    cause: string,
    message = 'Sallyport did not accept this password.',
    grant?: BundleGrant,
  ): Admission => {
    world.failures.failed(client.address);
    return refuse({ code: 'InvalidProof', message, hint: `${connect} logs in with a fresh ticket.` }, cause, grant);
  };

  if (world.draining()) {
    return refuse(
      { code: 'Unavailable', message: 'This gateway is shutting down.', hint: 'Connect again.' },
      'draining',
    );
  }
  const known = (uid: string): BundleGrant | undefined => bundle.grant(uid) ?? bundle.endedGrant(uid)?.grant;
  if (!world.failures.allows(client.address)) {
    // Others may share the address: whoever names a grant that exists is still looked at, guesses are not.
    const claimed = claimedGrant(secret);
    if (claimed === undefined || known(claimed) === undefined) {
      world.failures.failed(client.address);
      const message = 'Too many failed logins from this address.';
      return { kind: 'Refused', answer: { kind: 'Refused', code: 'LimitReached', message, hint: 'Wait a minute.' } };
    }
  }

  const verdict = verifyTicket(secret, {
    connectionUid: bundle.uid,
    nowMs: clock.now(),
    grant: known,
    isVoid: (jti) => bundle.isVoid(jti),
  });
  if (verdict.kind === 'Bad') {
    return failed(verdict.fault, verdict.proven ? told(verdict.fault) : undefined, verdict.grant);
  }

  // From here on the bearer has the grant's key: they may be told what became of their own grant.
  const { grant, claims } = verdict;
  const silent = bundle.silent();
  if (silent !== undefined) {
    const message = `Sallyport lets nobody in while it can not hear its controller: ${silent}.`;
    return refuse({ code: 'Unavailable', message, hint: 'Wait and try again.' }, silent, grant);
  }
  const again = `${world.prefix} request ${connection.name} --for 1h`;
  const end = bundle.endOf(grant.uid);
  if (end !== undefined) {
    return refuse(
      { code: 'NotActive', message: sentence(endText(grant, end)), hint: again },
      `grant ${end.phase}`,
      grant,
    );
  }
  if (clock.now() < grant.notBeforeMs) {
    const message = `Grant ${grant.name} begins at ${new Date(grant.notBeforeMs).toISOString().slice(0, 10)} ${clockTime(grant.notBeforeMs)}.`;
    return refuse({ code: 'NotActive', message, hint: 'Connect again then.' }, 'not before', grant);
  }
  const { view } = bundle;
  const cut = cutFor({
    sessionId: request.sessionId,
    connection,
    grant,
    policies: view?.policy.policies,
    end: undefined,
    listed: bundle.grant(grant.uid) !== undefined,
    remainingMs: bundle.remaining(grant),
    lock: lockHolding(view?.overlay.locks ?? [], grant.principal, grant.principal.groups, clock.now()),
    ticketVoid: false,
    ageMs: 0,
    idleMs: 0,
    ticketAgeMs: 0,
    limits: {},
    prefix: world.prefix,
  });
  if (cut !== undefined) {
    const code = cut.code === 'Locked' ? 'Locked' : 'NotActive';
    const hint = cut.hint === undefined ? {} : { hint: cut.hint };
    return refuse({ code, message: sentence(cut.message), ...hint }, cut.code, grant);
  }
  if (!connection.spec.accounts.some(({ name }) => name === grant.account)) {
    const message = `Connection ${connection.name} has no account ${grant.account} any more.`;
    return refuse({ code: 'Unavailable', message, hint: again }, 'no such account', grant);
  }
  return takePlaces(world, request, grant, claims, refuse);
}

export const secretOf = (proof: Proof): string => (proof.kind === 'Token' ? proof.token : proof.secret);

function takePlaces(
  world: SessionWorld,
  { connection }: AdmissionRequest,
  grant: BundleGrant,
  claims: { jti: string; iat: number },
  refuse: (answer: Omit<Refused, 'kind'>, cause: string, grant: BundleGrant) => Admission,
): Admission {
  const limits = connection.spec.limits;
  const releaseConnection = world.sessionCounts.take(connection.uid, limits?.sessions ?? DEFAULT_SESSIONS);
  if (releaseConnection === undefined) {
    const message = `Connection ${connection.name} has as many sessions as it takes.`;
    return refuse({ code: 'LimitReached', message, hint: 'Close one, or try again later.' }, 'sessions', grant);
  }
  const person = foldIdentifier(grant.principal.uid ?? grant.principal.username);
  const releasePerson = world.sessionCounts.take(
    JSON.stringify([connection.uid, person]),
    limits?.sessionsPerUser ?? DEFAULT_SESSIONS_PER_USER,
  );
  if (releasePerson === undefined) {
    releaseConnection();
    const message = `You have as many sessions on ${connection.name} as one person may.`;
    return refuse({ code: 'LimitReached', message, hint: 'Close one of them.' }, 'sessions of the person', grant);
  }
  const { clock } = world.options;
  return {
    kind: 'Admitted',
    grant,
    jti: claims.jti,
    issuedAtMonotonic: clock.monotonic() - Math.max(0, clock.now() - claims.iat * 1000),
    release() {
      releaseConnection();
      releasePerson();
    },
  };
}

/** What somebody who has the grant's key may know of a ticket that did not do. */
function told(fault: TicketFault): string {
  switch (fault) {
    case 'Expired':
      return 'This ticket has expired.';
    case 'FromTheFuture':
      return 'This ticket is from the future: the clock of the machine that made it is ahead.';
    case 'Audience':
      return 'This ticket is for another Connection.';
    case 'LivesTooLong':
      return 'This ticket would live longer than its policy allows.';
    case 'Void':
      return 'This ticket was declared void.';
    default:
      return 'Sallyport did not accept this password.';
  }
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
