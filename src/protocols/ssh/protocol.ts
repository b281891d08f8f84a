// SSH: the protocol as the gateway drives it. Reads in this order: transport/ (packets), auth/ (who is it), channels/ (every
// message since), upstream/ (our own login at the target).
//
// Guarantees: whatever a client or target does costs that client its connection and nothing else; a session that was
// authenticated is `ended` exactly once; nothing is dialled before something is allowed to run.
import type { Duplex } from 'node:stream';
import { systemClock } from '../../system/clock.ts';
import { systemRandom } from '../../system/random.ts';
import type { Credential } from '../credential.ts';
import type { AuthenticatedSession, Cut, ProbeResult, ProbeTarget, Protocol, SessionContext } from '../protocol.ts';
import { authenticateClient, type ClientLogin } from './auth/server.ts';
import type { Services } from './channels/core.ts';
import { type Relay, runRelay } from './channels/relay.ts';
import { cutText } from './channels/wording.ts';
import { commandOfFeature } from './commands.ts';
import { sshDefinition } from './definition.ts';
import { fileFilterFor, transferOf } from './files/transfers.ts';
import type { LoginRights } from './keys/certificate.ts';
import { hostKeysOf, plainHostKeysOf } from './keys/derive.ts';
import { openTransport } from './transport/open-transport.ts';
import type { OpenTransport, Transport } from './transport/transport.ts';
import { type BackOff, createBackOff } from './upstream/back-off.ts';
import { connectUpstream, type SshTarget, type Upstream, whereOf } from './upstream/connect.ts';
import { UpstreamError } from './upstream/error.ts';
import { createLoginPace, type LoginPace } from './upstream/login-pace.ts';
import { SOFTWARE } from './upstream/software.ts';
import { DISCONNECT } from './wire/message-numbers.ts';

export interface SshOptions {
  /** How hints begin: `sallyport` (default) or `kubectl access`. */
  commandPrefix?: string;
  /** For tests; default: the real ones. */
  filterFor?: Services['filterFor'];
  transferOf?: Services['transferOf'];
  open?: OpenTransport;
}

interface Shared {
  services: Services;
  open: OpenTransport;
  backOff: BackOff;
  pace: LoginPace;
}

export function createSshProtocol(options: SshOptions = {}): Protocol {
  const shared: Shared = {
    services: {
      prefix: options.commandPrefix ?? 'sallyport',
      filterFor: options.filterFor ?? fileFilterFor,
      transferOf: options.transferOf ?? transferOf,
    },
    open: options.open ?? openTransport,
    backOff: createBackOff(systemClock),
    pace: createLoginPace(systemClock),
  };
  return {
    ...sshDefinition,
    accept: (socket, context) => accept(socket, context, shared),
    probe,
  };
}

async function accept(socket: Duplex, context: SessionContext, shared: Shared): Promise<void> {
  const { keys } = context;
  const target = context.connection.spec.ssh;
  if (keys === undefined || target === undefined) {
    context.log('error', 'the Connection can not be served', {
      reason: target === undefined ? 'it is not an SSH one' : 'it has no keys yet',
    });
    socket.destroy();
    return;
  }
  try {
    const beganAt = context.clock.monotonic();
    const transport = await shared.open(socket, {
      role: 'Server',
      software: SOFTWARE,
      signal: context.signal,
      handshakeMs: context.limits.handshakeMs,
      hostKeys: hostKeysOf(keys),
    });
    const login = await authenticateClient(transport, context, {
      refuses: (session, user) =>
        refuses(session, user, `${shared.services.prefix} connect ${context.connection.name}`),
      deadlineMs: context.limits.handshakeMs - (context.clock.monotonic() - beganAt),
    });
    if (login.kind === 'Gone') {
      context.log('info', 'a client was not let in', { reason: login.reason });
      return;
    }
    await serve(login, { context, shared, target, transport });
  } catch (error) {
    context.log('info', 'a client was not let in', { reason: error instanceof Error ? error.message : String(error) });
  }
}

/** Why this user of the target is none of the session's account. */
async function refuses(
  session: AuthenticatedSession,
  user: string,
  connect: string,
): Promise<{ message: string; hint?: string } | undefined> {
  const users = usersOf(await session.credential());
  if (users.includes(user)) return undefined;
  return {
    message: `Sallyport: account ${session.account} of this Connection has no user ${JSON.stringify(user)} at the target.`,
    hint: `Log in as ${users.join(' or ')}: ${connect} --user ${users[0]}`,
  };
}

const usersOf = (credential: Credential): readonly string[] =>
  credential.kind === 'Authority' ? credential.users : [credential.username];

interface Serving {
  context: SessionContext;
  shared: Shared;
  target: SshTarget;
  transport: Transport;
}

async function serve(
  login: Extract<ClientLogin, { kind: 'Granted' }>,
  { context, shared, target, transport }: Serving,
): Promise<void> {
  const { session, user } = login;
  const gone = new AbortController();
  const running: { relay?: Relay } = {};
  let early: Cut | undefined;
  const untold: { message: string; hint?: string }[] = [];
  session.onCut((cut) => {
    gone.abort();
    if (running.relay === undefined) early = cut;
    else running.relay.cut(cut);
  });
  session.onNotice((notice) => {
    if (running.relay === undefined) untold.push(notice);
    else running.relay.tell(notice);
  });
  if (early !== undefined) {
    transport.disconnect(DISCONNECT.BY_APPLICATION, cutText(early));
    session.ended(early.code, early.message);
    return;
  }
  const relay = runRelay({
    context,
    session,
    services: shared.services,
    user,
    rights: login.rights,
    client: transport,
    handOver: login.handOver,
    hostKeys: plainHostKeysOf(context.keys!),
    connect: () => connect({ context, session, user, target, shared, signal: gone.signal, rights: login.rights }),
  });
  running.relay = relay;
  for (const notice of untold) relay.tell(notice);
  await relay.closed;
  gone.abort();
}

interface Connecting {
  context: SessionContext;
  session: AuthenticatedSession;
  user: string;
  target: SshTarget;
  shared: Shared;
  rights: Extract<ClientLogin, { kind: 'Granted' }>['rights'];
  signal: AbortSignal;
}

async function connect({ context, session, user, target, shared, rights, signal }: Connecting): Promise<Upstream> {
  const { connection, clock, random, keys } = context;
  const key = JSON.stringify([connection.uid, session.account, user]);
  shared.backOff.check(key);
  // The session's end stops what is being begun; a connection that stands is the relay's to end.
  const beginning = new AbortController();
  const stop = (): void => beginning.abort();
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  const wanted = AbortSignal.any([beginning.signal, context.signal]);
  let giveBack: (() => void) | undefined;
  try {
    const credential = await session.credential().catch((error: unknown) => {
      context.log('warn', 'the account’s credential could not be read', { error: String(error) });
      throw new UpstreamError(
        'Misconfigured',
        'Sallyport: the credential of the Connection’s account could not be read.',
        'The Connection’s owners find the cause in the gateway’s log.',
      );
    });
    giveBack = await shared.pace.place(whereOf(target), wanted);
    // Those in front may have found out meanwhile that this account is refused.
    shared.backOff.check(key);
    const upstream = await connectUpstream({
      open: shared.open,
      target,
      dial: session.dial,
      clock,
      random,
      signal: wanted,
      stop: context.signal,
      login: {
        user,
        credential,
        keys,
        permits: permitsOf(session, user, rights),
        session: {
          id: context.id,
          grant: session.grant.name,
          person: session.principal.username,
          grantExpiresAtMs: session.grant.expiresAtMs,
        },
      },
    });
    shared.backOff.succeeded(key);
    return upstream;
  } catch (error) {
    if (error instanceof UpstreamError && error.code === 'Login') shared.backOff.failed(key);
    context.log('warn', 'no connection to the target', {
      error: error instanceof Error ? error.message : String(error),
      ...(error instanceof Error && error.cause instanceof Error ? { cause: error.cause.message } : {}),
    });
    throw error;
  } finally {
    giveBack?.();
    signal.removeEventListener('abort', stop);
  }
}

/** What a certificate for the target permits: what the client may, where policy may let it. Ports are judged one by one. */
function permitsOf(session: AuthenticatedSession, user: string, rights: Connecting['rights']): LoginRights {
  const may = (feature: 'AgentForwarding' | 'X11Forwarding'): boolean =>
    session.decide(commandOfFeature({ user, feature })).kind !== 'Deny';
  return {
    pty: rights.pty,
    portForwarding: rights.portForwarding,
    agentForwarding: rights.agentForwarding && may('AgentForwarding'),
    x11Forwarding: rights.x11Forwarding && may('X11Forwarding'),
  };
}

/** A whole login, and a goodbye: an abandoned one counts against the proxy's address. */
async function probe(probed: ProbeTarget): Promise<ProbeResult> {
  const { connection, credential, keys, dial, signal } = probed;
  const target = connection.spec.ssh;
  if (target === undefined)
    return { kind: 'Failed', reason: 'the Connection is not an SSH one', hint: 'Set spec.ssh.' };
  const user = usersOf(credential)[0];
  if (user === undefined)
    return { kind: 'Failed', reason: `account ${probed.account} has no user`, hint: 'List one in certificate.users.' };
  try {
    const { transport, handOver } = await connectUpstream({
      target,
      dial,
      clock: systemClock,
      random: systemRandom,
      signal,
      login: {
        user,
        credential,
        keys,
        permits: {},
        session: {
          id: 'probe',
          grant: 'none',
          person: 'sallyport',
          grantExpiresAtMs: systemClock.now() + PROBE_CERTIFICATE_MS,
        },
      },
    });
    handOver({ onMessage: () => undefined, onClose: () => undefined });
    transport.disconnect(DISCONNECT.BY_APPLICATION, 'probe');
    return { kind: 'Reachable', version: transport.peerVersion.replace(/^SSH-[^-]*-/, '') };
  } catch (error) {
    if (error instanceof UpstreamError)
      return {
        kind: 'Failed',
        reason: error.message.replace(/^Sallyport:? /, '').replace(/\.$/, ''),
        hint: error.hint ?? 'Check the Connection.',
      };
    return { kind: 'Failed', reason: 'the probe failed', hint: 'The cause is in the log.' };
  }
}

const PROBE_CERTIFICATE_MS = 60_000;
