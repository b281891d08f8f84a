// One session channel of a client, and the channel of the target's that it becomes once something may run in it.
//
// Guarantees: nothing of it reaches the target before its command is judged Run; order is kept in each direction, over
// half-closes too; requests are answered in their order; before the target's channel is open, what the client sends is
// kept within the window it was given. One shell, exec or subsystem a channel.

import type { SshCommand } from '../facts.ts';
import { releasePayload } from '../transport/memory.ts';
import { MalformedData, readData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import type { CommandRecorder } from './channel-recorder.ts';
import { createCommandRecorder } from './channel-recorder.ts';
import type { Core, FilterOptions } from './core.ts';
import { EarlyMessages } from './early.ts';
import { Features } from './features.ts';
import type { ChannelFilter } from './filter.ts';
import { createFilterHost, type FilterHostParts } from './filter-host.ts';
import { Flow, RESERVE } from './flow.ts';
import { takeRequest } from './from-client.ts';
import { takeFromTarget } from './from-target.ts';
import type { Judging } from './judge.ts';
import {
  bare,
  type ChannelOpen,
  channelData,
  channelRequest,
  dataOf,
  extendedData,
  openConfirmation,
  parseChannelRequest,
  STDERR,
  windowAdjust,
} from './messages.ts';
import { waitForRecord } from './record-wait.ts';
import { keepingOf } from './recorded-facts.ts';
import { MOST_UNANSWERED, Replies, type Reply } from './replies.ts';
import { type Pty, Setup } from './setup.ts';
import { TargetSide } from './target-side.ts';
import { EXIT_UNREACHABLE, TERMINAL_RESET } from './wording.ts';

export interface ChannelCore extends Core {
  /** `more` of the message follows, and stays the caller's; the payload does not. */
  toClient(payload: Buffer, more?: Buffer): void;
  toTarget(payload: Buffer, more?: Buffer): void;
  /** Resolves when the target can be sent to. Rejects with UpstreamError. */
  upstream(): Promise<void>;
  /** The target was asked to run it. */
  started(command: SshCommand): void;
  filterOptions(): FilterOptions;
  /** Nothing of either side comes for its number any more. */
  removed(channel: { readonly number: number }): void;
}

/** Kept of a client before its command runs; afterwards the target's window decides. */
const FIRST_WINDOW = 256 * 1024;
export const LARGEST_PACKET = 128 * 1024;
const INTERRUPT = 3; // ^C

export type Phase = 'Fresh' | 'Judging' | 'Opening' | 'Live' | 'Over';

export class SessionChannel {
  readonly kind = 'Session';
  readonly number: number;
  readonly core: ChannelCore;
  readonly clientMaxPacket: number;
  readonly toClient: Flow;
  readonly toTarget: Flow;
  readonly setup = new Setup();
  readonly features = new Features(this);
  phase: Phase = 'Fresh';
  recorder: CommandRecorder | undefined;
  filter: ChannelFilter | undefined;
  readonly target: TargetSide;
  /** What start.ts waits for of the target. */
  expecting: { opened?(failure: string | undefined): void; answered?(success: boolean): void } = {};
  readonly #client: number;
  readonly #replies: Replies;
  /** Requests of the client's that the target answers, in order. */
  readonly atTarget: Reply[] = [];
  /** The command, while it is judged. */
  judging: Judging | undefined;
  readonly #operations = new Set<Judging>();
  readonly #early = new EarlyMessages();
  /** Lines told before there was a command to record them with. */
  #untold: string[] = [];
  #clientEnd = { eof: false, closed: false, closeSent: false };

  constructor(core: ChannelCore, number: number, open: ChannelOpen) {
    this.core = core;
    this.number = number;
    this.#client = open.sender;
    this.clientMaxPacket = open.maxPacket;
    this.target = new TargetSide({
      send: (payload, more) => core.toTarget(payload, more),
      closed: () => this.settle(),
    });
    this.toTarget = new Flow(FIRST_WINDOW, {
      send: (payload, more) => this.target.send(payload, more),
      grant: (bytes) => core.toClient(windowAdjust(this.#client, bytes)),
      kept: () => this.#early.bytes + (this.filter?.heldBytes.client ?? 0),
      reserve: 0,
    });
    this.toClient = new Flow(undefined, {
      send: (payload, more) => this.#sendClient(payload, more),
      grant: (bytes) => this.target.grant(bytes),
      kept: () => this.filter?.heldBytes.target ?? 0,
      reserve: Math.min(RESERVE, Math.floor(open.window / 4)),
    });
    this.toClient.open({ number: open.sender, window: open.window, maxPacket: open.maxPacket });
    this.#replies = new Replies((success) => {
      if (!this.#clientEnd.closeSent)
        core.toClient(bare(success ? MSG.CHANNEL_SUCCESS : MSG.CHANNEL_FAILURE, this.#client));
    });
    core.toClient(
      openConfirmation({ recipient: open.sender, sender: number, window: FIRST_WINDOW, maxPacket: LARGEST_PACKET }),
    );
  }

  get pty(): Pty | undefined {
    return this.setup.pty;
  }

  get isOver(): boolean {
    return this.phase === 'Over';
  }

  /** Something of it may run at the target. */
  get isAtTarget(): boolean {
    return this.target.isLive;
  }

  /** The client was told, or has told, that it is over. */
  get isClosedToClient(): boolean {
    return this.#clientEnd.closeSent;
  }

  // --- from the client

  fromClient(payload: Buffer): void {
    switch (payload[0]) {
      case MSG.CHANNEL_WINDOW_ADJUST:
        if (!this.toClient.adjust(readData(payload, 5).uint32())) throw new MalformedData('a window too large');
        return;
      case MSG.CHANNEL_DATA:
      case MSG.CHANNEL_EXTENDED_DATA:
        this.#clientData(payload);
        return;
      case MSG.CHANNEL_EOF:
        if (this.#clientEnd.eof) return;
        this.#clientEnd.eof = true;
        this.later(payload);
        return;
      case MSG.CHANNEL_CLOSE:
        this.#clientClosed();
        return;
      case MSG.CHANNEL_REQUEST:
        this.#clientRequest(payload);
        return;
      default:
        throw new MalformedData('an answer to nothing'); // we never ask clients for one on a channel
    }
  }

  #clientData(payload: Buffer): void {
    const data = dataOf(payload);
    if (data === undefined) throw new MalformedData('data of another length than it says');
    if (!this.toTarget.received(data.length)) throw new MalformedData('more data than the window allows');
    if (this.#clientEnd.eof) throw new MalformedData('data after EOF');
    // Extended data of a client means nothing to any server.
    if (data.length === 0 || payload[0] !== MSG.CHANNEL_DATA || this.phase === 'Over') return;
    const isHeldUp = this.phase !== 'Live' || this.#operations.size > 0;
    if (isHeldUp && this.pty !== undefined && data.includes(INTERRUPT)) this.withdrawAll();
    this.later(payload);
  }

  /** To the target as soon as it is there. */
  later(payload: Buffer): void {
    if (this.phase === 'Over') return;
    if (this.phase === 'Live') this.#forward(payload);
    else this.#early.push(payload);
  }

  #forward(payload: Buffer): void {
    if (payload[0] === MSG.CHANNEL_DATA) {
      const data = dataOf(payload)!;
      if (this.filter !== undefined) {
        this.recorder?.passing('stdin', data);
        this.filter.fromClient(data);
        if (this.filter.needs?.client === false) releasePayload(payload);
        this.toTarget.replenish();
      } else if (this.pty !== undefined) {
        this.toTarget.data(payload, true); // never stored
      } else {
        const recorded = this.recorder?.passing('stdin', data) ?? true;
        this.toTarget.data(payload, recorded);
        if (!recorded) waitForRecord(this.core, this.toTarget);
      }
    } else if (payload[0] === MSG.CHANNEL_EOF && this.filter !== undefined) this.filter.clientEof();
    else this.toTarget.control(payload);
  }

  /** The target has a channel and its command was sent: everything that waited follows. */
  live(): void {
    const receiver = this.target.receiver;
    if (receiver === undefined) return;
    this.phase = 'Live';
    for (const payload of this.#early.take()) this.#forward(payload);
    this.toTarget.open(receiver);
  }

  #clientClosed(): void {
    if (this.#clientEnd.closed) throw new MalformedData('closed twice');
    this.#clientEnd.closed = true;
    this.#clientEnd.eof = true;
    this.withdrawAll();
    this.#early.take();
    this.toClient.discardData();
    if (this.phase === 'Live') {
      // Clients close as soon as both halves are: the exit status is still to come, then the target's own CLOSE.
      this.toTarget.control(bare(MSG.CHANNEL_CLOSE, 0));
      return;
    }
    this.toClient.stop();
    if (!this.#clientEnd.closeSent) {
      this.#clientEnd.closeSent = true;
      this.core.toClient(bare(MSG.CHANNEL_CLOSE, this.#client));
    }
    if (this.phase !== 'Over') {
      this.phase = 'Over';
      this.endTarget();
    }
    this.settle();
  }

  /** What waits for consent is given up. */
  withdrawAll(): void {
    this.judging?.withdraw();
    for (const one of this.#operations) one.withdraw();
  }

  #clientRequest(payload: Buffer): void {
    const request = parseChannelRequest(payload);
    if (this.#replies.unanswered >= MOST_UNANSWERED) throw new MalformedData('too many requests at once');
    if (this.#clientEnd.closed) throw new MalformedData('a request on a closed channel');
    takeRequest(this, payload, request, request.wantReply ? this.#replies.open() : undefined);
  }

  /** Somebody decides about the command, or about an operation of it. */
  get isJudged(): boolean {
    return this.phase === 'Judging' || this.#operations.size > 0;
  }

  /** Withdrawn where the command is. */
  awaits(judging: Judging): void {
    this.#operations.add(judging);
    void judging.outcome.then(() => this.#operations.delete(judging));
  }

  /** From here on what passes is kept under this command. */
  recordAs(id: number, command: SshCommand): void {
    const { session, context } = this.core;
    this.recorder = createCommandRecorder({
      record: session.record,
      clock: context.clock,
      channel: this.number,
      id,
      keeping: keepingOf(command),
    });
    for (const text of this.#untold.splice(0)) this.recorder.own(this.#ownStream, text);
  }

  get #ownStream(): 'terminal' | 'stderr' {
    return this.pty === undefined ? 'stderr' : 'terminal';
  }

  /** Puts the filter for such a command in the channel. */
  filtered(command: SshCommand): void {
    const parts: FilterHostParts = {
      channel: this,
      operations: this.#operations,
      fail: (side, text) => this.core.fail(side === 'Client' ? 'ClientFault' : 'TargetFault', text),
    };
    this.filter = this.core.services.filterFor(command, createFilterHost(parts), this.core.filterOptions());
  }

  // --- from the target

  fromTarget(payload: Buffer): void {
    takeFromTarget(this, payload);
  }

  /** The connection to the target is gone. */
  targetGone(line: string): void {
    this.expecting = {};
    this.target.gone();
    if (this.phase === 'Opening' || this.phase === 'Live') {
      this.tell(line, 'last');
      this.recorder?.ended({ code: 'TargetClosed', message: line });
      this.finish(EXIT_UNREACHABLE);
    } else this.settle();
  }

  // --- to both

  /** A line of ours, for people. `last`: the command has said all it will. */
  tell(line: string, place?: 'last'): void {
    if (this.#clientEnd.closeSent) return;
    const text = `${line}${this.pty === undefined ? '\n' : '\r\n'}`;
    if (this.recorder !== undefined) this.recorder.own(this.#ownStream, text, place);
    else if (this.#untold.length < 64) this.#untold.push(text);
    this.toClient.data(extendedData(0, STDERR, Buffer.from(text)), true);
  }

  /** Ends the channel from our side, after what was queued for the client. */
  finish(exitStatus: number): void {
    if (this.phase === 'Over' && this.#clientEnd.closeSent) return;
    this.phase = 'Over';
    this.recorder?.exited({ status: exitStatus });
    this.recorder?.ended();
    this.filter?.closed();
    this.#early.take();
    this.toClient.control(channelRequest(0, 'exit-status', false, { uint32: exitStatus }));
    this.toClient.control(bare(MSG.CHANNEL_EOF, 0));
    this.toClient.control(bare(MSG.CHANNEL_CLOSE, 0));
    this.endTarget();
    this.settle();
  }

  /** Stops everything but last words, which are recorded as part of what the user saw: the connection is being cut. */
  freeze(error: { code: string; message: string }, line?: string): void {
    this.withdrawAll();
    this.features.ended();
    this.phase = 'Over';
    this.filter?.closed();
    this.#early.take();
    const undelivered = this.toClient.queuedBytes;
    this.toClient.stop();
    this.toTarget.stop();
    if (line !== undefined) this.recorder?.own(this.#ownStream, this.#lastText(line), 'last');
    this.recorder?.ended(error, undelivered);
  }

  /** A terminal is taken back first from whatever drew on it. */
  #lastText(line: string): string {
    if (this.pty === undefined) return `${line}\n`;
    return `${this.target.receiver === undefined ? '' : TERMINAL_RESET}${line}\r\n`;
  }

  /** After `freeze`: what the user sees last. true: the client has yet to close. */
  lastWords(line: string): boolean {
    if (this.#clientEnd.closeSent) return false;
    const text = Buffer.from(this.#lastText(line));
    // A terminal's own stream: its stderr may be elsewhere.
    this.toClient.last(this.pty === undefined ? extendedData(0, STDERR, text) : channelData(0, text));
    this.toClient.last(
      channelRequest(0, 'exit-signal', false, { string: 'TERM' }, { boolean: false }, { string: line }, { string: '' }),
    );
    this.toClient.last(bare(MSG.CHANNEL_EOF, 0));
    this.toClient.last(bare(MSG.CHANNEL_CLOSE, 0));
    return !this.#clientEnd.closed;
  }

  /** To what runs at the target; of any phase. */
  signal(name: 'HUP' | 'TERM' | 'KILL'): void {
    if (this.isAtTarget) this.target.send(channelRequest(0, 'signal', false, { string: name }));
  }

  #sendClient(payload: Buffer, more?: Buffer): void {
    if (this.#clientEnd.closeSent) return;
    if (payload[0] === MSG.CHANNEL_CLOSE) {
      this.#clientEnd.closeSent = true;
      this.core.toClient(payload);
      this.settle();
      return;
    }
    this.core.toClient(payload, more);
  }

  /** Nothing more of ours goes to the target on this channel. */
  endTarget(): void {
    this.toTarget.stop();
    this.target.close();
  }

  /** Gives the number back once neither side uses it. */
  settle(): void {
    const { closed, closeSent } = this.#clientEnd;
    if (!closed || !closeSent) return;
    if (!this.target.isDone) return;
    this.features.ended();
    this.recorder?.ended({ code: 'ClientClosed', message: 'the client closed the channel' });
    this.core.removed(this);
  }
}
