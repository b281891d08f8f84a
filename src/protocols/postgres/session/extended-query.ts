// The extended protocol (manual, 54.2.3): a text is judged when it is parsed, again with its values when it is bound, and
// once more when it is executed if anything it was decided by has changed since.
import { decodeBind, decodeExecute, decodeParse, FRONTEND } from '../wire/messages.ts';
import { type Comeback, type Wait, waitFor } from './comeback.ts';
import type { Described } from './commands.ts';
import { mustUnderstand, newRun } from './core.ts';
import { nothingKnown, parameterTexts, preparedText } from './described.ts';
import { judgePrepared, restsOnCurrentCatalog } from './judge.ts';
import type { ToServer } from './to-server.ts';
import type { AppliedEffect, PassedVerdict, Portal, Prepared } from './types.ts';

/** Texts of prepared statements and values of portals that one session may keep here, each. */
const MOST_KEPT_BYTES = 64 * 1024 * 1024;
const NONE: readonly never[] = [];
const UNKNOWN_PREPARED: Prepared = { size: 0, text: '', parameterTypes: NONE, statement: undefined, passed: undefined };

export function parse(
  out: ToServer,
  buffer: Buffer,
  start: number,
  end: number,
  comeback: Comeback | undefined,
): Wait | undefined {
  const core = out.core;
  const message = decodeParse(buffer, start + 5, end);
  const waiting = out.passBarrier();
  if (waiting !== undefined) return waiting;
  const described = nothingKnown(message.text.toString('utf8'));
  if (comeback?.kind === 'Refused') {
    out.refuse('Extended', described, comeback.refusal, comeback.hold);
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
    out.refuse('Extended', { ...described, statements: verdict.statements }, verdict.refusal);
    return undefined;
  }
  if (
    core.statements.weight + prepared.size > MOST_KEPT_BYTES ||
    !core.statements.define(message.name, prepared, core.segment)
  ) {
    out.refuse('Extended', described, {
      code: 'LimitReached',
      message: 'Sallyport refused the command: this session keeps too many prepared statements',
      hint: 'Close those no longer needed, or reconnect.',
    });
    return undefined;
  }
  out.push(buffer, start, end, 'Parse', { kind: 'Parse', name: message.name, prepared }, 'Extended');
  return undefined;
}

export function bind(
  out: ToServer,
  buffer: Buffer,
  start: number,
  end: number,
  comeback: Comeback | undefined,
): Wait | undefined {
  const core = out.core;
  const message = decodeBind(buffer, start + 5, end);
  const waiting = out.passBarrier();
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
    out.refuse('Extended', described, comeback.refusal, comeback.hold);
    return undefined;
  }
  const verdict = judgePrepared(core, candidates);
  return out.act('Extended', verdict, described, comeback, (passed, effects, commandId) => {
    const portal: Portal = {
      prepared: prepared ?? UNKNOWN_PREPARED,
      commandId,
      generation: core.session.policy().generation,
      verdict: passed,
      parameters,
      effects,
    };
    if (core.portals.weight > MOST_KEPT_BYTES || !core.portals.define(message.portal, portal, core.segment)) {
      out.refuse('Extended', described, {
        code: 'LimitReached',
        message: 'Sallyport refused the command: this session keeps too many portals',
        hint: 'Close those no longer needed, or reconnect.',
      });
      return;
    }
    out.push(buffer, start, end, 'Bind', { kind: 'Bind', name: message.portal, portal }, 'Extended');
  });
}

export function execute(
  out: ToServer,
  buffer: Buffer,
  start: number,
  end: number,
  comeback: Comeback | undefined,
): Wait | undefined {
  const core = out.core;
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
    out.refuse('Extended', described, comeback.refusal, comeback.hold);
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
    run(
      out,
      buffer,
      start,
      end,
      name,
      portal.verdict,
      portal.effects,
      portal.commandId ?? out.record(described, portal.verdict),
    );
    return undefined;
  }
  if (portal === undefined && gate === undefined && !mustUnderstand(policy)) {
    // A cursor that SQL declared while nothing had to be understood; or none, and the server says so.
    const verdict = judgePrepared(core, NONE);
    return out.act('Extended', verdict, described, comeback, (passed, effects, commandId) =>
      run(out, buffer, start, end, name, passed, effects, commandId),
    );
  }
  // The policy changed since Bind: decided anew, and recorded as what it now is.
  const verdict = judgePrepared(
    core,
    portals.map((one) => one.prepared),
    { bound: true },
  );
  return out.act('Extended', verdict, described, comeback, (passed, effects, commandId) => {
    for (const one of portals) {
      one.generation = policy.generation;
      one.verdict = passed;
    }
    run(out, buffer, start, end, name, passed, effects, commandId);
  });
}

function run(
  out: ToServer,
  buffer: Buffer,
  start: number,
  end: number,
  name: string,
  verdict: PassedVerdict,
  effects: readonly AppliedEffect[],
  commandId: number,
): void {
  const run = newRun(out.core, commandId, verdict);
  run.effects = effects;
  out.note(effects);
  out.core.names.passed(verdict.commands);
  if (verdict.masking !== undefined) {
    // The server's own description of the very portal that runs, right before its rows: the plan hangs on it.
    const describe = describeBytes(name);
    out.push(describe, 0, describe.length, 'DescribePortal', { kind: 'Describe', swallow: run, verdict }, 'Extended');
  }
  out.push(buffer, start, end, 'Execute', { kind: 'Run', run }, 'Extended');
  out.barrier.raise(verdict);
}

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
