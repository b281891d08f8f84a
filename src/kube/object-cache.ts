// The last seen state of every object of one list, found by name or by index. Pure; objects are shared, never copied.
import { type KubeObject, objectKey } from './object.ts';

/** Index name to the values that an object is found by. */
export type ObjectIndexers<T> = Readonly<Record<string, (object: T) => readonly string[]>>;

export interface ObjectCache<T> {
  get(namespace: string | undefined, name: string): T | undefined;
  list(namespace?: string): T[];
  /** Objects whose index `name` has `value`; without looking at the others. */
  indexed(name: string, value: string): T[];
  keys(): string[];
  byKey(key: string): T | undefined;
  set(key: string, object: T | undefined): void;
  readonly size: number;
}

export function createObjectCache<T extends KubeObject>(indexers: ObjectIndexers<T> = {}): ObjectCache<T> {
  const objects = new Map<string, T>();
  const indices = new Map<string, Map<string, Set<string>>>(Object.keys(indexers).map((name) => [name, new Map()]));
  return {
    get: (namespace, name) => objects.get(objectKey(namespace, name)),
    list(namespace) {
      const all = [...objects.values()];
      return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
    },
    indexed: (name, value) => [...(indices.get(name)?.get(value) ?? [])].map((key) => objects.get(key)!),
    keys: () => [...objects.keys()],
    byKey: (key) => objects.get(key),
    set(key, object) {
      const previous = objects.get(key);
      for (const [name, valuesOf] of Object.entries(indexers)) {
        const index = indices.get(name)!;
        for (const value of previous === undefined ? [] : valuesOf(previous)) {
          const entry = index.get(value);
          entry?.delete(key);
          if (entry?.size === 0) index.delete(value);
        }
        for (const value of object === undefined ? [] : valuesOf(object)) {
          const entry = index.get(value);
          if (entry === undefined) index.set(value, new Set([key]));
          else entry.add(key);
        }
      }
      if (object === undefined) objects.delete(key);
      else objects.set(key, object);
    },
    get size() {
      return objects.size;
    },
  };
}
