// What one session stands on: its grant, who was proven by what, and from these the facts that standing.ts judges by.
//
// Guarantees: facts are of the newest bundle at each call; a proof's age is by the monotonic clock. Decides nothing.
import { isVoid as isVoidToken, type ProvenToken } from '../identity/oidc/verify-token.ts';
import { isCertificateVoid } from '../identity/ssh-certificates.ts';
import type { BundleGrant, IdentityShard, LockEntry, OverlayShard, PolicyShard } from '../policy/bundle.ts';
import { sessionLimits } from '../policy/prepare-session.ts';
import type { Principal } from '../policy/principal.ts';
import type { Activity } from './activity.ts';
import type { Admission } from './admission.ts';
import { personToLock } from './grant-of.ts';
import { lockHolding } from './locks.ts';
import { type Login, personOf, personShown, proofTimes } from './proof.ts';
import type { SessionSeed, SessionWorld } from './session-world.ts';
import { type StandingFacts, successorOf } from './standing.ts';
import { endedTrust, tokenFacts } from './trust.ts';

/** The clock that ends a grant may be the controller's, a little ahead of ours: its successor may begin this early. */
const HANDOVER_MS = 1_000;

export interface Footing {
  readonly grant: BundleGrant;
  /** Whom the policy is about. */
  readonly principal: Principal;
  /** By what the session proves now who it is. */
  readonly login: Login;
  facts(): StandingFacts;
  /** Until the grant ends, milliseconds. */
  remainingMs(): number;
  /** The grant that continues this one, where there is one by now. */
  successor(): BundleGrant | undefined;
  /** From now on under this grant. */
  moveTo(next: BundleGrant): void;
  /** From now on by this newer token of the same person. */
  renew(token: ProvenToken): void;
}

export function openFooting(
  { options: { clock }, prefix }: Pick<SessionWorld, 'options' | 'prefix'>,
  seed: Pick<SessionSeed, 'id' | 'connection' | 'bundle'> & {
    admission: Extract<Admission, { kind: 'Admitted' }>;
    activity: Pick<Activity, 'idleMs'>;
    limits: { idleTimeoutMs?: number };
  },
): Footing {
  const { id, connection, bundle, admission } = seed;
  const authenticatedAt = clock.monotonic();

  let grant: BundleGrant = admission.grant;
  let { login, principal } = admission;
  // By the monotonic clock: whoever sets the wall clock makes no proof younger.
  let proof = { ...proofTimes(login, clock.now()), at: clock.monotonic() };
  /** All groups the person had since they logged in: a lock on any of them holds. */
  let groupsSeen = personToLock(grant, personShown(login), []).groups;
  let limits: { of: PolicyShard | undefined; value: StandingFacts['limits'] } = { of: undefined, value: {} };
  let lock: { of: OverlayShard | undefined; value: LockEntry | undefined } = { of: undefined, value: undefined };
  let trust: { of: IdentityShard | undefined; grant?: BundleGrant; login?: Login; value: string | undefined } = {
    of: undefined,
    value: undefined,
  };
  // Every session is looked at every second: what only a new shard changes is worked out once a shard.
  function limitsNow(): StandingFacts['limits'] {
    const shard = bundle.view?.policy;
    if (shard !== undefined && shard !== limits.of) {
      const own = sessionLimits(shard, grant.policy);
      const idle = Math.min(
        own.idleTimeoutMs ?? Number.POSITIVE_INFINITY,
        seed.limits.idleTimeoutMs ?? Number.POSITIVE_INFINITY,
      );
      limits = { of: shard, value: { ...own, ...(Number.isFinite(idle) ? { idleTimeoutMs: idle } : {}) } };
    }
    return limits.value;
  }

  function lockNow(): LockEntry | undefined {
    const overlay = bundle.view?.overlay;
    const over = lock.value?.untilMs !== undefined && lock.value.untilMs <= clock.now();
    if (overlay !== undefined && (overlay !== lock.of || over)) {
      const person = personToLock(grant, personShown(login), groupsSeen);
      lock = { of: overlay, value: lockHolding(overlay.locks, person, groupsSeen, clock.now()) };
    }
    return lock.value;
  }

  function trustNow(): string | undefined {
    const identity = bundle.view?.identity;
    if (identity !== trust.of || grant !== trust.grant || login !== trust.login) {
      trust = { of: identity, grant, login, value: endedTrust({ identity, grant, token: tokenFacts(login) }) };
    }
    return trust.value;
  }

  function facts(): StandingFacts {
    const { view } = bundle;
    return {
      sessionId: id,
      connection,
      grant,
      principal,
      policies: view?.policy.policies,
      end: bundle.endOf(grant.uid),
      listed: bundle.grant(grant.uid) !== undefined,
      remainingMs: remainingMs(),
      lock: lockNow(),
      proofVoid: proofVoid(),
      endedTrust: trustNow(),
      ageMs: clock.monotonic() - authenticatedAt,
      idleMs: seed.activity.idleMs(),
      proofAgeMs: proof.proofAgeMs + clock.monotonic() - proof.at,
      proofLeftMs: proof.proofLeftMs === undefined ? undefined : proof.proofLeftMs - (clock.monotonic() - proof.at),
      limits: limitsNow(),
      prefix,
    };
  }

  /** A sealed grant ends with its window, by a clock that can not be set as well. */
  function remainingMs(): number {
    const { window } = admission;
    const left = window === undefined ? Number.POSITIVE_INFINITY : window.endMonotonic - clock.monotonic();
    return Math.min(bundle.remaining(grant), left);
  }

  function proofVoid(): StandingFacts['proofVoid'] {
    if (login.kind === 'Ticket') return bundle.isVoid(login.jti) ? 'Ticket' : undefined;
    if (login.kind === 'Key') return undefined;
    const { identity } = bundle.view ?? {};
    if (login.kind === 'Certificate') {
      const isVoid = identity !== undefined && isCertificateVoid(login.certificate, identity.providers);
      return isVoid ? 'Certificate' : undefined;
    }
    const { provider: name, principal: who, sid, iatMs } = login.token;
    const provider = identity?.providers.find((each) => each.name === name);
    if (provider === undefined || who.uid === undefined) return undefined;
    const token = { uid: who.uid, iatMs, ...(sid === undefined ? {} : { sid }) };
    return isVoidToken(provider, token) ? 'Token' : undefined;
  }

  function successor(): BundleGrant | undefined {
    return successorOf(grant, bundle.view?.grants.values() ?? [], (candidate) => {
      return (
        bundle.grant(candidate.uid) !== undefined &&
        candidate.notBeforeMs <= clock.now() + HANDOVER_MS &&
        bundle.remaining(candidate) > 0
      );
    });
  }

  return {
    get grant() {
      return grant;
    },
    get principal() {
      return principal;
    },
    get login() {
      return login;
    },
    facts,
    remainingMs,
    successor,
    moveTo(next) {
      grant = next;
      principal = personOf(grant, login);
      limits = { of: undefined, value: {} };
      lock = { of: undefined, value: undefined };
    },
    renew(token) {
      login = { kind: 'Token', token };
      proof = { ...proofTimes(login, clock.now()), at: clock.monotonic() };
      principal = personOf(grant, login);
      groupsSeen = [...new Set([...groupsSeen, ...token.principal.groups])];
      lock = { of: undefined, value: undefined };
    },
  };
}
