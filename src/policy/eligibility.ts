// Under which one policy a request for access runs. Pure. Exactly one policy must fit, or the request names it; several
// or none is an answer that says what each of them lacks and what to ask for instead.
import { formatDuration, parseDuration } from '../api/duration.ts';
import type { AccessPolicy } from '../api/policy.ts';
import type { CompiledPolicy, PolicyShard } from './bundle.ts';
import { policyName } from './compile.ts';
import { DEFAULT_MAX_DURATION_MS, LONGEST_GRANT_MS } from './compile-checks.ts';
import { homeOf } from './prepare-session.ts';
import type { Principal } from './principal.ts';
import { matchesAny, subjectText } from './subjects.ts';
import { brokenTitle, listText, safeText } from './wording.ts';

/** A grant lasts this long when neither the request says nor the policy is shorter. */
export const DEFAULT_GRANT_MS = 3_600_000;
const MOST_NAMED = 8;

export interface EligibilityInput {
  shard: PolicyShard;
  /** The namespace's AccessPolicies, for what the shard does not carry: access, maxDuration, approval. */
  policies: readonly AccessPolicy[];
  request: {
    /** Who will have the access: the beneficiary. */
    principal: Principal;
    account?: string;
    /** Name of an AccessPolicy in the Connection's namespace, without the namespace. */
    policyRef?: string;
    durationMs?: number;
    /** Asked for with break-glass: the policy must have it, and name the principal in it. */
    breakGlass?: boolean;
  };
}

export interface Eligible {
  kind: 'Eligible';
  policy: AccessPolicy;
  compiled: CompiledPolicy;
  account: string;
  access: 'Grant' | 'Standing';
  durationMs: number;
  maxDurationMs: number;
  /** Policies not in order: the grant can be made, but commands are denied until they are mended. */
  warnings: readonly string[];
}
export interface NotEligible {
  kind: 'NotEligible';
  reason: 'NoPolicy' | 'SeveralPolicies' | 'DurationTooLong' | 'DurationTooShort';
  /** One sentence that names what was asked for. */
  message: string;
  /** What to ask for instead, and why each policy did not fit, one line each. */
  hint: string;
  /** Names of the policies that fit, without namespace; only with SeveralPolicies. */
  candidates: readonly string[];
  /** Only with DurationTooLong. */
  maxDurationMs?: number;
}
export type Eligibility = Eligible | NotEligible;

interface Candidate {
  policy: AccessPolicy;
  compiled: CompiledPolicy;
}

export function eligiblePolicy(input: EligibilityInput): Eligibility {
  const { shard, request } = input;
  const target = `${shard.connection.namespace}/${shard.connection.name}`;
  const fits: Candidate[] = [];
  const misfits: string[] = [];
  for (const policy of input.policies) {
    if (policy.metadata.namespace !== shard.connection.namespace) continue;
    if (request.policyRef !== undefined && policy.metadata.name !== request.policyRef) continue;
    const compiled = shard.policies.find(({ kind, name }) => kind === 'AccessPolicy' && name === policyName(policy));
    if (compiled === undefined) {
      // Of no use to tell, unless it was asked for by name.
      if (request.policyRef !== undefined)
        misfits.push(`${policy.metadata.name}: it does not select Connection ${shard.connection.name}`);
      continue;
    }
    const why = misfitOf(policy, compiled, input);
    if (why === undefined) fits.push({ policy, compiled });
    else misfits.push(`${policy.metadata.name}: ${why}`);
  }
  const what = `${safeText(request.principal.username)} access to ${target}${request.account === undefined ? '' : ` as account ${safeText(request.account)}`}`;
  const [first, ...more] = fits.sort((a, b) => (a.compiled.name < b.compiled.name ? -1 : 1));
  if (first === undefined) return noPolicy(what, misfits, input);
  if (more.length > 0) {
    const candidates = fits.map(({ policy }) => policy.metadata.name);
    return {
      kind: 'NotEligible',
      reason: 'SeveralPolicies',
      message: `${candidates.length} policies would give ${what}; a grant runs under exactly one`,
      hint: `Name one of them as the policy: ${fits
        .slice(0, MOST_NAMED)
        .map(
          ({ policy, compiled }) =>
            `${policy.metadata.name} (${policy.spec.access ?? 'Grant'}, accounts ${compiled.accounts.join(', ')})`,
        )
        .join('; ')}.`,
      candidates,
    };
  }
  return withDuration(first, input);
}

/** Longest grant a policy gives, milliseconds. Break-glass has a limit of its own, where the policy says so. */
export function maxDurationOf(policy: AccessPolicy, breakGlass = false): number {
  const own = durationOr(policy.spec.maxDuration, DEFAULT_MAX_DURATION_MS);
  // An emergency is short unless its policy says otherwise.
  const glass = breakGlass ? durationOr(policy.spec.breakGlass?.maxDuration, Math.min(own, DEFAULT_GRANT_MS)) : own;
  return Math.min(glass, LONGEST_GRANT_MS);
}

/** A duration that can not be read gives the least: the default, never more. */
function durationOr(text: string | undefined, otherwise: number): number {
  return text === undefined ? otherwise : (parseDuration(text) ?? Math.min(otherwise, DEFAULT_MAX_DURATION_MS));
}

function misfitOf(policy: AccessPolicy, compiled: CompiledPolicy, input: EligibilityInput): string | undefined {
  const { request } = input;
  if (!compiled.accepted) return `it is not accepted: ${compiled.problem ?? 'no reason is known'}`;
  if (!matchesAny(compiled.subjects, request.principal, homeOf(compiled)))
    return `it is for ${listText(compiled.subjects.map(subjectText), 4)}, and ${safeText(request.principal.username)} is none of them`;
  if (request.account !== undefined && !compiled.accounts.includes(request.account))
    return `it has no account ${safeText(request.account)}, only ${compiled.accounts.join(', ')}`;
  if (request.breakGlass === true) {
    const glass = policy.spec.breakGlass;
    if (glass === undefined) return 'it has no break-glass';
    if (!matchesAny(glass.subjects, request.principal, homeOf(compiled)))
      return `its break-glass is for ${listText(glass.subjects.map(subjectText), 4) || 'nobody'}`;
  }
  return undefined;
}

function noPolicy(what: string, misfits: readonly string[], input: EligibilityInput): NotEligible {
  const { request, shard } = input;
  const named = request.policyRef === undefined ? '' : ` under policy ${safeText(request.policyRef)}`;
  const reasons = misfits.slice(0, MOST_NAMED);
  const rest = misfits.length > reasons.length ? [`and ${misfits.length - reasons.length} more policies`] : [];
  const groups =
    request.principal.groups.length === 0
      ? 'no group'
      : `groups ${listText(
          request.principal.groups.map((group) => safeText(group)),
          8,
        )}`;
  return {
    kind: 'NotEligible',
    reason: 'NoPolicy',
    message: `No policy gives ${what}${named}`,
    hint:
      misfits.length === 0
        ? `${request.policyRef === undefined ? `No AccessPolicy in namespace ${shard.connection.namespace} selects it` : `There is no AccessPolicy ${safeText(request.policyRef)} in namespace ${shard.connection.namespace}`}. Ask the owners of the namespace for one that names you.`
        : [
            `You are ${safeText(request.principal.username)}, in ${groups}.`,
            ...reasons,
            ...rest,
            'Ask for what one of these offers, or ask its authors to add you.',
          ].join('\n'),
    candidates: [],
  };
}

function withDuration(candidate: Candidate, input: EligibilityInput): Eligibility {
  const { request, shard } = input;
  const { policy, compiled } = candidate;
  const maxDurationMs = maxDurationOf(policy, request.breakGlass === true);
  const durationMs = request.durationMs ?? Math.min(DEFAULT_GRANT_MS, maxDurationMs);
  const name = policyName(policy);
  if (durationMs > maxDurationMs) {
    return {
      kind: 'NotEligible',
      reason: 'DurationTooLong',
      message: `Policy ${name} allows at most ${formatDuration(maxDurationMs)}, and ${formatDuration(durationMs)} was asked for`,
      hint: `Ask for ${formatDuration(maxDurationMs)} or less; a grant can be extended while it runs.`,
      candidates: [policy.metadata.name],
      maxDurationMs,
    };
  }
  if (!(durationMs >= 1000)) {
    return {
      kind: 'NotEligible',
      reason: 'DurationTooShort',
      message: `A grant of less than one second is of no use`,
      hint: `Ask for 1s to ${formatDuration(maxDurationMs)}.`,
      candidates: [policy.metadata.name],
    };
  }
  const account = request.account ?? compiled.accounts[0];
  if (account === undefined) return noPolicy('access', [`${policy.metadata.name}: it has no account`], input);
  return {
    kind: 'Eligible',
    policy,
    compiled,
    account,
    access: policy.spec.access ?? 'Grant',
    durationMs,
    maxDurationMs,
    warnings: shard.policies
      .filter(({ accepted }) => !accepted)
      .map(
        ({ name: broken, problem }) =>
          `${brokenTitle(broken)} is not in order, so every command will be denied: ${problem ?? ''}`,
      ),
  };
}
