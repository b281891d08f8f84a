// CommandHold: one command that waits in a live session for somebody's consent. Written by the proxy.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { closed, described, enumOf, LocalRef, LongText, PinnedRef, ShortText, Subject, Timestamp } from './schema.ts';

export const CommandHoldSpec = closed(
  {
    connectionRef: described(LocalRef, 'Connection the session is on.'),
    grantRef: described(PinnedRef, 'Grant the session runs under.'),
    sessionId: described(ShortText, 'The session that waits.'),
    requester: closed(
      {
        username: Type.String({ minLength: 1, maxLength: 512, description: 'User name as authenticated.' }),
        uid: Type.Optional(described(ShortText, 'Immutable id, where the identity has one.')),
        groups: Type.Optional(
          Type.Array(Type.String({ maxLength: 512 }), { maxItems: 512, description: 'Groups as authenticated.' }),
        ),
        aliases: Type.Optional(
          Type.Array(Type.String({ maxLength: 512 }), {
            maxItems: 16,
            description: 'Names the same person has at other identity providers.',
          }),
        ),
      },
      { description: 'Whose command it is. Never an approver of it.' },
    ),
    command: Type.String({
      maxLength: 65536,
      description: 'The command with what masks and detectors recognise hidden.',
    }),
    hiddenLiterals: Type.Integer({ minimum: 0, description: 'How many values are hidden in `command`.' }),
    commandHash: Type.String({
      pattern: '^[0-9a-f]{64}$',
      maxLength: 64,
      description: 'SHA-256 over text, parameters, database and account: what consent is given to.',
    }),
    summary: Type.Optional(described(LongText, 'What it does, in words.')),
    rules: Type.Array(
      closed({
        policy: described(ShortText, 'The policy, as `namespace/name`.'),
        rule: described(ShortText, 'Name of the rule.'),
      }),
      { maxItems: 64, description: 'Rules that hold it.' },
    ),
    reason: Type.String({ maxLength: 1024, description: 'Why it is held.' }),
    requirements: Type.Array(
      closed({
        rule: described(ShortText, 'Rule that brings the requirement.'),
        count: Type.Integer({ minimum: 1, description: 'Consents needed.' }),
        approvers: Type.Array(Subject, { maxItems: 64, description: 'Who may consent.' }),
      }),
      { maxItems: 64, description: 'Every one must be met: each rule that holds brings its own.' },
    ),
    requestedAt: described(Timestamp, 'When the command came.'),
    until: described(Timestamp, 'When it is denied if nobody has consented.'),
  },
  {
    'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'a held command can not be changed' }],
  },
);
export type CommandHoldSpec = Static<typeof CommandHoldSpec>;

export const HOLD_PHASES = ['Waiting', 'Approved', 'Denied', 'Withdrawn', 'TimedOut'] as const;
export const CommandHoldStatus = closed({
  phase: enumOf(
    HOLD_PHASES,
    'Waiting: for consent. Approved: it may run once. Denied, Withdrawn (by the requester), TimedOut: it does not run.',
  ),
  decidedBy: Type.Optional(Type.Array(ShortText, { maxItems: 80, description: 'Whose votes decided.' })),
  decidedAt: Type.Optional(described(Timestamp, 'When it was decided.')),
  reason: Type.Optional(Type.String({ maxLength: 1024, description: 'What they said.' })),
  usableUntil: Type.Optional(described(Timestamp, 'An approval is good for one run of the same command until then.')),
  usedAt: Type.Optional(described(Timestamp, 'When the approval was used.')),
  seal: Type.Optional(
    Type.String({
      maxLength: 512,
      description: 'Controller’s signature over what it decided; without a good one it decides again.',
    }),
  ),
});
export type CommandHoldStatus = Static<typeof CommandHoldStatus>;
export type CommandHold = Resource<'CommandHold', CommandHoldSpec, CommandHoldStatus>;
