// Lets go of what waits in flows once its records are written: one question to the records a turn and flow.
import type { Core } from './core.ts';
import type { Flow } from './flow.ts';

const unasked = new WeakMap<Flow, number>();

/** One more entry of the flow waits. Where records can not be written the connection ends. */
export function waitForRecord(core: Core, flow: Flow): void {
  const count = unasked.get(flow) ?? 0;
  unasked.set(flow, count + 1);
  if (count > 0) return;
  queueMicrotask(() => {
    const asked = unasked.get(flow) ?? 0;
    unasked.delete(flow);
    core.session.record.whenWritten((error) => {
      if (error === undefined) flow.written(asked);
      else core.fail('RecordsUnwritable', 'Sallyport can not record this session any more, so it ends');
    });
  });
}
