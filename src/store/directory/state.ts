// The objects of a store and their history: a map that changes only through entries, which are on disk before anybody
// sees them, and the latest of which watchers are told. Knows nothing of YAML, actors or kinds' meaning.
import type { Resource } from '../../api/resource.ts';
import type { WatchEvent } from '../resource-store.ts';
import type { Journal } from './journal.ts';
import { objectKey } from './loader.ts';

export type Entry =
  | { op: 'Put'; object: Resource /** The file that declares it; absent: created through the store. */; file?: string }
  | { op: 'Delete'; key: string; version: number };

export interface StoredObject {
  object: Resource;
  file?: string;
}

export interface State {
  readonly objects: ReadonlyMap<string, StoredObject>;
  /** The latest resourceVersion given. */
  readonly version: number;
  /** Stores these and tells watchers, all or none. `make` is given the resourceVersion of each. Throws what the disk throws. */
  commit(changes: readonly Change[]): Resource[];
  watch(kind: string, from: number, onEvent: (event: WatchEvent) => void, onGone: () => void): () => void;
  stop(): void;
}

export type Change = { op: 'Put'; object: Resource; file?: string | undefined } | { op: 'Delete'; key: string };

/** Events kept for watchers that come back; who is further behind lists again. */
const HISTORY = 4096;

export function keyOf(object: Pick<Resource, 'kind' | 'metadata'>): string {
  return objectKey(object.kind, object.metadata.namespace, object.metadata.name);
}

export function createState(journal: Journal<Entry>, entries: readonly Entry[]): State {
  const objects = new Map<string, StoredObject>();
  let version = 0;
  for (const entry of entries) {
    version = Math.max(version, entry.op === 'Put' ? Number(entry.object.metadata.resourceVersion) : entry.version);
    if (entry.op === 'Delete') objects.delete(entry.key);
    else objects.set(keyOf(entry.object), stored(deepFreeze(entry.object), entry.file));
  }
  let history: { version: number; event: WatchEvent }[] = [];
  /** Watchers may start anywhere after this. */
  let horizon = version;
  const watchers = new Set<() => void>();
  let stopped = false;

  return {
    objects,
    get version() {
      return version;
    },
    commit(changes) {
      const made: Entry[] = [];
      const events: { version: number; event: WatchEvent }[] = [];
      // Every version has its event, without a gap: watchers find theirs by counting.
      let next = version;
      const now = new Map<string, Resource | undefined>();
      const current = (key: string): Resource | undefined => (now.has(key) ? now.get(key) : objects.get(key)?.object);
      for (const change of changes) {
        if (change.op === 'Delete') {
          const gone = current(change.key);
          if (gone === undefined) continue;
          next++;
          const object = deepFreeze({ ...gone, metadata: { ...gone.metadata, resourceVersion: String(next) } });
          made.push({ op: 'Delete', key: change.key, version: next });
          events.push({ version: next, event: { type: 'Deleted', object } });
          now.set(change.key, undefined);
          continue;
        }
        next++;
        const object = deepFreeze({
          ...change.object,
          metadata: { ...change.object.metadata, resourceVersion: String(next) },
        });
        const key = keyOf(object);
        made.push({ op: 'Put', object, ...(change.file === undefined ? {} : { file: change.file }) });
        events.push({ version: next, event: { type: current(key) === undefined ? 'Added' : 'Modified', object } });
        now.set(key, object);
      }
      if (made.length === 0) return [];
      journal.append(made);
      version = next;
      for (const entry of made) {
        if (entry.op === 'Delete') objects.delete(entry.key);
        else objects.set(keyOf(entry.object), stored(entry.object, entry.file));
      }
      history.push(...events);
      if (history.length > HISTORY) {
        const dropped = history.length - HISTORY;
        horizon = history[dropped - 1]!.version;
        history = history.slice(dropped);
      }
      if (journal.wantsCompaction) {
        try {
          journal.compact(entriesOf(objects, version));
        } catch {
          // These changes are on disk already. If the journal is not usable any more, the next append says so.
        }
      }
      for (const wake of watchers) wake();
      return made.flatMap((entry) => (entry.op === 'Put' ? [entry.object] : []));
    },
    watch(kind, from, onEvent, onGone) {
      let cursor = from;
      let active = true;
      let scheduled = false;
      const drain = (): void => {
        scheduled = false;
        while (active && !stopped) {
          if (cursor < horizon || cursor > version) {
            stop();
            onGone();
            return;
          }
          const next = history[cursor - horizon]; // versions follow one another without a gap
          if (next === undefined) return;
          cursor = next.version;
          if (next.event.object.kind === kind) onEvent(next.event);
        }
      };
      const wake = (): void => {
        if (scheduled) return;
        scheduled = true;
        queueMicrotask(drain);
      };
      const stop = (): void => {
        active = false;
        watchers.delete(wake);
      };
      watchers.add(wake);
      wake();
      return stop;
    },
    stop() {
      stopped = true;
      watchers.clear();
    },
  };
}

/** What a snapshot holds: every object, and the version where the newest is not among them. */
function entriesOf(objects: ReadonlyMap<string, StoredObject>, version: number): Entry[] {
  const puts = [...objects.values()].map(
    ({ object, file }): Entry => ({ op: 'Put', object, ...(file === undefined ? {} : { file }) }),
  );
  return [...puts, { op: 'Delete', key: '', version }];
}

function stored(object: Resource, file: string | undefined): StoredObject {
  return { object, ...(file === undefined ? {} : { file }) };
}

/** Everybody is handed the same object, so nobody may change it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const member of Object.values(value)) deepFreeze(member);
  return value;
}
