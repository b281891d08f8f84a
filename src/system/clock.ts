// Time as a value handed in, so that expiry and skew can be tested. Wall time is for what other machines read
// (expiry, records); monotonic time is for measuring and never goes back.

/** What everything that needs time is handed. */
export interface Clock {
  /** Wall time, milliseconds since 1970 UTC. */
  now(): number;
  /** Monotonic time in milliseconds; only differences mean something. */
  monotonic(): number;
  /** Calls back once after `ms`; the returned function withdraws it. Never keeps the process alive by itself. */
  after(ms: number, callback: () => void): () => void;
}

// setTimeout takes at most 2^31-1 ms and fires at once for more: a grant of 30 days must not expire at birth.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    let handle: NodeJS.Timeout;
    let left = Math.max(0, ms);
    const arm = (): void => {
      const step = Math.min(left, LONGEST_TIMER_MS);
      left -= step;
      handle = setTimeout(() => (left > 0 ? arm() : callback()), step);
      handle.unref();
    };
    arm();
    return () => clearTimeout(handle);
  },
};
