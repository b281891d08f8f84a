// What the record of a command that does not run says of its denial, the same for every protocol. Pure.
import type { RuleRef } from '../policy/decision.ts';
import type { CommandBody } from './envelope.ts';

/** `denial` is the id that `why` looks up; `hold` the name of the hold that stopped it. */
export function deniedMembers(
  { code, by, message }: { code: string; by?: RuleRef | undefined; message: string },
  denial: string,
  hold: string | undefined,
): Pick<CommandBody, 'decision' | 'code' | 'denial' | 'by' | 'message' | 'hold'> {
  return {
    decision: 'Deny',
    code,
    denial,
    ...(by === undefined ? {} : { by: [by] }),
    message,
    ...(hold === undefined ? {} : { hold }),
  };
}
