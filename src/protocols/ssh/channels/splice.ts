// A channel that carries a connection and no command: a forward, agent or X11. What one side opens becomes a channel of
// the other side once it may; from then on bytes pass as they are.
//
// Guarantees: the opener hears nothing and may send nothing before the other side has accepted; each side is given
// window only for what the other takes; order is kept, over half-closes too; after `freeze` nothing flows any more, in
// either direction. Its bytes are counted, and neither stored nor hashed: they may be anything, keys and cookies too.
import { type Field, MalformedData, readData, writeData } from '../wire/data.ts';
import { MSG, OPEN_FAILURE } from '../wire/message-numbers.ts';
import { type ChannelCore, LARGEST_PACKET } from './channel.ts';
import { Flow } from './flow.ts';
import type { ForwardSum } from './forward-sum.ts';
import type { Judging } from './judge.ts';
import {
  bare,
  type ChannelOpen,
  channelOpen,
  dataOf,
  openConfirmation,
  openFailure,
  parseChannelRequest,
  parseOpenConfirmation,
  parseOpenFailure,
  windowAdjust,
} from './messages.ts';
import { line } from './wording.ts';

export type Side = 'Client' | 'Target';

const other = (side: Side): Side => (side === 'Client' ? 'Target' : 'Client');

interface End {
  /** The peer's own number; undefined: it has not accepted. */
  number: number | undefined;
  eof: boolean;
  closed: boolean;
  closeSent: boolean;
}

const newEnd = (number: number | undefined): End => ({ number, eof: false, closed: false, closeSent: false });

export class Splice {
  readonly kind = 'Splice';
  readonly number: number;
  readonly opener: Side;
  /** What the records say of it in the end; set with its command. */
  sum: ForwardSum | undefined;
  /** While it is judged. */
  judging: Judging | undefined;
  readonly #core: ChannelCore;
  readonly #open: ChannelOpen;
  readonly #ends: Record<Side, End>;
  /** Towards that side. */
  readonly #flows: Record<Side, Flow>;
  #phase: 'Waiting' | 'Opening' | 'Live' | 'Over' = 'Waiting';
  #removed = false;

  constructor(core: ChannelCore, number: number, opener: Side, open: ChannelOpen) {
    this.#core = core;
    this.number = number;
    this.opener = opener;
    this.#open = open;
    this.#ends = {
      Client: newEnd(opener === 'Client' ? open.sender : undefined),
      Target: newEnd(opener === 'Target' ? open.sender : undefined),
    };
    this.#flows = { Client: this.#flowTo('Client'), Target: this.#flowTo('Target') };
    this.#flows[opener].open({ number: open.sender, window: open.window, maxPacket: open.maxPacket });
  }

  #flowTo(side: Side): Flow {
    return new Flow(undefined, {
      send: (payload) => this.#send(side, payload),
      grant: (bytes) => {
        const sender = this.#ends[other(side)];
        if (sender.number !== undefined && !sender.closed) this.#send(other(side), windowAdjust(sender.number, bytes));
      },
      kept: () => 0,
      reserve: 0,
    });
  }

  get isOver(): boolean {
    return this.#phase === 'Over';
  }

  // --- opening

  /** Asks the other side. */
  dial(type: string, ...fields: readonly Field[]): void {
    if (this.isOver) return;
    this.#phase = 'Opening';
    const head = channelOpen({
      type,
      sender: this.number,
      window: this.#flows[this.opener].firstGrant(),
      maxPacket: Math.min(this.#open.maxPacket, LARGEST_PACKET),
    });
    this.#toSide(other(this.opener), Buffer.concat([head, writeData(...fields)]));
  }

  /** Nothing comes of it: told to its opener. */
  refuse(code: number, text: string): void {
    if (this.isOver) return;
    this.#phase = 'Over';
    this.#toSide(this.opener, openFailure(this.#open.sender, code, text));
    this.#remove();
  }

  #accepted(side: Side, payload: Buffer): void {
    const { sender, window, maxPacket } = parseOpenConfirmation(payload);
    this.#ends[side].number = sender;
    this.#phase = 'Live';
    this.#flows[side].open({ number: sender, window, maxPacket });
    if (this.#ends[this.opener].closeSent) {
      // Its opener went away meanwhile.
      this.#flows[side].control(bare(MSG.CHANNEL_CLOSE, 0));
      return;
    }
    const confirmation = openConfirmation({
      recipient: this.#open.sender,
      sender: this.number,
      window: this.#flows[side].firstGrant(),
      maxPacket: Math.min(maxPacket, LARGEST_PACKET),
    });
    this.#send(this.opener, confirmation);
  }

  // --- messages

  fromClient(payload: Buffer): void {
    this.#from('Client', payload);
  }

  fromTarget(payload: Buffer): void {
    this.#from('Target', payload);
  }

  /** Throws MalformedData where it has no place. */
  #from(side: Side, payload: Buffer): void {
    if (this.#phase === 'Opening' && side !== this.opener) {
      if (payload[0] === MSG.CHANNEL_OPEN_CONFIRMATION) return this.#accepted(side, payload);
      if (payload[0] === MSG.CHANNEL_OPEN_FAILURE) return this.#refused(side, payload);
    }
    const end = this.#ends[side];
    if (this.#phase !== 'Live' || end.closed) throw new MalformedData('a message for a channel that is not open');
    const there = this.#flows[other(side)];
    switch (payload[0]) {
      case MSG.CHANNEL_WINDOW_ADJUST:
        if (!this.#flows[side].adjust(readData(payload, 5).uint32())) throw new MalformedData('a window too large');
        return;
      case MSG.CHANNEL_DATA:
      case MSG.CHANNEL_EXTENDED_DATA: {
        const data = dataOf(payload);
        if (data === undefined) throw new MalformedData('data of another length than it says');
        if (!there.received(data.length)) throw new MalformedData('more data than the window allows');
        if (end.eof) throw new MalformedData('data after EOF');
        if (data.length === 0) return;
        // A connection has one stream.
        if (payload[0] === MSG.CHANNEL_EXTENDED_DATA) return there.replenish();
        this.sum?.passed(side, data.length);
        there.data(payload, true);
        return;
      }
      case MSG.CHANNEL_EOF:
        if (end.eof) return;
        end.eof = true;
        there.control(payload);
        return;
      case MSG.CHANNEL_CLOSE:
        return this.#closed(side);
      case MSG.CHANNEL_REQUEST:
        // sshd's keepalives come on any channel; nothing else is to be asked here.
        if (parseChannelRequest(payload).wantReply) this.#send(side, bare(MSG.CHANNEL_FAILURE, end.number!));
        return;
      default:
        throw new MalformedData('a message that has no place on this channel');
    }
  }

  #refused(side: Side, payload: Buffer): void {
    const { code, text } = parseOpenFailure(payload);
    const said = line(text).slice(0, 200);
    this.sum?.ended({ code: `${side}Refused`, message: said === '' ? 'the connection was refused' : said });
    if (this.#ends[this.opener].closeSent) {
      this.#phase = 'Over';
      this.#remove();
    } else this.refuse(code >= 1 && code <= 4 ? code : OPEN_FAILURE.CONNECT_FAILED, said);
  }

  #closed(side: Side): void {
    const end = this.#ends[side];
    end.closed = true;
    end.eof = true;
    this.#flows[side].stop();
    if (!end.closeSent) this.#send(side, bare(MSG.CHANNEL_CLOSE, end.number!));
    this.#flows[other(side)].control(bare(MSG.CHANNEL_CLOSE, 0));
    this.#settle();
  }

  // --- ends

  /** The connection to the target is gone. */
  targetGone(text: string): void {
    if (this.isOver || (this.#phase === 'Waiting' && this.opener === 'Client')) return;
    const error = { code: 'TargetClosed', message: text };
    const target = this.#ends.Target;
    this.#flows.Target.stop();
    target.closed = true;
    target.closeSent = true;
    if (this.#phase === 'Live') {
      this.sum?.ended(error);
      this.#flows.Client.control(bare(MSG.CHANNEL_CLOSE, 0));
      this.#settle();
    } else if (this.opener === 'Target') {
      this.sum?.ended(error);
      if (this.#phase === 'Waiting') {
        this.#phase = 'Over';
        this.#remove();
      }
    } else {
      this.sum?.ended(error);
      this.refuse(OPEN_FAILURE.CONNECT_FAILED, text);
    }
  }

  /** The session ends: nothing flows any more, and the target lets go of its end. */
  freeze(error: { code: string; message: string }): void {
    this.judging?.withdraw();
    const phase = this.#phase;
    this.#phase = 'Over';
    for (const flow of Object.values(this.#flows)) flow.stop();
    this.sum?.ended(error);
    const { number, closeSent } = this.#ends.Target;
    if (phase === 'Over' || closeSent) return;
    if (phase === 'Live') this.#send('Target', bare(MSG.CHANNEL_CLOSE, number!));
    else if (this.opener === 'Target')
      this.#toSide('Target', openFailure(number!, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, 'session ended'));
  }

  /** After `freeze`. false: nobody need wait for what the client says to it. */
  lastWords(text: string): boolean {
    const { number, closeSent } = this.#ends.Client;
    if (number === undefined || closeSent) return false;
    if (this.opener === 'Client' && this.#ends.Target.number === undefined)
      this.#toSide('Client', openFailure(number, OPEN_FAILURE.ADMINISTRATIVELY_PROHIBITED, text));
    else this.#send('Client', bare(MSG.CHANNEL_CLOSE, number));
    return false;
  }

  #send(side: Side, payload: Buffer): void {
    const end = this.#ends[side];
    if (end.closeSent) return;
    const isClose = payload[0] === MSG.CHANNEL_CLOSE; // it may be encrypted in place
    if (isClose) end.closeSent = true;
    this.#toSide(side, payload);
    if (isClose) this.#settle();
  }

  #toSide(side: Side, payload: Buffer): void {
    if (side === 'Client') this.#core.toClient(payload);
    else this.#core.toTarget(payload);
  }

  /** Gives the number back once neither side uses it. */
  #settle(): void {
    const { Client, Target } = this.#ends;
    if (Client.closed && Client.closeSent && Target.closed && Target.closeSent) this.#remove();
  }

  #remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    this.#phase = 'Over';
    this.sum?.ended();
    this.#core.removed(this);
  }
}
