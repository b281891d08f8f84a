// Whether a policy would give somebody a Connection, as the operator computes it. Pure. Apart, so that verbs that do not
// ask load no policy engine.
import type { Connection } from '../../api/connection.ts';
import { compilePolicies } from '../../policy/compile.ts';
import { eligiblePolicy } from '../../policy/eligibility.ts';
import { sessionLimits } from '../../policy/prepare-session.ts';
import type { ProtocolRules } from '../../policy/session-policy.ts';
import { postgresRules } from '../../protocols/postgres/rules.ts';
import { sshRules } from '../../protocols/ssh/rules.ts';
import type { Prospect } from '../client.ts';
import type { EligibilityQuery } from '../local/api-types.ts';
import type { Policies } from './client.ts';

const RULES: Readonly<Record<string, ProtocolRules | undefined>> = { PostgreSQL: postgresRules, SSH: sshRules };

export function prospect(
  connection: Connection,
  { policies, clusterPolicies }: Policies,
  query: EligibilityQuery,
): Prospect {
  const protocol = RULES[connection.spec.type];
  if (protocol === undefined) {
    return { kind: 'Unknown', message: `This version of kubectl access does not know ${connection.spec.type}` };
  }
  const shard = compilePolicies({ connection, policies, clusterPolicies, broken: [], protocol });
  const found = eligiblePolicy({
    shard,
    policies,
    request: {
      principal: query.actor,
      ...(query.account !== undefined ? { account: query.account } : {}),
      ...(query.policy !== undefined ? { policyRef: query.policy } : {}),
      ...(query.durationMs !== undefined ? { durationMs: query.durationMs } : {}),
      ...(query.breakGlass ? { breakGlass: true } : {}),
    },
  });
  if (found.kind === 'NotEligible') return { kind: 'NotEligible', message: found.message, hint: found.hint };
  const { policy, compiled, account, access, durationMs, maxDurationMs, warnings } = found;
  return {
    kind: 'Eligible',
    policy: policy.metadata.name,
    account,
    access,
    durationMs,
    maxDurationMs,
    warnings,
    ticketUntilExpiry: sessionLimits(shard, compiled.name).ticketUntilExpiry,
  };
}
