// When it is worth telling that somebody showed a token by a key that its issuer is not known to have: the issuer may have
// a new one. Pure but for the clock. Guarantees: of each provider once a minute at most, whatever strangers show, and of few
// providers; nothing of the token goes on but the name by which its issuer is trusted.
import type { Clock } from '../../system/clock.ts';

/** As often as an issuer is asked anew for it. */
export const TELL_EVERY_MS = 60_000;
/** Providers that are remembered; there are hardly as many. */
export const MOST_PROVIDERS = 16;

export interface UnknownKeys {
  /** Whether it is to be told now. */
  saw(provider: string): boolean;
  /** When each was told last, RFC 3339, in the order of their names. */
  told(): { provider: string; at: string }[];
}

export function createUnknownKeys(clock: Pick<Clock, 'now' | 'monotonic'>): UnknownKeys {
  const last = new Map<string, { monotonic: number; at: string }>();
  return {
    saw(provider) {
      const monotonic = clock.monotonic();
      const before = last.get(provider);
      if (before !== undefined && monotonic - before.monotonic < TELL_EVERY_MS) return false;
      if (before === undefined && last.size >= MOST_PROVIDERS) {
        // The one that was told longest ago makes room, unless that was a moment ago as well.
        const [oldest, { monotonic: since }] = [...last].reduce((a, b) => (a[1].monotonic <= b[1].monotonic ? a : b));
        if (monotonic - since < TELL_EVERY_MS) return false;
        last.delete(oldest);
      }
      last.set(provider, { monotonic, at: new Date(clock.now()).toISOString() });
      return true;
    },
    told: () =>
      [...last].map(([provider, { at }]) => ({ provider, at })).sort((a, b) => (a.provider < b.provider ? -1 : 1)),
  };
}
