// Streams that wait to be sealed, one after the other, behind what is written. Guarantees: a stream stands in it once;
// one that can not be sealed leaves it, and health is told at the first failure and the first success after. Never rejects.
import type { Sealable } from '../seal/sealer.ts';

export interface SealQueue<Stream> {
  add(stream: Stream): void;
  /** Resolves when what is in it was tried; undefined: nothing is. */
  readonly emptied: Promise<void> | undefined;
}

export function createSealQueue<Stream extends Sealable & { queued: boolean }>(options: {
  /** Seals one segment; true if the stream should go on at once. */
  sealOnce(stream: Stream): Promise<boolean>;
  onTrouble(message: string): void;
  onRecovery(): void;
  /** The queue is empty again. */
  onEmpty(): void;
}): SealQueue<Stream> {
  const queue: Stream[] = [];
  let pumping: Promise<void> | undefined;
  let trouble = false;

  async function pump(): Promise<void> {
    // Not within the turn that wrote the records: they are answered first.
    await new Promise((resolve) => setImmediate(resolve));
    for (let stream = queue.shift(); stream !== undefined; stream = queue.shift()) {
      try {
        while (await options.sealOnce(stream));
        if (trouble) options.onRecovery();
        trouble = false;
      } catch (error) {
        if (!trouble) options.onTrouble(error instanceof Error ? error.message : String(error));
        trouble = true;
      }
      stream.queued = false;
    }
    options.onEmpty();
  }

  return {
    add(stream) {
      if (stream.queued) return;
      stream.queued = true;
      queue.push(stream);
      pumping ??= pump().finally(() => {
        pumping = undefined;
      });
    },
    get emptied() {
      return pumping;
    },
  };
}
