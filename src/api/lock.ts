// AccessLock: ends sessions and refuses new ones until lifted.
import Type, { type Static } from 'typebox';
import type { Resource } from './resource.ts';
import { Conditions, closed, LongText, Name, ShortText, Stamp, Timestamp } from './schema.ts';

export const AccessLockSpec = closed({
  target: closed(
    {
      user: Type.Optional(ShortText),
      group: Type.Optional(ShortText),
      connection: Type.Optional(Name),
      everything: Type.Optional(Type.Boolean()),
    },
    {
      'x-kubernetes-validations': [
        {
          rule: '[has(self.user), has(self.group), has(self.connection), has(self.everything)].exists_one(x, x)',
          message: 'give exactly one of user, group, connection, everything',
        },
      ],
    },
  ),
  reason: LongText,
  until: Type.Optional(Timestamp),
  author: Type.Optional(Stamp),
});
export type AccessLockSpec = Static<typeof AccessLockSpec>;
export const AccessLockStatus = closed({ conditions: Type.Optional(Conditions) });
export type AccessLock = Resource<'AccessLock', AccessLockSpec, Static<typeof AccessLockStatus>>;
