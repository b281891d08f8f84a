// A session from authentication to its end: what protocols are handed as AuthenticatedSession.
//
// Guarantees: `start` is queued before anything else of the session is recorded and `end` after everything; a cut is
// delivered once; what is taken (places, timers, holds) is given back exactly once.
import type { ConnectionSpec } from '../api/connection.ts';
import type { ProvenToken } from '../identity/oidc/verify-token.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import { decide } from '../policy/decide.ts';
import type { SessionPolicy } from '../policy/session-policy.ts';
import { credentialOf, hostsOf } from '../protocols/credential.ts';
import type { AuthenticatedSession, Cut, Gate, Limits } from '../protocols/protocol.ts';
import type { EndBody } from '../recording/envelope.ts';
import { randomSuffix } from '../system/random.ts';
import type { Activity } from './activity.ts';
import type { Admission } from './admission.ts';
import { openFooting } from './footing.ts';
import type { HoldingSession } from './holds.ts';
import { preparePolicies } from './preparation.ts';
import type { Login } from './proof.ts';
import { renewedBody, startBody } from './session-records.ts';
import type { SessionSeed, SessionWorld } from './session-world.ts';
import { cutFor, gateOfCut, noticeDue, proofLeft, reauthenticateNotice, timeLeft } from './standing.ts';

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
  const footing = openFooting(world, seed);

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
  const policy = (): SessionPolicy => preparation.policy(footing.grant, footing.principal);

  function accountNow(): ConnectionSpec['accounts'][number] {
    const { accounts } = bundle.view?.policy.connection.spec ?? connection.spec;
    const found = accounts.find(({ name }) => name === footing.grant.account);
    if (found === undefined) throw new Error(`the Connection has no account ${footing.grant.account} any more`);
    return found;
  }

  /** Where the grant has merely run out and another continues it, the session goes on under that one. */
  function moveOn(): boolean {
    const next = footing.successor();
    if (next === undefined) return false;
    const from = footing.grant.name;
    record.append('notice', { event: 'GrantExtended', from, to: { name: next.name, uid: next.uid } });
    footing.moveTo(next);
    preparation.forget();
    return true;
  }

  function review(): void {
    if (isOver || seed.cutting() !== undefined) return;
    let now = footing.facts();
    let reason = cutFor(now);
    if (reason?.code === 'Expired' && moveOn()) {
      now = footing.facts();
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
    if (cutting === undefined && footing.remainingMs() <= 0) {
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
      return footing.grant;
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
    principal: { username: admission.grant.principal.username },
    get grant() {
      const { grant } = footing;
      return { name: grant.name, uid: grant.uid, policy: grant.policy, expiresAtMs: grant.expiresAtMs };
    },
    account: admission.grant.account,
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
      return footing.login;
    },
    opened: admission.login.kind,
    get grantInUse() {
      return footing.grant;
    },
    renewed(token) {
      footing.renew(token);
      preparation.forget();
      noticed = false;
      untold = undefined;
      clear = { at: Number.NEGATIVE_INFINITY, view: undefined };
      record.append('notice', renewedBody(token));
      const misfit = cutFor(footing.facts());
      if (misfit?.code === 'PolicyChanged') seed.cut({ ...misfit, code: 'Reauthenticate' });
      else review();
    },
    proofEndsAtMs() {
      const left = proofLeft(footing.facts());
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
