// Who is let in: a proof becomes a person and a grant, and the grant is judged as any running session would be. What the
// client is told depends on what it has proven; the cause is logged.
import type { BundleGrant, CompiledPolicy } from '../policy/bundle.ts';
import { foldIdentifier } from '../policy/persons.ts';
import { sessionLimits } from '../policy/prepare-session.ts';
import type { Principal } from '../policy/principal.ts';
import { stepUpLack } from '../policy/step-up.ts';
import type { Authentication, Proof } from '../protocols/protocol.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import type { GatewayConnection } from './gateway.ts';
import { personToLock } from './grant-of.ts';
import { lockHolding } from './locks.ts';
import {
  type Login,
  loginFacts,
  type Proven,
  personOf,
  personShown,
  proofNamesSomebody,
  proofTimes,
  prove,
} from './proof.ts';
import { openSealed, type SealedWindow } from './sealed-grants.ts';
import type { SessionWorld } from './session-world.ts';
import { clockTime, cutFor, endText } from './standing.ts';
import { endedTrust, tokenFacts } from './trust.ts';

export type RefusedLogin = Extract<Authentication, { kind: 'Refused' }>;

export type Admission =
  | {
      kind: 'Admitted';
      grant: BundleGrant;
      /** Who the policy is about; for a token in the groups it told. */
      principal: Principal;
      login: Login;
      /** Of a sealed grant: what it is open for. `grant` ends with it. */
      window?: SealedWindow;
      /** Gives the session's places back; call once it is over. */
      release(): void;
    }
  | { kind: 'Refused'; answer: RefusedLogin };

export interface AdmissionRequest {
  proof: Proof;
  client: { address: string };
  sessionId: string;
  connection: GatewayConnection;
  bundle: ConnectionBundle;
  /**
   * Waits until `arrived` says so, as long as a login may wait for its grant: somebody whose request was approved a
   * moment ago may be here before it is.
   */
  wait(arrived: () => boolean): Promise<void>;
}

type Refuse = (answer: Omit<RefusedLogin, 'kind'>, cause: string, grant?: BundleGrant) => Admission;

const DEFAULT_SESSIONS = 500;
const DEFAULT_SESSIONS_PER_USER = 100;

export async function admit(world: SessionWorld, request: AdmissionRequest): Promise<Admission> {
  const { bundle, connection, client, proof } = request;
  const { log } = world.options;
  const refuse: Refuse = (answer, cause, grant) => {
    log('warn', 'a login was refused', {
      session: request.sessionId,
      connection: `${connection.namespace}/${connection.name}`,
      address: client.address,
      cause,
      ...(grant === undefined ? {} : { grant: grant.name, user: grant.principal.username }),
    });
    return { kind: 'Refused', answer: { kind: 'Refused', ...answer } };
  };

  if (world.draining()) return refuse(DRAINING, 'draining');
  const patient = world.failures.allows(client.address);
  // Others may share the address: whoever names a grant or holder that exists is still looked at, guesses are not.
  if (!patient && !proofNamesSomebody(proof, bundle)) {
    world.failures.failed(client.address);
    const message = 'Too many failed logins from this address.';
    return { kind: 'Refused', answer: { kind: 'Refused', code: 'LimitReached', message, hint: 'Wait a minute.' } };
  }
  const proven = await prove(world, {
    proof,
    connection,
    bundle,
    sessionId: request.sessionId,
    wait: (arrived) => (patient ? request.wait(arrived) : Promise.resolve()),
  });
  switch (proven.kind) {
    case 'Failed': {
      world.failures.failed(client.address);
      const { message, hint, cause, grant } = proven;
      return refuse({ code: 'InvalidProof', message, hint }, cause, grant);
    }
    case 'Unsuited':
      return refuse(proven.answer, proven.cause);
    case 'Proven':
      if (world.draining()) return refuse(DRAINING, 'draining');
      return judge(world, request, proven, refuse);
  }
}

const DRAINING = { code: 'Unavailable', message: 'This gateway is shutting down.', hint: 'Connect again.' } as const;

/** From here on the bearer has proven who they are: they may be told what became of their own grant. */
function judge(
  world: SessionWorld,
  request: AdmissionRequest,
  { grant, login }: Extract<Proven, { kind: 'Proven' }>,
  refuse: Refuse,
): Admission {
  const { bundle, connection } = request;
  const { clock } = world.options;
  const silent = bundle.silent();
  if (silent !== undefined && grant.sealed === undefined) {
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
  const principal = personOf(grant, login);
  const toLock = personToLock(grant, personShown(login), []);
  const limits: CompiledPolicy['session'] =
    view === undefined ? { ticketUntilExpiry: false } : sessionLimits(view.policy, grant.policy);
  const cut = cutFor({
    sessionId: request.sessionId,
    connection,
    grant,
    principal,
    policies: view?.policy.policies,
    end: undefined,
    listed: bundle.grant(grant.uid) !== undefined,
    remainingMs: bundle.remaining(grant),
    lock: lockHolding(view?.overlay.locks ?? [], toLock, toLock.groups, clock.now()),
    proofVoid: undefined,
    endedTrust: endedTrust({ identity: view?.identity, grant, token: tokenFacts(login) }),
    ageMs: 0,
    idleMs: 0,
    ...proofTimes(login, clock.now()),
    limits,
    prefix: world.prefix,
  });
  if (cut !== undefined) {
    const code = cut.code === 'Locked' ? 'Locked' : 'NotActive';
    const hint = cut.hint === undefined ? {} : { hint: cut.hint };
    return refuse({ code, message: sentence(cut.message), ...hint }, cut.code, grant);
  }
  // A sealed grant is for when nobody may be able to log in at a provider: its key was given to a named person beforehand.
  const needs = grant.sealed === undefined ? (limits.stepUp ?? []) : [];
  const lack = stepUpLack(needs, loginFacts(login), clock.now());
  if (lack !== undefined) {
    const hint = `Log in again at your identity provider, as that wants: ${world.prefix} login; then ${world.prefix} connect ${connection.name} --token`;
    return refuse({ code: 'StepUp', message: sentence(lack), hint }, lack, grant);
  }
  if (!connection.spec.accounts.some(({ name }) => name === grant.account)) {
    const message = `Connection ${connection.name} has no account ${grant.account} any more.`;
    return refuse({ code: 'Unavailable', message, hint: again }, 'no such account', grant);
  }
  const { sealed } = grant;
  if (sealed === undefined) return takePlaces(world, request, { grant, principal, login }, refuse);
  const opened = openSealed({
    grant: { ...grant, sealed },
    connection: { name: connection.name, namespace: connection.namespace },
    orphaned: bundle.orphaned(),
    uses: world.options.sealedUses,
    clock,
    log: world.options.log,
    prefix: world.prefix,
  });
  if (opened.kind === 'Refused') {
    const { message, hint, cause } = opened;
    return refuse({ code: 'NotActive', message, hint }, cause, grant);
  }
  const { window } = opened;
  return takePlaces(
    world,
    request,
    { grant: { ...grant, expiresAtMs: window.endMs }, principal, login, window },
    refuse,
  );
}

function takePlaces(
  world: SessionWorld,
  { connection }: AdmissionRequest,
  admitted: { grant: BundleGrant; principal: Principal; login: Login; window?: SealedWindow },
  refuse: Refuse,
): Admission {
  const { grant } = admitted;
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
  return {
    kind: 'Admitted',
    ...admitted,
    release() {
      releaseConnection();
      releasePerson();
    },
  };
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
