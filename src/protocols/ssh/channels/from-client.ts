// Requests of a client on a channel: what they set before a command, the command, and what is passed on to it.
import { readData } from '../wire/data.ts';
import { beginCommand } from './begin.ts';
import type { SessionChannel } from './channel.ts';
import type { ChannelRequest } from './messages.ts';
import type { Reply } from './replies.ts';

/** Settles the reply, or leaves that to whoever answers later. Throws MalformedData. */
export function takeRequest(
  channel: SessionChannel,
  payload: Buffer,
  { type, rest }: ChannelRequest,
  reply: Reply | undefined,
): void {
  switch (type) {
    case 'pty-req': {
      const isSet = channel.phase === 'Fresh' && channel.setup.setPty(channel.core, rest);
      reply?.settle(isSet);
      return;
    }
    case 'env': {
      const isSet = channel.phase === 'Fresh' && channel.setup.setVariable(channel.core, rest);
      reply?.settle(isSet);
      return;
    }
    case 'shell':
    case 'exec':
    case 'subsystem':
      beginCommand(channel, type, rest, reply);
      return;
    case 'window-change':
      resize(channel, payload, rest);
      reply?.settle(true);
      return;
    case 'signal':
    case 'break':
    case 'eow@openssh.com':
      pass(channel, payload, { type, rest }, reply);
      return;
    case 'auth-agent-req@openssh.com':
    case 'x11-req':
      channel.features.request(type === 'x11-req' ? 'X11Forwarding' : 'AgentForwarding', rest, reply);
      return;
    default:
      channel.core.session.record.append(
        'notice',
        { event: 'UnknownRequest', request: type.slice(0, 64) },
        channel.number,
      );
      reply?.settle(false);
  }
}

function resize(channel: SessionChannel, payload: Buffer, rest: Buffer): void {
  const reader = readData(rest);
  const [columns, rows, width, height] = [reader.uint32(), reader.uint32(), reader.uint32(), reader.uint32()];
  reader.end();
  if (!channel.setup.resize({ columns, rows, width, height })) return;
  channel.recorder?.resized(columns, rows);
  // Until it runs, the latest size is all that matters.
  if (channel.phase === 'Live') channel.toTarget.control(payload);
}

function pass(
  channel: SessionChannel,
  payload: Buffer,
  { type, rest }: Pick<ChannelRequest, 'type' | 'rest'>,
  reply: Reply | undefined,
): void {
  if (type === 'signal' && channel.isJudged && readData(rest).text(64) === 'INT') channel.withdrawAll();
  if (channel.phase === 'Over' || channel.phase === 'Fresh') return reply?.settle(false);
  if (reply !== undefined) channel.atTarget.push(reply);
  channel.later(payload);
}
