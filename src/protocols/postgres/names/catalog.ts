// The names of one (connection, account, database), kept at most two seconds old while sessions ask for them. Guarantees:
// a snapshot is never served older than that, nor from before a change that somebody told of; without a fresh one there
// is none, and names then mean any schema's. One that cannot be read costs statements no wait until it was read again.
import type { Clock } from '../../../system/clock.ts';
import type { CatalogQuery } from '../masking/masking.ts';
import type { NameContext } from './resolve.ts';
import { loadNames, NamesError, type NamesSnapshot } from './snapshot.ts';

/** How long a snapshot is trusted, ms. */
export const NAMES_FRESH_MS = 2000;
/** One that old is read again in the background while it still serves, ms. */
const RENEW_MS = 1000;
/** How long a statement waits for the catalog at most, ms. */
const DEADLINE_MS = 5000;
/** How long after a failure the next attempt is made, ms. */
const RETRY_MS = 5000;
/** search_paths kept ready per snapshot. */
const KEPT_CONTEXTS = 64;

export interface NamesCatalog {
  /** A statement has to wait for `refresh`. */
  readonly stale: boolean;
  /** undefined: not known now. Starts to read anew what is getting old. */
  current(): NamesSnapshot | undefined;
  /** What names mean to sessions of that path; the same object as long as the snapshot is the same. */
  context(snapshot: NamesSnapshot, path: readonly string[] | undefined, temporary: boolean): NameContext;
  /** Never rejects: `current` then says nothing. */
  refresh(): Promise<void>;
  /** Names may have changed just now. */
  invalidate(): void;
}

export function createNamesCatalog(options: {
  query: CatalogQuery;
  clock: Clock;
  failed?: (error: unknown) => void;
}): NamesCatalog {
  const { query, clock } = options;
  let snapshot: NamesSnapshot | undefined;
  let readAt = Number.NEGATIVE_INFINITY;
  let failedAt = Number.NEGATIVE_INFINITY;
  /** Rises with `invalidate`: a reading that began before does not count as fresh. */
  let epoch = 0;
  let running: Promise<void> | undefined;
  let runningEpoch = 0;
  let contexts = new Map<string, NameContext>();

  const age = (): number => clock.monotonic() - readAt;
  const failing = (): boolean => clock.monotonic() - failedAt < RETRY_MS;

  const load = async (): Promise<void> => {
    const began = clock.monotonic();
    const of = epoch;
    runningEpoch = of;
    try {
      const next = await withDeadline(clock, loadNames(query, snapshot));
      if (next !== snapshot) {
        snapshot = next;
        contexts = new Map();
      }
      failedAt = Number.NEGATIVE_INFINITY;
      if (of === epoch) readAt = began;
    } catch (error) {
      readAt = Number.NEGATIVE_INFINITY;
      failedAt = clock.monotonic();
      options.failed?.(error);
    }
  };
  const start = (): Promise<void> => {
    running ??= load().finally(() => {
      running = undefined;
    });
    return running;
  };

  return {
    get stale() {
      return age() >= NAMES_FRESH_MS && !failing();
    },
    current() {
      if (age() >= RENEW_MS && !failing()) void start();
      return age() < NAMES_FRESH_MS ? snapshot : undefined;
    },
    context(of, path, temporary) {
      const key = JSON.stringify([path ?? null, temporary]);
      let context = of === snapshot ? contexts.get(key) : undefined;
      if (context === undefined) {
        context = { snapshot: of, path, temporary, unsettled: undefined };
        if (of !== snapshot) return context;
        if (contexts.size >= KEPT_CONTEXTS) contexts.delete(contexts.keys().next().value!);
        contexts.set(key, context);
      }
      return context;
    },
    async refresh() {
      // One that began before a change does not show it.
      if (running !== undefined && runningEpoch !== epoch) await running;
      if (age() >= NAMES_FRESH_MS && !failing()) await start();
    },
    invalidate() {
      epoch += 1;
      readAt = Number.NEGATIVE_INFINITY;
    },
  };
}

async function withDeadline<T>(clock: Clock, work: Promise<T>): Promise<T> {
  let withdraw: (() => void) | undefined;
  const deadline = new Promise<never>((_, reject) => {
    withdraw = clock.after(DEADLINE_MS, () => reject(new NamesError('the catalog did not answer within 5 s')));
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    withdraw?.();
  }
}
