// A session's policy from rules about SSH, for tests of the protocol without a gateway.
import type { SessionPolicy, SessionRule } from '../../src/policy/session-policy.ts';
import { sshRules } from '../../src/protocols/ssh/rules.ts';

export interface SshRule {
  action: 'Allow' | 'Deny' | 'Hold';
  /** Of the member `ssh`; absent: the rule is about everything. */
  ssh?: Readonly<Record<string, unknown>>;
}

/** By the rules' names. */
export function sshPolicy(rules: Readonly<Record<string, SshRule>>): SessionPolicy {
  const of = (wanted: SshRule['action']): SessionRule[] =>
    Object.entries(rules)
      .filter(([, { action }]) => action === wanted)
      .map(([name, { action, ssh }]) => ({
        source: {
          ref: { policy: 'payments/ops', rule: name },
          action,
          enforce: true,
          exempt: [],
          ...(ssh === undefined ? {} : { matcher: { member: 'ssh', value: ssh } }),
          ...(action === 'Hold'
            ? { hold: { count: 1, approvers: [{ kind: 'Group' as const, name: 'dba' }], timeoutMs: 60_000 } }
            : {}),
        },
        prepared: ssh === undefined ? undefined : sshRules.prepare(ssh),
      }));
  return {
    generation: 1,
    broken: [],
    denies: of('Deny'),
    holds: of('Hold'),
    allows: of('Allow'),
    masks: [],
    trustedFunctions: [],
    transparent: undefined,
  };
}
