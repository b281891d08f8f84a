// Places of sockets that have not authenticated yet (INV-11). Guarantees: never more than there are, in all and for an address;
// while all are taken, whoever comes from an address that has fewer than another still gets one: the oldest of the
// address with the most gives way. An address that has all of its own places is refused more, unless its oldest has
// had its time. So idle sockets from some addresses keep nobody out who comes from elsewhere.
import type { Clock } from '../system/clock.ts';
import { clientAddressKey } from './addresses.ts';
import type { ProcessLimits } from './limits.ts';

export type HalfOpenPlace =
  /** `giveBack` once the socket has authenticated or is gone; more often does nothing. */
  { kind: 'Taken'; giveBack(): void } | { kind: 'Refused'; reason: 'HalfOpen' | 'HalfOpenPerAddress' };

export interface HalfOpenPlaces {
  /** `giveWay` is called where the place is needed for another, once, and after it was given back. */
  take(address: string, giveWay: () => void): HalfOpenPlace;
  readonly size: number;
}

interface Holder {
  key: string;
  atMs: number;
  giveWay(): void;
}

export function createHalfOpenPlaces(
  clock: Pick<Clock, 'monotonic'>,
  limits: Pick<ProcessLimits, 'halfOpen' | 'halfOpenPerAddress' | 'halfOpenShareMs'>,
): HalfOpenPlaces {
  /** Each address's holders, oldest first. */
  const holders = new Map<string, Set<Holder>>();
  let size = 0;

  const oldestOf = (key: string): Holder | undefined => holders.get(key)?.values().next().value;
  const countOf = (key: string): number => holders.get(key)?.size ?? 0;

  function remove(holder: Holder): boolean {
    const own = holders.get(holder.key);
    if (own?.delete(holder) !== true) return false;
    if (own.size === 0) holders.delete(holder.key);
    size -= 1;
    return true;
  }

  function displace(holder: Holder): void {
    if (remove(holder)) holder.giveWay();
  }

  /** The oldest of the address with the most; of several such, of the one whose oldest came first. */
  function mostCrowding(): { holder: Holder; count: number } | undefined {
    let found: { holder: Holder; count: number } | undefined;
    for (const [key, { size: count }] of holders) {
      const holder = oldestOf(key)!;
      if (found === undefined || count > found.count || (count === found.count && holder.atMs < found.holder.atMs))
        found = { holder, count };
    }
    return found;
  }

  return {
    take(address, giveWay) {
      const key = clientAddressKey(address);
      if (countOf(key) >= limits.halfOpenPerAddress) {
        const oldest = oldestOf(key);
        if (oldest === undefined || clock.monotonic() - oldest.atMs < limits.halfOpenShareMs)
          return { kind: 'Refused', reason: 'HalfOpenPerAddress' };
        displace(oldest);
      }
      if (size >= limits.halfOpen) {
        const crowd = mostCrowding();
        if (crowd === undefined || crowd.count <= countOf(key)) return { kind: 'Refused', reason: 'HalfOpen' };
        displace(crowd.holder);
      }
      const holder: Holder = { key, atMs: clock.monotonic(), giveWay };
      const own = holders.get(key) ?? new Set();
      holders.set(key, own.add(holder));
      size += 1;
      return { kind: 'Taken', giveBack: () => void remove(holder) };
    },
    get size() {
      return size;
    },
  };
}
