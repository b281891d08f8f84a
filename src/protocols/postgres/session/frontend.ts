// From the client to the server: frames, judges, records, and sends on in the order it came. Nothing of a command leaves
// before the gate is clear, it is decided Allow and its record is written; a denied one is replaced by a message the
// server rejects itself, so that the server orders the error and reports the true transaction state.
import { performance } from 'node:perf_hooks';
import type { Refusal } from '../errors.ts';
import { PROTOCOL_VIOLATION, refusalError } from '../errors.ts';
import { type FrameHandler, Framer, type Treatment } from '../wire/framer.ts';
import {
  decodeBind,
  decodeExecute,
  decodeNamed,
  decodeParse,
  decodeText,
  FLUSH,
  FRONTEND,
  WireError,
} from '../wire/messages.ts';
import { Barrier } from './barrier.ts';
import { ClientCopy } from './client-copy.ts';
import { type Comeback, heldName, releasedHold, type Wait, waitFor } from './comeback.ts';
import { type Described, recordAllowed, refusedBody } from './commands.ts';
import { type Core, failInternally, mustUnderstand, newRun, wireName } from './core.ts';
import { nothingKnown, parameterTexts, preparedText } from './described.ts';
import { holdCommand } from './hold.ts';
import { judgePrepared, judgeText, restsOnCurrentCatalog, type Verdict } from './judge.ts';
import { type Batch, newBatch, type Outgoing } from './outgoing.ts';
import { substitute } from './substitute.ts';
import type { AppliedEffect, Item, PassedVerdict, Portal, Prepared } from './types.ts';

/** What the frontend needs of the session around it. */
export interface FrontendPort {
  /** Sends a written batch on. */
  forward(batch: Batch): void;
  /** A message of ours to the client, on the next message boundary. */
  tell(message: Buffer): void;
  /** Batches sealed but not forwarded yet. */
  readonly unwritten: number;
  seal(batch: Batch): void;
  /** Held up: read on, but bounded. */
  suspended(): void;
  resumed(): void;
}

const LONGEST_VALUES = 1024 * 1024;
const LARGEST_SMALL_MESSAGE = 64 * 1024;
/** Texts of prepared statements and values of portals that one session may keep here, each. */
const MOST_KEPT_BYTES = 64 * 1024 * 1024;

export class Frontend implements FrameHandler {
  readonly framer: Framer;
  readonly #core: Core;
  readonly #port: FrontendPort;
  #batch: Batch;
  /** The extended messages up to the next Sync go nowhere: one before them was denied. */
  #dropping = false;
  /** COPY data behind a denied Query has no COPY. */
  #lastDenied = false;
  readonly #copy: ClientCopy;
  readonly #barrier: Barrier;
  #suspended = false;
  #ended = false;
  #withdraw: ((event?: 'ClientGone') => void) | undefined;

  constructor(core: Core, port: FrontendPort) {
    this.#core = core;
    this.#port = port;
    this.framer = new Framer(this);
    this.#batch = newBatch(0);
    this.#copy = new ClientCopy(core.ledger);
    this.#barrier = new Barrier(core);
  }

  get isSuspended(): boolean {
    return this.#suspended;
  }

  /** A hold waits: ends it as withdrawn. False: none does. */
  withdraw(): boolean {
    const withdraw = this.#withdraw;
    withdraw?.();
    return withdraw !== undefined;
  }

  receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.#batch.receivedMs = performance.now();
    this.framer.push(chunk);
    this.#seal();
  }

  /** Goes on with what is buffered, after the session paused the framer for the server to drain. */
  drained(): void {
    if (this.#ended || this.#suspended) return;
    this.#batch.receivedMs = performance.now();
    this.framer.resume();
    this.#seal();
  }

  /** The client closed its side: what it sent before is still carried out. */
  finish(): void {
    if (this.#ended) return;
    this.#batch.last = true;
    this.#seal();
  }

  stop(clientGone = false): void {
    this.#ended = true;
    this.framer.stop();
    this.#withdraw?.(clientGone ? 'ClientGone' : undefined);
  }

  /** An error ended a COPY in the extended protocol while a Sync of the client had been swallowed: the server waits for one. */
  copyFailed(): boolean {
    return this.#copy.failed();
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
        return this.#takesCopyData() ? 'Pass' : 'Drop';
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
    this.#push(buffer, start, end, undefined, undefined, 'Pass');
  }

  dropped(type: number): void {
    if (type === FRONTEND.CopyData || this.#ended) return;
    if (this.#copy.runs) return this.#outOfOrder(type);
    if (this.#dropping) return;
    const described = nothingKnown('');
    if (type === FRONTEND.FunctionCall) {
      this.#refuse('Query', described, {
        code: 'Unsupported',
        message: 'Sallyport refused a function call of the fast-path protocol',
        hint: 'Call the function in SQL: SELECT f(…).',
      });
      return;
    }
    this.#refuse(type === FRONTEND.Query ? 'Query' : 'Extended', described, {
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
      this.#batch.receivedMs = performance.now();
      this.#handle(type, kept, 0, kept.length, next);
      if (!this.#suspended && !this.#ended) {
        this.#port.resumed();
        this.framer.resume();
      }
      this.#seal();
    });
  }

  #message(type: number, buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const body = start + 5;
    if (this.#copy.runs) {
      switch (type) {
        case FRONTEND.Sync:
          this.#copy.swallowSync();
          return undefined;
        case FRONTEND.Flush:
          return undefined;
        case FRONTEND.CopyDone:
        case FRONTEND.CopyFail:
          this.#copy.end();
          this.#push(buffer, start, end, undefined, undefined, 'CopyEnd');
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
        this.#dropping = false;
        this.#push(buffer, start, end, 'Sync', { kind: 'Plain' }, 'Sync');
        core.segment += 1;
        return undefined;
      case FRONTEND.Terminate:
        this.#batch.last = true;
        this.framer.stop();
        return undefined;
      case FRONTEND.CopyDone:
      case FRONTEND.CopyFail:
        if (this.#takesCopyData()) this.#push(buffer, start, end, undefined, undefined, 'CopyEnd');
        return undefined;
      default:
        break;
    }
    if (this.#dropping) return undefined;
    switch (type) {
      case FRONTEND.Query:
        return this.#query(buffer, start, end, comeback);
      case FRONTEND.Parse:
        return this.#parse(buffer, start, end, comeback);
      case FRONTEND.Bind:
        return this.#bind(buffer, start, end, comeback);
      case FRONTEND.Execute:
        return this.#execute(buffer, start, end, comeback);
      case FRONTEND.Describe: {
        const { kind } = decodeNamed(buffer, body, end);
        const expect = kind === 'Statement' ? 'DescribeStatement' : 'DescribePortal';
        this.#push(
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
        this.#push(
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
        this.#push(buffer, start, end, undefined, undefined, 'Pass');
        return undefined;
    }
  }

  #query(buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const text = decodeText(buffer, start + 5, end);
    const waiting = this.#passBarrier();
    if (waiting !== undefined) return waiting;
    const described = nothingKnown(text.toString('utf8'));
    if (comeback?.kind === 'Refused') {
      this.#refuse('Query', described, comeback.refusal, comeback.hold);
      return undefined;
    }
    const verdict = judgeText(core, text);
    return this.#act('Query', verdict, described, comeback, (passed, effects, commandId) => {
      const run = newRun(core, commandId, passed);
      run.effects = effects;
      this.#note(effects);
      core.names.passed(passed.commands);
      core.segment += 1;
      this.#push(buffer, start, end, 'Query', { kind: 'Run', run }, 'Query');
    });
  }

  #parse(buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const message = decodeParse(buffer, start + 5, end);
    const waiting = this.#passBarrier();
    if (waiting !== undefined) return waiting;
    const described = nothingKnown(message.text.toString('utf8'));
    if (comeback?.kind === 'Refused') {
      this.#refuse('Extended', described, comeback.refusal, comeback.hold);
      return undefined;
    }
    const prepared: Prepared = {
      size: message.text.length,
      text: message.text.toString('latin1'),
      parameterTypes: message.parameterTypes,
      statement: undefined,
      passed: undefined,
    };
    // What is certain to be refused need not reach the server's parser; what is held is asked about when it is bound.
    const verdict = judgePrepared(core, [prepared]);
    if (verdict.kind === 'Wait') return waitFor(verdict.until);
    if (verdict.kind === 'Refuse') {
      this.#refuse('Extended', { ...described, statements: verdict.statements }, verdict.refusal);
      return undefined;
    }
    if (
      core.statements.weight + prepared.size > MOST_KEPT_BYTES ||
      !core.statements.define(message.name, prepared, core.segment)
    ) {
      this.#refuse('Extended', described, {
        code: 'LimitReached',
        message: 'Sallyport refused the command: this session keeps too many prepared statements',
        hint: 'Close those no longer needed, or reconnect.',
      });
      return undefined;
    }
    this.#push(buffer, start, end, 'Parse', { kind: 'Parse', name: message.name, prepared }, 'Extended');
    return undefined;
  }

  #bind(buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const message = decodeBind(buffer, start + 5, end);
    const waiting = this.#passBarrier();
    if (waiting !== undefined) return waiting;
    const candidates = core.statements.lookup(message.statement, core.segment);
    const prepared = candidates.at(-1);
    const parameters = prepared === undefined ? NONE : parameterTexts(message, prepared);
    const described: Described = {
      text:
        candidates.length === 1
          ? preparedText(candidates[0]!)
          : candidates.map(preparedText).join('\n-- or, if the server kept what the name meant before:\n'),
      parameters,
      statements: undefined,
      masking: undefined,
    };
    if (comeback?.kind === 'Refused') {
      this.#refuse('Extended', described, comeback.refusal, comeback.hold);
      return undefined;
    }
    const verdict = judgePrepared(core, candidates);
    return this.#act('Extended', verdict, described, comeback, (passed, effects, commandId) => {
      const portal: Portal = {
        prepared: prepared ?? UNKNOWN_PREPARED,
        commandId,
        generation: core.session.policy().generation,
        verdict: passed,
        parameters,
        effects,
      };
      if (core.portals.weight > MOST_KEPT_BYTES || !core.portals.define(message.portal, portal, core.segment)) {
        this.#refuse('Extended', described, {
          code: 'LimitReached',
          message: 'Sallyport refused the command: this session keeps too many portals',
          hint: 'Close those no longer needed, or reconnect.',
        });
        return;
      }
      this.#push(buffer, start, end, 'Bind', { kind: 'Bind', name: message.portal, portal }, 'Extended');
    });
  }

  #execute(buffer: Buffer, start: number, end: number, comeback: Comeback | undefined): Wait | undefined {
    const core = this.#core;
    const { portal: name } = decodeExecute(buffer, start + 5, end);
    const portals = core.portals.lookup(name, core.segment);
    const portal = portals.at(-1);
    const policy = core.session.policy();
    const gate = core.session.gate();
    const described: Described =
      portal === undefined
        ? nothingKnown('')
        : {
            text: preparedText(portal.prepared),
            parameters: portal.parameters,
            statements: portal.verdict.statements,
            masking: undefined,
          };
    if (comeback?.kind === 'Refused') {
      this.#refuse('Extended', described, comeback.refusal, comeback.hold);
      return undefined;
    }
    const current =
      portals.length === 1 && // of several readings it is not known which one runs: all are judged together
      portals.every(
        (one) =>
          one.generation === policy.generation &&
          // Utility statements look their names up now, not when they were bound.
          core.names.stands(one.verdict.basis) &&
          restsOnCurrentCatalog(core, one.verdict, policy),
      );
    if (portal !== undefined && current && gate === undefined && comeback === undefined) {
      this.#run(
        buffer,
        start,
        end,
        name,
        portal.verdict,
        portal.effects,
        portal.commandId ?? this.#record(described, portal.verdict),
      );
      return undefined;
    }
    if (portal === undefined && gate === undefined && !mustUnderstand(policy)) {
      // A cursor that SQL declared while nothing had to be understood; or none, and the server says so.
      const verdict = judgePrepared(core, NONE);
      return this.#act('Extended', verdict, described, comeback, (passed, effects, commandId) =>
        this.#run(buffer, start, end, name, passed, effects, commandId),
      );
    }
    // The policy changed since Bind: decided anew, and recorded as what it now is.
    const verdict = judgePrepared(
      core,
      portals.map((one) => one.prepared),
      { bound: true },
    );
    return this.#act('Extended', verdict, described, comeback, (passed, effects, commandId) => {
      for (const one of portals) {
        one.generation = policy.generation;
        one.verdict = passed;
      }
      this.#run(buffer, start, end, name, passed, effects, commandId);
    });
  }

  #run(
    buffer: Buffer,
    start: number,
    end: number,
    name: string,
    verdict: PassedVerdict,
    effects: readonly AppliedEffect[],
    commandId: number,
  ): void {
    const run = newRun(this.#core, commandId, verdict);
    run.effects = effects;
    this.#note(effects);
    this.#core.names.passed(verdict.commands);
    if (verdict.masking !== undefined) {
      // The server's own description of the very portal that runs, right before its rows: the plan hangs on it.
      const describe = describeBytes(name);
      this.#push(
        describe,
        0,
        describe.length,
        'DescribePortal',
        { kind: 'Describe', swallow: run, verdict },
        'Extended',
      );
    }
    this.#push(buffer, start, end, 'Execute', { kind: 'Run', run }, 'Extended');
    this.#barrier.raise(verdict);
  }

  // --- decisions

  #act(
    mode: 'Query' | 'Extended',
    verdict: Verdict,
    described: Described,
    comeback: Comeback | undefined,
    pass: (verdict: PassedVerdict, effects: readonly AppliedEffect[], commandId: number) => void,
  ): Wait | undefined {
    const core = this.#core;
    switch (verdict.kind) {
      case 'Wait':
        // What was consented to stays so while the catalog is read.
        return waitFor(verdict.until, comeback);
      case 'Refuse':
        this.#refuse(mode, { ...described, statements: verdict.statements }, verdict.refusal, heldName(comeback));
        return undefined;
      case 'Allow': {
        core.session.observe.decision('Allow');
        const { text, parameters } = described;
        const { statements, masking } = verdict.verdict;
        const id = this.#record({ text, parameters, statements, masking }, verdict.verdict, releasedHold(comeback));
        pass(verdict.verdict, verdict.effects, id);
        if (mode === 'Query') this.#barrier.raise(verdict.verdict);
        this.#lastDenied = false;
        return undefined;
      }
      case 'Hold': {
        const known = { ...described, statements: verdict.verdict.statements, masking: verdict.verdict.masking };
        if (comeback?.kind === 'Released') {
          const id = this.#record(known, verdict.verdict, releasedHold(comeback));
          pass(verdict.verdict, verdict.effects, id);
          if (mode === 'Query') this.#barrier.raise(verdict.verdict);
          this.#lastDenied = false;
          return undefined;
        }
        core.session.observe.decision('Hold');
        const waiting = holdCommand(
          core,
          verdict.decision,
          verdict.command,
          known,
          (notice) => this.#port.tell(notice),
          this.#allAnswered(),
        );
        this.#withdraw = waiting.withdraw;
        return waiting.outcome.then((outcome): Comeback => {
          this.#withdraw = undefined;
          return outcome.kind === 'Released'
            ? { kind: 'Released', held: outcome.held }
            : { kind: 'Refused', refusal: outcome.refusal, hold: outcome.hold };
        });
      }
    }
  }

  #record(
    described: Described,
    verdict: PassedVerdict,
    hold?: { name: string; approvedBy: readonly string[] },
  ): number {
    const id = this.#core.nextCommandId++;
    recordAllowed(this.#core, id, described, verdict, hold);
    this.#batch.recorded = true;
    return id;
  }

  #refuse(mode: 'Query' | 'Extended', described: Described, refusal: Refusal, hold?: string): void {
    const core = this.#core;
    const denial = core.session.denialId();
    core.session.observe.decision('Deny', refusal.code);
    const id = core.nextCommandId++;
    core.session.record.append('command', refusedBody(core, id, described, refusal, denial, hold));
    this.#batch.recorded = true;
    const error = refusalError(refusal, denial, core.services.prefix);
    this.#substitute(mode, denial, { kind: 'Denial', error });
  }

  #substitute(mode: 'Query' | 'Extended', denial: string, item: Item): void {
    const bytes = substitute(mode, denial);
    this.#lastDenied = true;
    if (mode === 'Query') {
      this.#push(bytes, 0, bytes.length, 'Query', item, 'Pass');
      this.#core.segment += 1;
    } else {
      this.#push(bytes, 0, bytes.length, 'Parse', item, 'Pass');
      this.#dropping = true;
    }
  }

  /** Names that SQL defines are known from here on, for sure once the server says so. */
  #note(effects: readonly AppliedEffect[]): void {
    const core = this.#core;
    for (const { effect, prepared, portal } of effects) {
      if (effect.kind === 'Prepare' && prepared !== undefined) {
        core.statements.define(wireName(effect.name), prepared, -1);
      } else if (effect.kind === 'Declare' && portal !== undefined) {
        core.portals.define(wireName(effect.cursor), portal, -1);
      }
    }
  }

  /** Behind a statement that may change how text is read, the next is judged only when that one has run. */
  #passBarrier(): Wait | undefined {
    if (!this.#barrier.up || this.#barrier.lower(this.#allAnswered())) return undefined;
    // Without a Sync the server keeps its answers to itself.
    this.#push(FLUSH, 0, FLUSH.length, undefined, undefined, 'Pass');
    return this.#barrier.wait();
  }

  #allAnswered(): boolean {
    return this.#core.ledger.idle && this.#port.unwritten === 0 && this.#batch.messages.length === 0;
  }

  #takesCopyData(): boolean {
    if (this.#copy.runs) return true;
    return (
      !this.#lastDenied &&
      !this.#dropping &&
      (!this.#core.ledger.idle || this.#port.unwritten > 0 || this.#batch.messages.length > 0)
    );
  }

  #outOfOrder(type: number): void {
    this.broken(`unexpected message type 0x${type.toString(16)} during COPY from stdin`);
  }

  #push(
    buffer: Buffer,
    start: number,
    end: number,
    expect: Outgoing['expect'],
    item: Item | undefined,
    refuseAs: Outgoing['refuseAs'],
  ): void {
    if (item !== undefined && (expect === 'Query' || expect === 'Sync')) item.mark = this.#core.names.mark;
    this.#batch.messages.push({ buffer, start, end, expect, item, refuseAs });
  }

  #seal(): void {
    const batch = this.#batch;
    if (batch.messages.length === 0 && !batch.last && !batch.recorded) return;
    this.#batch = newBatch(batch.receivedMs);
    if (batch.recorded) this.#core.session.observe.latency(performance.now() - batch.receivedMs);
    this.#port.seal(batch);
  }
}

const NONE: readonly never[] = [];
const UNKNOWN_PREPARED: Prepared = { size: 0, text: '', parameterTypes: NONE, statement: undefined, passed: undefined };

function describeBytes(wireNameOfPortal: string): Buffer {
  const name = Buffer.from(wireNameOfPortal, 'latin1');
  const out = Buffer.allocUnsafe(7 + name.length);
  out[0] = FRONTEND.Describe;
  out.writeInt32BE(6 + name.length, 1);
  out[5] = 0x50;
  name.copy(out, 6);
  out[6 + name.length] = 0;
  return out;
}
