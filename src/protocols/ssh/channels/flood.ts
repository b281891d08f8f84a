// Messages that cost the peer a few bytes and us more, or that carry nothing: counted, so that they can not keep the
// process busy.
import type { Clock } from '../../../system/clock.ts';

/** A dragged window sends some 60 sizes a second; a shell with many sessions some hundred requests. */
const BURST = 2_000;
const PER_SECOND = 200;

export interface Flood {
  /** false: too many. */
  take(): boolean;
}

export function createFlood(clock: Pick<Clock, 'monotonic'>): Flood {
  let tokens = BURST;
  let lastMs = clock.monotonic();
  return {
    take() {
      const nowMs = clock.monotonic();
      tokens = Math.min(BURST, tokens + ((nowMs - lastMs) * PER_SECOND) / 1000);
      lastMs = nowMs;
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
  };
}
