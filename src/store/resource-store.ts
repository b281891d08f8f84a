// What controllers and CLI see of resources, whatever stands behind: a directory of YAML or a Kubernetes API server.
// Conflict and Gone are values. Secrets are not in it: accounts' credentials come from a CredentialSource.
import type { Kind } from '../api/kinds.ts';
import type { Resource } from '../api/resource.ts';
import type { Stamp } from '../api/schema.ts';
import type { Principal } from '../policy/principal.ts';

export type KindName = Kind;

export interface ObjectKey {
  kind: KindName;
  namespace?: string;
  name: string;
}

/** Who asks: a person or workload (through which door, having logged in how), or the operator itself. */
export type Actor =
  | { kind: 'Operator' }
  | { kind: 'Proxy'; replica: string }
  | { kind: 'Person'; principal: Principal; via?: Stamp['via']; auth?: NonNullable<Stamp['auth']> };

export type StoreResult<T> =
  | { kind: 'Ok'; value: T }
  | { kind: 'NotFound' }
  | { kind: 'Conflict'; message: string }
  | { kind: 'AlreadyExists' }
  /** `problems` say field and what to write instead. */
  | { kind: 'Invalid'; problems: readonly string[] }
  | { kind: 'Forbidden'; message: string };

export type WatchEvent<R extends Resource = Resource> = { type: 'Added' | 'Modified' | 'Deleted'; object: R };

export interface ResourceStore {
  get<R extends Resource>(key: ObjectKey): Promise<R | undefined>;
  list<R extends Resource>(kind: KindName, namespace?: string): Promise<{ items: R[]; resourceVersion: string }>;
  /**
   * Calls back for each change after `from` (a list's resourceVersion), in order. `onGone`: too old, list again.
   * Returns the function that stops it.
   */
  watch<R extends Resource>(
    kind: KindName,
    from: string,
    onEvent: (event: WatchEvent<R>) => void,
    onGone: () => void,
  ): () => void;
  /** Validates, stamps `spec.requester` / `spec.approver` from the actor, fills metadata. `generateName` when name ends in `-`. */
  create<R extends Resource>(actor: Actor, object: NewObject): Promise<StoreResult<R>>;
  /** Replaces status if `resourceVersion` is still the current one. Operator and proxies only. */
  applyStatus<R extends Resource>(
    actor: Actor,
    key: ObjectKey,
    resourceVersion: string,
    status: unknown,
  ): Promise<StoreResult<R>>;
  delete(actor: Actor, key: ObjectKey, uid?: string): Promise<StoreResult<undefined>>;
}

export interface NewObject {
  apiVersion: string;
  kind: KindName;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: Resource['metadata']['ownerReferences'];
  };
  spec: unknown;
}
