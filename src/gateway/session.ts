// The life of one accepted socket: from handshake over authentication to its end. Implements what protocols are handed
// (SessionContext, AuthenticatedSession).
//
// Guarantees: a session is cut once, for one reason; its socket is closed within the cut budget whatever the protocol
// does; `start` is written before the protocol learns that it is in, `end` after everything else; timers, holds and
// counts are given back exactly once.
import type { Socket } from 'node:net';
import type { ConnectionSpec } from '../api/connection.ts';
import { parseDuration } from '../api/duration.ts';
import type { BundleGrant } from '../policy/bundle.ts';
import { decide } from '../policy/decide.ts';
import { prepareSessionPolicy, sessionLimits } from '../policy/prepare-session.ts';
import type { SessionPolicy } from '../policy/session-policy.ts';
import type {
  AuthenticatedSession,
  Authentication,
  CancelRegistry,
  Cut,
  Gate,
  Limits,
  Proof,
  Protocol,
  ServerTls,
  SessionContext,
} from '../protocols/protocol.ts';
import type { EndBody, StartBody } from '../recording/envelope.ts';
import { randomSuffix } from '../system/random.ts';
import { trackActivity } from './activity.ts';
import { type Admission, admit } from './admission.ts';
import type { ConnectionBundle } from './bundle-store.ts';
import type { GatewayConnection, GatewayOptions, SessionInfo } from './gateway.ts';
import type { HoldDesk, HoldingSession } from './holds.ts';
import type { FailureLimiter, KeyedCount, ProcessLimits } from './limits.ts';
import { lockHolding } from './locks.ts';
import type { GatewayMetrics } from './observer.ts';
import { cutFor, gateOfCut, type StandingFacts, successorOf, timeLeft } from './standing.ts';

/** What all sessions of one gateway share. */
export interface SessionWorld {
  options: GatewayOptions;
  limits: ProcessLimits;
  metrics: GatewayMetrics;
  holds: HoldDesk;
  cancels: CancelRegistry;
  failures: FailureLimiter;
  sessionCounts: KeyedCount;
  prefix: string;
  /** Aborts when the process must stop at once. */
  signal: AbortSignal;
  draining(): boolean;
}

export interface SessionSeed {
  id: string;
  socket: Socket;
  client: { address: string; port: number };
  connection: GatewayConnection;
  protocol: Protocol;
  bundle: ConnectionBundle;
  tls: ServerTls | undefined;
  /** Called when the handshake is over, one way or another. */
  onHandshakeOver(): void;
  /** Called once, when nothing of the session is left. */
  onGone(): void;
}

export interface Session {
  readonly id: string;
  readonly connectionUid: string;
  readonly context: SessionContext;
  /** Hands the socket to the protocol and sees it through. */
  run(): void;
  info(): SessionInfo;
  /** Ends it: natively if it is authenticated, else by closing. */
  cut(cut: Cut): void;
  /** Looks again at whether it may go on: after a change of the bundle, and every second. */
  review(): void;
}

export function limitsOf(spec: ConnectionSpec, process: ProcessLimits): Limits {
  const idle = spec.limits?.idleTimeout === undefined ? undefined : parseDuration(spec.limits.idleTimeout);
  return {
    handshakeMs: process.handshakeMs,
    statementBytes: spec.limits?.statementBytes ?? 1024 * 1024,
    rowBytes: spec.limits?.rowBytes ?? 16 * 1024 * 1024,
    clientBufferBytes: process.clientBufferBytes,
    recordedRows: spec.recording?.rows ?? 50,
    ...(idle === undefined ? {} : { idleTimeoutMs: idle }),
  };
}

export function createSession(world: SessionWorld, seed: SessionSeed): Session {
  const { options, metrics } = world;
  const { clock, random, log } = options;
  const { id, socket, connection, protocol, bundle } = seed;
  const label = `${connection.namespace}/${connection.name}`;
  const limits = limitsOf(connection.spec, world.limits);
  const startedAtMs = clock.now();
  const activity = trackActivity(socket, clock);

  let handshakeOver = false;
  let asked = false;
  let live: LiveSession | undefined;
  let cutting: Cut | undefined;
  let gone = false;
  let socketClosed = false;
  let served = false;
  let cancelHandshake = (): void => {};
  let cancelForce = (): void => {};

  function endHandshake(): void {
    if (handshakeOver) return;
    handshakeOver = true;
    cancelHandshake();
    seed.onHandshakeOver();
  }

  function disappear(): void {
    if (gone) return;
    gone = true;
    cancelForce();
    endHandshake();
    live?.ended('Closed');
    socket.destroy();
    seed.onGone();
  }

  function disappearLater(): void {
    cancelForce();
    cancelForce = clock.after(world.limits.cutBudgetMs, disappear);
  }

  function cut(reason: Cut): void {
    if (cutting !== undefined || gone) return;
    cutting = reason;
    if (live === undefined) return disappear();
    log('info', 'a session is cut', { session: id, connection: label, reason: reason.code, cause: reason.message });
    cancelForce = clock.after(world.limits.cutBudgetMs, () => {
      if (!socketClosed) log('warn', 'a session did not end natively in time', { session: id, reason: reason.code });
      disappear();
    });
    live.onCut(reason);
  }

  async function authenticate(proof: Proof): Promise<Authentication> {
    if (asked || gone || socketClosed) {
      return { kind: 'Refused', code: 'InvalidProof', message: 'Sallyport takes one login a connection.' };
    }
    asked = true;
    const admission = admit(world, { proof, client: seed.client, sessionId: id, connection, bundle });
    if (admission.kind === 'Refused') {
      metrics.authFailure(admission.answer.code);
      return admission.answer;
    }
    const candidate = goLive(admission);
    const written = await candidate.started;
    if (written !== undefined || cutting !== undefined || gone) {
      candidate.abandon(written === undefined ? 'Closed' : 'RecordsUnwritable');
      metrics.authFailure('Unavailable');
      if (written !== undefined) {
        log('error', 'a login was refused: its record could not be written', { session: id, error: written.message });
      }
      return {
        kind: 'Refused',
        code: 'Unavailable',
        message:
          written === undefined
            ? 'The session was ended.'
            : 'Sallyport can not write its records, so nobody may log in.',
      };
    }
    live = candidate;
    endHandshake();
    log('info', 'a session began', {
      session: id,
      connection: label,
      grant: admission.grant.name,
      user: admission.grant.principal.username,
    });
    metrics.sessionStarted(label);
    live.review();
    return { kind: 'Granted', session: live.session };
  }

  function goLive(admission: Extract<Admission, { kind: 'Admitted' }>): LiveSession {
    return openLiveSession(world, {
      ...seed,
      admission,
      label,
      activity,
      limits,
      cutting: () => cutting,
      cut,
    });
  }

  const context: SessionContext = {
    id,
    connection,
    client: seed.client,
    clock,
    random,
    limits,
    tls: seed.tls,
    authenticate,
    cancels: world.cancels,
    log: (level, message, fields) => log(level, message, { session: id, connection: label, ...fields }),
    signal: world.signal,
  };

  return {
    id,
    connectionUid: connection.uid,
    context,
    run() {
      socket.on('error', () => {}); // the protocol sees it too; without a listener it would end the process
      socket.once('close', () => {
        socketClosed = true;
        endHandshake();
        // The protocol may have a last record to write; it gets the cut budget for it.
        if (served) disappear();
        else if (!gone) disappearLater();
      });
      cancelHandshake = clock.after(world.limits.handshakeMs + HANDSHAKE_GRACE_MS, () => {
        log('info', 'a handshake took too long', { session: id, connection: label, address: seed.client.address });
        disappear();
      });
      Promise.resolve()
        .then(() => protocol.accept(socket, context))
        .catch((error: unknown) => {
          log('error', 'a protocol failed', { session: id, connection: label, error: String(error) });
        })
        .finally(() => {
          served = true;
          endHandshake();
          live?.ended('Closed');
          // Destroying now could lose the last message, which may still be on its way to the client.
          if (socketClosed || socket.destroyed) disappear();
          else if (!gone) disappearLater();
        });
    },
    info: () => ({
      id,
      connection: { uid: connection.uid, name: connection.name, namespace: connection.namespace },
      protocol: protocol.name,
      state: cutting !== undefined ? 'Ending' : live === undefined ? 'Handshake' : 'Live',
      client: seed.client,
      startedAtMs,
      lastActivityMs: activity.lastMs(),
      ...(live === undefined
        ? {}
        : {
            principal: live.session.principal,
            grant: { ...live.session.grant },
            account: live.session.account,
          }),
      holds: world.holds.of(id),
      ...(cutting === undefined ? {} : { cut: cutting.code }),
    }),
    cut,
    review() {
      activity.sample();
      live?.review();
    },
  };
}

/** After its own deadline a protocol gets this long to say so natively. */
const HANDSHAKE_GRACE_MS = 500;

interface LiveSession {
  session: AuthenticatedSession;
  /** Resolves once the `start` record is written, with the error if it could not be. */
  started: Promise<Error | undefined>;
  review(): void;
  onCut(cut: Cut): void;
  ended(reason: string, message?: string): void;
  /** It never became a session: gives everything back. */
  abandon(reason: string): void;
}

interface LiveSeed extends SessionSeed {
  admission: Extract<Admission, { kind: 'Admitted' }>;
  label: string;
  activity: ReturnType<typeof trackActivity>;
  limits: Limits;
  cutting: () => Cut | undefined;
  cut: (cut: Cut) => void;
}

function openLiveSession(world: SessionWorld, seed: LiveSeed): LiveSession {
  const { options, metrics } = world;
  const { clock, random, credentials } = options;
  const { id, connection, bundle, protocol, admission } = seed;
  const groupsAtLogin = admission.grant.principal.groups;
  const authenticatedAt = clock.monotonic();

  let grant: BundleGrant = admission.grant;
  let prepared: SessionPolicy | undefined;
  let limits: StandingFacts['limits'] = {};
  let cutListener: ((cut: Cut) => void) | undefined;
  let isOver = false;
  let counted = false;
  let cancelTimer = (): void => {};

  const durability = connection.spec.recording?.durability ?? 'Write';
  const record = seed.activity.recorder(options.records.session(id, { durability }));

  function policy(): SessionPolicy {
    const { view } = bundle;
    if (prepared !== undefined && (view === undefined || view.generation === prepared.generation)) return prepared;
    if (view === undefined) return (prepared = nothingAllowed(0, grant.policy, 'the Connection was removed'));
    try {
      prepared = prepareSessionPolicy(
        view.policy,
        { policy: grant.policy, principal: grant.principal, account: grant.account, generation: view.generation },
        protocol.rules,
      );
      const own = sessionLimits(view.policy, grant.policy);
      limits = { ...own, ...smaller('idleTimeoutMs', own.idleTimeoutMs, seed.limits.idleTimeoutMs) };
    } catch (error) {
      options.log('error', 'a policy could not be prepared; everything is denied', {
        session: id,
        error: String(error),
      });
      prepared = nothingAllowed(view.generation, grant.policy, 'it could not be prepared');
    }
    return prepared;
  }

  function facts(): StandingFacts {
    const { view } = bundle;
    return {
      sessionId: id,
      connection,
      grant,
      policies: view?.policy.policies,
      end: bundle.endOf(grant.uid),
      listed: bundle.grant(grant.uid) !== undefined,
      remainingMs: bundle.remaining(grant),
      lock: lockHolding(view?.overlay.locks ?? [], grant.principal, groupsAtLogin, clock.now()),
      ticketVoid: bundle.isVoid(admission.jti),
      ageMs: clock.monotonic() - authenticatedAt,
      idleMs: seed.activity.idleMs(),
      ticketAgeMs: clock.monotonic() - admission.issuedAtMonotonic,
      limits,
      prefix: world.prefix,
    };
  }

  /** Where the grant has merely run out and another continues it, the session goes on under that one. */
  function moveOn(): boolean {
    const next = successorOf(grant, bundle.view?.grants.values() ?? [], (candidate) => {
      return (
        bundle.grant(candidate.uid) !== undefined &&
        candidate.notBeforeMs <= clock.now() &&
        bundle.remaining(candidate) > 0
      );
    });
    if (next === undefined) return false;
    record.append('notice', { event: 'GrantExtended', from: grant.name, to: { name: next.name, uid: next.uid } });
    grant = next;
    prepared = undefined;
    return true;
  }

  function review(): void {
    if (isOver || seed.cutting() !== undefined) return;
    policy();
    let now = facts();
    let reason = cutFor(now);
    if (reason?.code === 'Expired' && moveOn()) {
      policy();
      now = facts();
      reason = cutFor(now);
    }
    cancelTimer();
    if (reason !== undefined) return seed.cut(reason);
    const left = timeLeft(now);
    if (Number.isFinite(left)) cancelTimer = clock.after(Math.max(1, left), review);
  }

  function gate(): Gate | undefined {
    let cutting = seed.cutting();
    if (cutting === undefined && bundle.remaining(grant) <= 0) {
      review();
      cutting = seed.cutting();
    }
    if (cutting !== undefined) return gateOfCut(cutting);
    if (isOver) return { code: 'GrantEnded', message: 'the session is over' };
    const silent = bundle.silent();
    if (silent !== undefined) {
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
    record.append('end', body);
    record.close();
    admission.release();
    if (counted) metrics.sessionEnded(seed.label, cutting?.code ?? 'Closed');
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
      return await credentials.read(
        connection,
        secretOf(bundle.view?.policy.connection.spec ?? connection.spec, grant.account),
      );
    },
    async dial(target, signal) {
      const spec = bundle.view?.policy.connection.spec ?? connection.spec;
      const { hosts } = await credentials.read(connection, secretOf(spec, grant.account));
      return await options.dialGuard.dial(target, hosts, AbortSignal.any([signal, world.signal]));
    },
    onCut(listener) {
      cutListener = listener;
      const cutting = seed.cutting();
      if (cutting !== undefined) deliver(cutting);
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
  record.append('start', startBody(protocol.name, connection, grant, seed.client.address, first.generation));
  const started = new Promise<Error | undefined>((resolve) => {
    const cancel = clock.after(world.limits.handshakeMs, () => resolve(new Error('the record store did not answer')));
    record.whenWritten((error) => {
      cancel();
      resolve(error);
    });
  });
  started.then(
    () => {
      counted = true;
    },
    () => {},
  );

  return {
    session,
    started,
    review,
    onCut(cut) {
      world.holds.endSession(id, 'GrantEnded', cut.message);
      deliver(cut);
    },
    ended: finish,
    abandon(reason) {
      counted = false;
      finish(reason, undefined);
    },
  };
}

function secretOf(spec: ConnectionSpec, account: string): string {
  const found = spec.accounts.find(({ name }) => name === account);
  if (found === undefined) throw new Error(`the Connection has no account ${account} any more`);
  return found.secretRef.name;
}

function nothingAllowed(generation: number, policy: string, problem: string): SessionPolicy {
  return {
    generation,
    broken: [{ policy, problem }],
    denies: [],
    holds: [],
    allows: [],
    masks: [],
    trustedFunctions: [],
    transparent: undefined,
  };
}

function smaller<K extends string>(key: K, a: number | undefined, b: number | undefined): { [P in K]?: number } {
  const least = Math.min(a ?? Number.POSITIVE_INFINITY, b ?? Number.POSITIVE_INFINITY);
  return Number.isFinite(least) ? ({ [key]: least } as { [P in K]?: number }) : {};
}

function startBody(
  protocol: string,
  { uid, name, namespace }: GatewayConnection,
  grant: BundleGrant,
  address: string,
  policyGeneration: number,
): StartBody {
  const { principal } = grant;
  return {
    protocol,
    connection: { uid, name, namespace },
    grant: { name: grant.name, uid: grant.uid, policy: grant.policy },
    principal: {
      username: principal.username,
      ...(principal.uid === undefined ? {} : { uid: principal.uid }),
      groups: principal.groups,
    },
    account: grant.account,
    client: { address },
    policyGeneration,
  };
}
