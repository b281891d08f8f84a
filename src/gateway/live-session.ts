// A session from authentication to its end: what protocols are handed as AuthenticatedSession.
//
// Guarantees: `start` is queued before anything else of the session is recorded and `end` after everything; a cut is
// delivered once; what is taken (places, timers, holds) is given back exactly once.
import type { ConnectionSpec } from '../api/connection.ts';
import { isVoid as isVoidToken, type ProvenToken } from '../identity/oidc/verify-token.ts';
import { isCertificateVoid } from '../identity/ssh-certificates.ts';
import type { BundleGrant, IdentityShard, LockEntry, OverlayShard, PolicyShard } from '../policy/bundle.ts';
import { decide } from '../policy/decide.ts';
import { sessionLimits } from '../policy/prepare-session.ts';
import type { SessionPolicy } from '../policy/session-policy.ts';
import { credentialOf, hostsOf } from '../protocols/credential.ts';
import type { AuthenticatedSession, Cut, Gate, Limits } from '../protocols/protocol.ts';
import type { EndBody } from '../recording/envelope.ts';
import { randomSuffix } from '../system/random.ts';
import type { Activity } from './activity.ts';
import type { Admission } from './admission.ts';
import { personToLock } from './grant-of.ts';
import type { HoldingSession } from './holds.ts';
import { lockHolding } from './locks.ts';
import { preparePolicies } from './preparation.ts';
import { type Login, personOf, personShown, proofTimes } from './proof.ts';
import { renewedBody, startBody } from './session-records.ts';
import type { SessionSeed, SessionWorld } from './session-world.ts';
import {
  cutFor,
  gateOfCut,
  noticeDue,
  proofLeft,
  reauthenticateNotice,
  type StandingFacts,
  successorOf,
  timeLeft,
} from './standing.ts';
import { endedTrust, tokenFacts } from './trust.ts';

/** The clock that ends a grant may be the controller's, a little ahead of ours: its successor may begin this early. */
const HANDOVER_MS = 1_000;
/** For less than this the passing of time is not looked at again. */
const GATE_MS = 1;
export interface LiveSession {
  session: AuthenticatedSession;
  /** Resolves once the `start` record is written, with the error if it could not be. */
  started: Promise<Error | undefined>;
  /** It is a session from now on. */
  begin(): void;
  review(): void;
  /** By what the session proves now who it is. */
  readonly login: Login;
  /** By what it was opened. */
  readonly opened: Login['kind'];
  readonly grantInUse: BundleGrant;
  /** Goes on by a newer token of the same person, in whose groups it is judged from now on. May cut it. */
  renewed(token: ProvenToken): void;
  /** When it must have proven again who it is, milliseconds since 1970; undefined: never. */
  proofEndsAtMs(): number | undefined;
  onCut(cut: Cut): void;
  ended(reason: string, message?: string): void;
  /** It never became a session: gives everything back. */
  abandon(reason: string): void;
}

export interface LiveSeed extends SessionSeed {
  admission: Extract<Admission, { kind: 'Admitted' }>;
  label: string;
  activity: Activity;
  limits: Limits;
  cutting: () => Cut | undefined;
  cut: (cut: Cut) => void;
}

export function openLiveSession(world: SessionWorld, seed: LiveSeed): LiveSession {
  const { options, metrics } = world;
  const { clock, random, credentials } = options;
  const { id, connection, bundle, protocol, admission } = seed;
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
  let cutListener: ((cut: Cut) => void) | undefined;
  let noticeListener: Parameters<AuthenticatedSession['onNotice']>[0] | undefined;
  let noticed = false;
  let untold: Parameters<NonNullable<typeof noticeListener>>[0] | undefined;
  let isOver = false;
  let endRecorded = false;
  let counted = false;
  let metered = false;
  let cancelTimer = (): void => {};

  const durability = connection.spec.recording?.durability ?? 'Write';
  const record = seed.activity.recorder(options.records.session(id, { durability }));

  const preparation = preparePolicies(bundle, protocol.rules, (error) =>
    options.log('error', 'a policy could not be prepared; everything is denied', { session: id, error: String(error) }),
  );
  const policy = (): SessionPolicy => preparation.policy(grant, principal);

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

  function accountNow(): ConnectionSpec['accounts'][number] {
    const { accounts } = bundle.view?.policy.connection.spec ?? connection.spec;
    const found = accounts.find(({ name }) => name === grant.account);
    if (found === undefined) throw new Error(`the Connection has no account ${grant.account} any more`);
    return found;
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
      remainingMs: remaining(),
      lock: lockNow(),
      proofVoid: proofVoid(),
      endedTrust: trustNow(),
      ageMs: clock.monotonic() - authenticatedAt,
      idleMs: seed.activity.idleMs(),
      proofAgeMs: proof.proofAgeMs + clock.monotonic() - proof.at,
      proofLeftMs: proof.proofLeftMs === undefined ? undefined : proof.proofLeftMs - (clock.monotonic() - proof.at),
      limits: limitsNow(),
      prefix: world.prefix,
    };
  }

  /** A sealed grant ends with its window, by a clock that can not be set as well. */
  function remaining(): number {
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

  /** Where the grant has merely run out and another continues it, the session goes on under that one. */
  function moveOn(): boolean {
    const next = successorOf(grant, bundle.view?.grants.values() ?? [], (candidate) => {
      return (
        bundle.grant(candidate.uid) !== undefined &&
        candidate.notBeforeMs <= clock.now() + HANDOVER_MS &&
        bundle.remaining(candidate) > 0
      );
    });
    if (next === undefined) return false;
    record.append('notice', { event: 'GrantExtended', from: grant.name, to: { name: next.name, uid: next.uid } });
    grant = next;
    principal = personOf(grant, login);
    preparation.forget();
    limits = { of: undefined, value: {} };
    lock = { of: undefined, value: undefined };
    return true;
  }

  function review(): void {
    if (isOver || seed.cutting() !== undefined) return;
    let now = facts();
    let reason = cutFor(now);
    if (reason?.code === 'Expired' && moveOn()) {
      now = facts();
      reason = cutFor(now);
    }
    cancelTimer();
    if (reason !== undefined) return seed.cut(reason);
    const left = timeLeft(now);
    const told = noticeDue(now);
    if (told <= 0 && !noticed) {
      noticed = true;
      const notice = reauthenticateNotice(seed.connection.name, world.prefix);
      if (noticeListener === undefined) untold = notice;
      else noticeListener(notice);
    }
    const next = noticed ? left : Math.min(left, told);
    if (Number.isFinite(next)) cancelTimer = clock.after(Math.max(1, next), review);
  }

  /** When, by the monotonic clock, time and bundle last closed nothing. Asked several times a command. */
  let clear: { at: number; view: unknown } = { at: Number.NEGATIVE_INFINITY, view: undefined };

  function gate(): Gate | undefined {
    let cutting = seed.cutting();
    const at = clock.monotonic();
    if (cutting === undefined && !isOver && record.writable && at - clear.at < GATE_MS && bundle.view === clear.view)
      return undefined;
    if (cutting === undefined && remaining() <= 0) {
      review();
      cutting = seed.cutting();
    }
    if (cutting !== undefined) return gateOfCut(cutting);
    if (isOver) return { code: 'GrantEnded', message: 'the session is over' };
    const silent = bundle.silent();
    // A sealed grant is for just that, as long as the last policy and locks are known.
    if (silent !== undefined && (admission.window === undefined || !bundle.orphaned())) {
      return {
        code: 'ControllerSilent',
        message: `Sallyport runs no command while it can not hear its controller: ${silent}`,
        hint: 'Wait and try again; the session itself stays.',
      };
    }
    if (!record.writable) {
      return {
        code: 'RecordsUnwritable',
        message: 'Sallyport runs no command that it can not record',
        hint: 'The record store is full or failing; the session itself stays.',
      };
    }
    clear = { at, view: bundle.view };
    return undefined;
  }

  function finish(reason: string, message: string | undefined): void {
    if (isOver) return;
    isOver = true;
    cancelTimer();
    const cutting = seed.cutting();
    world.holds.endSession(
      id,
      cutting === undefined ? 'ClientGone' : 'GrantEnded',
      cutting === undefined ? 'the client is gone' : cutting.message,
    );
    const body: EndBody = { reason: cutting?.code ?? reason };
    const text = cutting?.message ?? message;
    if (text !== undefined) body.message = text;
    if (counted) record.append('end', body); // else not even its start was written
    endRecorded = true;
    record.close();
    admission.release();
    if (metered) metrics.sessionEnded(seed.label, cutting?.code ?? 'Closed');
  }

  const holding: HoldingSession = {
    id,
    connection,
    get grant() {
      return grant;
    },
    get view() {
      return bundle.view;
    },
    get over() {
      return endRecorded;
    },
    record,
  };

  const session: AuthenticatedSession = {
    principal: { username: grant.principal.username },
    get grant() {
      return { name: grant.name, uid: grant.uid, policy: grant.policy, expiresAtMs: grant.expiresAtMs };
    },
    account: grant.account,
    record,
    policy,
    gate,
    decide: (command) => decide(policy(), command),
    denialId: () => `d-${randomSuffix(random, 6)}`,
    hold(request) {
      const gated = gate();
      return gated === undefined
        ? world.holds.open(holding, request)
        : {
            name: `h-${randomSuffix(random, 6)}`,
            untilMs: clock.now(),
            preapproved: false,
            outcome: Promise.resolve({ kind: 'Failed', message: gated.message }),
            withdraw: () => {},
          };
    },
    async credential() {
      return await credentialOf(credentials, connection, accountNow());
    },
    async dial(target, signal) {
      const credential = await credentialOf(credentials, connection, accountNow());
      return await options.dialGuard.dial(target, hostsOf(credential, target), AbortSignal.any([signal, world.signal]));
    },
    onCut(listener) {
      cutListener = listener;
      const cutting = seed.cutting();
      if (cutting !== undefined) deliver(cutting);
    },
    onNotice(listener) {
      noticeListener = listener;
      if (untold !== undefined) listener(untold);
      untold = undefined;
    },
    observe: {
      decision: (kind, code) => metrics.decision(kind, code),
      masked: (values) => metrics.masked(values),
      latency: (milliseconds) => metrics.latency(milliseconds),
    },
    ended: finish,
  };

  /** At most once; a protocol that throws here loses its socket at once. */
  function deliver(cut: Cut): void {
    const listener = cutListener;
    if (listener === undefined || isOver) return;
    cutListener = () => {};
    try {
      listener(cut);
    } catch (error) {
      options.log('error', 'a protocol could not end its session', { session: id, error: String(error) });
      seed.socket.destroy();
    }
  }

  const first = policy();
  record.append('start', startBody(protocol.name, seed, first.generation));
  const started = new Promise<Error | undefined>((resolve) => {
    const cancel = clock.after(world.limits.handshakeMs, () => resolve(new Error('the record store did not answer')));
    record.whenWritten((error) => {
      cancel();
      resolve(error);
    });
  });
  started.then(
    (error) => {
      counted = error === undefined;
    },
    () => {},
  );

  return {
    session,
    started,
    begin() {
      metered = true;
      metrics.sessionStarted(seed.label);
      review();
    },
    review,
    get login() {
      return login;
    },
    opened: admission.login.kind,
    get grantInUse() {
      return grant;
    },
    renewed(token) {
      login = { kind: 'Token', token };
      proof = { ...proofTimes(login, clock.now()), at: clock.monotonic() };
      principal = personOf(grant, login);
      groupsSeen = [...new Set([...groupsSeen, ...token.principal.groups])];
      preparation.forget();
      lock = { of: undefined, value: undefined };
      noticed = false;
      untold = undefined;
      clear = { at: Number.NEGATIVE_INFINITY, view: undefined };
      record.append('notice', renewedBody(token));
      const misfit = cutFor(facts());
      if (misfit?.code === 'PolicyChanged') seed.cut({ ...misfit, code: 'Reauthenticate' });
      else review();
    },
    proofEndsAtMs() {
      const left = proofLeft(facts());
      return Number.isFinite(left) ? clock.now() + left : undefined;
    },
    onCut(cut) {
      world.holds.endSession(id, 'GrantEnded', cut.message);
      deliver(cut);
    },
    ended: finish,
    abandon: (reason) => finish(reason, undefined),
  };
}
