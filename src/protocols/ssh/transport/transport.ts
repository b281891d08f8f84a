// One SSH connection's transport (RFC 4253): messages in, messages out. What they mean is for the layers above.
//
// Every implementation guarantees: strict key exchange where the peer knows it (else AEAD ciphers only); a first key
// exchange, host key included, before a transport is handed out; later ones without anybody above noticing, messages
// meanwhile kept in order; every fault of the peer's is a DISCONNECT with a text, then the end of the socket.
import type { Duplex } from 'node:stream';
import type { Signer } from '../keys/key.ts';

export interface Transport {
  readonly role: 'Server' | 'Client';
  /** Exchange hash of the first key exchange. */
  readonly sessionId: Buffer;
  /** The peer's identification line, without CR LF: `SSH-2.0-OpenSSH_9.2p1`. */
  readonly peerVersion: string;
  /** Blob of the server's key of this connection, of whichever side is the server. */
  readonly hostKey: Buffer;
  /** `server-sig-algs` of the peer's EXT_INFO (RFC 8308), if it sent one before its first other message. */
  readonly peerSignatureAlgorithms: readonly string[] | undefined;
  /** What was agreed on, for records and logs. */
  readonly algorithms: NegotiatedAlgorithms;
  /**
   * Messages of number 5 and from 50 on, one call each, in order. `payload` begins with the message number and is the
   * handler's to keep. To be set in the turn that the transport was handed out.
   */
  onMessage: (payload: Buffer) => void;
  /** Once, when nothing comes any more. `error` is absent where the peer closed in order. */
  onClose: (end: { error?: Error; disconnect?: { code: number; text: string } }) => void;
  /** After `send` answered false: there is room again. */
  onDrain: () => void;
  /**
   * Queues a message; what one turn of the event loop queued is one write. The payload is the transport's from now on, and
   * where it is one that a transport handed out its memory is given back: nothing of it can be read any more. `more` of the
   * message follows it, and stays the caller's. false: more than `highWaterBytes` wait for the peer.
   */
  send(payload: Buffer, more?: Buffer): boolean;
  /** Encrypted bytes not yet taken by the socket, and what waits for a key exchange. */
  readonly queuedBytes: number;
  /** Stops and continues reading from the socket. Key exchanges stop too. */
  pause(): void;
  resume(): void;
  /**
   * Server: compression never. From here on the peer is authenticated: rekeying by volume and time, larger limits. To be called
   * in the turn that USERAUTH_SUCCESS was sent or came.
   */
  authenticated(): void;
  /** Tells the peer why, and closes the socket once that is written. Idempotent. */
  disconnect(code: number, text: string): void;
  /** At once, without a word. */
  destroy(): void;
}

export interface NegotiatedAlgorithms {
  kex: string;
  hostKey: string;
  cipher: { clientToServer: string; serverToClient: string };
  /** Empty for AEAD ciphers. */
  mac: { clientToServer: string; serverToClient: string };
  strict: boolean;
}

export type TransportOptions = {
  /** After `SSH-2.0-`: `Sallyport`. */
  software: string;
  signal: AbortSignal;
  /** Until the first NEWKEYS of both sides, milliseconds. */
  handshakeMs: number;
  /** Bytes queued for the peer above which `send` answers false. Default 256 KiB. */
  highWaterBytes?: number;
  /** Largest packet taken, bytes. Default 256 KiB + some. */
  packetBytes?: number;
} & (
  | { role: 'Server'; hostKeys: readonly Signer[] }
  | {
      role: 'Client';
      /** Names of host key algorithms that may be used, best first: only types that can be verified. */
      hostKeyAlgorithms: readonly string[];
      /** Called at every key exchange after the signature was found good. Answers why the key is not the host's, or undefined. */
      verifyHostKey(blob: Buffer): string | undefined;
    }
);

/** Resolves after the first key exchange. Rejects with TransportError; the peer was told and the socket is gone by then. */
export type OpenTransport = (socket: Duplex, options: TransportOptions) => Promise<Transport>;

export class TransportError extends Error {
  /** `TurnedAway`: a server closed before it had said who it is, as sshd does to those it has no place for. */
  readonly code:
    | 'Malformed'
    | 'NoCommonAlgorithm'
    | 'HostKey'
    | 'Signature'
    | 'TimedOut'
    | 'Closed'
    | 'TurnedAway'
    | 'Disconnected';
  constructor(code: TransportError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TransportError';
    this.code = code;
  }
}
