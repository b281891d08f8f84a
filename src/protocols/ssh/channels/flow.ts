// One direction of one channel: what came from the sender, on its way to the receiver.
//
// Guarantees: order; the sender is given window only for what the receiver takes, so that little is kept here whatever
// the two windows are; our own lines always find room in a reserve that the sender is never given; nothing goes out
// before it is recorded. Does not know transports: it is told how to send.
import { MSG } from '../wire/message-numbers.ts';
import { channelData, DATA_HEADER, dataHeader, EXTENDED_HEADER } from './messages.ts';

/** Of the receiver's window, kept back for the gateway's own lines. */
export const RESERVE = 4 * 1024;
/** The sender is never given more than this at once: OpenSSH's own windows are half of it. */
const MOST_OUTSTANDING = 4 * 1024 * 1024;
/** Smaller grants are saved up, unless the sender has as little left: each is a packet. */
const WORTHWHILE = [256 * 1024, 32 * 1024];
const LARGEST_WINDOW = 2 ** 32 - 1;

export interface FlowParts {
  /** To the receiver. The payload has its recipient's number; `more` of the message follows it, and stays the caller's. */
  send(payload: Buffer, more?: Buffer): void;
  /** Gives the sender so many bytes more. */
  grant(bytes: number): void;
  /** Bytes that somebody else keeps of what came (a filter). */
  kept(): number;
  reserve: number;
}

interface Receiver {
  number: number;
  window: number;
  maxPacket: number;
}

interface Entry {
  payload: Buffer;
  /** Bytes of window it needs; undefined: a message that needs none. */
  from: number | undefined;
  recorded: boolean;
}

export class Flow {
  readonly #parts: FlowParts;
  #queue: Entry[] = [];
  /** Bytes of data in the queue. */
  #queued = 0;
  #waiting = 0;
  #senderWindow: number;
  #receiver: Receiver | undefined;
  /** The sender may be given more: it was given something at first. */
  #granting: boolean;
  #stopped = false;
  #discarding = false;

  /** `initialWindow`: what the sender was given when it opened; undefined: `firstGrant` will tell. */
  constructor(initialWindow: number | undefined, parts: FlowParts) {
    this.#senderWindow = initialWindow ?? 0;
    this.#granting = initialWindow !== undefined;
    this.#parts = parts;
  }

  get isOpen(): boolean {
    return this.#receiver !== undefined;
  }

  /** Everything has gone out. */
  get isEmpty(): boolean {
    return this.#queue.length === 0;
  }

  get queuedBytes(): number {
    return this.#queued;
  }

  /** What the receiver takes at most in one message; Infinity while there is none. */
  get maxPacket(): number {
    return this.#receiver?.maxPacket ?? Number.POSITIVE_INFINITY;
  }

  /** What the sender of a direction that nobody sends on yet may be given at first. */
  firstGrant(): number {
    const window = Math.max(0, Math.min((this.#receiver?.window ?? 0) - this.#parts.reserve, MOST_OUTSTANDING));
    this.#senderWindow = window;
    this.#granting = true;
    return window;
  }

  /** The receiver is there, and takes what was kept for it. */
  open(receiver: Receiver): void {
    this.#receiver = { ...receiver };
    this.#pump();
    this.replenish();
  }

  /** The sender has sent so many bytes. false: more than it was given. */
  received(bytes: number): boolean {
    if (bytes > this.#senderWindow) return false;
    this.#senderWindow -= bytes;
    return true;
  }

  /**
   * Queues CHANNEL_DATA or CHANNEL_EXTENDED_DATA; the payload is the flow's from now on. `recorded` false: it and all that
   * follows wait for `written`.
   */
  data(payload: Buffer, recorded: boolean): void {
    if (this.#stopped || this.#discarding) return;
    const from = payload[0] === MSG.CHANNEL_DATA ? DATA_HEADER : EXTENDED_HEADER;
    const receiver = this.#receiver;
    const bytes = payload.length - from;
    if (
      recorded &&
      this.#queue.length === 0 &&
      receiver !== undefined &&
      bytes <= receiver.window &&
      bytes <= receiver.maxPacket
    ) {
      receiver.window -= bytes;
      payload.writeUInt32BE(receiver.number, 1);
      this.#parts.send(payload);
      return;
    }
    this.#queued += bytes;
    if (!recorded) this.#waiting += 1;
    this.#queue.push({ payload, from, recorded });
    this.#pump();
  }

  /** As CHANNEL_DATA, recorded. The bytes stay the caller's: they are copied where they must wait. */
  bytes(data: Buffer): void {
    if (this.#stopped || this.#discarding) return;
    const receiver = this.#receiver;
    if (
      this.#queue.length > 0 ||
      receiver === undefined ||
      data.length > receiver.window ||
      data.length > receiver.maxPacket
    )
      return this.data(channelData(0, data), true);
    receiver.window -= data.length;
    this.#parts.send(dataHeader(receiver.number, data.length), data);
  }

  /** Queues a message that takes no window; its recipient's number is set when it goes out. */
  control(payload: Buffer): void {
    if (this.#stopped) return;
    if (this.#queue.length === 0 && this.#receiver !== undefined) {
      payload.writeUInt32BE(this.#receiver.number, 1);
      this.#parts.send(payload);
      return;
    }
    this.#queue.push({ payload, from: undefined, recorded: true });
  }

  /** As many of those that waited for it as `count` are recorded now. */
  written(count: number): void {
    if (this.#discarding) return;
    let left = count;
    for (const entry of this.#queue) {
      if (left === 0) break;
      if (entry.recorded) continue;
      entry.recorded = true;
      this.#waiting -= 1;
      left -= 1;
    }
    this.#pump();
    this.replenish();
  }

  /** Entries that wait to be recorded. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The receiver takes more. false: its window can not be that large. */
  adjust(bytes: number): boolean {
    const receiver = this.#receiver;
    if (receiver === undefined) return false;
    if (receiver.window + bytes > LARGEST_WINDOW) return false;
    receiver.window += bytes;
    if (this.#queue.length > 0) this.#pump();
    this.replenish();
    return true;
  }

  /** Gives the sender what has become free. Call after what `kept` answers has changed. */
  replenish(): void {
    const receiver = this.#receiver;
    if (receiver === undefined || this.#stopped || !this.#granting) return;
    const room = Math.min(receiver.window - this.#parts.reserve, MOST_OUTSTANDING);
    const bytes = room - this.#queued - this.#parts.kept() - this.#senderWindow;
    if (bytes <= 0 || WORTHWHILE.some((least) => bytes < least && this.#senderWindow >= least)) return;
    this.#senderWindow += bytes;
    this.#parts.grant(bytes);
  }

  /** Nothing that is queued goes out any more, nor what comes. */
  stop(): void {
    this.#stopped = true;
    this.#queue = [];
    this.#queued = 0;
    this.#waiting = 0;
  }

  /** The receiver takes no data any more, but still hears how it ended. */
  discardData(): void {
    this.#discarding = true;
    this.#queue = this.#queue.filter(({ from }) => from === undefined);
    this.#queued = 0;
    this.#waiting = 0;
    this.#pump();
  }

  /** Sends past the queue, as far as the window reaches: for the last words after `stop`. */
  last(payload: Buffer): void {
    const receiver = this.#receiver;
    if (receiver === undefined) return;
    const from =
      payload[0] === MSG.CHANNEL_DATA
        ? DATA_HEADER
        : payload[0] === MSG.CHANNEL_EXTENDED_DATA
          ? EXTENDED_HEADER
          : undefined;
    if (from !== undefined) {
      const bytes = payload.length - from;
      if (bytes > receiver.window || bytes > receiver.maxPacket) return;
      receiver.window -= bytes;
    }
    payload.writeUInt32BE(receiver.number, 1);
    this.#parts.send(payload);
  }

  #pump(): void {
    const receiver = this.#receiver;
    if (receiver === undefined) return;
    let sent = 0;
    for (const entry of this.#queue) {
      if (!entry.recorded) break;
      const { from } = entry;
      if (from !== undefined && !this.#sendData(entry, from, receiver)) break;
      if (from === undefined) {
        entry.payload.writeUInt32BE(receiver.number, 1);
        this.#parts.send(entry.payload);
      }
      sent += 1;
      if (this.#stopped) return;
    }
    if (sent > 0) this.#queue.splice(0, sent);
  }

  /** true: all of it went out. What is left stays in the entry. */
  #sendData(entry: Entry, from: number, receiver: Receiver): boolean {
    let bytes = entry.payload.length - from;
    for (;;) {
      const room = Math.min(receiver.window, receiver.maxPacket);
      if (bytes <= room) {
        receiver.window -= bytes;
        this.#queued -= bytes;
        entry.payload.writeUInt32BE(receiver.number, 1);
        this.#parts.send(entry.payload);
        return true;
      }
      if (room <= 0) return false;
      const { payload } = entry;
      const piece = Buffer.from(payload.subarray(0, from + room));
      piece.writeUInt32BE(receiver.number, 1);
      piece.writeUInt32BE(room, from - 4);
      // The header is written again in front of what is left, over bytes that have gone out.
      const rest = payload.subarray(room);
      payload.copyWithin(room, 0, from - 4);
      bytes -= room;
      rest.writeUInt32BE(bytes, from - 4);
      entry.payload = rest;
      receiver.window -= room;
      this.#queued -= room;
      this.#parts.send(piece);
    }
  }
}
