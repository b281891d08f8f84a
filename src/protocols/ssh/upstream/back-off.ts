// Logins that a target refuses are not tried again at once: sshd counts them against the one address that all users of
// the proxy share (PerSourcePenalties), and one broken account must not lock out the others.
import type { Clock } from '../../../system/clock.ts';
import { UpstreamError } from './error.ts';

const FIRST_MS = 2_000;
const LONGEST_MS = 60_000;
const MOST_ENTRIES = 10_000;

export interface BackOff {
  /** Throws UpstreamError while an account has to wait. */
  check(key: string): void;
  failed(key: string): void;
  succeeded(key: string): void;
}

export function createBackOff(clock: Pick<Clock, 'monotonic'>): BackOff {
  const entries = new Map<string, { failures: number; until: number }>();
  return {
    check(key) {
      const left = (entries.get(key)?.until ?? 0) - clock.monotonic();
      if (left > 0)
        throw new UpstreamError(
          'Busy',
          `Sallyport: the target refused this account’s last login; it is tried again in ${Math.ceil(left / 1000)} s.`,
          'The Connection’s owners find the cause in its conditions.',
        );
    },
    failed(key) {
      const failures = (entries.get(key)?.failures ?? 0) + 1;
      entries.delete(key);
      if (entries.size >= MOST_ENTRIES) entries.delete(entries.keys().next().value!);
      // The first failure may be a secret that is being replaced.
      const waitMs = failures < 2 ? 0 : Math.min(LONGEST_MS, FIRST_MS * 2 ** (failures - 2));
      entries.set(key, { failures, until: clock.monotonic() + waitMs });
    },
    succeeded(key) {
      entries.delete(key);
    },
  };
}
