// Ports and sockets that the target listens on for a client (`-R`; RFC 4254, 7.1; OpenSSH's PROTOCOL, 2.4): judged,
// passed on, and remembered, since only what comes in there may open a channel of the client's.
//
// Guarantees: the target's answers are taken in their order, and one that nobody waits for costs it the connection; a
// listener counts from its success to the moment that its end is asked for; no more than `MOST_LISTENERS` at once.
import { commandOfForward } from '../commands.ts';
import type { ForwardDestination, SshCommand } from '../facts.ts';
import { listenerAddress, parseDestination, socketDestination } from '../forwarding/destination.ts';
import { UpstreamError } from '../upstream/error.ts';
import { type Field, MalformedData, readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import type { ChannelCore } from './channel.ts';
import { recordOutcome } from './forward-sum.ts';
import { type Judging, judge, recordDenial } from './judge.ts';
import { globalRequest } from './messages.ts';
import type { Reply } from './replies.ts';

export interface Listener {
  /** Of its command. */
  readonly id: number;
  readonly command: SshCommand;
  /** As the client spelled it: it knows its listeners by that. */
  readonly host: string;
  /** That the target chose, where it was asked to. */
  readonly port: number;
  /** Of a socket; then host and port say nothing. */
  readonly path: string | undefined;
}

export interface Listeners {
  /** A client's request of one of the four types. */
  requested(type: string, rest: Buffer, reply: Reply | undefined): void;
  /** The target's answer to one of ours. */
  answered(payload: Buffer): void;
  /** The listener at which a connection came in, as the target says. */
  at(host: string, port: number): Listener | undefined;
  atSocket(path: string): Listener | undefined;
  targetGone(): void;
  /** The session ends: the target is to listen no longer. */
  freeze(): void;
}

const MOST_LISTENERS = 16;

export interface ListenersParts {
  core: ChannelCore;
  targetServer: { host: string; port: number };
  /** Lines for people, wherever they may be shown. */
  announce(lines: readonly string[]): void;
  refused(fields: object): void;
}

interface Place {
  host: string;
  port: number;
  path: string | undefined;
  destination: ForwardDestination | undefined;
}

export function createListeners({ core, targetServer, announce, refused }: ListenersParts): Listeners {
  const live = new Set<Listener>();
  const judgings = new Set<Judging>();
  /** Asked for, and not yet live. */
  let pending = 0;
  let waiting: ((answer: Buffer | undefined) => void)[] = [];

  const ask = (type: string, ...fields: readonly Field[]): Promise<Buffer | undefined> =>
    new Promise((resolve) => {
      waiting.push(resolve);
      core.toTarget(globalRequest(type, true, ...fields));
    });

  const listen = async (type: string, place: Place, reply: Reply | undefined): Promise<void> => {
    const { host, port, path, destination } = place;
    if (destination === undefined) {
      refused({ request: type, reason: 'NoDestination', ...shown(place) });
      return reply?.settle(false);
    }
    const command = commandOfForward({ user: core.user, direction: 'Remote', destination, server: targetServer });
    const deny = (code: 'Unsupported' | 'LimitReached', why: string): void => {
      recordDenial({ core, channel: undefined, command }, core.nextCommandId(), {
        code,
        message: `Sallyport refused ${command.verb}: ${why}`,
      });
      reply?.settle(false);
    };
    if (!core.rights.portForwarding)
      return deny('Unsupported', 'the certificate that the client logged in with does not permit it');
    if (live.size + pending >= MOST_LISTENERS)
      return deny('LimitReached', `${MOST_LISTENERS} listeners at once on one connection`);
    pending += 1;
    try {
      const judging = judge({ core, channel: undefined, command, tell: (text) => announce([text]) });
      judgings.add(judging);
      const judged = await judging.outcome;
      judgings.delete(judging);
      if (core.ending || judged.kind === 'Gone') return;
      if (judged.kind === 'Refused') {
        announce(judged.lines);
        return reply?.settle(false);
      }
      const failed = (code: string, message: string): void => {
        recordOutcome(core, undefined, judged.id, {}, { code, message });
        if (core.ending) return;
        announce([message]);
        reply?.settle(false);
      };
      try {
        await core.upstream();
      } catch (error) {
        if (!(error instanceof UpstreamError)) throw error;
        return failed('TargetUnavailable', error.message);
      }
      if (core.ending) return;
      const gate = core.session.gate();
      if (gate !== undefined) return failed(gate.code, gate.message);
      const fields = path === undefined ? [{ string: host }, { uint32: port }] : [{ string: path }];
      const answer = await ask(type, ...fields);
      if (answer === undefined || answer[0] !== MSG.REQUEST_SUCCESS)
        return failed('TargetRefused', `Sallyport: the target does not listen on ${command.text}.`);
      const chosen = path === undefined && port === 0 ? readData(answer, 1).uint32() : port;
      if (chosen > 65_535 || (path === undefined && chosen === 0)) throw new MalformedData('a port that is none');
      live.add({ id: judged.id, command, host, port: chosen, path });
      // Whether connections come is told by theirs: listening is over when it has begun.
      recordOutcome(core, undefined, judged.id, { listening: true, ...(port === 0 ? { port: chosen } : {}) });
      const isTold = path === undefined && port === 0;
      reply?.settle(true, isTold ? writeData({ byte: MSG.REQUEST_SUCCESS }, { uint32: chosen }) : undefined);
    } finally {
      pending -= 1;
    }
  };

  const cancel = async (type: string, place: Place, reply: Reply | undefined): Promise<void> => {
    const listener = [...live].find(
      (one) => one.path === place.path && one.host === place.host && one.port === place.port,
    );
    if (listener === undefined) return reply?.settle(false);
    live.delete(listener);
    core.session.record.append('notice', { event: 'ListenCancelled', id: listener.id, at: listener.command.text });
    const fields =
      place.path === undefined ? [{ string: place.host }, { uint32: place.port }] : [{ string: place.path }];
    const answer = await ask(type, ...fields);
    reply?.settle(answer?.[0] === MSG.REQUEST_SUCCESS);
  };

  return {
    requested(type, rest, reply) {
      const place = type.includes('streamlocal') ? socketPlace(rest) : tcpPlace(rest);
      const act = type.startsWith('cancel-') ? cancel : listen;
      act(type, place, reply).catch((error: unknown) => {
        if (error instanceof MalformedData) return core.fail('TargetFault', `Sallyport: ${error.message}`);
        core.context.log('error', 'a listener could not be made', { error: String(error) });
        core.fail('Internal', 'Sallyport could not make a listener');
      });
    },
    answered(payload) {
      const next = waiting.shift();
      if (next === undefined) throw new MalformedData('an answer to nothing');
      next(payload);
    },
    at: (host, port) => [...live].find((one) => one.path === undefined && one.port === port && isAt(one.host, host)),
    atSocket: (path) => [...live].find((one) => one.path === path),
    targetGone() {
      live.clear();
      const nobody = waiting;
      waiting = [];
      for (const one of nobody) one(undefined);
    },
    freeze() {
      for (const judging of judgings) judging.withdraw();
      for (const { host, port, path } of live) {
        const fields = path === undefined ? [{ string: host }, { uint32: port }] : [{ string: path }];
        const type = path === undefined ? 'cancel-tcpip-forward' : 'cancel-streamlocal-forward@openssh.com';
        core.toTarget(globalRequest(type, false, ...fields));
      }
      live.clear();
    },
  };
}

function tcpPlace(rest: Buffer): Place {
  const reader = readData(rest);
  const host = reader.text(256);
  const port = reader.uint32();
  reader.end();
  return { host, port, path: undefined, destination: parseDestination(host, port) };
}

function socketPlace(rest: Buffer): Place {
  const reader = readData(rest);
  const path = reader.text(1024);
  reader.end();
  return { host: '', port: 0, path, destination: socketOf(path) };
}

const shown = ({ host, port, path }: Place): object => (path === undefined ? { host, port } : { path });

/** A socket's place, absolute and plain, as long as one can be (sun_path); undefined: none that can be judged. */
export function socketOf(path: string): ForwardDestination | undefined {
  const isPlain = /^(?:\/(?!\.{0,2}(?:\/|$))[^/\p{Cc}]+)+$/u.test(path);
  return isPlain && Buffer.byteLength(path) <= 107 ? socketDestination(path) : undefined;
}

/** Servers say which of their addresses was connected, or what they were asked for (OpenSSH). */
function isAt(asked: string, said: string): boolean {
  if (asked === said) return true;
  const [wanted, got] = [listenerAddress(asked), listenerAddress(said)];
  return wanted !== undefined && (wanted === got || (wanted === '0.0.0.0' && got !== undefined));
}
