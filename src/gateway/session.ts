// The life of one accepted socket: from handshake over authentication to its end. Implements SessionContext; what
// comes after authentication is in live-session.ts.
//
// Guarantees: a session is cut once, for one reason; its socket is closed within the cut budget whatever the protocol
// does; `start` is written before the protocol learns that it is in.
import type { ConnectionSpec } from '../api/connection.ts';
import { parseDuration } from '../api/duration.ts';
import type { Authentication, Cut, Limits, Offer, Proof, Protocol, SessionContext } from '../protocols/protocol.ts';
import { trackActivity } from './activity.ts';
import { type Admission, admit } from './admission.ts';
import type { SessionInfo } from './gateway.ts';
import { readLoginName } from './grant-of.ts';
import type { ProcessLimits } from './limits.ts';
import { type LiveSession, openLiveSession } from './live-session.ts';
import { recognises } from './proof.ts';
import { type Renewal, type RenewalProof, renewSession } from './renewal.ts';
import type { SessionSeed, SessionWorld } from './session-world.ts';

/** After its own deadline a protocol gets this long to say so natively. */
const HANDSHAKE_GRACE_MS = 500;
const ARRIVAL_STEP_MS = 20;

export interface Session {
  readonly id: string;
  readonly connectionUid: string;
  readonly context: SessionContext;
  /** Hands the socket to the protocol and sees it through. */
  run(): void;
  info(): SessionInfo;
  /** Ends it: natively if it is authenticated, else by closing. */
  cut(cut: Cut): void;
  /** Closes it where it has not authenticated yet: its place is needed. */
  giveWay(): void;
  /** Takes a newer proof of the same person. Never rejects. */
  renew(proof: RenewalProof, address: string): Promise<Renewal>;
  /** Looks again at whether it may go on: after a change of the bundle, and every second. */
  review(): void;
}

export function limitsOf(
  spec: ConnectionSpec,
  process: ProcessLimits,
  protocol: Pick<Protocol, 'proofs' | 'handshakeMs'> = {},
): Limits {
  const idle = spec.limits?.idleTimeout === undefined ? undefined : parseDuration(spec.limits.idleTimeout);
  return {
    handshakeMs: protocol.handshakeMs ?? process.handshakeMs,
    proofs: protocol.proofs ?? 1,
    statementBytes: spec.limits?.statementBytes ?? 256 * 1024, // parsing 1 MiB blocks the event loop for a second
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
  const limits = limitsOf(connection.spec, world.limits, protocol);
  const startedAtMs = clock.now();
  const activity = trackActivity(socket, clock);

  let handshakeOver = false;
  let proofs = 0;
  let asking = false;
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
    if (asking || live !== undefined || proofs >= limits.proofs || gone || socketClosed) {
      const many =
        limits.proofs === 1 ? 'one login a connection' : `${limits.proofs} proofs a connection, one at a time`;
      return { kind: 'Refused', code: 'InvalidProof', message: `Sallyport takes ${many}.` };
    }
    proofs += 1;
    asking = true;
    try {
      return await tryProof(proof);
    } finally {
      asking = false;
    }
  }

  async function tryProof(proof: Proof): Promise<Authentication> {
    const admission = await admit(world, { proof, client: seed.client, sessionId: id, connection, bundle, wait });
    if (admission.kind === 'Refused') {
      metrics.authFailure(admission.answer.code);
      return admission.answer;
    }
    if (gone || socketClosed) {
      admission.release();
      return { kind: 'Refused', code: 'Unavailable', message: 'The session was ended.' };
    }
    proofs = limits.proofs; // one session a connection, even if its record can not be written
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
    live.begin();
    return { kind: 'Granted', session: live.session };
  }

  async function wait(arrived: () => boolean): Promise<void> {
    const deadline = clock.monotonic() + world.limits.grantWaitMs;
    while (!arrived() && !gone && !socketClosed && !world.draining() && clock.monotonic() < deadline) {
      await new Promise<void>((resolve) => clock.after(ARRIVAL_STEP_MS, resolve));
    }
  }

  /** Somebody whose request was approved a moment ago says so by naming the grant; nobody else is kept waiting. */
  let waited = false;
  function recognisesOrWaits(offer: Offer): boolean | Promise<boolean> {
    const known = (): boolean => live === undefined && !gone && recognises(offer, bundle, clock.now());
    const { grant } = readLoginName(offer.user);
    if (known() || waited || offer.kind !== 'Key' || grant === undefined) return known();
    if ([...(bundle.view?.grants.values() ?? [])].some(({ name }) => name === grant)) return false;
    waited = true;
    return wait(known).then(known);
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
    keys: seed.keys,
    authenticate,
    recognises: recognisesOrWaits,
    tokenSource() {
      // One whose tokens would be refused for its old keys is worth sending somebody to only where there is no other.
      const offering = (bundle.view?.identity?.providers ?? [])
        .filter(({ login }) => login !== undefined)
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      const provider = offering.find(({ keysGoodUntilMs }) => keysGoodUntilMs > clock.now()) ?? offering[0];
      return provider?.login === undefined
        ? undefined
        : { discovery: `${provider.issuer}/.well-known/openid-configuration`, scope: provider.login.scope };
    },
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
      cancelHandshake = clock.after(limits.handshakeMs + HANDSHAKE_GRACE_MS, () => {
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
    giveWay() {
      if (handshakeOver || live !== undefined) return;
      log('info', 'a handshake gave way to others', { session: id, connection: label, address: seed.client.address });
      disappear();
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
    renew(proof, address) {
      const isLive = (): boolean => live !== undefined && cutting === undefined && !gone;
      return renewSession(world, {
        proof,
        address,
        session: { id, bundle, live: () => (isLive() ? live : undefined), cutting: () => cutting },
      });
    },
    review() {
      activity.sample();
      live?.review();
    },
  };
}
