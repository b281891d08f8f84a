// docs/reference/errors.md: every code a client can meet, with its native form, from the tables the code itself uses.
import { DENIALS } from '../../src/policy/denials.ts';
import { CUT_SQLSTATE, DENIAL_SQLSTATE, LOGIN_SQLSTATE } from '../../src/protocols/postgres/errors.ts';
import type { Generated } from './generated.ts';

const CUTS: Readonly<Record<keyof typeof CUT_SQLSTATE, string>> = {
  Expired: 'The grant’s time is over.',
  Revoked: 'Somebody revoked the grant.',
  Killed: 'Somebody cut this session.',
  Locked: 'A lock was set on you, your group or the Connection.',
  IdleTimeout: 'The session was idle for longer than it may be.',
  MaxDuration: 'The session lasted as long as the policy allows.',
  Reauthenticate: 'The session must prove again who it is, and did not.',
  Shutdown: 'The gateway stops; connect again.',
  PolicyChanged: 'The policy no longer covers you or the account.',
  LimitReached: 'Too many sessions.',
};

const LOGINS: Readonly<Record<keyof typeof LOGIN_SQLSTATE, string>> = {
  InvalidProof: 'The password is no good ticket for this Connection, or no good token; the log has the cause.',
  NotActive: 'Ticket or token is good, the grant is not in force.',
  UnknownUser: 'The token is good; the user name is no account, or does not say which of several grants is meant.',
  StepUp: 'The policy wants a newer or stronger login at the identity provider; a ticket tells of none.',
  Locked: 'A lock is in force.',
  LimitReached: 'Too many sessions.',
  Unavailable: 'The gateway can not decide now: no policy or no heartbeat yet.',
};

const EXITS: readonly (readonly [string, string])[] = [
  ['0', 'Done.'],
  ['1', 'Failed; the message says why.'],
  ['75', 'Not yet: a request waits for approval, or a statement is held.'],
  ['77', 'Denied.'],
  ['78', 'Misconfigured: arguments, YAML, or nothing is running.'],
  ['others', '`connect` passes its client’s own exit code through.'],
];

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

export const errorsReference: Generated = {
  path: 'docs/reference/errors.md',
  render: () => `# Errors

Generated from the tables that the code uses. A refused command is an ERROR and the session goes on; its DETAIL names the
policy, the rule and the denial's id, and says that nothing reached the database. The end of a session is a FATAL.

## Refused commands

${table(
  ['code', 'SQLSTATE', 'what it means', 'what to do'],
  Object.entries(DENIALS).map(([code, { meaning, next }]) => [
    code,
    DENIAL_SQLSTATE[code as keyof typeof DENIAL_SQLSTATE],
    meaning,
    next,
  ]),
)}

Text that PostgreSQL's own parser refuses comes as 42601, as it would without a gateway.

## Ended sessions

${table(
  ['code', 'SQLSTATE', 'what it means'],
  Object.entries(CUTS).map(([code, meaning]) => [code, CUT_SQLSTATE[code as keyof typeof CUT_SQLSTATE], meaning]),
)}

## Refused logins

${table(
  ['code', 'SQLSTATE', 'what it means'],
  Object.entries(LOGINS).map(([code, meaning]) => [code, LOGIN_SQLSTATE[code as keyof typeof LOGIN_SQLSTATE], meaning]),
)}

## Exit codes of the command line

${table(['code', 'what it means'], EXITS)}
`,
};
