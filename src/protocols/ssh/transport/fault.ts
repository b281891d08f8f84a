// Why a transport ends by itself: what its owner is told, and what its peer is told.
import { DISCONNECT } from '../wire/message-numbers.ts';
import type { TransportError } from './transport.ts';

/** Thrown inside the transport only. The text goes to the peer, too: it holds no secrets, and no bytes of anybody else's. */
export class Fault extends Error {
  override name = 'Fault';
  readonly code: TransportError['code'];
  readonly reason: number;
  constructor(code: TransportError['code'], message: string, reason: number = DISCONNECT.PROTOCOL_ERROR) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export const malformed = (message: string): Fault => new Fault('Malformed', message);
