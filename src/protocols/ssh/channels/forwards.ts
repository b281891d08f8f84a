// Forwards of either side: ports, sockets, agent, X11, tunnels. The one place that says what of them passes: nothing, as
// it stands. Each is refused natively and recorded.
import { readData } from '../wire/data.ts';
import { OPEN_FAILURE } from '../wire/message-numbers.ts';
import type { Core } from './core.ts';
import { type ChannelOpen, openFailure } from './messages.ts';
import type { Reply } from './replies.ts';

export interface Forwards {
  /** A client's channel of another type than session. */
  opened(open: ChannelOpen): void;
  /** A client's global request about forwarding. */
  requested(type: string, rest: Buffer, reply: Reply | undefined): void;
  /** A channel the target opens; answers it. */
  openedByTarget(open: ChannelOpen): void;
}

export interface ForwardsParts {
  core: Core;
  toClient(payload: Buffer): void;
  toTarget(payload: Buffer): void;
}

const REFUSED = 'Sallyport lets no forwarding through here';

export function createForwards({ core, toClient, toTarget }: ForwardsParts): Forwards {
  const record = (event: string, fields: object): void => core.session.record.append('notice', { event, ...fields });
  return {
    opened({ type, sender, rest }) {
      record('ForwardRefused', { request: type.slice(0, 64), ...destinationOf(type, rest) });
      const isKnown = /^(?:direct-tcpip|direct-streamlocal@openssh\.com|tun@openssh\.com)$/.test(type);
      toClient(
        openFailure(
          sender,
          isKnown ? OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED : OPEN_FAILURE.UNKNOWN_CHANNEL_TYPE,
          isKnown ? REFUSED : 'unknown channel type',
        ),
      );
    },
    requested(type, rest, reply) {
      record('ForwardRefused', { request: type, ...listenerOf(type, rest) });
      reply?.settle(false);
    },
    openedByTarget({ type, sender }) {
      record('ForwardRefused', { request: type.slice(0, 64), by: 'Target' });
      toTarget(openFailure(sender, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, 'not asked for'));
    },
  };
}

function destinationOf(type: string, rest: Buffer): object {
  const reader = readData(rest);
  if (type === 'direct-tcpip') return { host: reader.text(256), port: reader.uint32() };
  return type === 'direct-streamlocal@openssh.com' ? { path: reader.text(1024) } : {};
}

function listenerOf(type: string, rest: Buffer): object {
  const reader = readData(rest);
  return type.includes('streamlocal') ? { path: reader.text(1024) } : { host: reader.text(256), port: reader.uint32() };
}
