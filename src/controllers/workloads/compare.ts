// Whether an object at the API server is what it is to be. Pure. What the server fills in by itself does not count;
// what is wanted no more does (the hash tells), and so does what somebody changed.
import type { OwnerReference } from '../../api/resource.ts';
import { HASH_ANNOTATION, type Manifest } from './manifest.ts';
import { sameQuantity } from './quantity.ts';

/** An object as it was read, without `status`, which is no business of this file. */
export interface LiveObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: OwnerReference[];
  };
  [member: string]: unknown;
}

export function isCurrent(wanted: Manifest, live: LiveObject): boolean {
  const { metadata, ...body } = wanted;
  if (live.metadata.annotations?.[HASH_ANNOTATION] !== metadata.annotations?.[HASH_ANNOTATION]) return false;
  return (
    covers(metadata.labels, live.metadata.labels ?? {}) &&
    covers(metadata.annotations ?? {}, live.metadata.annotations ?? {}) &&
    sameOwners(metadata.ownerReferences, live.metadata.ownerReferences ?? []) &&
    covers(body, live)
  );
}

const sameOwners = (wanted: readonly OwnerReference[], live: readonly OwnerReference[]): boolean =>
  wanted.length === live.length && wanted.every(({ uid }) => live.some((owner) => owner.uid === uid));

const QUANTITIES = new Set(['requests', 'limits', 'storage', 'sizeLimit']);

/** Whether everything in `wanted` is in `live`; lists have to match item by item. */
export function covers(wanted: unknown, live: unknown, quantity = false): boolean {
  if (wanted === undefined) return true;
  if (Array.isArray(wanted))
    return (
      Array.isArray(live) && live.length === wanted.length && wanted.every((item, index) => covers(item, live[index]))
    );
  if (typeof wanted === 'object' && wanted !== null) {
    // The API server leaves out what is empty.
    if (Object.keys(wanted).length === 0) return live === undefined || live === null || typeof live === 'object';
    if (typeof live !== 'object' || live === null) return false;
    return Object.entries(wanted).every(([key, value]) =>
      covers(value, (live as Record<string, unknown>)[key], quantity || QUANTITIES.has(key)),
    );
  }
  if (quantity && typeof wanted === 'string' && typeof live === 'string') return sameQuantity(wanted, live);
  return wanted === live;
}

interface SetSpec {
  serviceName?: string;
  podManagementPolicy?: string;
  volumeClaimTemplates?: { metadata?: { name?: string }; spec?: ClaimSpec }[];
}
interface ClaimSpec {
  accessModes?: string[];
  storageClassName?: string;
  resources?: { requests?: { storage?: string } };
}

/** Whether a StatefulSet differs in what the API server lets nobody change, so that it has to be made anew. */
export function mustBeRemade(wanted: Manifest, live: LiveObject): boolean {
  const [a, b] = [wanted['spec'], live['spec']] as [SetSpec, SetSpec | undefined];
  if (a.serviceName !== b?.serviceName || a.podManagementPolicy !== b?.podManagementPolicy) return true;
  const [claims, theirs] = [a.volumeClaimTemplates ?? [], b?.volumeClaimTemplates ?? []];
  return (
    claims.length !== theirs.length ||
    claims.some(({ metadata, spec }, index) => {
      const other = theirs[index]!;
      return (
        metadata?.name !== other.metadata?.name ||
        spec?.storageClassName !== other.spec?.storageClassName ||
        !covers(spec?.accessModes, other.spec?.accessModes) ||
        !sameQuantity(spec?.resources?.requests?.storage ?? '', other.spec?.resources?.requests?.storage ?? '')
      );
    })
  );
}
