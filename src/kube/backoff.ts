// Growing, jittered pauses between attempts, so that a thousand clients do not come back in the same instant.
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';

export interface Backoff {
  /** The next pause in ms: half to whole of a step that doubles from `first` to `longest`. */
  next(): number;
  reset(): void;
}

export function createBackoff(random: Random, first = 200, longest = 30_000): Backoff {
  let step = first;
  return {
    next() {
      const pause = step * (0.5 + fraction(random) / 2);
      step = Math.min(longest, step * 2);
      return pause;
    },
    reset() {
      step = first;
    },
  };
}

/** Evenly in [0, 1). */
export const fraction = (random: Random): number => random.bytes(4).readUInt32BE(0) / 2 ** 32;

/** Resolves after `ms`, or at once when `signal` fires; never rejects. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
  });
}
