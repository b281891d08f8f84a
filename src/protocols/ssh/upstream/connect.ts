// The gateway's own connection to a target: dialled past the dial guard, its host key checked against what the Connection
// lists before any credential is used, then logged in. What went wrong is told with what to write where.
import type { ConnectionSpec } from '../../../api/connection.ts';
import type { Clock } from '../../../system/clock.ts';
import type { Random } from '../../../system/random.ts';
import { type Dial, DialError } from '../../protocol.ts';
import { LoginError, logIn, type UpstreamLogin } from '../auth/client.ts';
import { type HandOver } from '../auth/hand-over.ts';
import { type HostTrust, hostTrustOf } from '../keys/host-trust.ts';
import { openTransport } from '../transport/open-transport.ts';
import { type OpenTransport, type Transport, TransportError } from '../transport/transport.ts';
import { MalformedData } from '../wire/data.ts';
import { UpstreamError } from './error.ts';
import { SOFTWARE } from './software.ts';

export type SshTarget = NonNullable<ConnectionSpec['ssh']>;

export const SSH_PORT = 22;
const HANDSHAKE_MS = 10_000;
/** How long a target that turns us away is asked again, and how long after the first time. */
const AGAIN_FOR_MS = 10_000;
const FIRST_AGAIN_MS = 100;
const LAST_AGAIN_MS = 2_000;
const LOGIN_MS = 20_000;

export interface ConnectOptions {
  target: SshTarget;
  dial: Dial;
  clock: Clock;
  random: Random;
  /** Aborted before the connection stands: nothing is begun. Aborted later: the login is still finished, for the sake of the next. */
  signal: AbortSignal;
  /** Aborted: whatever was begun is dropped. */
  stop?: AbortSignal;
  /** For tests; default: the real one. */
  open?: OpenTransport;
  login: Pick<UpstreamLogin, 'user' | 'credential' | 'keys' | 'session' | 'permits'>;
}

export interface Upstream {
  transport: Transport;
  handOver: HandOver;
}

/** Rejects with UpstreamError. */
export async function connectUpstream(options: ConnectOptions): Promise<Upstream> {
  return await loggedIn(await opened(options, trustOf(options.target)), options);
}

/** `host:port` of what is dialled. */
export const whereOf = (target: SshTarget): string => `${target.host}:${target.port ?? SSH_PORT}`;

/** Dials and exchanges keys; again and again, ever more slowly, while sshd has no place for one more (MaxStartups). */
async function opened(options: ConnectOptions, trust: HostTrust): Promise<Transport> {
  const { clock, random, signal, target } = options;
  const untilMs = clock.monotonic() + AGAIN_FOR_MS;
  for (let waitMs = FIRST_AGAIN_MS; ; waitMs = Math.min(LAST_AGAIN_MS, waitMs * 2)) {
    try {
      return await openedOnce(options, trust);
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
      // Those that were turned away at one moment should not all be back at another.
      const jitter = random.bytes(1)[0]! / 255;
      const inMs = waitMs * (0.5 + jitter);
      if (error.code !== 'TurnedAway' || clock.monotonic() + inMs > untilMs) throw transportProblem(error, undefined);
      await pause(clock, inMs, signal);
      if (signal.aborted)
        throw new UpstreamError('Ended', `Sallyport: the session ended before a login at ${whereOf(target)}.`);
    }
  }
}

/** Rejects with UpstreamError, or with the TransportError of a target that is not to blame for more than that. */
async function openedOnce(options: ConnectOptions, trust: HostTrust): Promise<Transport> {
  const { target, clock, signal, stop, open = openTransport } = options;
  const socket = await options
    .dial({ host: target.host, port: target.port ?? SSH_PORT }, signal)
    .catch((error: unknown) => {
      throw dialProblem(error, target);
    });
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  let shown: string | undefined;
  try {
    return await open(socket, {
      role: 'Client',
      software: SOFTWARE,
      // Not the session's: sshd counts what was begun and dropped against the address that all users share.
      signal: stop ?? NEVER,
      handshakeMs: HANDSHAKE_MS,
      hostKeyAlgorithms: trust.algorithms,
      verifyHostKey(blob) {
        shown = trust.fault(blob, clock.now());
        return shown;
      },
    });
  } catch (error) {
    socket.destroy();
    if (error instanceof TransportError && shown === undefined) throw error;
    throw transportProblem(error, shown);
  }
}

const NEVER = new AbortController().signal;

function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      withdraw();
      signal.removeEventListener('abort', over);
      resolve();
    };
    const withdraw = clock.after(ms, over);
    signal.addEventListener('abort', over, { once: true });
  });
}

async function loggedIn(transport: Transport, options: ConnectOptions): Promise<Upstream> {
  const { clock, random, signal } = options;
  try {
    const { handOver } = await logIn(transport, { ...options.login, clock, random, deadlineMs: LOGIN_MS, signal });
    return { transport, handOver };
  } catch (error) {
    if (error instanceof LoginError)
      throw new UpstreamError(
        error.code === 'Aborted' || error.code === 'GrantEnded' ? 'Ended' : 'Login',
        `Sallyport could not log in at the target: ${error.message}.`,
        error.hint,
      );
    throw error;
  }
}

function trustOf(target: SshTarget): HostTrust {
  try {
    return hostTrustOf(target);
  } catch (error) {
    if (!(error instanceof MalformedData)) throw error;
    throw new UpstreamError(
      'Misconfigured',
      `Sallyport: the Connection’s host keys are of no use: ${error.message}.`,
      'Its owners put lines as `ssh-keyscan` prints them, without the name, into spec.ssh.hostKeys.',
    );
  }
}

function dialProblem(error: unknown, target: SshTarget): UpstreamError {
  const where = whereOf(target);
  if (error instanceof DialError && error.code === 'Forbidden')
    return new UpstreamError('Forbidden', `Sallyport may not dial the target: ${error.message}.`);
  if (error instanceof DialError)
    return new UpstreamError(
      'Unreachable',
      `Sallyport could not reach the target at ${where}.`,
      'Its sshd may be down, or a firewall in between; the gateway’s log says more.',
      { cause: error },
    );
  return new UpstreamError('Unreachable', `Sallyport could not reach the target at ${where}.`, undefined, {
    cause: error,
  });
}

function transportProblem(error: unknown, hostKeyFault: string | undefined): UpstreamError {
  if (!(error instanceof TransportError))
    return new UpstreamError('Transport', 'Sallyport could not talk to the target.', undefined, { cause: error });
  if (hostKeyFault !== undefined)
    return new UpstreamError(
      'HostKey',
      `Sallyport does not trust the target: ${hostKeyFault}.`,
      'If that is the right server, its owners add that key to spec.ssh.hostKeys of the Connection (or its authority to hostAuthorities).',
    );
  if (error.code === 'TurnedAway')
    return new UpstreamError(
      'Busy',
      'Sallyport: the target takes connections and closes them without a word.',
      'Try again. Its sshd has no place for more logins (MaxStartups), or was offended by some (PerSourcePenalties); its log says which.',
    );
  if (error.code === 'Disconnected')
    return new UpstreamError(
      'Transport',
      'Sallyport could not talk to the target: it closed the connection during the key exchange.',
      'The gateway’s log has its last words.',
      { cause: error },
    );
  if (error.code === 'NoCommonAlgorithm')
    return new UpstreamError(
      'Transport',
      `Sallyport and the target have no algorithm in common: ${error.message}.`,
      'If it is the host key’s: list a key of a type that the target has.',
    );
  return new UpstreamError('Transport', `Sallyport could not talk to the target: ${error.message}.`, undefined, {
    cause: error,
  });
}
