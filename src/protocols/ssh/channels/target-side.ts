// The target's end of a channel: its number, whether it is open, and what may still be sent to it.
import { MalformedData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { bare, type OpenConfirmation, windowAdjust } from './messages.ts';

export interface TargetSideParts {
  send(payload: Buffer, more?: Buffer): void;
  /** Our CLOSE went out. */
  closed(): void;
}

export class TargetSide {
  readonly #parts: TargetSideParts;
  #state: 'None' | 'Opening' | 'Open' | 'Gone' = 'None';
  #receiver: { number: number; window: number; maxPacket: number } | undefined;
  #closed = false;
  #closeSent = false;
  #pendingGrant = 0;

  constructor(parts: TargetSideParts) {
    this.#parts = parts;
  }

  /** undefined: it was not opened yet. */
  get receiver(): { number: number; window: number; maxPacket: number } | undefined {
    return this.#receiver;
  }

  /** Open, and not closed by the target. */
  get isLive(): boolean {
    return this.#state === 'Open' && !this.#closed;
  }

  /** Nothing comes of it any more, and nothing is owed to it. */
  get isDone(): boolean {
    return (
      this.#state === 'None' || this.#state === 'Gone' || (this.#state === 'Open' && this.#closed && this.#closeSent)
    );
  }

  opening(): void {
    this.#state = 'Opening';
  }

  opened({ sender, window, maxPacket }: OpenConfirmation): void {
    if (this.#state !== 'Opening') throw new MalformedData('a confirmation of nothing');
    this.#receiver = { number: sender, window, maxPacket };
    this.#state = 'Open';
    if (this.#pendingGrant > 0) this.grant(this.#pendingGrant);
  }

  openFailed(): void {
    if (this.#state !== 'Opening') throw new MalformedData('an open failure for nothing');
    this.#state = 'Gone';
  }

  /** Window given before anything is sent to it. */
  adjust(bytes: number): void {
    if (this.#receiver !== undefined) this.#receiver.window += bytes;
  }

  hasClosed(): void {
    this.#closed = true;
  }

  /** The connection is gone. */
  gone(): void {
    if (this.#state === 'Open' || this.#state === 'Opening') this.#state = 'Gone';
  }

  /** Sets the recipient. Nothing follows a CLOSE. */
  send(payload: Buffer, more?: Buffer): void {
    if (this.#receiver === undefined || this.#closeSent) return;
    const isClose = payload[0] === MSG.CHANNEL_CLOSE; // it may be encrypted in place
    if (isClose) this.#closeSent = true;
    payload.writeUInt32BE(this.#receiver.number, 1);
    this.#parts.send(payload, more);
    if (isClose) this.#parts.closed();
  }

  close(): void {
    if (this.#state === 'Open') this.send(bare(MSG.CHANNEL_CLOSE, 0));
  }

  grant(bytes: number): void {
    if (this.#receiver === undefined) {
      this.#pendingGrant += bytes;
      return;
    }
    this.#pendingGrant = 0;
    if (!this.#closed) this.send(windowAdjust(0, bytes));
  }
}
