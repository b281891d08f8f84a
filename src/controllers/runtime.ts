// The loop every controller runs in: a cache fed by list and watch, and a queue of keys. Level-triggered: a key says
// that something about an object may have changed, never what; the reconciler looks at the present and acts. So a
// controller killed at any instant converges on restart. Guarantees: a key is reconciled by one call at a time, a key
// added meanwhile runs once more afterwards, a failing key is retried with growing pauses and never blocks others.
// It does not order keys, and it may call a reconciler more often than needed.
import type { Resource } from '../api/resource.ts';
import type { KindName, ObjectKey, ResourceStore, WatchEvent } from '../store/resource-store.ts';
import type { Clock } from '../system/clock.ts';

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export interface CacheEvent {
  kind: KindName;
  type: WatchEvent['type'];
  object: Resource;
  previous: Resource | undefined;
}

/** What a controller reads: the last seen state of every object of its kinds. Objects are shared: never change one. */
export interface Cache {
  get<R extends Resource>(key: ObjectKey): R | undefined;
  list<R extends Resource>(kind: KindName, namespace?: string): R[];
  /** Objects whose index `name` (see `openCache`) has this value; without looking at all the others. */
  indexed<R extends Resource>(kind: KindName, name: string, value: string): R[];
  /** Remembers what the caller just wrote, so that it does not act twice before the watch tells. */
  remember(object: Resource): void;
}

export interface RunningCache extends Cache {
  stop(): void;
}

export const keyOf = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;

export function splitKey(key: string): { namespace: string | undefined; name: string } {
  const slash = key.indexOf('/');
  return { namespace: slash === 0 ? undefined : key.slice(0, slash), name: key.slice(slash + 1) };
}

/** Ways to find objects: index name to the values an object is found by. */
export type Indexers = Partial<Record<KindName, Readonly<Record<string, (object: Resource) => readonly string[]>>>>;

const RELIST_MS = 2_000;

/** Lists and watches `kinds`; resolves once everything is listed. `onChange` then hears of every object once. */
export async function openCache(
  store: ResourceStore,
  kinds: readonly KindName[],
  onChange: (event: CacheEvent) => void,
  log: Log,
  clock: Clock,
  indexers: Indexers = {},
): Promise<RunningCache> {
  const held = new Map<KindName, Map<string, Resource>>(kinds.map((kind) => [kind, new Map()]));
  const indices = new Map<string, Map<string, Resource>>();
  const hold = (kind: KindName, key: string, object: Resource | undefined): void => {
    const objects = held.get(kind)!;
    const previous = objects.get(key);
    for (const [name, valuesOf] of Object.entries(indexers[kind] ?? {})) {
      for (const value of previous === undefined ? [] : valuesOf(previous)) {
        const entry = indices.get(`${kind} ${name} ${value}`);
        entry?.delete(key);
        if (entry?.size === 0) indices.delete(`${kind} ${name} ${value}`);
      }
      for (const value of object === undefined ? [] : valuesOf(object)) {
        const path = `${kind} ${name} ${value}`;
        const entry = indices.get(path) ?? new Map<string, Resource>();
        indices.set(path, entry.set(key, object!));
      }
    }
    if (object === undefined) objects.delete(key);
    else objects.set(key, object);
  };
  const stops = new Map<KindName, () => void>();
  let stopped = false;

  const apply = (kind: KindName, event: WatchEvent): void => {
    const objects = held.get(kind)!;
    const key = keyOf(event.object.metadata.namespace, event.object.metadata.name);
    const previous = objects.get(key);
    hold(kind, key, event.type === 'Deleted' ? undefined : event.object);
    onChange({ kind, type: event.type, object: event.object, previous });
  };

  const follow = async (kind: KindName): Promise<void> => {
    const { items, resourceVersion } = await store.list(kind);
    if (stopped) return;
    const fresh = new Set(items.map((item) => keyOf(item.metadata.namespace, item.metadata.name)));
    for (const [key, object] of Array.from(held.get(kind)!)) {
      if (!fresh.has(key)) apply(kind, { type: 'Deleted', object });
    }
    for (const object of items) apply(kind, { type: 'Modified', object });
    stops.set(
      kind,
      store.watch(
        kind,
        resourceVersion,
        (event) => apply(kind, event),
        () => {
          stops.get(kind)?.();
          again(kind);
        },
      ),
    );
  };
  const again = (kind: KindName): void => {
    follow(kind).catch((error: unknown) => {
      if (stopped) return;
      log('error', 'a watch could not start anew; it is tried again', { kind, error: String(error) });
      stops.set(
        kind,
        clock.after(RELIST_MS, () => again(kind)),
      );
    });
  };
  for (const kind of kinds) await follow(kind);

  return {
    get: <R extends Resource>(key: ObjectKey) =>
      held.get(key.kind)?.get(keyOf(key.namespace, key.name)) as R | undefined,
    list: <R extends Resource>(kind: KindName, namespace?: string) => {
      const all = [...(held.get(kind)?.values() ?? [])];
      return (namespace === undefined ? all : all.filter((item) => item.metadata.namespace === namespace)) as R[];
    },
    indexed: <R extends Resource>(kind: KindName, name: string, value: string) =>
      [...(indices.get(`${kind} ${name} ${value}`)?.values() ?? [])] as R[],
    remember(object) {
      const key = keyOf(object.metadata.namespace, object.metadata.name);
      const kind = object.kind as KindName;
      // Deleted meanwhile: a write that came back late must not resurrect it here.
      if (held.get(kind)?.get(key)?.metadata.uid === object.metadata.uid) hold(kind, key, object);
    },
    stop() {
      stopped = true;
      for (const stop of stops.values()) stop();
    },
  };
}

/** `againInMs`: look again then even if nothing changes. */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<{ againInMs?: number } | undefined>;

export interface Queue {
  add(key: string): void;
  /** Resolves once the call under way ended; no other starts. */
  stop(): Promise<void>;
  /** Whether nothing is waiting or running; timers do not count. */
  readonly idle: boolean;
}

const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 60_000;
const RECONCILE_DEADLINE_MS = 30_000;

export function createQueue(options: {
  name: string;
  reconcile: Reconcile;
  clock: Clock;
  log: Log;
  /** Different keys at once. Default 4. */
  concurrency?: number;
}): Queue {
  const { clock, log } = options;
  const concurrency = options.concurrency ?? 4;
  const waiting = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const dirty = new Set<string>();
  const timers = new Map<string, { dueMs: number; cancel: () => void }>();
  const failures = new Map<string, number>();
  const stopping = new AbortController();

  const later = (key: string, ms: number): void => {
    const dueMs = clock.monotonic() + ms;
    const known = timers.get(key);
    if (known !== undefined) {
      if (known.dueMs <= dueMs) return;
      known.cancel();
    }
    const cancel = clock.after(ms, () => {
      timers.delete(key);
      add(key);
    });
    timers.set(key, { dueMs, cancel });
  };

  const run = async (key: string): Promise<void> => {
    const deadline = AbortSignal.any([stopping.signal, AbortSignal.timeout(RECONCILE_DEADLINE_MS)]);
    try {
      const result = await options.reconcile(key, deadline);
      failures.delete(key);
      if (result?.againInMs !== undefined && !stopping.signal.aborted) later(key, Math.max(1, result.againInMs));
    } catch (error) {
      const count = (failures.get(key) ?? 0) + 1;
      failures.set(key, count);
      if (stopping.signal.aborted) return;
      const pause = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(count - 1, 20));
      log(count > 3 ? 'error' : 'debug', 'reconcile failed; it is retried', {
        queue: options.name,
        key,
        error: error instanceof Error ? error.message : String(error),
        retryInMs: pause,
      });
      later(key, pause);
    }
  };

  const pump = (): void => {
    for (const key of waiting) {
      if (running.size >= concurrency || stopping.signal.aborted) return;
      waiting.delete(key);
      timers.get(key)?.cancel();
      timers.delete(key);
      running.set(
        key,
        run(key).finally(() => {
          running.delete(key);
          if (dirty.delete(key)) waiting.add(key);
          pump();
        }),
      );
    }
  };

  const add = (key: string): void => {
    if (stopping.signal.aborted) return;
    if (running.has(key)) dirty.add(key);
    else waiting.add(key);
    pump();
  };

  return {
    add,
    async stop() {
      stopping.abort();
      waiting.clear();
      dirty.clear();
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
      await Promise.allSettled(running.values());
    },
    get idle() {
      return waiting.size === 0 && running.size === 0;
    },
  };
}
