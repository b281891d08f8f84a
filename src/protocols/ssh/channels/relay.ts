// One authenticated client and the target behind it: channels by number, window and memory, and the one way out.
//
// Guarantees: a message goes to the channel it names or costs its sender the connection; memory is bounded, as either
// side is read only while the other takes; whatever ends it, each command gets its result, what runs at the target is
// ended where the session was cut, and `ended` is called once.
import type { AuthenticatedSession, Cut, SessionContext } from '../../protocol.ts';
import type { HandOver } from '../auth/hand-over.ts';
import { createNameLock } from '../files/name-lock.ts';
import type { LoginRights } from '../keys/certificate.ts';
import type { Signer } from '../keys/key.ts';
import type { Transport } from '../transport/transport.ts';
import { SSH_PORT, type Upstream } from '../upstream/connect.ts';
import { answerToTarget, createLink } from '../upstream/link.ts';
import { GRACE_MS } from '../upstream/sweep.ts';
import { MalformedData } from '../wire/data.ts';
import { DISCONNECT, MSG, OPEN_FAILURE } from '../wire/message-numbers.ts';
import { type ChannelCore, SessionChannel } from './channel.ts';
import type { FailReason, Services } from './core.ts';
import { createFlood } from './flood.ts';
import { createForwards } from './forwards.ts';
import { createGlobals, hostKeysRequest } from './globals.ts';
import { bare, openFailure, parseChannelOpen, parseOpenConfirmation } from './messages.ts';
import { createPathLookup } from './path-lookup.ts';
import { Splice } from './splice.ts';
import { createSweeper } from './sweeper.ts';
import { cutText, line } from './wording.ts';

export interface RelayParts {
  context: SessionContext;
  session: AuthenticatedSession;
  services: Services;
  /** The target's user. */
  user: string;
  /** What the client's certificate permits. */
  rights: LoginRights;
  client: Transport;
  handOver: HandOver;
  /** Plain keys of ours, without certificates. */
  hostKeys: readonly Signer[];
  connect(): Promise<Upstream>;
}

export interface Relay {
  /** Resolves when the client is gone and the books are closed. */
  readonly closed: Promise<void>;
  cut(cut: Cut): void;
  tell(notice: { message: string; hint?: string }): void;
}

const MOST_CHANNELS = 64;
/** Lines kept for a session that may come. */
const MOST_UNTOLD = 32;
/** sshd's MaxSessions is 10 by default: one is kept for the sweep, one for asking where paths lead. */
const MOST_SESSIONS = 8;
/** A command that still runs after this is worth a process of the target's that waits for the cut. */
const PREPARE_MS = 1000;
/** For the sweep to see who is there before anything is signalled; without it signals go over the channels. */
const LOOK_MS = 150;
/** From KILL to the end of the sweep. The gateway closes the socket 2 s after a cut. */
const SWEEP_MS = 900;
/** A target that is slow still gets to the end of its sweep. */
const LATEST_MS = 15_000;
/** For the client to take its last words: what it runs in one process with other channels dies of DISCONNECT at once. */
const FAREWELL_MS = 150;

export function runRelay(parts: RelayParts): Relay {
  const { context, session, client, services } = parts;
  const { clock } = context;
  const channels = new Map<number, SessionChannel | Splice>();
  const flood = createFlood(clock);
  const names = createNameLock();
  const closed = Promise.withResolvers<void>();
  let commands = 0;
  let ending = false;
  let clientGone = false;
  let clientWaits = false;
  let targetWaits = false;
  let recordsBehind = false;
  /** Something ran at the target that could. */
  let mayLeaveProcesses = false;
  /** Channels whose client has yet to take its last words. */
  const farewells = new Set<number>();
  let sayGoodbye = (): void => undefined;

  const sessions = (): SessionChannel[] => [...channels.values()].filter((channel) => channel.kind === 'Session');
  /** Lines told before there was a session to tell them on. */
  let untold: string[] = [];
  const announce = (lines: readonly string[]): void => {
    const all = sessions().filter((channel) => !channel.isClosedToClient);
    const terminals = all.filter((channel) => channel.pty !== undefined);
    const listening = terminals.length > 0 ? terminals : all;
    for (const channel of listening) for (const text of lines) channel.tell(text);
    if (listening.length === 0) untold = [...untold, ...lines].slice(0, MOST_UNTOLD);
  };
  const numberOf = (): number => {
    let number = 0;
    while (channels.has(number)) number += 1;
    return number;
  };

  // --- to and from both sides

  const toClient = (payload: Buffer, more?: Buffer): void => {
    if (clientGone) return;
    // The transport says when: what it keeps for a change of keys is no reason, and it would not tell when that is over.
    if (client.send(payload, more) || targetWaits) return;
    targetWaits = true;
    link.pause();
  };
  const toTarget = (payload: Buffer, more?: Buffer): void => {
    if (link.send(payload, more) || clientWaits) return;
    clientWaits = true;
    client.pause();
  };
  client.onDrain = () => {
    if (!targetWaits) return;
    targetWaits = false;
    readOn();
  };
  /** Reads whomever nothing keeps from being read. */
  const readOn = (): void => {
    if (ending || (!clientWaits && !recordsBehind)) client.resume();
    if (ending || (!targetWaits && !recordsBehind)) link.resume();
  };

  const link = createLink(parts.connect, {
    onMessage: (payload) => guarded('TargetFault', () => fromTarget(payload)),
    onDrain: () => {
      if (!clientWaits) return;
      clientWaits = false;
      readOn();
    },
    onGone: () => {
      sweeper.gone();
      lookup.gone();
      clientWaits = false;
      readOn();
      if (ending) return;
      forwards.targetGone();
      for (const channel of channels.values()) channel.targetGone('Sallyport: the target closed the connection.');
    },
  });

  const core: ChannelCore = {
    context,
    session,
    services,
    user: parts.user,
    rights: parts.rights,
    nextCommandId: () => (commands += 1) - 1,
    get ending() {
      return ending;
    },
    recordsBehind(behind) {
      recordsBehind = behind;
      if (!behind) return readOn();
      client.pause();
      link.pause();
    },
    fail: (reason, text) => end({ reason, text, code: codeOf(reason), signals: true }),
    toClient,
    toTarget,
    upstream: () => link.ready(),
    started(command) {
      // sftp runs nothing, and ends with its channel.
      if (mayLeaveProcesses || (command.facts.kind === 'Subsystem' && command.facts.name === 'sftp')) return;
      mayLeaveProcesses = true;
      clock.after(PREPARE_MS, () => {
        if (!ending && link.isUp) sweeper.prepare();
      });
    },
    filterOptions: () => ({
      clock,
      names,
      askTarget: lookup.ask,
      ...(link.peerVersion === undefined ? {} : { targetVersion: link.peerVersion }),
    }),
    removed: (channel) => {
      channels.delete(channel.number);
    },
  };
  const { host = '', port = SSH_PORT } = context.connection.spec.ssh ?? {};
  const forwards = createForwards({
    core,
    targetServer: { host, port },
    adopt(make) {
      if (channels.size >= MOST_CHANNELS) return undefined;
      const splice = make(numberOf());
      channels.set(splice.number, splice);
      return splice;
    },
    sessions,
    announce,
  });
  const globals = createGlobals({
    core,
    send: toClient,
    sessionId: client.sessionId,
    hostKeys: parts.hostKeys,
    forwards,
  });
  const lookup = createPathLookup({ clock, send: toTarget });
  const sweeper = createSweeper({ send: toTarget, random: context.random });

  const guarded = (reason: 'ClientFault' | 'TargetFault', act: () => void): void => {
    try {
      act();
    } catch (error) {
      if (error instanceof MalformedData) {
        const side = reason === 'ClientFault' ? 'client' : 'target';
        context.log('warn', `a ${side} broke the protocol`, { error: error.message });
        core.fail(reason, line(`Sallyport: the ${side} broke the SSH protocol: ${error.message}`));
        return;
      }
      context.log('error', 'a message could not be handled', { error: String(error) });
      core.fail('Internal', 'Sallyport: internal error');
    }
  };

  const fromClient = (payload: Buffer): void => {
    if (ending) {
      if (payload[0] !== MSG.CHANNEL_CLOSE || payload.length < 5) return;
      farewells.delete(payload.readUInt32BE(1));
      if (farewells.size === 0) sayGoodbye();
      return;
    }
    const message = payload[0]!;
    const isBulk = (message === MSG.CHANNEL_DATA && payload.length > 9) || message === MSG.CHANNEL_WINDOW_ADJUST;
    if (!isBulk && !flood.take()) throw new MalformedData('too many requests');
    if (message === MSG.CHANNEL_OPEN) return openedByClient(payload);
    if (message > MSG.CHANNEL_OPEN && message <= MSG.CHANNEL_FAILURE) {
      if (payload.length < 5) throw new MalformedData('a message without its channel');
      const channel = channels.get(payload.readUInt32BE(1));
      if (channel === undefined) throw new MalformedData(`message ${message} for a channel that is not open`);
      return channel.fromClient(payload);
    }
    if (message === MSG.GLOBAL_REQUEST) return globals.fromClient(payload);
    // RFC 4252, 5.1: what is left of the login is ignored in silence.
    if (message === MSG.USERAUTH_REQUEST || message === MSG.SERVICE_REQUEST) return;
    throw new MalformedData(`message ${message} has no place here`);
  };

  const openedByClient = (payload: Buffer): void => {
    const open = parseChannelOpen(payload);
    if (open.type !== 'session') return forwards.opened(open);
    if (globals.noMoreSessions) {
      session.record.append('notice', { event: 'SessionRefused', reason: 'NoMoreSessions' });
      throw new MalformedData('a session after no-more-sessions');
    }
    if (channels.size >= MOST_CHANNELS || sessions().length >= MOST_SESSIONS) {
      return toClient(
        openFailure(
          open.sender,
          OPEN_FAILURE.RESOURCE_SHORTAGE,
          `Sallyport: ${MOST_SESSIONS} sessions and ${MOST_CHANNELS} channels at once on one connection`,
        ),
      );
    }
    const channel = new SessionChannel(core, numberOf(), open);
    channels.set(channel.number, channel);
    for (const text of untold.splice(0)) channel.tell(text);
  };

  const fromTarget = (payload: Buffer): void => {
    const message = payload[0]!;
    if (message === MSG.GLOBAL_REQUEST) {
      const answer = answerToTarget(payload);
      if (answer !== undefined) toTarget(answer);
      return;
    }
    if (message === MSG.CHANNEL_OPEN) {
      const open = parseChannelOpen(payload);
      if (!ending) return forwards.openedByTarget(open);
      toTarget(openFailure(open.sender, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, 'session ended'));
      return;
    }
    if (message === MSG.REQUEST_SUCCESS || message === MSG.REQUEST_FAILURE) {
      if (!ending) forwards.answered(payload);
      return;
    }
    if (message <= MSG.CHANNEL_OPEN || message > MSG.CHANNEL_FAILURE)
      throw new MalformedData(`message ${message} has no place here`);
    if (payload.length < 5) throw new MalformedData('a message without its channel');
    const number = payload.readUInt32BE(1);
    if (sweeper.owns(number)) return sweeper.fromTarget(payload);
    if (lookup.owns(number)) return lookup.fromTarget(payload);
    const channel = channels.get(number);
    if (channel !== undefined && !ending) return channel.fromTarget(payload);
    if (!ending) throw new MalformedData(`message ${message} for a channel that is not open`);
    // What is opened when all is over is closed.
    if (message === MSG.CHANNEL_OPEN_CONFIRMATION)
      toTarget(bare(MSG.CHANNEL_CLOSE, parseOpenConfirmation(payload).sender));
  };

  // --- ends

  interface End {
    reason: string;
    text: string;
    /** Of DISCONNECT. */
    code: number;
    /** What runs at the target is to be ended. */
    signals: boolean;
    message?: string;
  }

  const end = (how: End): void => {
    if (ending) return;
    ending = true;
    readOn();
    const error = { code: how.reason, message: how.text };
    const atTarget = how.signals ? sessions().filter((channel) => channel.isAtTarget) : [];
    for (const channel of channels.values()) {
      if (channel.kind === 'Session') channel.freeze(error, clientGone ? undefined : how.text);
      else channel.freeze(error);
    }
    forwards.freeze();
    if (!clientGone) {
      for (const channel of channels.values()) if (channel.lastWords(how.text)) farewells.add(channel.number);
      sayGoodbye = () => {
        sayGoodbye = () => undefined;
        client.disconnect(how.code, how.text);
      };
      if (farewells.size === 0) sayGoodbye();
      else clock.after(FAREWELL_MS, () => sayGoodbye());
    }
    void endTarget(atTarget, how.signals).then((survivors) => {
      session.ended(how.reason, how.message ?? how.text, survivors);
      targetDone = true;
      finish();
    });
  };

  /** Resolves with what is known to go on there, in time for the record; the connection is closed once that is certain. */
  const endTarget = async (running: readonly SessionChannel[], sweeps: boolean): Promise<readonly string[]> => {
    if (!sweeps || !mayLeaveProcesses || !link.isUp) {
      link.close();
      return [];
    }
    const { ready, swept } = sweeper.start();
    const killed = Promise.withResolvers<void>();
    void Promise.race([Promise.all([swept, killed.promise]), wait(LATEST_MS)]).then(() => link.close());
    const isReady = await Promise.race([ready, wait(LOOK_MS)]);
    if (isReady !== true)
      for (const channel of running) {
        channel.signal('HUP');
        channel.signal('TERM');
      }
    const grace = wait(GRACE_MS);
    await Promise.race([grace, swept.then(({ complete }) => (complete ? undefined : grace))]);
    for (const channel of running) channel.signal('KILL');
    killed.resolve();
    const result = await Promise.race([swept, wait(SWEEP_MS).then(() => undefined)]);
    if (result !== undefined && result.ran.length > 0)
      session.record.append('notice', { event: 'Swept', ran: result.ran, complete: result.complete });
    if (result?.complete === true) return result.survivors;
    context.log('warn', 'what a session left running is not known to be ended', { ended: result !== undefined });
    return ['unknown: the sweep has not come to its end'];
  };

  const wait = (ms: number): Promise<void> => new Promise((resolve) => void clock.after(ms, resolve));

  let targetDone = false;
  const finish = (): void => {
    if (clientGone && targetDone) closed.resolve();
  };

  const onClientClose = (): void => {
    clientGone = true;
    if (ending) return finish();
    ending = true;
    for (const channel of channels.values())
      channel.freeze({ code: 'ClientClosed', message: 'the client closed the connection' });
    forwards.freeze();
    // As without a gateway: sshd hangs up terminals, and leaves the rest to itself.
    link.close();
    session.ended('ClientClosed');
    closed.resolve();
  };

  parts.handOver({
    onMessage: (payload) => guarded('ClientFault', () => fromClient(payload)),
    onClose: onClientClose,
  });
  if (!clientGone) toClient(hostKeysRequest(parts.hostKeys));

  return {
    closed: closed.promise,
    cut: (cut) =>
      end({
        reason: cut.code,
        text: cutText(cut),
        message: cut.message,
        code: DISCONNECT.BY_APPLICATION,
        signals: true,
      }),
    tell({ message, hint }) {
      if (ending) return;
      const all = sessions().filter((channel) => !channel.isClosedToClient && channel.phase !== 'Fresh');
      const terminals = all.filter((channel) => channel.pty !== undefined);
      for (const channel of terminals.length > 0 ? terminals : all) {
        channel.tell(line(`Sallyport: ${message}`));
        if (hint !== undefined) channel.tell(line(hint));
      }
    },
  };
}

function codeOf(reason: FailReason): number {
  return reason === 'ClientFault' ? DISCONNECT.PROTOCOL_ERROR : DISCONNECT.BY_APPLICATION;
}
