// AccessGrant and AccessApproval: a request for access in time, and a vote on it. Both are immutable once created.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import {
  Conditions,
  closed,
  Duration,
  described,
  enumOf,
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
    connectionRef: described(LocalRef, 'The Connection access is asked for.'),
    account: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 63,
        description: 'Account of the Connection; default: the policy’s first.',
      }),
    ),
    policyRef: Type.Optional(described(LocalRef, 'AccessPolicy to ask under. Needed only where several are eligible.')),
    duration: Type.Optional(
      described(Duration, 'How long from its start. Default: 1h, or the policy’s `maxDuration` if that is less.'),
    ),
    notBefore: Type.Optional(described(Timestamp, 'Start of a planned window. Default: once approved.')),
    reason: Type.Optional(Type.String({ maxLength: 1024, description: 'Why; approvers and auditors read it.' })),
    ticket: Type.Optional(Type.String({ maxLength: 128, description: 'Number in a ticket system.' })),
    clientKey: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_-]{43}$',
        maxLength: 43,
        description: 'Raw Ed25519 public key, base64url. Its private half signs the tickets that log in.',
      }),
    ),
    extends: Type.Optional(described(PinnedRef, 'A grant of one’s own that this one prolongs; live sessions go on.')),
    commandHashes: Type.Optional(
      Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$', maxLength: 64 }), {
        maxItems: 256,
        description:
          'Hashes of `commands`, in their order, as a check. A hash without its statement is consent to what nobody saw: such a grant is denied.',
      }),
    ),
    commands: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 65536 }), {
        maxItems: 256,
        description:
          'Statements to approve with the grant, byte for byte as they will be sent. Where a rule holds one of them it runs without waiting; what is denied stays denied.',
      }),
    ),
    sealed: Type.Optional(
      closed(
        {
          validFor: described(Duration, 'How long it can be opened, from its approval on; at most 30 days.'),
          uses: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 10, description: 'How often, on each proxy. Default 1.' }),
          ),
        },
        {
          description:
            'Approved now for an outage to come: it opens only while proxies can not hear the operator, by `clientKey`, each use for `duration`. The policy’s breakGlass names who may have one; every use is signed off afterwards.',
        },
      ),
    ),
    breakGlass: Type.Optional(
      Type.Boolean({
        description: 'Asks to skip the approvals in an emergency; needs a reason and is signed off afterwards.',
      }),
    ),
    beneficiary: Type.Optional(
      described(
        Subject,
        'Whom the access is for, where a delegator asks: a User by exact name, and the IdentityProvider whose tokens log in as them. Default: the requester.',
      ),
    ),
    requester: Type.Optional(described(Stamp, 'Who asked; stamped at admission, never written by the author.')),
  },
  {
    'x-kubernetes-validations': [
      { rule: 'self == oldSelf', message: 'a grant can not be changed; request another' },
      {
        rule: '!has(self.breakGlass) || !self.breakGlass || (has(self.reason) && size(self.reason) > 0)',
        message: 'break-glass needs a reason: say what the emergency is',
        fieldPath: '.reason',
      },
      {
        rule: '!has(self.sealed) || (has(self.clientKey) && has(self.reason) && size(self.reason) > 0 && !has(self.extends) && !has(self.notBefore) && !has(self.commands) && !(has(self.breakGlass) && self.breakGlass))',
        message:
          'a sealed grant needs clientKey and reason; it extends nothing, waits for no time, approves no statements and is no breakGlass',
        fieldPath: '.sealed',
      },
      {
        rule: "!has(self.beneficiary) || (self.beneficiary.kind == 'User' && !(has(self.breakGlass) && self.breakGlass))",
        message: 'a beneficiary is a User, and nobody breaks the glass for another',
        fieldPath: '.beneficiary',
      },
    ],
  },
);
export type AccessGrantSpec = Static<typeof AccessGrantSpec>;

export const GRANT_PHASES = ['Pending', 'Active', 'Denied', 'Expired', 'Revoked'] as const;
export type GrantPhase = (typeof GRANT_PHASES)[number];

export const AccessGrantStatus = closed({
  phase: enumOf(
    GRANT_PHASES,
    'Pending: approvals are missing. Active: it can be used. Denied, Expired, Revoked: over for good.',
  ),
  policy: Type.Optional(
    closed(
      {
        kind: described(ShortText, 'Kind of the policy.'),
        name: described(Name, 'Its name.'),
        namespace: Type.Optional(described(Name, 'Its namespace.')),
        uid: described(ShortText, 'Its uid.'),
      },
      { description: 'The one policy whose allows the grant runs under.' },
    ),
  ),
  account: Type.Optional(described(ShortText, 'Account of the Connection that is used.')),
  approvals: Type.Optional(
    Type.Array(
      closed({
        step: described(ShortText, 'Step it counted for.'),
        approver: described(ShortText, 'Who approved.'),
        approval: described(PinnedRef, 'The AccessApproval.'),
        at: described(Timestamp, 'When it was admitted.'),
        reason: Type.Optional(Type.String({ maxLength: 1024, description: 'What the approver said.' })),
      }),
      { maxItems: 80, description: 'Approvals that counted, in their order.' },
    ),
  ),
  waitingFor: Type.Optional(
    Type.String({ maxLength: 1024, description: 'What the next step still needs; for people.' }),
  ),
  deadline: Type.Optional(described(Timestamp, 'Without all approvals by then it expires.')),
  notBefore: Type.Optional(described(Timestamp, 'When it starts.')),
  expiresAt: Type.Optional(described(Timestamp, 'When it ends; sessions are cut then.')),
  finishedAt: Type.Optional(described(Timestamp, 'When it ended.')),
  finishedBy: Type.Optional(Type.String({ maxLength: 512, description: 'Who or what ended it.' })),
  sealedUses: Type.Optional(
    Type.Array(
      closed({
        replica: described(Name, 'ProxyReplica that told of it.'),
        startedAt: described(Timestamp, 'When the use began.'),
      }),
      { maxItems: 200, description: 'Uses of a sealed grant, as proxies told once they were heard again.' },
    ),
  ),
  signOff: Type.Optional(
    closed(
      {
        by: described(ShortText, 'Who looked into it.'),
        approval: described(PinnedRef, 'The AccessApproval.'),
        at: described(Timestamp, 'When it was admitted.'),
        reason: Type.Optional(Type.String({ maxLength: 1024, description: 'What they found.' })),
      },
      { description: 'Of an emergency: the review that was due. Until it is there the grant is kept.' },
    ),
  ),
  message: Type.Optional(Type.String({ maxLength: 1024, description: 'The state in a sentence, with what to do.' })),
  connectCommand: Type.Optional(Type.String({ maxLength: 1024, description: 'What to type to connect.' })),
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
    targetRef: closed(
      {
        kind: enumOf(['AccessGrant', 'CommandHold', 'AccessReview'], 'Kind of the object.'),
        name: described(Name, 'Its name.'),
        uid: described(ShortText, 'Its uid, so that a later object of the name is not meant.'),
        item: Type.Optional(Type.String({ maxLength: 256, description: 'Which entry of an AccessReview.' })),
      },
      { description: 'What is decided.' },
    ),
    specHash: Type.String({
      pattern: '^[0-9a-f]{64}$',
      maxLength: 64,
      description: 'SHA-256 of the target’s spec as the approver was shown it.',
    }),
    decision: enumOf(
      DECISIONS,
      'Approve or Deny a request or held command; Revoke an active grant; Withdraw one’s own; SignOff an emergency; Keep in a review.',
    ),
    reason: Type.Optional(Type.String({ maxLength: 1024, description: 'Told to the requester.' })),
    approver: Type.Optional(described(Stamp, 'Who decided; stamped at admission, never written by the author.')),
  },
  { 'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'an approval can not be changed' }] },
);
export type AccessApprovalSpec = Static<typeof AccessApprovalSpec>;
export const AccessApprovalStatus = closed({ conditions: Type.Optional(Conditions) });
export type AccessApproval = Resource<'AccessApproval', AccessApprovalSpec, Static<typeof AccessApprovalStatus>>;
