// Building blocks of the resource schemas. One TypeBox source gives the types, the CRDs, the reference and validation.
// Kubernetes wants structural schemas: no $ref, no oneOf over shapes; unions are one optional field a member.
import Type, { type Static } from 'typebox';

export const API_GROUP = 'sallyport.dev';
export const API_VERSION = 'v1alpha1';
export const API_GROUP_VERSION = `${API_GROUP}/${API_VERSION}` as const;

/** Closed object: unknown fields are errors, so that a typo never silently weakens a policy. */
export function closed<P extends Type.TProperties>(properties: P, options: Type.TObjectOptions & Extensions = {}) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

/** A bounded CEL rule, as in `x-kubernetes-validations`. `cel.ts` holds the same checks for local mode. */
export interface CelRule {
  rule: string;
  message: string;
  /** Path of the field the message is about, as Kubernetes writes it: `.spec.duration`. */
  fieldPath?: string;
}
export interface Extensions {
  'x-kubernetes-validations'?: readonly CelRule[];
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: readonly string[];
}

export const Name = Type.String({ minLength: 1, maxLength: 253, pattern: '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$' });
export const ShortText = Type.String({ minLength: 1, maxLength: 256 });
export const LongText = Type.String({ minLength: 1, maxLength: 1024 });
export const Duration = Type.String({
  pattern: '^([0-9]{1,5}(h|m|s))+$',
  maxLength: 24,
  description: 'A length of time such as `1h`, `90m` or `1h30m`.',
});
export const Timestamp = Type.String({ format: 'date-time', maxLength: 40 });
export const Port = Type.Integer({ minimum: 1, maximum: 65535 });

export const LocalRef = closed({ name: Name });
export const PinnedRef = closed({ name: Name, uid: ShortText });

/** Somebody a policy names. Matching is by exact octets. */
export const Subject = closed({
  kind: Type.Enum(['User', 'Group', 'ServiceAccount', 'Claim'], { description: 'What `name` names.' }),
  name: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'User or group as its provider spells it; a ServiceAccount by its name.',
    }),
  ),
  namespace: Type.Optional(
    Type.String({ maxLength: 63, description: 'Namespace of a ServiceAccount; default: the policy’s own.' }),
  ),
  provider: Type.Optional(
    Type.String({ maxLength: 253, description: 'IdentityProvider that issued the claims of a Claim subject.' }),
  ),
  claims: Type.Optional(
    Type.Record(Type.String(), Type.String({ maxLength: 512 }), {
      maxProperties: 16,
      description: 'Claims of a workload token that must be equal as text.',
    }),
  ),
});
export type Subject = Static<typeof Subject>;

/** Proof of who made an object, written at admission. Authors can not write it themselves. */
export const Stamp = closed({
  via: Type.Enum(['Kubernetes', 'Portal', 'Pipeline', 'Local']),
  username: Type.String({ maxLength: 512 }),
  uid: Type.Optional(Type.String({ maxLength: 256 })),
  groups: Type.Optional(Type.Array(Type.String({ maxLength: 512 }), { maxItems: 512 })),
  aliases: Type.Optional(Type.Array(Type.String({ maxLength: 512 }), { maxItems: 16 })),
  specHash: Type.Optional(
    Type.String({ maxLength: 64, description: 'SHA-256 of the canonical spec without its stamp.' }),
  ),
  nonce: Type.Optional(Type.String({ maxLength: 64 })),
  at: Type.Optional(Timestamp),
  seal: Type.Optional(
    Type.String({ maxLength: 256, description: 'Signature over specHash, nonce, time and identity.' }),
  ),
  proof: Type.Optional(Type.String({ maxLength: 16384 })),
});
export type Stamp = Static<typeof Stamp>;

export const Condition = closed({
  type: ShortText,
  status: Type.Enum(['True', 'False', 'Unknown']),
  observedGeneration: Type.Optional(Type.Integer({ minimum: 0 })),
  lastTransitionTime: Timestamp,
  reason: ShortText,
  message: Type.String({ maxLength: 32768 }),
});
export type Condition = Static<typeof Condition>;
export const Conditions = Type.Array(Condition, {
  maxItems: 16,
  'x-kubernetes-list-type': 'map',
  'x-kubernetes-list-map-keys': ['type'],
});

/** Which Connections of the namespace a policy is about; empty selects all of them. */
export const ConnectionSelector = closed({
  names: Type.Optional(Type.Array(Name, { maxItems: 64, description: 'Connections by name.' })),
  matchLabels: Type.Optional(
    Type.Record(Type.String(), Type.String({ maxLength: 63 }), {
      maxProperties: 32,
      description: 'Labels the Connection must carry.',
    }),
  ),
});
export type ConnectionSelector = Static<typeof ConnectionSelector>;
