// The one connection to the target behind one client connection: made at the first request that may run, used by all
// that follow, made anew if the target closed it while nothing ran. Owns the gateway's own channels on it.
import type { HandOver } from '../auth/hand-over.ts';
import type { Transport } from '../transport/transport.ts';
import { DISCONNECT, MSG } from '../wire/message-numbers.ts';
import type { Upstream } from './connect.ts';

export interface LinkHandlers {
  onMessage(payload: Buffer): void;
  onDrain(): void;
  /** The target is gone, once a connection. */
  onGone(): void;
}

export interface Link {
  /** Connects if need be. Rejects with UpstreamError. */
  ready(): Promise<void>;
  /** Without a connection: nothing. false: more is queued than should be. */
  send(payload: Buffer, more?: Buffer): boolean;
  readonly isUp: boolean;
  /** The target's identification, while it is up. */
  readonly peerVersion: string | undefined;
  /** A connection is being made. */
  readonly isConnecting: boolean;
  readonly queuedBytes: number;
  pause(): void;
  resume(): void;
  /** Ends the connection in order; one that is being made is ended once it stands. */
  close(): void;
}

export function createLink(connect: () => Promise<Upstream>, handlers: LinkHandlers): Link {
  let transport: Transport | undefined;
  let connecting: Promise<void> | undefined;
  let closed = false;

  const adopt = (made: Transport, handOver: HandOver): void => {
    transport = made;
    made.onDrain = () => handlers.onDrain();
    handOver({
      onMessage: (payload) => {
        if (transport === made) handlers.onMessage(payload);
      },
      onClose: () => {
        if (transport !== made) return;
        transport = undefined;
        handlers.onGone();
      },
    });
  };

  return {
    async ready() {
      if (transport !== undefined) return;
      connecting ??= connect()
        .then(({ transport: made, handOver }) => {
          if (closed) made.disconnect(DISCONNECT.BY_APPLICATION, 'session ended');
          else adopt(made, handOver);
        })
        .finally(() => {
          connecting = undefined;
        });
      await connecting;
    },
    send: (payload, more) => transport?.send(payload, more) ?? true,
    get isUp() {
      return transport !== undefined;
    },
    get peerVersion() {
      return transport?.peerVersion;
    },
    get isConnecting() {
      return connecting !== undefined;
    },
    get queuedBytes() {
      return transport?.queuedBytes ?? 0;
    },
    pause: () => transport?.pause(),
    resume: () => transport?.resume(),
    close() {
      closed = true;
      const last = transport;
      transport = undefined;
      last?.disconnect(DISCONNECT.BY_APPLICATION, 'session ended');
    },
  };
}

/** What a target may ask of a client beside channels: nothing that is granted. undefined: no answer is wanted. */
export function answerToTarget(payload: Buffer): Buffer | undefined {
  const wantsReply = payload[5 + payload.readUInt32BE(1)] === 1;
  return wantsReply ? Buffer.from([MSG.REQUEST_FAILURE]) : undefined;
}
