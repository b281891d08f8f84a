// A ResourceStore over a directory of YAML: what GitOps writes comes from files and is never written; what people and
// the operator make, and every status, lives in a state folder that this process alone owns.
//
// Guarantees: what a call returned Ok for survives a kill; versions rise and never repeat; a file that can not be read
// or is wrong never loosens anything (see docs/adr/0006-broken-files.md); Secrets are in no object, event or message.
// Does not say who may approve what (the operator does), and trusts whoever may write the directory as GitOps would.
import fs from 'node:fs';
import { canonicalJson } from '../../api/canonical.ts';
import { KINDS } from '../../api/kinds.ts';
import type { Resource } from '../../api/resource.ts';
import type { Stamp } from '../../api/schema.ts';
import { validateStatus } from '../../api/validate.ts';
import type { Clock } from '../../system/clock.ts';
import type { Files } from '../../system/files.ts';
import { type Random, randomSuffix, randomUid } from '../../system/random.ts';
import type { Actor, KindName, ObjectKey, ResourceStore, StoreResult, WatchEvent } from '../resource-store.ts';
import { admit, LARGEST_OBJECT, mayDelete, mayWriteStatus, sentence } from './admission.ts';
import { collectable } from './collect.ts';
import { type DirectoryCredentials, directoryCredentials } from './credentials.ts';
import type { FileProblem } from './file-problem.ts';
import { openJournal } from './journal.ts';
import { createLoader, isNamespaced, objectKey } from './loader.ts';
import { type BrokenResource, DEFAULT_NAMESPACE } from './read-document.ts';
import { reconcile } from './reconcile.ts';
import { createState, type Entry } from './state.ts';
import { lockState } from './state-lock.ts';
import { type FileWatch, watchFiles } from './watch-files.ts';

export interface DirectoryStoreOptions {
  /** Folder of YAML; read only. */
  directory: string;
  /** Folder of the store's own; made (0700) if it is not there. Must not lie in `directory`. */
  stateFolder: string;
  clock: Clock;
  random: Random;
  files: Files;
  /** The operator's signature over a stamp that lacks only it. */
  seal: (stamp: Stamp) => string;
  /** Whether to follow changes of files. Default true; false: only `reload` looks. */
  watch?: boolean;
  /** How long a burst of changes is let settle. Default 50 ms. */
  debounceMs?: number;
  /** How often every file is looked at, however quiet. Default 2000 ms. */
  pollMs?: number;
}

export interface DirectoryStore extends ResourceStore {
  /** Everything wrong in the files now, by file and line. */
  problems(): readonly FileProblem[];
  /** What is not in force and what it selects is to be denied. Objects in it may still be listed, as they last were. */
  broken(): readonly BrokenResource[];
  /** Called after `problems` or `broken` changed. Returns the function that stops it. */
  onFilesChanged(listener: () => void): () => void;
  /** Called with `namespace/name` of Secrets whose files changed. Returns the function that stops it. */
  onSecretsChanged(listener: (secrets: ReadonlySet<string>) => void): () => void;
  /** Reads the files now. Events of changes follow as always. */
  reload(): void;
  /** Forgets what has been over for 7 days. Also done every hour. */
  collect(): void;
  readonly credentials: DirectoryCredentials;
  /** Stops watching and gives the state folder back. */
  close(): void;
}

const MOST_OBJECTS = 20_000;
const COLLECT_MS = 3_600_000;

/** Throws StateInUse, StateDamaged, or Node's error where the state folder can not be used. */
export function openDirectoryStore(options: DirectoryStoreOptions): DirectoryStore {
  const { directory, stateFolder, clock, random, files, seal } = options;
  fs.mkdirSync(stateFolder, { recursive: true, mode: 0o700 });
  const unlock = lockState(stateFolder, random);
  let opened: ReturnType<typeof openJournal<Entry>>;
  try {
    opened = openJournal<Entry>(files, stateFolder);
  } catch (error) {
    unlock();
    throw error;
  }
  const { journal } = opened;
  const state = createState(journal, opened.entries);
  const loader = createLoader(directory);
  const credentials = directoryCredentials(directory);
  const listeners = new Set<() => void>();
  const secretListeners = new Set<(secrets: ReadonlySet<string>) => void>();
  let secretStamps: ReadonlyMap<string, string> = new Map();
  let problems: readonly FileProblem[] = [];
  let broken: readonly BrokenResource[] = [];
  let watch: FileWatch | undefined;
  let closed = false;

  const reload = (): void => {
    if (closed) return;
    credentials.look();
    const loaded = loader.load();
    const rotated = new Set(
      [...loaded.secretStamps.keys(), ...secretStamps.keys()].filter(
        (key) => loaded.secretStamps.get(key) !== secretStamps.get(key),
      ),
    );
    secretStamps = loaded.secretStamps;
    watch?.folders(loaded.folders);
    const next = reconcile(loaded, state.objects, { nowMs: clock.now(), uid: () => randomUid(random) });
    try {
      state.commit(next.changes);
    } catch (error) {
      // What the files say now can not be kept, and what they said before is no longer wanted: deny until it can.
      const message = `the state folder can not be written (${(error as NodeJS.ErrnoException).code ?? 'error'})`;
      const hint = `check space and permissions of ${stateFolder}`;
      next.problems.push({ severity: 'Error', file: '.', line: 1, column: 1, field: '', message, hint });
      next.broken.push({ problem: `${message}; ${hint}` });
      retry();
    }
    if (rotated.size > 0) for (const listener of Array.from(secretListeners)) listener(rotated);
    const before = canonicalJson({ problems, broken });
    problems = next.problems;
    broken = next.broken;
    if (canonicalJson({ problems, broken }) === before) return;
    for (const listener of Array.from(listeners)) listener();
  };
  let cancelRetry: () => void = () => {};
  const retry = (): void => {
    cancelRetry();
    cancelRetry = clock.after(1000, reload);
  };

  let cancelCollect: () => void = () => {};
  const collect = (): void => {
    if (closed) return;
    const keys = collectable(state.objects, clock.now());
    try {
      state.commit(keys.map((key) => ({ op: 'Delete', key })));
    } catch {
      // It is only forgetting; the next round does it.
    }
  };
  const collectLater = (): void => {
    cancelCollect = clock.after(COLLECT_MS, () => {
      collect();
      collectLater();
    });
  };

  const find = (key: ObjectKey): { path: string; object: Resource; file?: string } | undefined => {
    if (!Object.hasOwn(KINDS, key.kind)) return undefined;
    const path = objectKey(
      key.kind,
      isNamespaced(key.kind) ? (key.namespace ?? DEFAULT_NAMESPACE) : undefined,
      key.name,
    );
    const found = state.objects.get(path);
    return found === undefined ? undefined : { path, ...found };
  };

  const create = (actor: Actor, object: Parameters<ResourceStore['create']>[1]): StoreResult<Resource> => {
    if (!Object.hasOwn(KINDS, object.kind))
      return { kind: 'Invalid', problems: [`kind: ${String(object.kind)} is not known`] };
    if (state.objects.size >= MOST_OBJECTS) {
      return {
        kind: 'Forbidden',
        message: `The store holds ${MOST_OBJECTS} objects already; wait until old ones are forgotten.`,
      };
    }
    const wanted = object.metadata.name;
    for (let attempt = 0; attempt < 8; attempt++) {
      const name = wanted.endsWith('-') ? `${wanted}${randomSuffix(random)}` : wanted;
      const admitted = admit(actor, object, name, {
        uid: randomUid(random),
        nonce: random.bytes(16).toString('base64url'),
        nowMs: clock.now(),
        seal,
      });
      if (admitted.kind !== 'Ok') return admitted;
      const { kind, namespace } = { kind: object.kind, namespace: admitted.value.metadata.namespace };
      if (find({ kind, name, ...(namespace === undefined ? {} : { namespace }) }) !== undefined) {
        if (name === wanted) return { kind: 'AlreadyExists' };
        continue;
      }
      return { kind: 'Ok', value: state.commit([{ op: 'Put', object: admitted.value }])[0]! };
    }
    return { kind: 'AlreadyExists' };
  };

  const applyStatus = (
    actor: Actor,
    key: ObjectKey,
    resourceVersion: string,
    status: unknown,
  ): StoreResult<Resource> => {
    const refusal = mayWriteStatus(actor, key.kind);
    if (refusal !== undefined) return { kind: 'Forbidden', message: refusal };
    const found = find(key);
    if (found === undefined) return { kind: 'NotFound' };
    if (found.object.metadata.resourceVersion !== resourceVersion) {
      return { kind: 'Conflict', message: `${key.kind} ${key.name} has changed since; read it again.` };
    }
    const problems = validateStatus(key.kind, status);
    if (problems.length > 0) return { kind: 'Invalid', problems: problems.map(sentence) };
    const next = canonicalJson(status);
    if (next.length > LARGEST_OBJECT) return { kind: 'Invalid', problems: ['status: is larger than an object may be'] };
    if (found.object.status !== undefined && canonicalJson(found.object.status) === next)
      return { kind: 'Ok', value: found.object };
    const object = { ...found.object, status: JSON.parse(next) as unknown };
    return { kind: 'Ok', value: state.commit([{ op: 'Put', object, file: found.file }])[0]! };
  };

  const remove = (actor: Actor, key: ObjectKey, uid: string | undefined): StoreResult<undefined> => {
    const found = find(key);
    if (found === undefined) return { kind: 'NotFound' };
    if (uid !== undefined && found.object.metadata.uid !== uid) {
      return { kind: 'Conflict', message: `${key.kind} ${key.name} is another object by now.` };
    }
    const refusal = mayDelete(actor, found.object, found.file);
    if (refusal !== undefined) return { kind: 'Forbidden', message: refusal };
    state.commit([{ op: 'Delete', key: found.path }]);
    return { kind: 'Ok', value: undefined };
  };

  // Where the disk refuses, the promise rejects with its error and nothing has changed.
  const later = <T>(work: () => T): Promise<T> =>
    new Promise((resolve) => {
      if (closed) throw new Error('the store is closed');
      resolve(work());
    });

  const store: DirectoryStore = {
    get: <R extends Resource>(key: ObjectKey) => later(() => find(key)?.object as R | undefined),
    list: <R extends Resource>(kind: KindName, namespace?: string) =>
      later(() => {
        const items = [...state.objects.values()]
          .map(({ object }) => object)
          .filter(
            (object) => object.kind === kind && (namespace === undefined || object.metadata.namespace === namespace),
          )
          .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
        return { items: items as R[], resourceVersion: String(state.version) };
      }),
    watch: <R extends Resource>(
      kind: KindName,
      from: string,
      onEvent: (event: WatchEvent<R>) => void,
      onGone: () => void,
    ) => state.watch(kind, Number(from), (event) => onEvent(event as WatchEvent<R>), onGone),
    create: <R extends Resource>(actor: Actor, object: Parameters<ResourceStore['create']>[1]) =>
      later(() => create(actor, object) as StoreResult<R>),
    applyStatus: <R extends Resource>(actor: Actor, key: ObjectKey, resourceVersion: string, status: unknown) =>
      later(() => applyStatus(actor, key, resourceVersion, status) as StoreResult<R>),
    delete: (actor, key, uid) => later(() => remove(actor, key, uid)),
    problems: () => problems,
    broken: () => broken,
    onFilesChanged(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onSecretsChanged(listener) {
      secretListeners.add(listener);
      return () => secretListeners.delete(listener);
    },
    reload,
    collect,
    credentials,
    close() {
      if (closed) return;
      closed = true;
      watch?.stop();
      cancelRetry();
      cancelCollect();
      state.stop();
      journal.close();
      unlock();
    },
  };

  if (options.watch ?? true) {
    const { debounceMs = 50, pollMs = 2000 } = options;
    watch = watchFiles({ clock, debounceMs, pollMs, onChange: reload, changed: loader.changed });
  }
  reload();
  collect();
  collectLater();
  return store;
}

const nameOf = (object: Resource): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
