// A ResourceStore over a Kubernetes API server. Guarantees: what the server refuses is a value with the server's own
// sentence and fields; a status is written only over the version it was decided on, and replaces the status alone;
// a watch outlives resets and restarts, and says `onGone` rather than miss a change. Who may do what is the API server's
// to say: the actor is whoever the client's access makes them, and admission stamps requesters and approvers.
// Throws KubeConnectionError and KubeFailedError where there is no answer, or none that a caller can act on.
import { API_GROUP, API_GROUP_VERSION, API_VERSION } from '../../api/group.ts';
import { KINDS } from '../../api/kinds.ts';
import type { Resource } from '../../api/resource.ts';
import { causesOf, KubeFailedError, type KubeFailure } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeLog } from '../../kube/log.ts';
import { withoutManagedFields } from '../../kube/object.ts';
import { listPages } from '../../kube/pages.ts';
import { resourcePath } from '../../kube/paths.ts';
import { followChanges } from '../../kube/watch-loop.ts';
import { type Clock, systemClock } from '../../system/clock.ts';
import { type Random, systemRandom } from '../../system/random.ts';
import type { KindName, NewObject, ObjectKey, ResourceStore, StoreResult, WatchEvent } from '../resource-store.ts';

export interface KubeStoreOptions {
  client: KubeClient;
  /** Of objects that name none. Default `default`. */
  defaultNamespace?: string;
  /** Lists and watches of namespaced kinds see only this namespace. Absent: all. */
  onlyNamespace?: string;
  clock?: Clock;
  random?: Random;
  log?: KubeLog;
}

/** `kubectl apply` keeps a second copy of the object in it. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

export function openKubeStore(options: KubeStoreOptions): ResourceStore {
  const { client } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const log = options.log ?? (() => undefined);

  const namespaceOf = (kind: KindName, namespace: string | undefined): string | undefined =>
    KINDS[kind].scope === 'Cluster' ? undefined : (namespace ?? options.defaultNamespace ?? 'default');
  const pathOf = (key: ObjectKey, subresource?: string): string =>
    kindPath(key.kind, { namespace: namespaceOf(key.kind, key.namespace), name: key.name, subresource });
  const listPath = (kind: KindName, namespace: string | undefined): string =>
    kindPath(kind, { namespace: KINDS[kind].scope === 'Cluster' ? undefined : (namespace ?? options.onlyNamespace) });

  return {
    async get<R extends Resource>(key: ObjectKey) {
      const answer = await client.get<R>(pathOf(key));
      if (answer.kind === 'Ok') return slim(answer.value, key.kind);
      if (answer.status === 404) return undefined;
      throw new KubeFailedError(`get ${key.kind} ${key.name}`, answer);
    },

    async list<R extends Resource>(kind: KindName, namespace?: string) {
      let items: R[] = [];
      const end = await listPages<R>(client, listPath(kind, namespace), {}, (page, { restarted }) => {
        if (restarted) items = [];
        for (const item of page) items.push(slim(item, kind));
      });
      if (end.kind === 'Failed') throw new KubeFailedError(`list ${KINDS[kind].plural}`, end);
      return { items, resourceVersion: end.resourceVersion };
    },

    watch<R extends Resource>(
      kind: KindName,
      from: string,
      onEvent: (event: WatchEvent<R>) => void,
      onGone: () => void,
    ) {
      const stopping = new AbortController();
      followChanges<R>({
        client,
        path: listPath(kind, undefined),
        from,
        signal: stopping.signal,
        clock,
        random,
        log,
        onChange(type, object) {
          try {
            onEvent({ type, object: slim(object, kind) });
          } catch (error) {
            log('error', 'a handler of changes failed', { kind, name: object.metadata.name, error: String(error) });
          }
        },
      })
        .then((end) => {
          if (end === 'Gone' && !stopping.signal.aborted) onGone();
        })
        .catch((error: unknown) => log('error', 'a watch failed', { kind, error: String(error) }));
      return () => stopping.abort();
    },

    async create<R extends Resource>(_actor: unknown, object: NewObject) {
      const { name, ...metadata } = object.metadata;
      const namespace = namespaceOf(object.kind, metadata.namespace);
      const body = {
        apiVersion: object.apiVersion,
        kind: object.kind,
        metadata: {
          ...metadata,
          ...(namespace === undefined ? {} : { namespace }),
          ...(name.endsWith('-') ? { generateName: name } : { name }),
        },
        spec: object.spec,
      };
      const answer = await client.create<R>(kindPath(object.kind, { namespace }), body, { fieldValidation: 'Strict' });
      return answer.kind === 'Ok'
        ? { kind: 'Ok', value: slim(answer.value, object.kind) }
        : refusal(answer, `create ${object.kind} ${name}`);
    },

    async applyStatus<R extends Resource>(_actor: unknown, key: ObjectKey, resourceVersion: string, status: unknown) {
      // Setting the version makes it a precondition; all of the object that is not status stays as it is there,
      // fields that this program does not know included.
      const patch = [
        { op: 'replace', path: '/metadata/resourceVersion', value: resourceVersion },
        { op: 'add', path: '/status', value: status },
      ];
      const answer = await client.patch<R>(pathOf(key, 'status'), patch, 'json', { fieldValidation: 'Strict' });
      return answer.kind === 'Ok'
        ? { kind: 'Ok', value: slim(answer.value, key.kind) }
        : refusal(answer, `write the status of ${key.kind} ${key.name}`);
    },

    async delete(_actor, key, uid) {
      const answer = await client.delete(pathOf(key), { uid, propagationPolicy: 'Background' });
      return answer.kind === 'Ok'
        ? { kind: 'Ok', value: undefined }
        : refusal(answer, `delete ${key.kind} ${key.name}`);
    },
  };
}

/** Path of a kind's list, object or subresource. */
export function kindPath(
  kind: KindName,
  parts: { namespace?: string | undefined; name?: string | undefined; subresource?: string | undefined } = {},
): string {
  return resourcePath({ group: API_GROUP, version: API_VERSION, plural: KINDS[kind].plural }, parts);
}

/** Leaves out what nobody reads. Changes and returns `object`. */
function slim<R extends Resource>(object: R, kind: KindName): R {
  withoutManagedFields(object);
  object.apiVersion ??= API_GROUP_VERSION;
  object.kind ??= kind;
  const { annotations } = object.metadata;
  if (annotations !== undefined && Object.hasOwn(annotations, LAST_APPLIED)) delete annotations[LAST_APPLIED];
  return object;
}

function refusal(failure: KubeFailure, what: string): Exclude<StoreResult<never>, { kind: 'Ok' }> {
  switch (failure.status) {
    case 404:
      return { kind: 'NotFound' };
    case 409:
      return failure.reason === 'AlreadyExists'
        ? { kind: 'AlreadyExists' }
        : { kind: 'Conflict', message: failure.message };
    case 400:
    case 413:
    case 422:
      return { kind: 'Invalid', problems: problemsOf(failure) };
    case 403:
      return { kind: 'Forbidden', message: failure.message };
    default:
      throw new KubeFailedError(what, failure);
  }
}

/** Unknown fields come as one sentence without causes. */
function problemsOf(failure: KubeFailure): string[] {
  const unknown = [...failure.message.matchAll(/unknown field "([^"]+)"/g)].map(
    (match) => `${match[1]}: unknown field`,
  );
  return unknown.length > 0 ? unknown : causesOf(failure);
}
