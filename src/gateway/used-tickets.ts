// Tickets that are good for one login, and were used: whoever saw one on its way in can do nothing with it. For this
// process alone, until the ticket's own end.
// Bounded (INV-11): only tickets that were good are remembered, so many a grant and so many in all; beyond that none is
// taken rather than one forgotten.
import type { Clock } from '../system/clock.ts';

export interface UsedTickets {
  /** Uses it up. `Used`: it was before. `Full`: so many were that one more could not be remembered. */
  take(grantUid: string, jti: string, untilMs: number): 'Taken' | 'Used' | 'Full';
  readonly size: number;
}

const MOST_OF_A_GRANT = 1024;
const MOST = 65_536;

export function usedTickets(clock: Clock, limits = { grant: MOST_OF_A_GRANT, all: MOST }): UsedTickets {
  /** By grant, by jti: until when. */
  const used = new Map<string, Map<string, number>>();
  let size = 0;
  const forget = (grantUid: string, own: Map<string, number>): void => {
    const now = clock.now();
    for (const [jti, untilMs] of own) {
      if (untilMs > now) continue;
      own.delete(jti);
      size -= 1;
    }
    if (own.size === 0) used.delete(grantUid);
  };
  return {
    take(grantUid, jti, untilMs) {
      const own = used.get(grantUid);
      if (own?.has(jti) === true) return 'Used';
      if (own !== undefined && own.size >= limits.grant) forget(grantUid, own);
      if (size >= limits.all) for (const [each, its] of used) forget(each, its);
      const left = used.get(grantUid);
      if (size >= limits.all || (left !== undefined && left.size >= limits.grant)) return 'Full';
      if (left === undefined) used.set(grantUid, new Map([[jti, untilMs]]));
      else left.set(jti, untilMs);
      size += 1;
      return 'Taken';
    },
    get size() {
      return size;
    },
  };
}
