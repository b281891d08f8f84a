// AccessLock: ends sessions and refuses new ones until lifted.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, described, LongText, Name, ShortText, Stamp, Timestamp } from './schema.ts';

export const AccessLockSpec = closed({
  target: closed(
    {
      user: Type.Optional(described(ShortText, 'Sessions and requests of this user.')),
      group: Type.Optional(described(ShortText, 'Of everybody in this group.')),
      connection: Type.Optional(described(Name, 'On this Connection.')),
      everything: Type.Optional(Type.Boolean({ description: 'All of them, in the namespace.' })),
    },
    {
      description: 'Whom or what the lock shuts out.',
      'x-kubernetes-validations': [
        {
          rule: '[has(self.user), has(self.group), has(self.connection), has(self.everything) && self.everything].exists_one(x, x)',
          message: 'give exactly one of user, group, connection, everything',
        },
      ],
    },
  ),
  reason: described(LongText, 'Told to everybody it shuts out.'),
  until: Type.Optional(described(Timestamp, 'When it ends by itself. Absent: when it is deleted.')),
  author: Type.Optional(described(Stamp, 'Who made it; stamped at admission, never written by the author.')),
});
export type AccessLockSpec = Static<typeof AccessLockSpec>;
export const AccessLockStatus = closed({ conditions: Type.Optional(Conditions) });
export type AccessLock = Resource<'AccessLock', AccessLockSpec, Static<typeof AccessLockStatus>>;
