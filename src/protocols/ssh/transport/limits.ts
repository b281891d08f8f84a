// What a transport takes from its peer, and how long its keys live.

export interface TransportLimits {
  /** Largest packet before authentication (RFC 4253, 6.1), bytes. */
  readonly packetBytesBeforeLogin: number;
  /** Largest packet afterwards, bytes; `TransportOptions.packetBytes` goes before. */
  readonly packetBytes: number;
  /** `TransportOptions.highWaterBytes` where it is not given. */
  readonly highWaterBytes: number;
  /** What may wait for a peer that does not read, whatever the layers above do, bytes. */
  readonly queuedBytes: number;
  /**
   * What may wait for a key exchange before `send` answers false. More than the high water, because a relay whose two
   * transports change keys at once must not stop reading either for the other's sake.
   */
  readonly heldBytes: number;
  /** How often a key exchange gets its time again because this side does not read. */
  readonly pausedDeadlines: number;
  /** Either direction's bytes under one key before it is changed. */
  readonly rekeyBytes: number;
  /** Packets under one key: far below where sequence numbers come round. */
  readonly rekeyPackets: number;
  readonly rekeyMs: number;
  /** A key exchange of an open transport is done in this time. */
  readonly rekeyDeadlineMs: number;
  /**
   * Key exchanges that a peer may ask for in a row. After login, one with this many bytes since the last is
   * not counted: OpenSSH makes one a packet where its RekeyLimit is below 512K.
   */
  readonly peerRekeys: { readonly burst: number; readonly everyMs: number; readonly freeBytes: number };
  /** IGNORE, DEBUG, UNIMPLEMENTED, PING and unknown messages. */
  readonly noise: { readonly burst: number; readonly everyMs: number; readonly beforeLogin: number };
  /** How long a server waits for the client's offer before it makes its own: a round trip, where nothing is amiss. */
  readonly firstOfferMs: number;
  /**
   * Until a client has said its version and its part of the first exchange: machines alone do that, at once. What follows may
   * wait for a person who looks at a host key, and has `TransportOptions.handshakeMs`.
   */
  readonly openingMs: number;
  /** From DISCONNECT until the socket is destroyed. */
  readonly lingerMs: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

export const DEFAULT_LIMITS: TransportLimits = {
  packetBytesBeforeLogin: 35_000,
  packetBytes: 256 * KIB + KIB,
  highWaterBytes: 256 * KIB,
  queuedBytes: 32 * MIB,
  heldBytes: 8 * MIB,
  pausedDeadlines: 9,
  rekeyBytes: 1024 * MIB,
  rekeyPackets: 2 ** 28,
  rekeyMs: 3_600_000,
  rekeyDeadlineMs: 20_000,
  peerRekeys: { burst: 10, everyMs: 10_000, freeBytes: 32_000 },
  noise: { burst: 2_000, everyMs: 10, beforeLogin: 64 },
  firstOfferMs: 500,
  openingMs: 10_000,
  lingerMs: 2_000,
};
