// What the records say of a connection that passed: how many bytes each way, how long, and how it ended.
import type { ResultBody } from '../../../recording/envelope.ts';
import type { Core } from './core.ts';
import type { Side } from './splice.ts';

export interface ForwardSum {
  /** Bytes that this side sent. */
  passed(from: Side, bytes: number): void;
  /** Writes the result; once, whatever comes first. */
  ended(error?: { code: string; message: string }): void;
}

export function createForwardSum({ session, context }: Core, channel: number, id: number): ForwardSum {
  const startedMs = context.clock.monotonic();
  const sent: Record<Side, number> = { Client: 0, Target: 0 };
  let isOver = false;
  return {
    passed(from, bytes) {
      sent[from] += bytes;
    },
    ended(error) {
      if (isOver) return;
      isOver = true;
      const body: ResultBody = {
        id,
        bytes: sent.Client + sent.Target,
        durationMs: Math.round(context.clock.monotonic() - startedMs),
        facts: { ssh: { streams: { toTarget: { bytes: sent.Client }, toClient: { bytes: sent.Target } } } },
        ...(error === undefined ? {} : { error }),
      };
      session.record.append('result', body, channel);
    },
  };
}

/** The result of what has no bytes of its own: a port that is listened on, a feature. */
export function recordOutcome(
  { session }: Core,
  channel: number | undefined,
  id: number,
  facts: object,
  error?: { code: string; message: string },
): void {
  const body: ResultBody = { id, facts: { ssh: facts }, ...(error === undefined ? {} : { error }) };
  session.record.append('result', body, channel);
}
