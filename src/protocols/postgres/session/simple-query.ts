// The simple protocol (manual, 54.2.2): one Query, judged and sent on or refused as a whole.
import { decodeText } from '../wire/messages.ts';
import type { Comeback, Wait } from './comeback.ts';
import { newRun } from './core.ts';
import { nothingKnown } from './described.ts';
import { judgeText } from './judge.ts';
import type { ToServer } from './to-server.ts';

export function query(
  out: ToServer,
  buffer: Buffer,
  start: number,
  end: number,
  comeback: Comeback | undefined,
): Wait | undefined {
  const core = out.core;
  const text = decodeText(buffer, start + 5, end);
  const waiting = out.passBarrier();
  if (waiting !== undefined) return waiting;
  const described = nothingKnown(text.toString('utf8'));
  if (comeback?.kind === 'Refused') {
    out.refuse('Query', described, comeback.refusal, comeback.hold);
    return undefined;
  }
  const verdict = judgeText(core, text);
  return out.act('Query', verdict, described, comeback, (passed, effects, commandId) => {
    const run = newRun(core, commandId, passed);
    run.effects = effects;
    out.note(effects);
    core.names.passed(passed.commands);
    core.segment += 1;
    out.push(buffer, start, end, 'Query', { kind: 'Run', run }, 'Query');
  });
}
