// What every object of the Kubernetes API has, as far as this folder looks at it.

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    managedFields?: unknown;
    deletionTimestamp?: string;
  };
}

/** Whether it can be kept by name and version at all. */
export function isKubeObject(value: unknown): value is KubeObject {
  if (typeof value !== 'object' || value === null) return false;
  const { metadata } = value as { metadata?: { name?: unknown; namespace?: unknown; resourceVersion?: unknown } };
  return (
    typeof metadata === 'object' &&
    metadata !== null &&
    typeof metadata.name === 'string' &&
    typeof metadata.resourceVersion === 'string' &&
    (metadata.namespace === undefined || typeof metadata.namespace === 'string')
  );
}

/** Drops `managedFields`, half of a small object and of no use to a reader. Changes and returns `object`. */
export function withoutManagedFields<T>(object: T): T {
  const { metadata } = object as { metadata?: { managedFields?: unknown } };
  if (metadata !== undefined && metadata !== null) delete metadata.managedFields;
  return object;
}

export const objectKey = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;

/** Whether one resource version is older than another. They compare as numbers; what is none is never before. */
export function isBefore(version: string | undefined, other: string | undefined): boolean {
  if (version === undefined || other === undefined) return false;
  if (!/^\d{1,19}$/.test(version) || !/^\d{1,19}$/.test(other)) return false;
  return version.length === other.length ? version < other : version.length < other.length;
}
