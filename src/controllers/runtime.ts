// The loop every controller runs in: a cache fed by list and watch, and a queue of keys. Level-triggered: a key says
// that something about an object may have changed, never what; the reconciler looks at the present and acts. So a
// controller killed at any instant converges on restart. Guarantees: what the cache holds never goes back to an older
// version, and an object that was replaced by another of its name is told as deleted and added; a key is reconciled by one
// call at a time, a key added meanwhile runs once more afterwards, a failing key is retried with growing pauses, whatever
// is told of it meanwhile, and never blocks others. A call that ignores its signal is given up after its deadline: from
// then on it may run beside the next, so what it writes must name the version it replaces. It does not order keys, and it
// may call a reconciler more often than needed. However many keys there are to look at, sockets and timers get their turn
// in between: a lease is renewed all the while.
import type { Resource } from '../api/resource.ts';
import { isBefore } from '../kube/object.ts';
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

/**
 * Lists and watches `kinds`; resolves once everything is listed. `onChange` then hears of every object once. Rejects with
 * what the store throws where a first list fails; nothing is watched then.
 */
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
  /** By kind and namespace: a look into one must not go through all. */
  const namespaces = new Map<string, Map<string, Resource>>();
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
    // A key names its namespace, so an object stays where it is in both maps for as long as it is there.
    const within = `${kind} ${splitKey(key).namespace ?? ''}`;
    const neighbours = namespaces.get(within) ?? new Map<string, Resource>();
    if (object === undefined) {
      objects.delete(key);
      neighbours.delete(key);
      if (neighbours.size === 0) namespaces.delete(within);
    } else {
      objects.set(key, object);
      namespaces.set(within, neighbours.set(key, object));
    }
  };
  const stops = new Map<KindName, () => void>();
  let stopped = false;

  const apply = (kind: KindName, { type, object }: WatchEvent): void => {
    const key = keyOf(object.metadata.namespace, object.metadata.name);
    let previous = held.get(kind)!.get(key);
    if (previous !== undefined && previous.metadata.uid !== object.metadata.uid) {
      // The end of an earlier object of this name; of the one that is there it says nothing.
      if (type === 'Deleted') return;
      hold(kind, key, undefined);
      onChange({ kind, type: 'Deleted', object: previous, previous });
      previous = undefined;
    }
    // From before a write that was remembered here: what follows it is still to come.
    if (type !== 'Deleted' && isBefore(object.metadata.resourceVersion, previous?.metadata.resourceVersion)) return;
    hold(kind, key, type === 'Deleted' ? undefined : object);
    onChange({ kind, type, object, previous });
  };

  const follow = async (kind: KindName): Promise<void> => {
    const { items, resourceVersion } = await store.list(kind);
    if (stopped) return;
    const fresh = new Set(items.map((item) => keyOf(item.metadata.namespace, item.metadata.name)));
    for (const [key, object] of Array.from(held.get(kind)!)) {
      if (!fresh.has(key)) apply(kind, { type: 'Deleted', object });
    }
    for (const object of items) {
      const { namespace, name, uid, resourceVersion: version } = object.metadata;
      const known = held.get(kind)!.get(keyOf(namespace, name))?.metadata;
      if (known?.uid === uid && known.resourceVersion === version) continue;
      apply(kind, { type: known?.uid === uid ? 'Modified' : 'Added', object });
    }
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
  try {
    await Promise.all([...held.keys()].map(follow));
  } catch (error) {
    stopped = true;
    for (const stop of stops.values()) stop();
    throw error;
  }

  return {
    get: <R extends Resource>(key: ObjectKey) =>
      held.get(key.kind)?.get(keyOf(key.namespace, key.name)) as R | undefined,
    list: <R extends Resource>(kind: KindName, namespace?: string) => {
      const found = namespace === undefined ? held.get(kind) : namespaces.get(`${kind} ${namespace}`);
      return [...(found?.values() ?? [])] as R[];
    },
    indexed: <R extends Resource>(kind: KindName, name: string, value: string) =>
      [...(indices.get(`${kind} ${name} ${value}`)?.values() ?? [])] as R[],
    remember(object) {
      const key = keyOf(object.metadata.namespace, object.metadata.name);
      const kind = object.kind as KindName;
      const known = held.get(kind)?.get(key)?.metadata;
      // Deleted meanwhile: a write that came back late must not resurrect it here. Nor undo what was written after it.
      if (known?.uid !== object.metadata.uid) return;
      if (!isBefore(object.metadata.resourceVersion, known.resourceVersion)) hold(kind, key, object);
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
  /** Resolves once the calls under way ended, or were given up; no other starts. */
  stop(): Promise<void>;
  /** Whether nothing is waiting or running; timers do not count. */
  readonly idle: boolean;
}

/** Calls that all queues of the process together begin before sockets and timers have their turn. */
const CALLS_A_TURN = 16;
let begun = 0;

/** Whether it is the others' turn: calls without a single wait would keep them out until the last one was done. */
function turnIsOver(): boolean {
  if (begun === 0)
    setImmediate(() => {
      begun = 0;
    });
  begun += 1;
  return begun > CALLS_A_TURN;
}

const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 60_000;
/** A failing key is tried at once because something about it changed: a few times, then so often at most. */
const HURRIED_RETRY_MS = 1_000;
const HURRIED_BURST = 5;
const RECONCILE_DEADLINE_MS = 30_000;
/** For a call to end by itself once its signal has fired. */
const LEAVE_MS = 2_000;

export function createQueue(options: {
  name: string;
  reconcile: Reconcile;
  clock: Clock;
  log: Log;
  /** Different keys at once. Default 4. */
  concurrency?: number;
  /**
   * How long a key rests between two calls, ms: the first change is acted on at once, a burst of them in one go.
   * Default 0.
   */
  restMs?: number;
  /**
   * After which a call's signal fires, ms of real time: a clock that a test moves says nothing about how long work takes.
   * A call that goes on after that is given up 2 s later, or as long again if that is less. Default 30 s.
   */
  deadlineMs?: number;
}): Queue {
  const { clock, log } = options;
  const concurrency = options.concurrency ?? 4;
  const waiting = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const dirty = new Set<string>();
  const resting = new Map<string, () => void>();
  const restMs = options.restMs ?? 0;
  const deadlineMs = options.deadlineMs ?? RECONCILE_DEADLINE_MS;
  const timers = new Map<string, { dueMs: number; cancel: () => void }>();
  /** How often a key has failed in a row; `paidMs`: until when (monotonic) its changes have used up their turns. */
  const failures = new Map<string, { count: number; paidMs: number }>();
  const stopping = new AbortController();

  /** Whether it is sooner than it would have been. */
  const later = (key: string, ms: number): boolean => {
    const dueMs = clock.monotonic() + ms;
    const known = timers.get(key);
    if (known !== undefined) {
      if (known.dueMs <= dueMs) return false;
      known.cancel();
    }
    const cancel = clock.after(ms, () => {
      timers.delete(key);
      start(key);
    });
    timers.set(key, { dueMs, cancel });
    return true;
  };

  /** Resolves or rejects with the call, or rejects once it was given up. */
  const call = (key: string): ReturnType<Reconcile> => {
    const ending = new AbortController();
    const given = Promise.withResolvers<never>();
    let timer: NodeJS.Timeout;
    const end = (why: string): void => {
      clearTimeout(timer);
      timer = setTimeout(
        () => given.reject(new Error(`${why} and its signal was ignored: it was given up`)),
        Math.min(LEAVE_MS, deadlineMs),
      );
      timer.unref();
      ending.abort(new Error(why));
    };
    timer = setTimeout(() => end(`it took longer than ${deadlineMs} ms`), deadlineMs);
    timer.unref();
    const onStop = (): void => end('the queue was stopped');
    stopping.signal.addEventListener('abort', onStop, { once: true });
    return Promise.race([options.reconcile(key, ending.signal), given.promise]).finally(() => {
      clearTimeout(timer);
      stopping.signal.removeEventListener('abort', onStop);
    });
  };

  const run = async (key: string): Promise<void> => {
    try {
      const result = await call(key);
      failures.delete(key);
      if (result?.againInMs !== undefined && !stopping.signal.aborted) later(key, Math.max(1, result.againInMs));
    } catch (error) {
      if (stopping.signal.aborted) return;
      const known = failures.get(key);
      const count = (known?.count ?? 0) + 1;
      const pause = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(count - 1, 20));
      failures.set(key, { count, paidMs: known?.paidMs ?? clock.monotonic() });
      log(count > 3 ? 'error' : 'debug', 'reconcile failed; it is retried', {
        queue: options.name,
        // Not `key`: the log hides what is called so.
        object: key,
        error: error instanceof Error ? error.message : String(error),
        retryInMs: pause,
      });
      later(key, pause);
    }
  };

  let pumping = false;
  const pump = (): void => {
    for (const key of waiting) {
      if (running.size >= concurrency || stopping.signal.aborted || pumping) return;
      if (turnIsOver()) {
        pumping = true;
        setImmediate(() => {
          pumping = false;
          pump();
        });
        return;
      }
      waiting.delete(key);
      timers.get(key)?.cancel();
      timers.delete(key);
      running.set(
        key,
        run(key).finally(() => {
          running.delete(key);
          if (restMs > 0 && !stopping.signal.aborted) rest(key);
          else if (dirty.delete(key)) add(key);
          pump();
        }),
      );
    }
  };

  const rest = (key: string): void => {
    const cancel = clock.after(restMs, () => {
      resting.delete(key);
      if (dirty.delete(key)) add(key);
    });
    resting.set(key, cancel);
  };

  const start = (key: string): void => {
    if (stopping.signal.aborted) return;
    if (running.has(key) || resting.has(key)) dirty.add(key);
    else waiting.add(key);
    pump();
  };

  const add = (key: string): void => {
    const failing = failures.get(key);
    const free = !running.has(key) && !resting.has(key) && !waiting.has(key) && !stopping.signal.aborted;
    if (failing === undefined || !free) return start(key);
    // What changed may be the cure, or what the key itself did before it failed: that must not turn in a circle.
    const now = clock.monotonic();
    const waitMs = failing.paidMs - (HURRIED_BURST - 1) * HURRIED_RETRY_MS - now;
    const sooner = waitMs <= 0 || later(key, waitMs);
    if (sooner) failing.paidMs = Math.max(now, failing.paidMs) + HURRIED_RETRY_MS;
    if (waitMs <= 0) start(key);
  };

  return {
    add,
    async stop() {
      stopping.abort();
      waiting.clear();
      dirty.clear();
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
      for (const cancel of resting.values()) cancel();
      resting.clear();
      await Promise.allSettled(running.values());
    },
    get idle() {
      return waiting.size === 0 && running.size === 0 && dirty.size === 0;
    },
  };
}
