// Puts pieces that lie side by side in memory together again, so that what was only looked at leaves as it came.
//
// Guarantees: what was pushed leaves in order, at the latest when the running code gives way.

export interface Outlet {
  push(data: Buffer): void;
  flush(): void;
}

export function createOutlet(sink: (data: Buffer) => void): Outlet {
  let pending: Buffer | undefined;
  let due = false;
  const flush = (): void => {
    const data = pending;
    pending = undefined;
    if (data) sink(data);
  };
  return {
    push(data) {
      if (data.length === 0) return;
      if (pending && pending.buffer === data.buffer && pending.byteOffset + pending.length === data.byteOffset) {
        pending = Buffer.from(pending.buffer as ArrayBuffer, pending.byteOffset, pending.length + data.length);
        return;
      }
      if (pending) sink(pending);
      pending = data;
      if (due) return;
      due = true;
      queueMicrotask(() => {
        due = false;
        flush();
      });
    },
    flush,
  };
}
