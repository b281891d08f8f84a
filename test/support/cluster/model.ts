// An API server in memory, with the faults of a real one on demand. For tests, and for nothing else.
import { failureOf, type KubeAnswer, KubeConnectionError, type WatchLine } from '../../../src/kube/answer.ts';
import type { KubeClient, KubeList } from '../../../src/kube/client.ts';
import type { KubeObject } from '../../../src/kube/object.ts';

export interface Model {
  client: KubeClient;
  /** Writes or, with undefined, deletes. Returns the resource version. */
  put(path: string, name: string, object: Omit<KubeObject, 'metadata'> | undefined, uid?: string): number;
  objects(path: string): Map<string, KubeObject>;
  /** Forgets history: watches from before get 410. */
  compact(): void;
  /** Asked before each request and line; throw or return an answer to break it. */
  fault: (what: 'list' | 'watch' | 'line' | 'get' | 'write') => undefined | 'Reset' | 'End' | 'Gone' | 'Refuse';
  /** Awaited before each answer. */
  delay: () => Promise<void>;
  calls: { list: number; watch: number; write: number };
}

interface Change {
  version: number;
  path: string;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: KubeObject;
}

export function createModel(): Model {
  let version = 1;
  let floor = 1;
  let uids = 0;
  const paths = new Map<string, Map<string, KubeObject>>();
  const changes: Change[] = [];
  const waiting = new Set<() => void>();
  const at = (path: string): Map<string, KubeObject> => {
    const known = paths.get(path) ?? new Map<string, KubeObject>();
    paths.set(path, known);
    return known;
  };
  const wake = (): void => {
    for (const each of Array.from(waiting)) each();
  };
  const change = (
    path: string,
    name: string,
    object: Omit<KubeObject, 'metadata'> | undefined,
    uid?: string,
  ): number => {
    const objects = at(path);
    const previous = objects.get(name);
    if (object === undefined) {
      if (previous === undefined) return version;
      version++;
      objects.delete(name);
      const last = { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } };
      changes.push({ version, path, type: 'DELETED', object: last });
    } else {
      version++;
      const metadata = {
        ...(object as Partial<KubeObject>).metadata,
        name,
        uid: uid ?? previous?.metadata.uid ?? `u${++uids}`,
        resourceVersion: String(version),
      };
      const next = { ...object, metadata };
      objects.set(name, next);
      changes.push({ version, path, type: previous === undefined ? 'ADDED' : 'MODIFIED', object: next });
    }
    wake();
    return version;
  };
  const failed = (status: number, reason: string): Extract<KubeAnswer<never>, { kind: 'Failed' }> =>
    failureOf(status, { reason, message: reason });
  const broken = (): never => {
    throw new KubeConnectionError('Unreachable', 'reset by the test');
  };
  const split = (path: string): [string, string] => [
    path.slice(0, path.lastIndexOf('/')),
    path.slice(path.lastIndexOf('/') + 1),
  ];
  const copy = <T>(value: T): T => structuredClone(value);

  /** `Reset` breaks before or after the write happened, as a network does. */
  const write = async <T>(work: () => KubeAnswer<T>): Promise<KubeAnswer<T>> => {
    model.calls.write++;
    await model.delay();
    const fault = model.fault('write');
    if (fault === 'Refuse') return failed(500, 'InternalError');
    if (fault === 'Reset') return broken();
    const answer = work();
    await model.delay();
    if (fault === 'End') return broken();
    return answer;
  };

  const client: KubeClient = {
    access: { server: 'http://model', headers: () => ({}) },
    async get<T>(path: string) {
      await model.delay();
      const fault = model.fault('get');
      if (fault === 'Reset' || fault === 'End') return broken();
      const object = at(split(path)[0]).get(split(path)[1]);
      await model.delay();
      return object === undefined ? failed(404, 'NotFound') : { kind: 'Ok', value: copy(object) as T };
    },
    async list<T>(path: string, options: Parameters<KubeClient['list']>[1] = {}) {
      model.calls.list++;
      await model.delay();
      const fault = model.fault('list');
      if (fault === 'Reset' || fault === 'End') return broken();
      if (fault === 'Refuse') return failed(503, 'ServiceUnavailable');
      if (fault === 'Gone' && options.continue !== undefined) return failed(410, 'Expired');
      // A token holds what is left of the moment it was made in.
      const rest: { version: number; items: KubeObject[] } =
        options.continue === undefined
          ? { version, items: [...at(path).values()] }
          : (JSON.parse(options.continue) as { version: number; items: KubeObject[] });
      const limit = options.limit ?? rest.items.length;
      const left = rest.items.slice(limit);
      const value: KubeList<T> = {
        metadata: {
          resourceVersion: String(rest.version),
          ...(left.length === 0 ? {} : { continue: JSON.stringify({ version: rest.version, items: left }) }),
        },
        items: copy(rest.items.slice(0, limit)) as T[],
      };
      return { kind: 'Ok', value };
    },
    create: <T>(path: string, body: unknown) =>
      write<T>(() => {
        const { metadata } = body as KubeObject;
        if (at(path).has(metadata.name)) return failed(409, 'AlreadyExists');
        change(path, metadata.name, body as KubeObject);
        return { kind: 'Ok', value: copy(at(path).get(metadata.name)) as T };
      }),
    replace: <T>(path: string, body: unknown) =>
      write<T>(() => {
        const [folder, name] = split(path);
        const known = at(folder).get(name);
        if (known === undefined) return failed(404, 'NotFound');
        if ((body as KubeObject).metadata.resourceVersion !== known.metadata.resourceVersion)
          return failed(409, 'Conflict');
        change(folder, name, body as KubeObject);
        return { kind: 'Ok', value: copy(at(folder).get(name)) as T };
      }),
    patch: () => Promise.resolve(failed(405, 'MethodNotAllowed')),
    delete: (path) =>
      write(() => {
        const [folder, name] = split(path);
        if (!at(folder).has(name)) return failed(404, 'NotFound');
        change(folder, name, undefined);
        return { kind: 'Ok', value: undefined as never };
      }),
    async *watch<T>(path: string, options: Parameters<KubeClient['watch']>[1] = {}): AsyncGenerator<WatchLine<T>> {
      model.calls.watch++;
      await model.delay();
      const fault = model.fault('watch');
      if (fault === 'Reset') return broken();
      if (fault === 'End') return;
      if (fault === 'Refuse') {
        yield { type: 'ERROR', failure: failed(429, 'TooManyRequests') };
        return;
      }
      let from = Number(options.resourceVersion);
      if (from < floor || fault === 'Gone') {
        yield { type: 'ERROR', failure: failed(410, 'Expired') };
        return;
      }
      let index = changes.findIndex((each) => each.version > from);
      if (index === -1) index = changes.length;
      while (options.signal?.aborted !== true) {
        const next = changes[index];
        if (next === undefined) {
          const line = model.fault('line');
          if (line === 'Reset') return broken();
          if (line === 'End') return;
          await new Promise<void>((resolve) => {
            const done = (): void => {
              waiting.delete(done);
              options.signal?.removeEventListener('abort', done);
              resolve();
            };
            waiting.add(done);
            options.signal?.addEventListener('abort', done);
          });
          continue;
        }
        index++;
        if (next.path !== path) {
          if (index % 7 === 0) {
            from = next.version;
            yield { type: 'BOOKMARK', object: { metadata: { resourceVersion: String(from) } } as T };
          }
          continue;
        }
        const line = model.fault('line');
        if (line === 'Reset') return broken();
        if (line === 'End') return;
        yield { type: next.type, object: copy(next.object) as T };
      }
    },
    close: () => Promise.resolve(),
  };

  const model: Model = {
    client,
    put: change,
    objects: at,
    compact() {
      floor = version;
      wake();
    },
    fault: () => undefined,
    delay: () => Promise.resolve(),
    calls: { list: 0, watch: 0, write: 0 },
  };
  return model;
}
