// CommandHold: one command that waits in a live session for somebody's consent. Written by the proxy.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { closed, LocalRef, LongText, PinnedRef, ShortText, Subject, Timestamp } from './schema.ts';

export const CommandHoldSpec = closed({
  connectionRef: LocalRef,
  grantRef: PinnedRef,
  sessionId: ShortText,
  requester: closed({
    username: ShortText,
    uid: Type.Optional(ShortText),
    groups: Type.Optional(Type.Array(Type.String({ maxLength: 512 }), { maxItems: 512 })),
    aliases: Type.Optional(Type.Array(Type.String({ maxLength: 512 }), { maxItems: 16 })),
  }),
  command: Type.String({
    maxLength: 65536,
    description: 'The command with what masks and detectors recognise hidden.',
  }),
  hiddenLiterals: Type.Integer({ minimum: 0, description: 'How many values are hidden in `command`.' }),
  /** SHA-256 over text, parameters, database and account: what consent is given to. */
  commandHash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  summary: Type.Optional(LongText),
  rules: Type.Array(closed({ policy: ShortText, rule: ShortText }), { maxItems: 64 }),
  reason: Type.String({ maxLength: 1024 }),
  /** Every requirement must be met: each rule that held brings its own. */
  requirements: Type.Array(
    closed({ rule: ShortText, count: Type.Integer({ minimum: 1 }), approvers: Type.Array(Subject, { maxItems: 64 }) }),
    { maxItems: 64 },
  ),
  requestedAt: Timestamp,
  until: Timestamp,
});
export type CommandHoldSpec = Static<typeof CommandHoldSpec>;

export const HOLD_PHASES = ['Waiting', 'Approved', 'Denied', 'Withdrawn', 'TimedOut'] as const;
export const CommandHoldStatus = closed({
  phase: Type.Enum([...HOLD_PHASES]),
  decidedBy: Type.Optional(Type.Array(ShortText, { maxItems: 80 })),
  decidedAt: Type.Optional(Timestamp),
  reason: Type.Optional(Type.String({ maxLength: 1024 })),
  /** An approval is good for one run of the same command until then. */
  usableUntil: Type.Optional(Timestamp),
  usedAt: Type.Optional(Timestamp),
  seal: Type.Optional(Type.String({ maxLength: 512 })),
});
export type CommandHoldStatus = Static<typeof CommandHoldStatus>;
export type CommandHold = Resource<'CommandHold', CommandHoldSpec, CommandHoldStatus>;
