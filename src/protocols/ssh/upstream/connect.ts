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
const LOGIN_MS = 20_000;

export interface ConnectOptions {
  target: SshTarget;
  dial: Dial;
  clock: Clock;
  random: Random;
  /** Aborted before the login: nothing is begun. Aborted later: the login is still finished. */
  signal: AbortSignal;
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
  const { target, clock, random, signal, open = openTransport } = options;
  const trust = trustOf(target);
  const socket = await options
    .dial({ host: target.host, port: target.port ?? SSH_PORT }, signal)
    .catch((error: unknown) => {
      throw dialProblem(error, target);
    });
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  let shown: string | undefined;
  let transport: Transport;
  try {
    transport = await open(socket, {
      role: 'Client',
      software: SOFTWARE,
      signal,
      handshakeMs: HANDSHAKE_MS,
      hostKeyAlgorithms: trust.algorithms,
      verifyHostKey(blob) {
        shown = trust.fault(blob, clock.now());
        return shown;
      },
    });
  } catch (error) {
    socket.destroy();
    throw transportProblem(error, shown);
  }
  try {
    const { handOver } = await logIn(transport, {
      ...options.login,
      clock,
      random,
      deadlineMs: LOGIN_MS,
      signal,
    });
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
  const where = `${target.host}:${target.port ?? SSH_PORT}`;
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
