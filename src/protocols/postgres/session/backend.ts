// From the server to the client: attributes every message by the ledger, masks rows, rewrites the errors of denials,
// records results. Rows that nobody needs to see pass in the pieces they came in.

import { maskDetectedText } from '../../../policy/detectors/detectors.ts';
import type { SessionPolicy } from '../../../policy/session-policy.ts';
import type { ResultBody } from '../../../recording/envelope.ts';
import { errorFields, type NativeError, NOT_SUPPORTED, PROTOCOL_VIOLATION, refusalError } from '../errors.ts';
import type { Entry } from '../ledger.ts';
import { conditionName } from '../masking/errors.ts';
import { MaskingError, type RowPlan } from '../masking/masking.ts';
import { intolerableParameter } from '../upstream/parameters.ts';
import { type FrameHandler, Framer, type Treatment } from '../wire/framer.ts';
import {
  BACKEND,
  BodyReader,
  decodeDataRow,
  decodeErrorFields,
  decodeParameterStatus,
  decodeRowDescription,
  errorResponse,
  int32,
  message,
  noticeResponse,
  WireError,
} from '../wire/messages.ts';
import { Outbox } from '../wire/outbox.ts';
import { completed } from './completed.ts';
import { type Core, failInternally } from './core.ts';
import { resolveMasking } from './judge.ts';
import { copiedRows, guessFormat, isEnd, itemRun, planFor, rebuilt, runOf, undecided } from './results.ts';
import type { Item, Run } from './types.ts';
import { valueText } from './values.ts';

export interface BackendPort {
  /** An extended COPY failed while a Sync of the client was kept back: send one now. */
  copyFailed(): void;
  /** The server's side of the stream stands still until `resume`. */
  paused(): void;
  resumed(): void;
}

/** Rows longer than this are not sampled for the record. */
const LONGEST_SAMPLED_ROW = 16 * 1024;

export class Backend implements FrameHandler {
  readonly framer: Framer;
  readonly outbox = new Outbox();
  readonly #core: Core;
  readonly #port: BackendPort;
  #ended = false;
  /** Our own notices, waiting for a message boundary. */
  #notices: Buffer[] = [];
  /** A FATAL of the server went by: it closes by itself. */
  #fatal = false;

  constructor(core: Core, port: BackendPort) {
    this.#core = core;
    this.#port = port;
    this.framer = new Framer(this);
  }

  get serverSaidFatal(): boolean {
    return this.#fatal;
  }

  /** Queues a message of ours for the client, between two of the server's. */
  tell(notice: Buffer): void {
    if (this.framer.inMessage) this.#notices.push(notice);
    else this.outbox.add(notice);
  }

  stop(): void {
    this.#ended = true;
    this.framer.stop();
  }

  // --- FrameHandler

  header(type: number, total: number): Treatment {
    const { limits } = this.#core.context;
    if (type === BACKEND.DataRow) {
      const run = runOf(this.#core.ledger.head);
      if (run === undefined) return 'Whole'; // out of place; `whole` says so
      run.rows += 1;
      run.bytes += total;
      if (run.refusal !== undefined) return 'Drop';
      if (run.verdict.masking !== undefined && run.plan?.kind !== 'Pass') {
        if (total > limits.rowBytes) this.#tooLong('row');
        return 'Whole';
      }
      if (run.sample.length < limits.recordedRows && total <= LONGEST_SAMPLED_ROW) return 'Whole';
      return 'Pass';
    }
    if (type === BACKEND.CopyData) {
      const run = runOf(this.#core.ledger.head);
      if (run === undefined) return 'Whole';
      run.bytes += total;
      if (run.refusal !== undefined) return 'Drop';
      if (run.plan?.kind !== 'Mask') return 'Pass';
      if (total > limits.rowBytes) this.#tooLong('row');
      return 'Whole';
    }
    if (total > limits.rowBytes) this.#tooLong('message');
    return 'Whole';
  }

  piece(_type: number, buffer: Buffer, start: number, end: number, _first: boolean, last: boolean): void {
    this.outbox.span(buffer, start, end);
    if (last && this.#notices.length > 0) {
      for (const notice of this.#notices) this.outbox.add(notice);
      this.#notices = [];
    }
  }

  dropped(): void {
    // A row of a refused result.
  }

  broken(problem: string): void {
    this.#desync(`the database sent what can not be followed: ${problem}`);
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    if (this.#ended) return;
    try {
      this.#message(type, buffer, start, end);
    } catch (error) {
      if (error instanceof WireError) this.#desync(`the database sent a malformed message: ${error.message}`);
      else if (error instanceof MaskingError) {
        this.#core.context.log('error', 'a row could not be masked', { error: error.message });
        this.#core.fail(
          { code: '42501', message: 'Sallyport: a row could not be masked, so the session ends' },
          'MaskingFailed',
        );
      } else failInternally(this.#core, error);
    }
  }

  // --- one message

  #message(type: number, buffer: Buffer, start: number, end: number): void {
    const core = this.#core;
    const body = start + 5;
    switch (type) {
      case BACKEND.NoticeResponse:
        return this.#notice(buffer, start, end);
      case BACKEND.ParameterStatus: {
        const { name, value } = decodeParameterStatus(buffer, body, end);
        core.parameters.set(name, value);
        const problem = intolerableParameter(name, value);
        if (problem !== undefined) {
          core.fail({ code: NOT_SUPPORTED, message: `Sallyport: ${problem}; the session ends` }, 'Unsupported');
          return;
        }
        this.outbox.span(buffer, start, end);
        return;
      }
      case BACKEND.NotificationResponse:
        return this.#notification(buffer, start, end);
      default:
        break;
    }
    const attribution = core.ledger.reply(type);
    if (attribution.kind === 'Unexpected') {
      return this.#desync(`the database answered out of order (message type 0x${type.toString(16)})`);
    }
    if (attribution.kind === 'Unasked') {
      this.#fatal = true;
      this.outbox.span(buffer, start, end);
      return;
    }
    const { entry, done, dropped } = attribution;
    this.#answer(entry, type, buffer, start, end);
    for (const one of dropped) this.skipped(one.value);
    if (done && core.ledger.idle) this.#idle();
  }

  #idle(): void {
    const { onIdle } = this.#core;
    if (onIdle === undefined) return;
    this.#core.onIdle = undefined;
    onIdle();
  }

  #answer(entry: Entry<Item>, type: number, buffer: Buffer, start: number, end: number): void {
    const core = this.#core;
    const item = entry.value;
    if (type === BACKEND.ErrorResponse) return this.#error(entry, buffer, start, end);
    if (type === BACKEND.ReadyForQuery) {
      const status = buffer[start + 5];
      core.transaction = status === 0x54 ? 'T' : status === 0x45 ? 'E' : 'I';
      if (item.mark !== undefined) core.names.ready(item.mark, core.transaction !== 'I');
      if (item.kind === 'Run') this.#finish(item.run);
      this.outbox.span(buffer, start, end);
      return;
    }
    switch (item.kind) {
      case 'Run':
        return this.#running(item.run, entry, type, buffer, start, end);
      case 'Parse':
        core.statements.confirm(item.name, item.prepared);
        break;
      case 'Bind':
        core.portals.confirm(item.name, item.portal);
        break;
      case 'CloseStatement':
        core.statements.remove(item.name);
        break;
      case 'ClosePortal':
        core.portals.remove(item.name);
        break;
      case 'Describe':
        if (item.swallow !== undefined) {
          if (type === BACKEND.RowDescription) this.#describe(item.swallow, buffer, start, end);
          return;
        }
        break;
      case 'Denial':
        return this.#desync('the database accepted what stands for a refused command');
      case 'Plain':
        break;
    }
    this.outbox.span(buffer, start, end);
  }

  #running(run: Run, entry: Entry<Item>, type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case BACKEND.DataRow:
        return this.#row(run, buffer, start, end);
      case BACKEND.RowDescription:
        this.#describe(run, buffer, start, end);
        if (run.refusal === undefined) this.outbox.span(buffer, start, end);
        return;
      case BACKEND.CommandComplete:
        run.tag = buffer.toString('latin1', start + 5, end - 1);
        completed(this.#core, run);
        if (run.refusal !== undefined) {
          // It ran to its end before the cancel came; a success that shows nothing would be a lie.
          this.#core.fail(run.refusal, 'MaskedData');
          return;
        }
        break;
      case BACKEND.EmptyQueryResponse:
        completed(this.#core, run);
        break;
      case BACKEND.CopyOutResponse:
        this.#copyOut(run, buffer[start + 5]);
        if (run.refusal !== undefined) return;
        break;
      case BACKEND.CopyData:
        if (run.refusal !== undefined) return;
        if (run.plan?.kind === 'Mask') {
          const { length } = run.plan.masker.mask(buffer.subarray(start, end));
          this.outbox.span(buffer, start, start + length);
          return;
        }
        break;
      case BACKEND.CopyDone:
        if (run.refusal !== undefined) return;
        break;
      default:
        break;
    }
    this.outbox.span(buffer, start, end);
    if (entry.kind === 'Execute' && isEnd(type)) this.#finish(run);
  }

  #row(run: Run, buffer: Buffer, start: number, end: number): void {
    const { plan } = run;
    if (run.verdict.masking !== undefined && plan === undefined) {
      // Rows without a description: nothing tells what is in them.
      return this.#desync('the database sent rows that it had not described');
    }
    if (plan?.kind === 'Mask') {
      const row = buffer.subarray(start, end);
      const masked = plan.masker.mask(row);
      // Masked in place: what is left of the row still starts where it did.
      this.outbox.span(buffer, start, start + masked.length);
      if (run.sample.length < this.#core.context.limits.recordedRows) this.#sample(run, masked, 0, masked.length);
      return;
    }
    this.outbox.span(buffer, start, end);
    if (run.sample.length < this.#core.context.limits.recordedRows) this.#sample(run, buffer, start, end);
  }

  #sample(run: Run, buffer: Buffer, start: number, end: number): void {
    // What somebody may see by exemption is nothing for the record, and which value it is in is not known here.
    if (end - start > LONGEST_SAMPLED_ROW || this.#core.session.policy().unmasked !== undefined) return;
    const fields = run.fields;
    const scrub = run.verdict.masking?.scrub.bind(run.verdict.masking) ?? maskDetectedText;
    run.sample.push(
      decodeDataRow(buffer, start + 5, end).map((value, i) => {
        const field = fields?.[i];
        // Without a description of ours the format is not known; text is by far the usual one.
        const text = valueText(value, field?.format ?? guessFormat(value), field?.typeOid ?? 0);
        return text === null ? null : scrub(text);
      }),
    );
  }

  #describe(run: Run, buffer: Buffer, start: number, end: number): void {
    const fields = decodeRowDescription(buffer, start + 5, end);
    run.fields = fields;
    run.plan = undefined;
    const { masking } = run.verdict;
    if (masking === undefined) return;
    const plan = planFor(run, masking);
    if (plan.kind === 'Unknown') return this.#lookUp(run);
    this.#applyPlan(run, plan);
  }

  /** Rows of COPY come without a description: what must be searched is known by the statement. `format`: 0 text. */
  #copyOut(run: Run, format: number | undefined): void {
    run.plan = undefined;
    const { masking, statements, alternatives } = run.verdict;
    if (masking === undefined) return;
    const current = alternatives ? undefined : statements?.[run.completed];
    const plans = (current === undefined ? (statements ?? []) : [current]).map((one) => masking.planCopy(one));
    const [only] = plans;
    if (only !== undefined && plans.every((plan) => plan.kind === 'Pass')) return;
    this.#applyPlan(run, plans.length === 1 && only !== undefined && format === 0 ? only : undecided());
  }

  /** The server names a relation the catalog has not seen: reads it anew while the rows wait. */
  #lookUp(run: Run): void {
    const core = this.#core;
    this.framer.pause();
    this.#port.paused();
    const policy: SessionPolicy = core.session.policy();
    void core
      .catalog()
      .refresh(true)
      .then(
        () => {
          const masking = resolveMasking(core, policy);
          run.verdict = { ...run.verdict, masking };
          this.#applyPlan(run, planFor(run, masking));
        },
        () => this.#applyPlan(run, { kind: 'Unknown', tableOid: 0 }),
      )
      .catch((error: unknown) => {
        core.context.log('error', 'a result could not be planned', { error: String(error) });
        core.fail(
          { code: '42501', message: 'Sallyport: a result could not be masked, so the session ends' },
          'MaskingFailed',
        );
      })
      .finally(() => {
        if (this.#ended) return;
        this.#port.resumed();
        this.framer.resume();
      });
  }

  #applyPlan(run: Run, plan: RowPlan): void {
    run.plan = plan;
    if (plan.kind === 'Mask') run.origins = plan.origins;
    if (plan.kind === 'Pass' || plan.kind === 'Mask') return;
    const core = this.#core;
    const refusal =
      plan.kind === 'Refused'
        ? { code: 'MaskedData' as const, message: plan.message, by: plan.by, hint: plan.hint }
        : {
            code: 'MaskedData' as const,
            message: 'Sallyport refused the result: it comes from a relation the catalog does not show',
            hint: 'Try again once the transaction that made the relation is committed.',
          };
    const denial = core.session.denialId();
    core.session.observe.decision('Deny', 'MaskedData');
    core.session.record.append('notice', { id: run.commandId, denial, code: 'MaskedData', message: refusal.message });
    run.refusal = refusalError(
      { ...refusal, detail: 'No row left the gateway; the statement was cancelled.' },
      denial,
      core.services.prefix,
    );
    void core.cancelRunning();
  }

  #error(entry: Entry<Item>, buffer: Buffer, start: number, end: number): void {
    const item = entry.value;
    const fields = decodeErrorFields(buffer, start + 5, end);
    if (fields.V === 'FATAL' || fields.V === 'PANIC') this.#fatal = true;
    if (item.kind === 'Denial' && !this.#fatal) {
      this.outbox.add(errorResponse(errorFields('ERROR', item.error)));
      return;
    }
    const run = item.kind === 'Run' ? item.run : item.kind === 'Describe' ? item.swallow : undefined;
    this.skippedNames(item);
    if (run?.refusal !== undefined) {
      run.error = { code: run.refusal.code, message: run.refusal.message };
      this.outbox.add(errorResponse(errorFields('ERROR', run.refusal)));
    } else {
      const shown = this.#shownFields(run ?? itemRun(item), fields);
      if (run !== undefined) {
        const code = fields.C ?? 'XX000';
        const quotes = this.#core.session.policy().unmasked !== undefined;
        run.error = { code, message: quotes ? conditionName(code) : this.#scrub(run, (shown ?? fields).M ?? '') };
      }
      if (shown === undefined) this.outbox.span(buffer, start, end);
      else this.outbox.add(errorResponse(shown));
    }
    if (run !== undefined && entry.kind !== 'Query') {
      if (entry.kind === 'Execute') this.#finish(run);
      this.#port.copyFailed();
    }
  }

  /** What of an error or notice may pass; undefined: all of it. */
  #shownFields(run: Run | undefined, fields: Record<string, string>): Record<string, string> | undefined {
    const policy = this.#core.session.policy();
    if (policy.masks.length === 0) return undefined;
    if (run === undefined || run.verdict.review?.kind !== 'Clear') return rebuilt(fields);
    const { masking } = run.verdict;
    if (masking === undefined) return rebuilt(fields);
    let changed = false;
    const shown: Record<string, string> = {};
    for (const [name, value] of Object.entries(fields)) {
      const clean = 'MDHWq'.includes(name) ? masking.scrub(value) : value;
      if (clean !== value) changed = true;
      shown[name] = clean;
    }
    return changed ? shown : undefined;
  }

  #notice(buffer: Buffer, start: number, end: number): void {
    if (this.#core.session.policy().masks.length === 0) {
      this.outbox.span(buffer, start, end);
      return;
    }
    const head = this.#core.ledger.head;
    const shown = this.#shownFields(
      head === undefined ? undefined : itemRun(head.value),
      decodeErrorFields(buffer, start + 5, end),
    );
    if (shown === undefined) this.outbox.span(buffer, start, end);
    else this.outbox.add(noticeResponse(shown));
  }

  /** Payloads are written by other sessions, with or without masks: where data is masked here they are blanked. */
  #notification(buffer: Buffer, start: number, end: number): void {
    if (this.#core.session.policy().masks.length === 0) {
      this.outbox.span(buffer, start, end);
      return;
    }
    const reader = new BodyReader(buffer, start + 5, end);
    const processId = reader.int32();
    const channel = reader.cstringBytes();
    this.outbox.add(message(BACKEND.NotificationResponse, int32(processId), Buffer.from(channel), Buffer.from([0, 0])));
  }

  // --- bookkeeping

  /** An entry the server skips: what it would have defined does not exist, what it would have run did not. */
  skipped(item: Item): void {
    this.skippedNames(item);
    if (item.kind === 'Run') {
      item.run.error ??= { code: '25P02', message: 'not run: an earlier command of the pipeline failed' };
      this.#finish(item.run);
    }
  }

  skippedNames(item: Item): void {
    if (item.kind === 'Parse') this.#core.statements.fail(item.name, item.prepared);
    else if (item.kind === 'Bind') this.#core.portals.fail(item.name, item.portal);
  }

  #finish(run: Run): void {
    const core = this.#core;
    const masked = run.plan?.kind === 'Mask' ? run.plan.masker.count : 0;
    if (masked > 0) core.session.observe.masked(masked);
    const body: ResultBody = { id: run.commandId };
    if (run.tag !== undefined) body.tag = run.tag;
    body.rows = copiedRows(run.tag) ?? run.rows;
    body.bytes = run.bytes;
    if (masked > 0) body.masked = masked;
    if (run.error !== undefined) body.error = run.error;
    if (run.fields !== undefined) body.columns = run.fields.map((field) => field.name);
    if (run.sample.length > 0) body.sample = run.sample;
    body.durationMs = Math.round((core.context.clock.monotonic() - run.startedMs) * 1000) / 1000;
    if (run.origins !== undefined) body.facts = { postgresql: { origins: run.origins } };
    core.session.record.append('result', body);
  }

  #scrub(run: Run, text: string): string {
    return run.verdict.masking?.scrub(text) ?? maskDetectedText(text);
  }

  #tooLong(what: string): void {
    const error: NativeError = {
      code: '54000',
      message: `Sallyport: a ${what} of the result is longer than ${this.#core.context.limits.rowBytes} bytes`,
      hint: 'Ask for less at a time, or ask the Connection’s owners to raise limits.rowBytes.',
    };
    this.#core.fail(error, 'LimitReached');
  }

  #desync(problem: string): void {
    this.#core.context.log('error', 'the server can not be followed', { problem });
    this.#core.fail({ code: PROTOCOL_VIOLATION, message: `Sallyport: ${problem}` }, 'ServerProtocolViolation');
  }
}
