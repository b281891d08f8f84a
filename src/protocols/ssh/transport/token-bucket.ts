// A budget that refills with time: bursts pass, floods do not.
import type { Clock } from '../../../system/clock.ts';

/** Answers false where nothing is left. */
export type TokenBucket = () => boolean;

export function tokenBucket(clock: Clock, burst: number, everyMs: number): TokenBucket {
  let tokens = burst;
  let at = clock.monotonic();
  return () => {
    const now = clock.monotonic();
    tokens = Math.min(burst, tokens + (now - at) / everyMs);
    at = now;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
