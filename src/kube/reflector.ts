// Keeps what one path of the API server holds, and tells of every change. Guarantees: after any interruption the cache
// becomes what the server has, and each difference is told, deletions that nobody saw included; an object that was
// deleted and made again is told as both; events of one object come in order; a handler that throws is logged and costs
// nobody else anything; a slow handler holds back the socket, never fills memory. It may skip states in between.
import { type Clock, systemClock } from '../system/clock.ts';
import { type Random, systemRandom } from '../system/random.ts';
import { KubeConnectionError } from './answer.ts';
import { createBackoff, sleep } from './backoff.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './log.ts';
import { isBefore, type KubeObject, objectKey } from './object.ts';
import { createObjectCache, type ObjectIndexers } from './object-cache.ts';
import { listPages, type Selection } from './pages.ts';
import { followChanges } from './watch-loop.ts';

export interface ReflectorEvent<T> {
  type: 'Added' | 'Modified' | 'Deleted';
  /** Of `Deleted`: the last state known. */
  object: T;
  previous: T | undefined;
}

export interface ReflectorOptions<T> extends Selection {
  client: KubeClient;
  path: string;
  /** Only the object of this name: RBAC by `resourceNames` allows list and watch with it. */
  name?: string;
  /** Awaited before the next event. */
  onEvent?(event: ReflectorEvent<T>): void | Promise<void>;
  /** The whole is in step again, after the first list and after each later one. */
  onSynced?(): void;
  indexers?: ObjectIndexers<T>;
  /** Keeps less of an object. */
  trim?(object: T): T;
  clock?: Clock;
  random?: Random;
  log?: KubeLog;
  pageSize?: number;
  silenceMs?: number;
  backoff?: { firstMs: number; longestMs: number };
}

export interface ReflectorStatus {
  synced: boolean;
  /** Objects held; while it lists for the first time, how far it is. */
  objects: number;
  /** What the server said is left of the list under way. */
  remaining: number | undefined;
  /** Monotonic ms of when the server was last heard; undefined: never. */
  heardAt: number | undefined;
  /** Why it is out of touch now. */
  problem: string | undefined;
}

export interface Reflector<T> {
  /** Resolves after the first whole list was told; rejects only if it was stopped before. */
  readonly synced: Promise<void>;
  status(): ReflectorStatus;
  get(namespace: string | undefined, name: string): T | undefined;
  list(namespace?: string): T[];
  indexed(name: string, value: string): T[];
  /** Remembers what the caller just wrote, so that it does not act twice before the watch tells. */
  remember(object: T): void;
  /** Resolves once no handler runs. */
  stop(): Promise<void>;
}

const SHORTEST_GOOD_MS = 5000;

export function startReflector<T extends KubeObject>(options: ReflectorOptions<T>): Reflector<T> {
  const { client, path } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const log = options.log ?? (() => undefined);
  const selection: Selection = {
    labelSelector: options.labelSelector,
    fieldSelector: options.name === undefined ? options.fieldSelector : `metadata.name=${options.name}`,
  };
  const cache = createObjectCache<T>(options.indexers);
  const stopping = new AbortController();
  const { signal } = stopping;
  const first = Promise.withResolvers<void>();
  first.promise.catch(() => undefined);
  const status: ReflectorStatus = {
    synced: false,
    objects: 0,
    remaining: undefined,
    heardAt: undefined,
    problem: undefined,
  };
  const contact = (): void => {
    status.heardAt = clock.monotonic();
    status.problem = undefined;
  };

  const tell = async (event: ReflectorEvent<T>): Promise<void> => {
    try {
      await options.onEvent?.(event);
    } catch (error) {
      const { name, namespace } = event.object.metadata;
      log('error', 'a handler of changes failed', { path, namespace, name, error: String(error) });
    }
  };

  // Written by this process and not told by the server yet.
  const remembered = new Set<string>();

  /** Takes in one state of one object, and tells what that means. */
  const take = async (object: T | undefined, key: string, from: 'List' | 'Watch'): Promise<void> => {
    const previous = cache.byKey(key);
    if (object === undefined) {
      remembered.delete(key);
      if (previous === undefined) return;
      cache.set(key, undefined);
      await tell({ type: 'Deleted', object: previous, previous });
      return;
    }
    if (previous !== undefined && previous.metadata.uid !== object.metadata.uid) {
      cache.set(key, undefined);
      await tell({ type: 'Deleted', object: previous, previous });
      cache.set(key, object);
      await tell({ type: 'Added', object, previous: undefined });
      return;
    }
    if (previous !== undefined && remembered.has(key)) {
      // What the server tells is from before that write.
      if (isBefore(object.metadata.resourceVersion, previous.metadata.resourceVersion)) return;
      remembered.delete(key);
    } else if (from === 'List' && previous?.metadata.resourceVersion === object.metadata.resourceVersion) {
      return;
    }
    cache.set(key, object);
    await tell({ type: previous === undefined ? 'Added' : 'Modified', object, previous });
  };
  const trimmed = (object: T): T => options.trim?.(object) ?? object;
  const keyOf = (object: T): string => objectKey(object.metadata.namespace, object.metadata.name);

  /** The version listed; undefined: stopped. */
  const relist = async (): Promise<string | undefined> => {
    const backoff = createBackoff(random, options.backoff?.firstMs, options.backoff?.longestMs);
    while (!signal.aborted) {
      let problem: string;
      let retryAfterMs = 0;
      try {
        const fresh = new Set<string>();
        const end = await listPages<T>(
          client,
          path,
          { ...selection, signal, ...pageSizeOf(options) },
          async (items, page) => {
            if (page.restarted) fresh.clear();
            contact();
            for (const item of items) {
              fresh.add(keyOf(item));
              await take(trimmed(item), keyOf(item), 'List');
              if (signal.aborted) return;
            }
            status.remaining = page.remaining;
          },
        );
        if (signal.aborted) return undefined;
        if (end.kind === 'Listed') {
          for (const key of cache.keys()) if (!fresh.has(key)) await take(undefined, key, 'List');
          status.remaining = undefined;
          return end.resourceVersion;
        }
        problem = `${end.status} ${end.reason}: ${end.message}`;
        retryAfterMs = end.retryAfterMs ?? 0;
      } catch (error) {
        if (error instanceof KubeConnectionError && error.code === 'Closed') return undefined;
        problem = error instanceof Error ? error.message : String(error);
      }
      if (signal.aborted) return undefined;
      log(status.problem === problem ? 'debug' : 'warn', 'a list failed; it is retried', { path, problem });
      status.problem = problem;
      await sleep(clock, Math.max(retryAfterMs, backoff.next()), signal);
    }
    return undefined;
  };

  const run = async (): Promise<void> => {
    const pauses = createBackoff(random, options.backoff?.firstMs, options.backoff?.longestMs);
    for (;;) {
      const from = await relist();
      if (from === undefined) return;
      const began = clock.monotonic();
      status.synced = true;
      first.resolve();
      try {
        options.onSynced?.();
      } catch (error) {
        log('error', 'a handler of changes failed', { path, error: String(error) });
      }
      const end = await followChanges<T>({
        ...selection,
        client,
        path,
        from,
        signal,
        clock,
        random,
        log,
        onChange: (type, object) => take(type === 'Deleted' ? undefined : trimmed(object), keyOf(object), 'Watch'),
        onContact: contact,
        onTrouble: (problem) => {
          status.problem = problem;
        },
        ...(options.silenceMs === undefined ? {} : { silenceMs: options.silenceMs }),
        ...(options.backoff === undefined ? {} : { backoff: options.backoff }),
      });
      if (end === 'Stopped') return;
      // A server that forgets at once must not be listed in a circle.
      if (clock.monotonic() - began < SHORTEST_GOOD_MS) await sleep(clock, pauses.next(), signal);
      else pauses.reset();
    }
  };
  const running = run()
    .catch((error: unknown) => log('error', 'a reflector failed', { path, error: String(error) }))
    .finally(() => first.reject(new Error(`the reflector of ${path} was stopped`)));

  return {
    synced: first.promise,
    status: () => ({ ...status, objects: cache.size }),
    get: (namespace, name) => cache.get(namespace, name),
    list: (namespace) => cache.list(namespace),
    indexed: (name, value) => cache.indexed(name, value),
    remember(object) {
      const key = keyOf(object);
      // Deleted meanwhile: a write that came back late must not resurrect it here.
      const known = cache.byKey(key);
      if (known === undefined || known.metadata.uid !== object.metadata.uid) return;
      if (!isBefore(known.metadata.resourceVersion, object.metadata.resourceVersion)) return;
      remembered.add(key);
      cache.set(key, trimmed(object));
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

const pageSizeOf = (options: { pageSize?: number }): { pageSize?: number } =>
  options.pageSize === undefined ? {} : { pageSize: options.pageSize };
