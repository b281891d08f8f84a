// AccessSession: a live session, made by the proxy once it has lasted 5 seconds. Deleting it ends the session.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { closed, described, enumOf, LocalRef, PinnedRef, ShortText, Timestamp } from './schema.ts';

export const AccessSessionSpec = closed(
  {
    connectionRef: described(LocalRef, 'Connection the session is on.'),
    grantRef: described(PinnedRef, 'Grant it runs under.'),
    username: Type.String({ minLength: 1, maxLength: 512, description: 'Whose session it is.' }),
    account: described(ShortText, 'Account of the target that is used.'),
    client: described(ShortText, 'Address it came from, as the proxy saw it.'),
    replica: described(ShortText, 'ProxyReplica that serves it.'),
    startedAt: described(Timestamp, 'When it began.'),
  },
  {
    'x-kubernetes-validations': [
      { rule: 'self == oldSelf', message: 'a session can not be changed; delete it to end it' },
    ],
  },
);
export type AccessSessionSpec = Static<typeof AccessSessionSpec>;

export const AccessSessionStatus = closed({
  phase: enumOf(['Live', 'Ended', 'Lost'], 'Live: it goes on. Ended. Lost: its proxy is gone without a word.'),
  endedAt: Type.Optional(described(Timestamp, 'When it ended.')),
  reason: Type.Optional(Type.String({ maxLength: 512, description: 'Why it ended.' })),
});
export type AccessSessionStatus = Static<typeof AccessSessionStatus>;
export type AccessSession = Resource<'AccessSession', AccessSessionSpec, AccessSessionStatus>;
