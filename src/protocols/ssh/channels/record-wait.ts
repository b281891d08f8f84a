// Lets go of what waits in flows once its records are written: one question to the records a turn and flow. Where the
// store hangs, reading stops: what waits is bounded in number, as the windows bound it in bytes.
import type { Core } from './core.ts';
import type { Flow } from './flow.ts';

const MOST_WAITING = 4096;
const unasked = new WeakMap<Flow, number>();
const waiting = new WeakMap<Core, number>();

/** One more entry of the flow waits. Where records can not be written the connection ends. */
export function waitForRecord(core: Core, flow: Flow): void {
  const all = (waiting.get(core) ?? 0) + 1;
  waiting.set(core, all);
  if (all === MOST_WAITING) core.recordsBehind(true);
  const count = unasked.get(flow) ?? 0;
  unasked.set(flow, count + 1);
  if (count > 0) return;
  queueMicrotask(() => {
    const asked = unasked.get(flow) ?? 0;
    unasked.delete(flow);
    core.session.record.whenWritten((error) => {
      const before = waiting.get(core) ?? 0;
      waiting.set(core, before - asked);
      if (before >= MOST_WAITING && before - asked < MOST_WAITING) core.recordsBehind(false);
      if (error === undefined) flow.written(asked);
      else core.fail('RecordsUnwritable', 'Sallyport can not record this session any more, so it ends');
    });
  });
}
