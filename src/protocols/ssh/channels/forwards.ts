// Connections that lead through the session and are no command: what a client opens towards the target's network, and
// what the target opens towards the client. The one place that says which of them pass.
//
// Guarantees: a client's open is judged by its canonical destination, recorded, and dialled as it was judged; a target's
// open passes only where it belongs to a listener, an agent or an X11 that was let through, is live, and would be let
// through now; tunnels never pass; a refusal leaves every other channel as it is.
import { commandOfFeature, commandOfForward } from '../commands.ts';
import type { SshCommand } from '../facts.ts';
import { parseDestination, type TargetServer } from '../forwarding/destination.ts';
import { UpstreamError } from '../upstream/error.ts';
import { type Field, MalformedData, readData } from '../wire/data.ts';
import { OPEN_FAILURE } from '../wire/message-numbers.ts';
import type { ChannelCore, SessionChannel } from './channel.ts';
import type { Feature, FeatureName } from './features.ts';
import { createFlood } from './flood.ts';
import { createForwardSum } from './forward-sum.ts';
import { judge, recordAllowance, recordDenial } from './judge.ts';
import { createListeners, socketOf } from './listeners.ts';
import { type ChannelOpen, openFailure } from './messages.ts';
import type { Reply } from './replies.ts';
import { type Side, Splice } from './splice.ts';
import { refusalLines } from './wording.ts';

export interface Forwards {
  /** A client's channel of another type than session. */
  opened(open: ChannelOpen): void;
  /** A client's global request about forwarding. */
  requested(type: string, rest: Buffer, reply: Reply | undefined): void;
  /** A channel the target opens; answers it. */
  openedByTarget(open: ChannelOpen): void;
  /** The target's answer to a global request of ours. */
  answered(payload: Buffer): void;
  targetGone(): void;
  /** The session ends. */
  freeze(): void;
}

export interface ForwardsParts {
  core: ChannelCore;
  /** The target as it is dialled. */
  targetServer: TargetServer;
  /** A channel by a number of its own; undefined: there are too many. */
  adopt(make: (number: number) => Splice): Splice | undefined;
  sessions(): Iterable<SessionChannel>;
  /** Lines for people, on whatever session there is or comes. */
  announce(lines: readonly string[]): void;
}

const { ADMINISTRATIVELY_PROHIBITED, CONNECT_FAILED, RESOURCE_SHORTAGE, UNKNOWN_CHANNEL_TYPE } = OPEN_FAILURE;
const NO_RIGHT = 'the certificate that the client logged in with does not permit it';

/** What an open asks for. */
interface Wish {
  command: SshCommand | undefined;
  /** For the other side, behind the channel's own. */
  fields: readonly Field[];
  /** For the record. */
  extras: Readonly<Record<string, unknown>>;
}

export function createForwards(parts: ForwardsParts): Forwards {
  const { core, targetServer, adopt, sessions, announce } = parts;
  const { session } = core;
  const refused = (fields: object): void => session.record.append('notice', { event: 'ForwardRefused', ...fields });
  const listeners = createListeners({ core, targetServer, announce, refused });
  const unasked = createFlood(core.context.clock);

  const failed = (side: Side) => (error: unknown) => {
    if (error instanceof MalformedData)
      return core.fail(side === 'Client' ? 'ClientFault' : 'TargetFault', `Sallyport: ${error.message}`);
    core.context.log('error', 'a channel could not be opened', { error: String(error) });
    core.fail('Internal', 'Sallyport could not open a channel');
  };

  // --- what clients open

  const wishOf = ({ type, rest }: ChannelOpen): Wish => {
    const reader = readData(rest);
    const commandTo = (destination: ReturnType<typeof socketOf>): SshCommand | undefined =>
      destination && commandOfForward({ user: core.user, direction: 'Local', destination, server: targetServer });
    if (type === 'direct-tcpip') {
      const [host, port] = [reader.text(256), reader.uint32()];
      const [originHost, originPort] = [reader.text(256), reader.uint32()];
      reader.end();
      const destination = parseDestination(host, port);
      const fields = [
        { string: destination === undefined ? '' : dialled(destination, host) },
        { uint32: port },
        { string: originHost },
        { uint32: originPort },
      ];
      return { command: commandTo(destination), fields, extras: { host, port } };
    }
    const path = reader.text(1024);
    reader.string();
    reader.uint32();
    reader.end();
    return {
      command: commandTo(socketOf(path)),
      fields: [{ string: path }, { string: '' }, { uint32: 0 }],
      extras: { path },
    };
  };

  const openForClient = async (splice: Splice, type: string, { command, fields }: Wish & { command: SshCommand }) => {
    const { number: channel } = splice;
    const judging = judge({ core, channel, command, tell: (text) => announce([text]) });
    splice.judging = judging;
    const judged = await judging.outcome;
    splice.judging = undefined;
    if (core.ending || judged.kind === 'Gone') return;
    if (judged.kind === 'Refused') return splice.refuse(ADMINISTRATIVELY_PROHIBITED, judged.lines.join(' '));
    const sum = createForwardSum(core, channel, judged.id);
    splice.sum = sum;
    try {
      await core.upstream();
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      sum.ended({ code: 'TargetUnavailable', message: error.message });
      return splice.refuse(CONNECT_FAILED, error.message);
    }
    if (core.ending || splice.isOver) return;
    // Between the decision and here lies a dial and a login.
    const gate = session.gate();
    if (gate !== undefined) {
      sum.ended({ code: gate.code, message: gate.message });
      return splice.refuse(ADMINISTRATIVELY_PROHIBITED, gate.message);
    }
    splice.dial(type, ...fields);
  };

  // --- what targets open

  const notAskedFor = (open: ChannelOpen, reason: string): void => {
    if (!unasked.take()) throw new MalformedData('too many channels that nobody asked for');
    refused({ request: open.type.slice(0, 64), by: 'Target', reason });
    core.toTarget(openFailure(open.sender, ADMINISTRATIVELY_PROHIBITED, 'not asked for'));
  };

  const openForTarget = async (open: ChannelOpen, wish: Wish & { command: SshCommand }): Promise<void> => {
    const { command, extras, fields } = wish;
    const refuse = (code: number) => core.toTarget(openFailure(open.sender, code, 'refused'));
    const gate = session.gate();
    const decision = session.decide(command);
    // Who consented to the listener or the feature consented to its use; rules that came since say otherwise.
    if (gate !== undefined || decision.kind === 'Deny') {
      const { code, message } = gate ?? (decision as Extract<typeof decision, { kind: 'Deny' }>);
      const by = gate === undefined && decision.kind === 'Deny' ? decision.by : undefined;
      recordDenial({ core, channel: undefined, command, extras }, core.nextCommandId(), { code, message, by });
      return refuse(ADMINISTRATIVELY_PROHIBITED);
    }
    const splice = adopt((number) => new Splice(core, number, 'Target', open));
    if (splice === undefined) {
      refused({ request: open.type, by: 'Target', reason: 'TooManyChannels' });
      return refuse(RESOURCE_SHORTAGE);
    }
    const id = core.nextCommandId();
    const isWritten = await recordAllowance({ core, channel: splice.number, command, extras }, id, decision);
    if (core.ending || splice.isOver) return;
    if (!isWritten) return splice.refuse(ADMINISTRATIVELY_PROHIBITED, 'it could not be recorded');
    session.observe.decision('Allow');
    splice.sum = createForwardSum(core, splice.number, id);
    splice.dial(open.type, ...fields);
  };

  const takeFeature = (name: FeatureName): Feature | undefined => {
    for (const one of sessions()) {
      const feature = one.features.take(name);
      if (feature !== undefined) return feature;
    }
    return undefined;
  };

  const wishOfTarget = (open: ChannelOpen): (Wish & { command: SshCommand }) | undefined => {
    const reader = readData(open.rest);
    switch (open.type) {
      case 'forwarded-tcpip': {
        const [host, port] = [reader.text(256), reader.uint32()];
        const [originHost, originPort] = [reader.text(256), reader.uint32()];
        const listener = listeners.at(host, port);
        return (
          listener && {
            command: { ...listener.command, verb: 'forwarded' },
            // The client knows its listener by the name it gave it.
            fields: [{ string: listener.host }, { uint32: port }, { string: originHost }, { uint32: originPort }],
            extras: { listener: listener.id, origin: `${originHost}:${originPort}` },
          }
        );
      }
      case 'forwarded-streamlocal@openssh.com': {
        const path = reader.text(1024);
        const listener = listeners.atSocket(path);
        return (
          listener && {
            command: { ...listener.command, verb: 'forwarded' },
            fields: [{ string: path }, { string: '' }],
            extras: { listener: listener.id },
          }
        );
      }
      case 'auth-agent@openssh.com': {
        const feature = takeFeature('AgentForwarding');
        return feature && { command: feature.command, fields: [], extras: { request: feature.id } };
      }
      case 'x11': {
        const [originHost, originPort] = [reader.text(256), reader.uint32()];
        const feature = takeFeature('X11Forwarding');
        return (
          feature && {
            command: feature.command,
            fields: [{ string: originHost }, { uint32: originPort }],
            extras: { request: feature.id },
          }
        );
      }
      default:
        return undefined;
    }
  };

  return {
    opened(open) {
      const { type, sender } = open;
      const refuse = (code: number, text: string) => core.toClient(openFailure(sender, code, text));
      const deny = (command: SshCommand, why: string): void => {
        const refusal = { code: 'Unsupported', message: `Sallyport refused ${command.verb}: ${why}` } as const;
        const denial = recordDenial({ core, channel: undefined, command }, core.nextCommandId(), refusal);
        refuse(ADMINISTRATIVELY_PROHIBITED, refusalLines(refusal, denial, core.services.prefix).join(' '));
      };
      if (type === 'tun@openssh.com')
        return deny(commandOfFeature({ user: core.user, feature: 'Tunnel' }), 'tunnels are let through nowhere');
      if (type !== 'direct-tcpip' && type !== 'direct-streamlocal@openssh.com') {
        refused({ request: type.slice(0, 64), reason: 'UnknownType' });
        return refuse(UNKNOWN_CHANNEL_TYPE, 'unknown channel type');
      }
      const wish = wishOf(open);
      const { command } = wish;
      if (command === undefined) {
        refused({ request: type, reason: 'NoDestination', ...wish.extras });
        return refuse(ADMINISTRATIVELY_PROHIBITED, 'Sallyport refused forward: that is no destination.');
      }
      if (!core.rights.portForwarding) return deny(command, NO_RIGHT);
      const splice = adopt((number) => new Splice(core, number, 'Client', open));
      if (splice === undefined) {
        refused({ request: type, reason: 'TooManyChannels' });
        return refuse(RESOURCE_SHORTAGE, 'Sallyport: too many channels at once on one connection');
      }
      openForClient(splice, type, { ...wish, command }).catch(failed('Client'));
    },
    requested: (type, rest, reply) => listeners.requested(type, rest, reply),
    openedByTarget(open) {
      const wish = wishOfTarget(open);
      if (wish === undefined) return notAskedFor(open, 'NotAskedFor');
      openForTarget(open, wish).catch(failed('Target'));
    },
    answered: (payload) => listeners.answered(payload),
    targetGone: () => listeners.targetGone(),
    freeze: () => listeners.freeze(),
  };
}

/** Addresses in the spelling that was judged, so that no other reading is left; names as they are, `example.` too. */
function dialled(destination: NonNullable<ReturnType<typeof parseDestination>>, host: string): string {
  if (destination.kind === 'Address') return destination.address;
  if (destination.kind === 'Socket') return destination.path;
  return host.endsWith('.') ? `${destination.host}.` : destination.host;
}
