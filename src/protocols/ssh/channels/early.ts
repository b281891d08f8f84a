// What a client sends before there is anywhere to send it: data, EOF and requests, in order. Data is bounded by the window
// that it was given, the rest in number.
import { MalformedData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { channelData, DATA_HEADER, dataOf } from './messages.ts';

/** Data is joined up to this many bytes: a byte a message would cost a hundred times its size. */
const SMALL = 4 * 1024;
const MOST_MESSAGES = 256;

export class EarlyMessages {
  #messages: Buffer[] = [];
  #bytes = 0;

  /** Of data. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Throws MalformedData where there are too many. */
  push(payload: Buffer): void {
    if (payload[0] !== MSG.CHANNEL_DATA) {
      if (this.#messages.length >= MOST_MESSAGES) throw new MalformedData('too many requests before anything runs');
      this.#messages.push(payload);
      return;
    }
    this.#bytes += payload.length - DATA_HEADER;
    const last = this.#messages.at(-1);
    if (last?.[0] === MSG.CHANNEL_DATA && last.length + payload.length <= SMALL)
      this.#messages[this.#messages.length - 1] = channelData(0, Buffer.concat([dataOf(last)!, dataOf(payload)!]));
    else this.#messages.push(payload);
  }

  /** All of them; none is kept. */
  take(): readonly Buffer[] {
    const messages = this.#messages;
    this.#messages = [];
    this.#bytes = 0;
    return messages;
  }
}
