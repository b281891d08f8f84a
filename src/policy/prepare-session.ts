// Makes the policy of one session from the shard: the allows of exactly one policy, the denies, holds and masks of every
// policy that selects the Connection, without what the principal is exempt from. Pure but for a memo of prepared
// matchers. Whatever can not be prepared, or no longer fits, ends up in `broken`: then everything is denied.
import type { CompiledPolicy, CompiledRule, PolicyShard } from './bundle.ts';
import type { RuleRef } from './decision.ts';
import { globCovers } from './glob.ts';
import type { Principal } from './principal.ts';
import type { PreparedMatcher, ProtocolRules, SessionPolicy, SessionRule } from './session-policy.ts';
import { matchesAny } from './subjects.ts';

export interface SessionRequest {
  /** `CompiledPolicy.name` whose allows the session runs under. */
  policy: string;
  principal: Principal;
  /** Account in use; if given, the policy must still offer it. */
  account?: string;
  generation: number;
}

export function prepareSessionPolicy(shard: PolicyShard, request: SessionRequest, rules: ProtocolRules): SessionPolicy {
  const { principal } = request;
  const broken: { policy: string; problem: string }[] = [];
  const exempted: RuleRef[] = [];
  const denies: SessionRule[] = [];
  const holds: SessionRule[] = [];
  const allows: SessionRule[] = [];
  const masks: CompiledPolicy['masks'] = [];
  const unmasked: CompiledPolicy['masks'] = [];

  const own = shard.policies.find(({ kind, name }) => kind === 'AccessPolicy' && name === request.policy);
  const misfit = misfitOf(own, request);
  if (misfit !== undefined) broken.push({ policy: request.policy, problem: misfit });

  for (const policy of shard.policies) {
    if (!policy.accepted) {
      broken.push({ policy: policy.name, problem: policy.problem ?? 'it is not accepted' });
      continue;
    }
    const home = homeOf(policy);
    for (const rule of policy.rules) {
      if (rule.action === 'Allow') {
        if (policy !== own) continue;
      } else if (matchesAny(rule.exempt, principal, home)) {
        exempted.push(rule.ref);
        continue;
      }
      const prepared = prepareRule(rule, rules, broken);
      (rule.action === 'Allow' ? allows : rule.action === 'Deny' ? denies : holds).push(prepared);
    }
    for (const mask of policy.masks) {
      if (!matchesAny(mask.exempt, principal, home)) masks.push(mask);
      else {
        exempted.push(mask.ref);
        if (mask.columns.length > 0) unmasked.push(mask);
      }
    }
  }
  for (const list of [denies, holds, allows]) list.sort((a, b) => compareRefs(a.source.ref, b.source.ref));
  masks.sort((a, b) => compareRefs(a.ref, b.ref));
  broken.sort((a, b) => compareRefs({ policy: a.policy, rule: a.problem }, { policy: b.policy, rule: b.problem }));

  const only = allows[0];
  const transparent =
    allows.length === 1 &&
    only !== undefined &&
    only.source.matcher === undefined &&
    denies.length + holds.length + masks.length + broken.length === 0;
  return {
    generation: request.generation,
    policy: request.policy,
    broken,
    denies,
    holds,
    allows,
    masks,
    ...(unmasked.length === 0 ? {} : { unmasked }),
    trustedFunctions: trustedBy(
      shard.policies.filter((policy) => policy.masks.some((mask) => mask.columns.length > 0 && masks.includes(mask))),
    ),
    exempted,
    transparent: transparent ? only.source.ref : undefined,
  };
}

/**
 * Limits of a session: those of its own policy, tightened by every guardrail that selects the Connection. Other
 * AccessPolicies' limits are about their own subjects.
 */
export function sessionLimits(shard: PolicyShard, policy: string): CompiledPolicy['session'] {
  const limits: CompiledPolicy['session'] = { ticketUntilExpiry: false };
  let own = false;
  let guardrails = true;
  for (const { kind, name, session } of shard.policies) {
    if (kind === 'AccessPolicy' && name !== policy) continue;
    if (kind === 'AccessPolicy') own = session.ticketUntilExpiry;
    else guardrails &&= session.ticketUntilExpiry;
    if (session.stepUp !== undefined) limits.stepUp = [...(limits.stepUp ?? []), ...session.stepUp];
    for (const field of ['idleTimeoutMs', 'maxDurationMs', 'reauthenticateMs'] as const) {
      const value = session[field];
      if (value !== undefined) limits[field] = Math.min(limits[field] ?? value, value);
    }
  }
  limits.ticketUntilExpiry = own && guardrails;
  return limits;
}

/** Why the session may not run under its policy any more; undefined if it may. */
function misfitOf(own: CompiledPolicy | undefined, request: SessionRequest): string | undefined {
  if (own === undefined) return 'it no longer selects this Connection';
  if (!own.accepted) return undefined; // told with its own problem
  if (!matchesAny(own.subjects, request.principal, homeOf(own)))
    return `it no longer names ${request.principal.username} or one of their groups`;
  if (request.account !== undefined && !own.accounts.includes(request.account))
    return `it no longer offers the account ${request.account}`;
  return undefined;
}

/** Namespace of a compiled policy; none for a ClusterAccessPolicy. */
export function homeOf(policy: Pick<CompiledPolicy, 'kind' | 'name'>): string | undefined {
  if (policy.kind === 'ClusterAccessPolicy') return undefined;
  const slash = policy.name.indexOf('/');
  return slash <= 0 ? undefined : policy.name.slice(0, slash);
}

function compareRefs(a: RuleRef, b: RuleRef): number {
  if (a.policy !== b.policy) return a.policy < b.policy ? -1 : 1;
  return a.rule < b.rule ? -1 : a.rule > b.rule ? 1 : 0;
}

/** Preparing compiles patterns; a rule is the same object for every session of a generation, so once is enough. */
const preparedBy = new WeakMap<ProtocolRules, WeakMap<CompiledRule, PreparedMatcher>>();

function prepareRule(
  source: CompiledRule,
  rules: ProtocolRules,
  broken: { policy: string; problem: string }[],
): SessionRule {
  if (source.matcher === undefined) return { source, prepared: undefined };
  if (source.matcher.member !== rules.member) {
    broken.push({
      policy: source.ref.policy,
      problem: `rule "${source.ref.rule}" matches ${source.matcher.member}, which is not for this Connection`,
    });
    return { source, prepared: undefined };
  }
  let memo = preparedBy.get(rules);
  if (memo === undefined) preparedBy.set(rules, (memo = new WeakMap()));
  let prepared = memo.get(source);
  if (prepared === undefined) {
    try {
      prepared = rules.prepare(source.matcher.value);
    } catch {
      broken.push({
        policy: source.ref.policy,
        problem: `rule "${source.ref.rule}" can not be enforced by this version`,
      });
      return { source, prepared: undefined };
    }
    memo.set(source, prepared);
  }
  return { source, prepared };
}

/**
 * Functions trusted by every policy whose column masks are in force: trust loosens a mask, so nobody can give it for
 * another's mask. A pattern survives where each of the others has one that covers it.
 */
function trustedBy(owners: readonly CompiledPolicy[]): readonly string[] {
  const [first, ...rest] = owners;
  if (first === undefined) return [];
  let trusted = [...first.trustedFunctions];
  for (const { trustedFunctions } of rest) {
    trusted = [
      ...trusted.filter((pattern) => trustedFunctions.some((other) => globCovers(other, pattern))),
      ...trustedFunctions.filter((pattern) => trusted.some((other) => globCovers(other, pattern))),
    ];
  }
  return [...new Set(trusted)].sort();
}
