// Building blocks of the resource schemas. One TypeBox source gives the types, the CRDs, the reference and validation.
// Kubernetes wants structural schemas: no $ref, no oneOf over shapes; unions are one optional field a member.
import Type, { type Static } from 'typebox';

export { API_GROUP, API_GROUP_VERSION, API_VERSION } from './group.ts';

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

/** The same schema with its own description. */
export function described<T extends Type.TSchema>(schema: T, description: string): T {
  return Object.defineProperties({} as T, {
    ...Object.getOwnPropertyDescriptors(schema),
    description: { value: description, enumerable: true },
  });
}

/** A map from text to `value`, as Kubernetes writes one: `additionalProperties`, never `patternProperties`. */
export function mapOf<T extends Type.TSchema>(value: T, options: { maxProperties: number; description: string }) {
  return Type.Unsafe<Record<string, Static<T>>>({ type: 'object', additionalProperties: value, ...options });
}

/** Keeps the literal types of `values` whether they are written in place or imported. */
export function enumOf<const T extends string>(values: readonly T[], description: string) {
  return Type.Enum([...values], { description });
}

export const NAME_PATTERN = '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$';
export const LABEL_PATTERN = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$';
/** A line of OpenSSH's, without a name before it and with any comment behind. */
export const PUBLIC_KEY_PATTERN = '^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( .*)?$';
export const PublicKeyLine = Type.String({ minLength: 16, maxLength: 4096, pattern: PUBLIC_KEY_PATTERN });
/** Users of a target: nothing that a shell or an option could read otherwise. */
export const TARGET_USER_PATTERN = '^[A-Za-z0-9_][A-Za-z0-9_.@-]*$';
export const Name = Type.String({ minLength: 1, maxLength: 253, pattern: NAME_PATTERN });
/** A name inside an object: of an account, a rule, a mask, a step. */
export const ItemName = Type.String({ minLength: 1, maxLength: 63, pattern: LABEL_PATTERN });
export const ShortText = Type.String({ minLength: 1, maxLength: 256 });
export const LongText = Type.String({ minLength: 1, maxLength: 1024 });
export const Duration = Type.String({
  pattern: '^([0-9]{1,5}(h|m|s))+$',
  maxLength: 24,
  description: 'A length of time such as `1h`, `90m` or `1h30m`.',
});
export const Timestamp = Type.String({
  format: 'date-time',
  maxLength: 40,
  description: 'A moment in RFC 3339 form: `2026-03-01T09:00:00Z`.',
});
export const Port = Type.Integer({ minimum: 1, maximum: 65535 });

export const LocalRef = closed({ name: described(Name, 'Name of an object in the same namespace.') });
export const PinnedRef = closed({
  name: described(Name, 'Name of an object in the same namespace.'),
  uid: described(ShortText, 'Its uid, so that another object made later under the name is not meant.'),
});

/** Somebody a policy names. Matching is by exact octets. */
export const Subject = closed(
  {
    kind: enumOf(
      ['User', 'Group', 'ServiceAccount', 'Claim'],
      'What `name` names; Claim goes by the claims of a workload token.',
    ),
    name: Type.Optional(
      described(ShortText, 'User or group as its provider spells it, octet by octet; a ServiceAccount by its name.'),
    ),
    namespace: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Namespace of a ServiceAccount; default: the policy’s own.',
      }),
    ),
    provider: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 253,
        description: 'IdentityProvider that issued the claims of a Claim subject, or whose user a beneficiary is.',
      }),
    ),
    claims: Type.Optional(
      mapOf(Type.String({ maxLength: 512 }), {
        maxProperties: 16,
        description: 'Claims of a workload token that must all be equal as text.',
      }),
    ),
  },
  {
    'x-kubernetes-validations': [
      {
        rule: "self.kind == 'Claim' ? has(self.provider) && has(self.claims) : has(self.name)",
        message: 'a User, Group or ServiceAccount needs name; a Claim needs provider and claims',
      },
    ],
  },
);
export type Subject = Static<typeof Subject>;

/** Proof of who made an object, written at admission. Authors can not write it themselves. */
export const Stamp = closed({
  via: enumOf(
    ['Kubernetes', 'Portal', 'Pipeline', 'Local', 'Ticket'],
    'Which door the request came through; Ticket: the operator’s own vote, for a ticket it has read.',
  ),
  username: Type.String({ minLength: 1, maxLength: 512, description: 'User name as authenticated.' }),
  uid: Type.Optional(Type.String({ maxLength: 256, description: 'Immutable id, where the identity has one.' })),
  groups: Type.Optional(
    Type.Array(Type.String({ maxLength: 512 }), { maxItems: 512, description: 'Groups as authenticated.' }),
  ),
  aliases: Type.Optional(
    Type.Array(Type.String({ maxLength: 512 }), {
      maxItems: 16,
      description: 'Names the same person has at other identity providers.',
    }),
  ),
  kubernetes: Type.Optional(
    Type.String({ maxLength: 512, description: 'Name of the same person in the cluster, where the provider maps it.' }),
  ),
  workload: Type.Optional(
    closed(
      {
        provider: described(Name, 'IdentityProvider that issued the token.'),
        claims: mapOf(Type.String({ maxLength: 512 }), {
          maxProperties: 32,
          description: 'Claims that policies may go by, as text.',
        }),
      },
      { description: 'What a pipeline’s token proved.' },
    ),
  ),
  auth: Type.Optional(
    closed(
      {
        at: Type.Optional(described(Timestamp, 'When the person logged in last.')),
        acr: Type.Optional(Type.String({ maxLength: 256, description: 'Class of that login.' })),
        amr: Type.Optional(
          Type.Array(Type.String({ maxLength: 64 }), { maxItems: 16, description: 'Means of that login.' }),
        ),
      },
      { description: 'How the person logged in, as the identity provider says; absent: nobody said.' },
    ),
  ),
  specHash: Type.Optional(
    Type.String({ maxLength: 64, description: 'SHA-256 of the canonical spec without its stamp, hex.' }),
  ),
  nonce: Type.Optional(Type.String({ maxLength: 64, description: 'Makes the seal good for one object only.' })),
  at: Type.Optional(described(Timestamp, 'When the request was admitted.')),
  seal: Type.Optional(Type.String({ maxLength: 256, description: 'The operator’s signature over everything above.' })),
  proof: Type.Optional(
    Type.String({ maxLength: 16384, description: 'Token the identity was proven with, where another can check it.' }),
  ),
});
export type Stamp = Static<typeof Stamp>;

export const Condition = closed({
  type: described(ShortText, 'Which question the condition answers: `Accepted`, `Programmed`, `Ready`.'),
  status: enumOf(['True', 'False', 'Unknown'], 'The answer.'),
  observedGeneration: Type.Optional(
    Type.Integer({ minimum: 0, description: '`metadata.generation` that the answer is about.' }),
  ),
  lastTransitionTime: described(Timestamp, 'When `status` changed last.'),
  reason: described(ShortText, 'One CamelCase word for machines.'),
  message: Type.String({ maxLength: 32768, description: 'A sentence for people: what is wrong and what to do.' }),
});
export type Condition = Static<typeof Condition>;
export const Conditions = Type.Array(Condition, {
  maxItems: 16,
  'x-kubernetes-list-type': 'map',
  'x-kubernetes-list-map-keys': ['type'],
  description: 'The object’s state as `metav1.Condition`s, one of a type.',
});

/** How somebody must have logged in. What is given must hold together. */
const stepUpFields = {
  maxAge: Type.Optional(described(Duration, 'The login is at most so old when it is used.')),
  acr: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
      minItems: 1,
      maxItems: 16,
      description: 'The login’s class (`acr`) is one of these.',
    }),
  ),
  amr: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
      minItems: 1,
      maxItems: 16,
      description: 'One of these means (`amr`) was used.',
    }),
  ),
};
const STEP_UP_RULES: readonly CelRule[] = [
  {
    rule: 'has(self.maxAge) || has(self.acr) || has(self.amr)',
    message: 'give at least one of maxAge, acr and amr',
  },
];
export const StepUp = closed(stepUpFields, { 'x-kubernetes-validations': STEP_UP_RULES });
export type StepUp = Static<typeof StepUp>;

/** Acts that step-up may be asked for. What takes access away never needs it. */
export const STEP_UP_ACTS = ['Request', 'Approve'] as const;
export const ApprovalStepUp = closed(
  {
    ...stepUpFields,
    on: Type.Optional(
      Type.Array(Type.Enum([...STEP_UP_ACTS]), {
        minItems: 1,
        maxItems: 2,
        description: 'Acts it is needed for. Default: both. Deny, Revoke and Withdraw never need it.',
      }),
    ),
  },
  { 'x-kubernetes-validations': STEP_UP_RULES },
);
export type ApprovalStepUp = Static<typeof ApprovalStepUp>;

/** Which Connections of the namespace a policy is about; empty selects all of them. */
export const ConnectionSelector = closed(
  {
    names: Type.Optional(
      Type.Array(Name, { minItems: 1, maxItems: 64, description: 'Connections by name; any of them.' }),
    ),
    matchLabels: Type.Optional(
      mapOf(Type.String({ maxLength: 63 }), {
        maxProperties: 32,
        description: 'Labels that the Connection must carry; all of them.',
      }),
    ),
  },
  {
    description:
      'Connections the policy is about. `names` and `matchLabels` are and-ed; `{}` selects every Connection it can reach.',
  },
);
export type ConnectionSelector = Static<typeof ConnectionSelector>;
