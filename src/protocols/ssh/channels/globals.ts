// Global requests (RFC 4254, 4; OpenSSH's PROTOCOL, 2.2-2.5): answered here, in order, in holds too. Nothing of the
// target's passes: its host keys are the gateway's business alone.
import type { Signer } from '../keys/key.ts';
import { MalformedData, readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import type { Core } from './core.ts';
import type { Forwards } from './forwards.ts';
import { globalRequest, parseGlobalRequest } from './messages.ts';
import { MOST_UNANSWERED, Replies } from './replies.ts';

const HOST_KEYS = 'hostkeys-00@openssh.com';
const PROVE = 'hostkeys-prove-00@openssh.com';

export interface Globals {
  fromClient(payload: Buffer): void;
  /** The client said that it opens no more sessions. */
  readonly noMoreSessions: boolean;
}

export interface GlobalsParts {
  core: Core;
  send(payload: Buffer): void;
  sessionId: Buffer;
  hostKeys: readonly Signer[];
  forwards: Forwards;
}

export function createGlobals(parts: GlobalsParts): Globals {
  const { core, send } = parts;
  let noMoreSessions = false;
  const replies = new Replies((success, payload) =>
    send(payload ?? Buffer.from([success ? MSG.REQUEST_SUCCESS : MSG.REQUEST_FAILURE])),
  );
  return {
    get noMoreSessions() {
      return noMoreSessions;
    },
    fromClient(payload) {
      const { type, wantReply, rest } = parseGlobalRequest(payload);
      if (replies.unanswered >= MOST_UNANSWERED) throw new MalformedData('too many requests at once');
      const reply = wantReply ? replies.open() : undefined;
      switch (type) {
        case 'no-more-sessions@openssh.com':
          noMoreSessions = true;
          return reply?.settle(true);
        case PROVE: {
          const proof = prove(parts, rest);
          return reply?.settle(proof !== undefined, proof);
        }
        case 'tcpip-forward':
        case 'cancel-tcpip-forward':
        case 'streamlocal-forward@openssh.com':
        case 'cancel-streamlocal-forward@openssh.com':
          return parts.forwards.requested(type, rest, reply);
        case 'keepalive@openssh.com':
          return reply?.settle(false); // as sshd does: any answer is one
        default:
          core.session.record.append('notice', { event: 'UnknownGlobalRequest', request: type.slice(0, 64) });
          reply?.settle(false);
      }
    },
  };
}

/** All of our keys, so that clients learn those they do not know. Certificates are no part of it. */
export function hostKeysRequest(hostKeys: readonly Signer[]): Buffer {
  return globalRequest(HOST_KEYS, false, ...hostKeys.map(({ blob }) => ({ string: blob })));
}

/** One signature a key asked for; undefined where one is not ours. */
function prove({ hostKeys, sessionId }: GlobalsParts, rest: Buffer): Buffer | undefined {
  const reader = readData(rest);
  const signatures: { string: Buffer }[] = [];
  while (reader.left > 0) {
    const blob = reader.string();
    const signer = hostKeys.find((key) => key.blob.equals(blob));
    const algorithm = signer?.algorithms[0];
    if (signer === undefined || algorithm === undefined || signatures.length >= hostKeys.length) return undefined;
    const proven = writeData({ string: PROVE }, { string: sessionId }, { string: blob });
    signatures.push({ string: signer.sign(proven, algorithm) });
  }
  return signatures.length === 0 ? undefined : writeData({ byte: MSG.REQUEST_SUCCESS }, ...signatures);
}
