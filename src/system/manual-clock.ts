// A clock that moves only when told to. For tests, and for nothing else.
import type { Clock } from './clock.ts';

export interface ManualClock extends Clock {
  /** Moves wall and monotonic time together, firing what falls due in order. */
  advance(ms: number): void;
  /** Moves wall time alone, as NTP or an administrator would. */
  setWall(ms: number): void;
}

export function manualClock(startMs = Date.parse('2026-01-01T00:00:00Z')): ManualClock {
  let wall = startMs;
  let mono = 0;
  let timers: { due: number; callback: () => void }[] = [];
  return {
    now: () => wall,
    monotonic: () => mono,
    after(ms, callback) {
      const timer = { due: mono + Math.max(0, ms), callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    advance(ms) {
      const end = mono + ms;
      for (;;) {
        const next = timers.filter((timer) => timer.due <= end).sort((a, b) => a.due - b.due)[0];
        if (next === undefined) break;
        timers = timers.filter((other) => other !== next);
        wall += next.due - mono;
        mono = next.due;
        next.callback();
      }
      wall += end - mono;
      mono = end;
    },
    setWall(ms) {
      wall = ms;
    },
  };
}
