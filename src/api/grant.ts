// AccessGrant and AccessApproval: a request for access in time, and a vote on it. Both are immutable once created.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import {
  Conditions,
  closed,
  Duration,
  LocalRef,
  Name,
  PinnedRef,
  ShortText,
  Stamp,
  Subject,
  Timestamp,
} from './schema.ts';

export const AccessGrantSpec = closed(
  {
    connectionRef: LocalRef,
    account: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Account of the Connection; default: the policy’s first.',
      }),
    ),
    policyRef: Type.Optional(LocalRef),
    duration: Type.Optional(Duration),
    notBefore: Type.Optional(Timestamp),
    reason: Type.Optional(Type.String({ maxLength: 1024 })),
    ticket: Type.Optional(Type.String({ maxLength: 128, description: 'Number in a ticket system.' })),
    clientKey: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_-]{43}$',
        description: 'Raw Ed25519 public key, base64url. Its private half signs the tickets that log in.',
      }),
    ),
    extends: Type.Optional(PinnedRef),
    commandHashes: Type.Optional(
      Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), {
        maxItems: 256,
        description: 'SHA-256 of statements approved beforehand.',
      }),
    ),
    breakGlass: Type.Optional(Type.Boolean()),
    beneficiary: Type.Optional(Subject),
    requester: Type.Optional(Stamp),
  },
  { 'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'a grant can not be changed; request another' }] },
);
export type AccessGrantSpec = Static<typeof AccessGrantSpec>;

export const GRANT_PHASES = ['Pending', 'Active', 'Denied', 'Expired', 'Revoked'] as const;
export type GrantPhase = (typeof GRANT_PHASES)[number];

export const AccessGrantStatus = closed({
  phase: Type.Enum([...GRANT_PHASES]),
  policy: Type.Optional(closed({ kind: ShortText, name: Name, namespace: Type.Optional(Name), uid: ShortText })),
  account: Type.Optional(ShortText),
  approvals: Type.Optional(
    Type.Array(
      closed({
        step: ShortText,
        approver: ShortText,
        approval: PinnedRef,
        at: Timestamp,
        reason: Type.Optional(Type.String({ maxLength: 1024 })),
      }),
      { maxItems: 80 },
    ),
  ),
  /** What the next step still needs; for people. */
  waitingFor: Type.Optional(Type.String({ maxLength: 1024 })),
  deadline: Type.Optional(Timestamp),
  notBefore: Type.Optional(Timestamp),
  expiresAt: Type.Optional(Timestamp),
  finishedAt: Type.Optional(Timestamp),
  finishedBy: Type.Optional(Type.String({ maxLength: 512 })),
  message: Type.Optional(Type.String({ maxLength: 1024 })),
  connectCommand: Type.Optional(Type.String({ maxLength: 1024 })),
  conditions: Type.Optional(Conditions),
  seal: Type.Optional(
    Type.String({
      maxLength: 512,
      description: 'Controller’s signature over what it decided; without a good one it decides again.',
    }),
  ),
});
export type AccessGrantStatus = Static<typeof AccessGrantStatus>;
export type AccessGrant = Resource<'AccessGrant', AccessGrantSpec, AccessGrantStatus>;

export const DECISIONS = ['Approve', 'Deny', 'Revoke', 'Withdraw', 'SignOff', 'Keep'] as const;
export const AccessApprovalSpec = closed(
  {
    targetRef: closed({
      kind: Type.Enum(['AccessGrant', 'CommandHold', 'AccessReview']),
      name: Name,
      uid: ShortText,
      item: Type.Optional(Type.String({ maxLength: 256 })),
    }),
    specHash: Type.String({
      pattern: '^[0-9a-f]{64}$',
      description: 'SHA-256 of the target’s spec as the approver was shown it.',
    }),
    decision: Type.Enum([...DECISIONS]),
    reason: Type.Optional(Type.String({ maxLength: 1024 })),
    approver: Type.Optional(Stamp),
  },
  { 'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'an approval can not be changed' }] },
);
export type AccessApprovalSpec = Static<typeof AccessApprovalSpec>;
export const AccessApprovalStatus = closed({ conditions: Type.Optional(Conditions) });
export type AccessApproval = Resource<'AccessApproval', AccessApprovalSpec, Static<typeof AccessApprovalStatus>>;
