// Bounds that protect the process from its peers, authenticated or not (INV-11). Per-Connection bounds are in the
// Connection's own spec.

import type { Clock } from '../system/clock.ts';
import { clientAddressKey } from './addresses.ts';

export interface ProcessLimits {
  /** From accept to authentication, milliseconds. */
  handshakeMs: number;
  /** How long a login waits for a grant that has not arrived yet: it may be on its way from the controller. */
  grantWaitMs: number;
  /** Sockets that have not authenticated yet, per process and per client address. */
  halfOpen: number;
  halfOpenPerAddress: number;
  /** How long an address that has all of its places keeps the oldest while it asks for more, milliseconds. */
  halfOpenShareMs: number;
  /** Sockets at once, whatever their state. */
  sockets: number;
  holds: number;
  holdsPerSession: number;
  /** Bytes of a client kept while it waits. */
  clientBufferBytes: number;
  /** Failed logins an address may make in a burst; one more is granted every `failureRefillMs`. */
  failureBurst: number;
  failureRefillMs: number;
  /** How long a protocol may take to end a session natively before its socket is closed, milliseconds. */
  cutBudgetMs: number;
  /** Without a heartbeat for this long no new command runs, milliseconds. */
  heartbeatMs: number;
}

export const DEFAULT_PROCESS_LIMITS: ProcessLimits = {
  handshakeMs: 10_000,
  grantWaitMs: 2_000,
  halfOpen: 256,
  halfOpenPerAddress: 128,
  halfOpenShareMs: 10_000,
  sockets: 8192,
  holds: 256,
  holdsPerSession: 8,
  clientBufferBytes: 1024 * 1024,
  failureBurst: 20,
  failureRefillMs: 3_000,
  cutBudgetMs: 2_000,
  heartbeatMs: 300_000,
};

/**
 * Token buckets by client address. Memory is bounded: beyond `entries` addresses the one that failed longest ago is
 * forgotten, which only ever forgives.
 */
export interface FailureLimiter {
  /** Whether the address has failures left. */
  allows(address: string): boolean;
  failed(address: string): void;
  readonly size: number;
}

export function createFailureLimiter(
  clock: Clock,
  limits: Pick<ProcessLimits, 'failureBurst' | 'failureRefillMs'>,
  entries = 4096,
): FailureLimiter {
  const buckets = new Map<string, { tokens: number; at: number }>(); // oldest failure first
  const tokensOf = (key: string): number => {
    const bucket = buckets.get(key);
    if (bucket === undefined) return limits.failureBurst;
    const refilled = bucket.tokens + (clock.monotonic() - bucket.at) / limits.failureRefillMs;
    return Math.min(limits.failureBurst, refilled);
  };
  return {
    allows: (address) => tokensOf(clientAddressKey(address)) >= 1,
    failed(address) {
      const key = clientAddressKey(address);
      const tokens = Math.max(0, tokensOf(key) - 1);
      buckets.delete(key);
      buckets.set(key, { tokens, at: clock.monotonic() });
      if (buckets.size > entries) buckets.delete(buckets.keys().next().value!);
    },
    get size() {
      return buckets.size;
    },
  };
}

/** Counts per key with a ceiling; keys at zero are forgotten. */
export interface KeyedCount {
  /** Takes one if fewer than `limit` are taken; the returned function gives it back, once. */
  take(key: string, limit: number): (() => void) | undefined;
  of(key: string): number;
}

export function keyedCount(): KeyedCount {
  const counts = new Map<string, number>();
  return {
    of: (key) => counts.get(key) ?? 0,
    take(key, limit) {
      const now = counts.get(key) ?? 0;
      if (now >= limit) return undefined;
      counts.set(key, now + 1);
      let given = false;
      return () => {
        if (given) return;
        given = true;
        const left = (counts.get(key) ?? 1) - 1;
        if (left <= 0) counts.delete(key);
        else counts.set(key, left);
      };
    },
  };
}
