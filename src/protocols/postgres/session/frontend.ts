// From the client to the server: frames, judges, records, and sends on in the order it came. Nothing of a command leaves
// before the gate is clear, it is decided Allow and its record is written; a denied one is replaced by a message the
// server rejects itself, so that the server orders the error and reports the true transaction state.
import { PROTOCOL_VIOLATION } from '../errors.ts';
import { type FrameHandler, Framer, type Treatment } from '../wire/framer.ts';
import { decodeNamed, FRONTEND, WireError } from '../wire/messages.ts';
import type { Comeback, Wait } from './comeback.ts';
import { type Core, failInternally } from './core.ts';
import { nothingKnown } from './described.ts';
import { bind, execute, parse } from './extended-query.ts';
import { query } from './simple-query.ts';
import { ToServer, type ToServerPort } from './to-server.ts';

/** What the frontend needs of the session around it. */
export interface FrontendPort extends ToServerPort {
  /** Held up: read on, but bounded. */
  suspended(): void;
  resumed(): void;
}

const LONGEST_VALUES = 1024 * 1024;
const LARGEST_SMALL_MESSAGE = 64 * 1024;

export class Frontend implements FrameHandler {
  readonly framer: Framer;
  readonly #core: Core;
  readonly #port: FrontendPort;
  readonly #out: ToServer;
  #suspended = false;
  #ended = false;

  constructor(core: Core, port: FrontendPort) {
    this.#core = core;
    this.#port = port;
    this.framer = new Framer(this);
    this.#out = new ToServer(core, port);
  }

  get isSuspended(): boolean {
    return this.#suspended;
  }

  /** A hold waits: ends it as withdrawn. False: none does. */
  withdraw(): boolean {
    return this.#out.withdraw();
  }

  receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.#out.arrived();
    this.framer.push(chunk);
    this.#out.seal();
  }

  /** Goes on with what is buffered, after the session paused the framer for the server to drain. */
  drained(): void {
    if (this.#ended || this.#suspended) return;
    this.#out.arrived();
    this.framer.resume();
    this.#out.seal();
  }

  /** The client closed its side: what it sent before is still carried out. */
  finish(): void {
    if (this.#ended) return;
    this.#out.last();
    this.#out.seal();
  }

  stop(clientGone = false): void {
    this.#ended = true;
    this.framer.stop();
    this.#out.withdraw(clientGone ? 'ClientGone' : undefined);
  }

  /** An error ended a COPY in the extended protocol while a Sync of the client had been swallowed: the server waits for one. */
  copyFailed(): boolean {
    return this.#out.copy.failed();
  }

  // --- FrameHandler

  header(type: number, total: number): Treatment {
    switch (type) {
      case FRONTEND.Query:
      case FRONTEND.Parse:
      case FRONTEND.Bind:
        // The text and a little for names, so that a text of exactly the limit passes.
        return total - 5 > this.#longest(type) + 1024 ? 'Drop' : 'Whole';
      case FRONTEND.FunctionCall:
        return 'Drop';
      case FRONTEND.CopyData:
        return this.#out.takesCopyData() ? 'Pass' : 'Drop';
      case FRONTEND.Execute:
      case FRONTEND.Describe:
      case FRONTEND.Close:
      case FRONTEND.Sync:
      case FRONTEND.Flush:
      case FRONTEND.Terminate:
      case FRONTEND.CopyDone:
      case FRONTEND.CopyFail:
        if (total > LARGEST_SMALL_MESSAGE) this.broken(`message of type 0x${type.toString(16)} of ${total} bytes`);
        return 'Whole';
      default:
        this.broken(`invalid frontend message type ${type}`);
        return 'Drop';
    }
  }

  piece(_type: number, buffer: Buffer, start: number, end: number): void {
    this.#out.push(buffer, start, end, undefined, undefined, 'Pass');
  }

  dropped(type: number): void {
    if (type === FRONTEND.CopyData || this.#ended) return;
    if (this.#out.copy.runs) return this.#outOfOrder(type);
    if (this.#out.dropping) return;
    const described = nothingKnown('');
    if (type === FRONTEND.FunctionCall) {
      this.#out.refuse('Query', described, {
        code: 'Unsupported',
        message: 'Sallyport refused a function call of the fast-path protocol',
        hint: 'Call the function in SQL: SELECT f(…).',
      });
      return;
    }
    this.#out.refuse(type === FRONTEND.Query ? 'Query' : 'Extended', described, {
      code: 'LimitReached',
      message: `Sallyport refused a message that is longer than ${this.#longest(type)} bytes`,
      hint: 'Send large data with COPY, or ask the Connection’s owners to raise limits.statementBytes.',
    });
  }

  /** Bytes of a message with text or values. Values are not parsed, so they may be longer than a statement. */
  #longest(type: number): number {
    const { statementBytes } = this.#core.context.limits;
    return type === FRONTEND.Bind ? Math.max(statementBytes, LONGEST_VALUES) : statementBytes;
  }

  broken(problem: string): void {
    if (this.#ended) return;
    this.#core.fail({ code: PROTOCOL_VIOLATION, message: `Sallyport: ${problem}` }, 'ProtocolViolation');
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    this.#handle(type, buffer, start, end, undefined);
  }

  // --- one message

  #handle(type: number, buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): void {
    let wait: Wait | undefined;
    try {
      wait = this.#message(type, buffer, start, end, comeback);
    } catch (error) {
      if (error instanceof WireError) this.broken(error.message);
      else failInternally(this.#core, error);
      return;
    }
    if (wait === undefined || this.#ended) return;
    // The chunk may be reused by nobody, but it is far larger than this message: keep just this.
    const kept = Buffer.from(buffer.subarray(start, end));
    this.#suspended = true;
    this.framer.pause();
    this.#port.suspended();
    void wait.then((next) => {
      if (this.#ended) return;
      this.#suspended = false;
      this.#out.arrived();
      this.#handle(type, kept, 0, kept.length, next);
      if (!this.#suspended && !this.#ended) {
        this.#port.resumed();
        this.framer.resume();
      }
      this.#out.seal();
    });
  }

  #message(type: number, buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const body = start + 5;
    if (this.#out.copy.runs) {
      switch (type) {
        case FRONTEND.Sync:
          this.#out.copy.swallowSync();
          return undefined;
        case FRONTEND.Flush:
          return undefined;
        case FRONTEND.CopyDone:
        case FRONTEND.CopyFail:
          this.#out.copy.end();
          this.#out.push(buffer, start, end, undefined, undefined, 'CopyEnd');
          return undefined;
        case FRONTEND.Terminate:
          break;
        default:
          this.#outOfOrder(type);
          return undefined;
      }
    }
    switch (type) {
      case FRONTEND.Sync:
        this.#out.dropping = false;
        this.#out.push(buffer, start, end, 'Sync', { kind: 'Plain' }, 'Sync');
        core.segment += 1;
        return undefined;
      case FRONTEND.Terminate:
        this.#out.last();
        this.framer.stop();
        return undefined;
      case FRONTEND.CopyDone:
      case FRONTEND.CopyFail:
        if (this.#out.takesCopyData()) this.#out.push(buffer, start, end, undefined, undefined, 'CopyEnd');
        return undefined;
      default:
        break;
    }
    if (this.#out.dropping) return undefined;
    switch (type) {
      case FRONTEND.Query:
        return query(this.#out, buffer, start, end, comeback);
      case FRONTEND.Parse:
        return parse(this.#out, buffer, start, end, comeback);
      case FRONTEND.Bind:
        return bind(this.#out, buffer, start, end, comeback);
      case FRONTEND.Execute:
        return execute(this.#out, buffer, start, end, comeback);
      case FRONTEND.Describe: {
        const { kind } = decodeNamed(buffer, body, end);
        const expect = kind === 'Statement' ? 'DescribeStatement' : 'DescribePortal';
        this.#out.push(
          buffer,
          start,
          end,
          expect,
          { kind: 'Describe', swallow: undefined, verdict: undefined },
          'Extended',
        );
        return undefined;
      }
      case FRONTEND.Close: {
        const { kind, name } = decodeNamed(buffer, body, end);
        this.#out.push(
          buffer,
          start,
          end,
          'Close',
          { kind: kind === 'Statement' ? 'CloseStatement' : 'ClosePortal', name },
          'Extended',
        );
        return undefined;
      }
      default: // Flush
        this.#out.push(buffer, start, end, undefined, undefined, 'Pass');
        return undefined;
    }
  }

  #outOfOrder(type: number): void {
    this.broken(`unexpected message type 0x${type.toString(16)} during COPY from stdin`);
  }
}
