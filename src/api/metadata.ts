// What `metadata` may hold, by the rules of the Kubernetes API (Object Names and IDs; Labels and Selectors).
import Type from 'typebox';
import { closed, LABEL_PATTERN, mapOf, Name } from './schema.ts';

const Any = Type.Unsafe<unknown>({});

export const ObjectMetaSchema = closed({
  name: Name,
  namespace: Type.Optional(Type.String({ minLength: 1, maxLength: 63, pattern: LABEL_PATTERN })),
  labels: Type.Optional(mapOf(Type.String({ maxLength: 63 }), { maxProperties: 64, description: 'Labels.' })),
  annotations: Type.Optional(
    mapOf(Type.String({ maxLength: 262144 }), { maxProperties: 64, description: 'Annotations.' }),
  ),
  ownerReferences: Type.Optional(
    Type.Array(
      closed({
        apiVersion: Type.String({ minLength: 1, maxLength: 256 }),
        kind: Type.String({ minLength: 1, maxLength: 63 }),
        name: Name,
        uid: Type.String({ minLength: 1, maxLength: 128 }),
        controller: Type.Optional(Type.Boolean()),
        blockOwnerDeletion: Type.Optional(Type.Boolean()),
      }),
      { maxItems: 16 },
    ),
  ),
  // What `kubectl get -o yaml` prints beside; the store writes its own.
  uid: Type.Optional(Any),
  resourceVersion: Type.Optional(Any),
  generation: Type.Optional(Any),
  creationTimestamp: Type.Optional(Any),
  managedFields: Type.Optional(Any),
  finalizers: Type.Optional(Any),
});

const LABEL_KEY = /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** Whether `key` may name a label or annotation: an optional DNS prefix, a slash, at most 63 letters, digits, `-_.`. */
export function isLabelKey(key: string): boolean {
  return LABEL_KEY.test(key);
}

export function isLabelValue(value: string): boolean {
  return LABEL_VALUE.test(value);
}
