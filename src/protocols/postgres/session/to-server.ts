// What of the client's messages is on its way to the server, in the order it came: sent on, or refused in place.
// Guarantees: what is decided is recorded before the batch it is in is sealed; a refused command has a denial in its place.
// Does not guarantee that what is pushed was judged: that is for those who push.
import { performance } from 'node:perf_hooks';
import { type Refusal, refusalError } from '../errors.ts';
import { FLUSH } from '../wire/messages.ts';
import { Barrier } from './barrier.ts';
import { ClientCopy } from './client-copy.ts';
import { type Comeback, heldName, releasedHold, type Wait, waitFor } from './comeback.ts';
import { type Described, recordAllowed, refusedBody } from './commands.ts';
import { type Core, wireName } from './core.ts';
import { holdCommand } from './hold.ts';
import type { Verdict } from './judge.ts';
import { type Batch, newBatch, type Outgoing } from './outgoing.ts';
import { substitute } from './substitute.ts';
import type { AppliedEffect, Item, PassedVerdict } from './types.ts';

/** What the way to the server needs of the session around it. */
export interface ToServerPort {
  /** A message of ours to the client, on the next message boundary. */
  tell(message: Buffer): void;
  /** Batches sealed but not forwarded yet. */
  readonly unwritten: number;
  seal(batch: Batch): void;
}

export class ToServer {
  readonly core: Core;
  readonly copy: ClientCopy;
  readonly barrier: Barrier;
  /** The extended messages up to the next Sync go nowhere: one before them was denied. */
  dropping = false;
  readonly #port: ToServerPort;
  #batch: Batch;
  /** COPY data behind a denied Query has no COPY. */
  #lastDenied = false;
  #withdraw: ((event?: 'ClientGone') => void) | undefined;

  constructor(core: Core, port: ToServerPort) {
    this.core = core;
    this.#port = port;
    this.#batch = newBatch(0);
    this.copy = new ClientCopy(core.ledger);
    this.barrier = new Barrier(core);
  }

  /** The messages that follow arrived now. */
  arrived(): void {
    this.#batch.receivedMs = performance.now();
  }

  /** The client sends nothing after this. */
  last(): void {
    this.#batch.last = true;
  }

  /** A hold waits: ends it as withdrawn. False: none does. */
  withdraw(event?: 'ClientGone'): boolean {
    const withdraw = this.#withdraw;
    withdraw?.(event);
    return withdraw !== undefined;
  }

  /**
   * Carries a verdict out: records it and lets `pass` send it on, or refuses it, or holds it.
   * Returns what the message has to wait for before it is handled again; undefined: it is done with.
   */
  act(
    mode: 'Query' | 'Extended',
    verdict: Verdict,
    described: Described,
    comeback: Comeback | undefined,
    pass: (verdict: PassedVerdict, effects: readonly AppliedEffect[], commandId: number) => void,
  ): Wait | undefined {
    const { core } = this;
    switch (verdict.kind) {
      case 'Wait':
        // What was consented to stays so while the catalog is read.
        return waitFor(verdict.until, comeback);
      case 'Refuse':
        this.refuse(mode, { ...described, statements: verdict.statements }, verdict.refusal, heldName(comeback));
        return undefined;
      case 'Allow': {
        core.session.observe.decision('Allow');
        const { text, parameters } = described;
        const { statements, masking } = verdict.verdict;
        const id = this.record({ text, parameters, statements, masking }, verdict.verdict, releasedHold(comeback));
        pass(verdict.verdict, verdict.effects, id);
        if (mode === 'Query') this.barrier.raise(verdict.verdict);
        this.#lastDenied = false;
        return undefined;
      }
      case 'Hold': {
        const known = { ...described, statements: verdict.verdict.statements, masking: verdict.verdict.masking };
        if (comeback?.kind === 'Released') {
          const id = this.record(known, verdict.verdict, releasedHold(comeback));
          pass(verdict.verdict, verdict.effects, id);
          if (mode === 'Query') this.barrier.raise(verdict.verdict);
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

  /** Returns the command's id. */
  record(described: Described, verdict: PassedVerdict, hold?: { name: string; approvedBy: readonly string[] }): number {
    const id = this.core.nextCommandId++;
    recordAllowed(this.core, id, described, verdict, hold);
    this.#batch.recorded = true;
    return id;
  }

  /** Records the refusal and sends what the server rejects in the command's stead. */
  refuse(mode: 'Query' | 'Extended', described: Described, refusal: Refusal, hold?: string): void {
    const { core } = this;
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
      this.push(bytes, 0, bytes.length, 'Query', item, 'Pass');
      this.core.segment += 1;
    } else {
      this.push(bytes, 0, bytes.length, 'Parse', item, 'Pass');
      this.dropping = true;
    }
  }

  /** Names that SQL defines are known from here on, for sure once the server says so. */
  note(effects: readonly AppliedEffect[]): void {
    const { core } = this;
    for (const { effect, prepared, portal } of effects) {
      if (effect.kind === 'Prepare' && prepared !== undefined) {
        core.statements.define(wireName(effect.name), prepared, -1);
      } else if (effect.kind === 'Declare' && portal !== undefined) {
        core.portals.define(wireName(effect.cursor), portal, -1);
      }
    }
  }

  /** Behind a statement that may change how text is read, the next is judged only when that one has run. */
  passBarrier(): Wait | undefined {
    if (!this.barrier.up || this.barrier.lower(this.#allAnswered())) return undefined;
    // Without a Sync the server keeps its answers to itself.
    this.push(FLUSH, 0, FLUSH.length, undefined, undefined, 'Pass');
    return this.barrier.wait();
  }

  #allAnswered(): boolean {
    return this.core.ledger.idle && this.#port.unwritten === 0 && this.#batch.messages.length === 0;
  }

  /** The server may be reading COPY data, or be about to. */
  takesCopyData(): boolean {
    if (this.copy.runs) return true;
    return (
      !this.#lastDenied &&
      !this.dropping &&
      (!this.core.ledger.idle || this.#port.unwritten > 0 || this.#batch.messages.length > 0)
    );
  }

  /** The message goes with this batch. */
  push(
    buffer: Buffer,
    start: number,
    end: number,
    expect: Outgoing['expect'],
    item: Item | undefined,
    refuseAs: Outgoing['refuseAs'],
  ): void {
    if (item !== undefined && (expect === 'Query' || expect === 'Sync')) item.mark = this.core.names.mark;
    this.#batch.messages.push({ buffer, start, end, expect, item, refuseAs });
  }

  /** Closes the batch: it goes once its records are written. */
  seal(): void {
    const batch = this.#batch;
    if (batch.messages.length === 0 && !batch.last && !batch.recorded) return;
    this.#batch = newBatch(batch.receivedMs);
    if (batch.recorded) this.core.session.observe.latency(performance.now() - batch.receivedMs);
    this.#port.seal(batch);
  }
}
