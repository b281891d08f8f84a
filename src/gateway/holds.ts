// Commands that wait for somebody's consent. A hold is opened at the control plane and decided there; the decision
// comes back as a signed Release in the bundle.
//
// Guarantees: an approval is for one run of exactly one command (its hash) under one grant; it is marked used here and
// at the control plane before the command may run, so neither a race nor a restart runs it twice; a wait always ends
// (approval, denial, time, withdrawal, end of the session), and how many wait is bounded (INV-11).
// Does not guarantee that the grant still holds when the wait ends: the protocol asks gate() and decide() again.
import type { CommandHoldSpec } from '../api/hold.ts';
import type { BundleGrant, Release } from '../policy/bundle.ts';
import type { HoldHandle, HoldOutcome, HoldRequest } from '../protocols/protocol.ts';
import type { HoldBody } from '../recording/envelope.ts';
import type { SessionRecorder } from '../recording/recorder.ts';
import type { Clock } from '../system/clock.ts';
import { type Random, randomSuffix } from '../system/random.ts';
import type { ProcessLimits } from './limits.ts';
import type { GatewayMetrics, LogLine } from './observer.ts';
import type { BundleView, ControlPlane } from './ports.ts';

/** What a hold needs to know of the session it belongs to. */
export interface HoldingSession {
  id: string;
  connection: { uid: string; name: string; namespace: string };
  grant: BundleGrant;
  view: BundleView | undefined;
  record: SessionRecorder;
  /** Its `end` is recorded. */
  over: boolean;
}

export interface HoldDesk {
  open(session: HoldingSession, request: HoldRequest): HoldHandle;
  /** Looks at a Connection's releases again. */
  review(connectionUid: string, view: BundleView | undefined): void;
  /** Ends every wait of a session: its grant ended, or its client is gone. */
  endSession(sessionId: string, event: 'GrantEnded' | 'ClientGone', message: string): void;
  /** Names of what a session waits for. */
  of(sessionId: string): string[];
  readonly waiting: number;
}

export interface HoldDeskOptions {
  controlPlane: ControlPlane;
  clock: Clock;
  random: Random;
  limits: Pick<ProcessLimits, 'holds' | 'holdsPerSession'>;
  metrics: GatewayMetrics;
  log: LogLine;
}

const DEFAULT_TIMEOUT_MS = 60_000;
/** How long the control plane may take to open or close a hold. */
const CONTROL_DEADLINE_MS = 10_000;
/** The longest text an approver can be shown; consent to what nobody saw is none. */
const LONGEST_SHOWN = 65_536;

interface Waiting {
  name: string;
  uid: string | undefined;
  session: HoldingSession;
  request: HoldRequest;
  grantUid: string;
  state: 'Waiting' | 'Approving' | 'Settled';
  settle(outcome: HoldOutcome, event: HoldBody['event'], reason?: string): void;
  approve(release: Release): void;
}

export function createHoldDesk(options: HoldDeskOptions): HoldDesk {
  const { controlPlane, clock, random, limits, metrics, log } = options;
  const waiting = new Map<string, Waiting>(); // by name
  /** Releases seen: until when they may be used by monotonic time, and whether they were. By hold uid. */
  const seen = new Map<string, { connectionUid: string; usableUntilMonotonic: number; used: boolean }>();

  function note(connectionUid: string, view: BundleView | undefined): void {
    for (const release of view?.releases ?? []) {
      if (seen.has(release.holdUid)) continue;
      const usableUntilMonotonic = clock.monotonic() + (release.usableUntilMs - clock.now());
      seen.set(release.holdUid, { connectionUid, usableUntilMonotonic, used: false });
    }
    const listed = new Set(view?.releases.map(({ holdUid }) => holdUid));
    for (const [uid, entry] of seen) {
      // Forgotten only once the bundle has dropped it and its time is over by a clock that can not be set.
      if (entry.connectionUid !== connectionUid || listed.has(uid)) continue;
      if (entry.usableUntilMonotonic < clock.monotonic()) seen.delete(uid);
    }
  }

  function usable(release: Release, grantUid: string, commandHash: string): boolean {
    const entry = seen.get(release.holdUid);
    return (
      release.decision === 'Approved' &&
      release.grantUid === grantUid &&
      release.commandHash === commandHash &&
      entry !== undefined &&
      !entry.used &&
      clock.monotonic() < entry.usableUntilMonotonic &&
      clock.now() < release.usableUntilMs
    );
  }

  /** Marks an approval used, here at once and then at the control plane. Rejects if that could not be told. */
  function use(release: Release, namespace: string): Promise<void> {
    seen.get(release.holdUid)!.used = true;
    return deadline(
      clock,
      controlPlane.closeHold({ name: release.hold, namespace, uid: release.holdUid }, 'Used'),
      'the control plane did not answer',
    );
  }

  function append(session: HoldingSession, request: HoldRequest, body: Omit<HoldBody, 'commandHash'>): void {
    if (session.over) return;
    session.record.append('hold', { ...body, commandHash: request.commandHash } satisfies HoldBody, request.channel);
  }

  const settled = (name: string, outcome: HoldOutcome, untilMs = clock.now()): HoldHandle => ({
    name,
    untilMs,
    preapproved: outcome.kind === 'Approved',
    outcome: Promise.resolve(outcome),
    withdraw: () => {},
  });

  function preapproved(session: HoldingSession, request: HoldRequest): HoldHandle | undefined {
    if (session.grant.commandHashes.includes(request.commandHash)) {
      const by = [`grant ${session.grant.name}`];
      append(session, request, { hold: session.grant.name, event: 'Approved', by, reason: 'approved with the grant' });
      return settled(session.grant.name, { kind: 'Approved', by });
    }
    const release = session.view?.releases.find(
      (candidate) => usable(candidate, session.grant.uid, request.commandHash) && !isAwaited(candidate),
    );
    if (release === undefined) return undefined;
    const { by } = release;
    const outcome = use(release, session.connection.namespace).then(
      (): HoldOutcome => {
        if (session.over) return { kind: 'Failed', message: 'the session is over' };
        append(session, request, { hold: release.hold, event: 'Approved', by, reason: 'approved earlier' });
        return { kind: 'Approved', by };
      },
      (error: unknown): HoldOutcome => unusable(release.hold, error),
    );
    return { name: release.hold, untilMs: release.usableUntilMs, preapproved: true, outcome, withdraw: () => {} };
  }

  function unusable(name: string, error: unknown): HoldOutcome {
    log('error', 'an approval could not be marked as used', { hold: name, error: messageOf(error) });
    return {
      kind: 'Failed',
      message: `the approval of hold ${name} could not be marked as used, so nothing was run; ask for a new one`,
    };
  }

  /** Whether a hold that still waits is the one this release was given to. */
  const isAwaited = (release: Release): boolean =>
    [...waiting.values()].some((hold) => hold.state === 'Waiting' && isFor(release, hold));

  // The release may be faster than the answer of openHold: then name and session stand in for the uid.
  const isFor = (release: Release, hold: Waiting): boolean =>
    hold.uid === undefined
      ? release.hold === hold.name && release.sessionId === hold.session.id
      : release.holdUid === hold.uid;

  function refusal(session: HoldingSession, request: HoldRequest): string | undefined {
    if (waiting.size >= limits.holds) return 'too many commands wait for consent in this process; try again later';
    const own = [...waiting.values()].filter((hold) => hold.session.id === session.id).length;
    if (own >= limits.holdsPerSession) return 'too many commands of this session wait for consent';
    if (request.shown.text.length > LONGEST_SHOWN) {
      return 'the command is too long to be shown to an approver; split it';
    }
    return undefined;
  }

  function open(session: HoldingSession, request: HoldRequest): HoldHandle {
    note(session.connection.uid, session.view);
    const early = preapproved(session, request);
    if (early !== undefined) return early;
    const name = `h-${randomSuffix(random, 6)}`;
    const refused = refusal(session, request);
    if (refused !== undefined) {
      log('warn', 'a hold was refused', { session: session.id, reason: refused });
      return settled(name, { kind: 'Failed', message: refused });
    }
    return wait(name, session, request);
  }

  function wait(name: string, session: HoldingSession, request: HoldRequest): HoldHandle {
    const { requirements } = request.decision;
    const timeoutMs = Math.max(
      0,
      Math.min(
        request.longestMs ?? Number.POSITIVE_INFINITY,
        ...requirements.map((requirement) => requirement.timeoutMs),
      ),
    );
    const limitMs = Number.isFinite(timeoutMs) ? timeoutMs : DEFAULT_TIMEOUT_MS;
    const requestedAtMs = clock.now();
    const untilMs = requestedAtMs + limitMs;
    const outcome = Promise.withResolvers<HoldOutcome>();
    let cancelTimer = (): void => {};

    const close = (event: 'Withdrawn' | 'TimedOut'): void => {
      if (hold.uid === undefined) return; // told once its uid is known
      const ref = { name, namespace: session.connection.namespace, uid: hold.uid };
      deadline(clock, controlPlane.closeHold(ref, event), 'the control plane did not answer').catch((error: unknown) =>
        log('warn', 'the end of a hold could not be told', { hold: name, event, error: messageOf(error) }),
      );
    };
    const hold: Waiting = {
      name,
      uid: undefined,
      session,
      request,
      grantUid: session.grant.uid,
      state: 'Waiting',
      settle(result, event, reason) {
        if (hold.state === 'Settled') return;
        const used = hold.state === 'Approving';
        hold.state = 'Settled';
        cancelTimer();
        waiting.delete(name);
        metrics.holdClosed(result.kind);
        const by = 'by' in result ? { by: result.by } : {};
        append(session, request, { hold: name, event, ...by, ...(reason === undefined ? {} : { reason }) });
        if (result.kind === 'TimedOut') close('TimedOut');
        else if (result.kind === 'Withdrawn' || (result.kind === 'Failed' && !used)) close('Withdrawn');
        outcome.resolve(result);
      },
      approve(release) {
        hold.state = 'Approving';
        cancelTimer();
        use(release, session.connection.namespace).then(
          () => hold.settle({ kind: 'Approved', by: release.by }, 'Approved'),
          (error: unknown) => hold.settle(unusable(release.hold, error), 'Withdrawn', 'could not be marked as used'),
        );
      },
    };
    waiting.set(name, hold);
    metrics.holdOpened();
    append(session, request, { hold: name, event: 'Opened', reason: request.decision.reason });
    cancelTimer = clock.after(limitMs, () => hold.settle({ kind: 'TimedOut' }, 'TimedOut'));

    const spec = specOf(session, request, requestedAtMs, untilMs);
    const { namespace } = session.connection;
    const opened = Promise.resolve().then(() => controlPlane.openHold({ name, namespace, spec }));
    opened.then(
      ({ uid }) => {
        hold.uid = uid;
        if (hold.state === 'Settled') close('Withdrawn');
      },
      () => {},
    );
    deadline(clock, opened, 'the control plane did not answer').then(
      () => reviewOne(hold),
      (error: unknown) => {
        log('error', 'a hold could not be opened', { hold: name, session: session.id, error: messageOf(error) });
        hold.settle(
          { kind: 'Failed', message: 'nobody could be asked for consent: the control plane did not take the request' },
          'Withdrawn',
          'could not be opened',
        );
      },
    );
    return {
      name,
      untilMs,
      preapproved: false,
      outcome: outcome.promise,
      withdraw: (event) => hold.settle({ kind: 'Withdrawn' }, event ?? 'Withdrawn'),
    };
  }

  function reviewOne(hold: Waiting): void {
    if (hold.state !== 'Waiting') return;
    const releases = hold.session.view?.releases ?? [];
    const own = releases.find((release) => isFor(release, hold));
    if (own?.decision === 'Denied') {
      const reason = own.reason === undefined ? {} : { reason: own.reason };
      return hold.settle({ kind: 'Denied', by: own.by, ...reason }, 'Denied', own.reason);
    }
    // Consent to the same command under the same grant counts, unless another wait is what it was given to.
    const release =
      own !== undefined && usable(own, hold.grantUid, hold.request.commandHash)
        ? own
        : releases.find((other) => usable(other, hold.grantUid, hold.request.commandHash) && !isAwaited(other));
    if (release !== undefined) hold.approve(release);
  }

  return {
    open,
    review(connectionUid, view) {
      note(connectionUid, view);
      for (const hold of waiting.values()) if (hold.session.connection.uid === connectionUid) reviewOne(hold);
    },
    endSession(sessionId, event, message) {
      for (const hold of waiting.values()) {
        if (hold.session.id === sessionId) hold.settle({ kind: 'Failed', message }, event, message);
      }
    },
    of: (sessionId) => [...waiting.values()].filter((hold) => hold.session.id === sessionId).map(({ name }) => name),
    get waiting() {
      return waiting.size;
    },
  };
}

function specOf(
  session: HoldingSession,
  { decision, shown, commandHash, command }: HoldRequest,
  requestedAtMs: number,
  untilMs: number,
): CommandHoldSpec {
  const { principal, name, uid } = session.grant;
  return {
    connectionRef: { name: session.connection.name },
    grantRef: { name, uid },
    sessionId: session.id,
    requester: {
      username: principal.username,
      ...(principal.uid === undefined ? {} : { uid: principal.uid }),
      groups: principal.groups.slice(0, 512),
      aliases: principal.aliases.slice(0, 16),
    },
    command: shown.text,
    hiddenLiterals: shown.hiddenLiterals,
    commandHash,
    summary: command.verb.slice(0, 256) || 'a command',
    rules: decision.requirements.map(({ by }) => by),
    reason: decision.reason.slice(0, 1024),
    requirements: decision.requirements.map(({ by, count, approvers }) => ({
      rule: `${by.policy}/${by.rule}`,
      count,
      approvers: [...approvers],
    })),
    requestedAt: new Date(requestedAtMs).toISOString(),
    until: new Date(untilMs).toISOString(),
  };
}

function deadline<T>(clock: Clock, promise: Promise<T>, message: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(CONTROL_DEADLINE_MS, () => reject(new Error(message)));
    promise.then(resolve, reject).finally(cancel);
  });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
