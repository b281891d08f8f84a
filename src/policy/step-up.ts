// Whether somebody logged in recently and strongly enough for what they do now. Pure; the same judgement for requests
// and votes (on what a stamp says of the login) and for connecting (on the token). Guarantees: what is not said is not
// assumed: without `auth_time` no login is recent, without `acr` or `amr` none is strong. Time of the login is the
// provider's word; refreshing a token does not make it younger.
import { formatDuration, parseDuration } from '../api/duration.ts';
import type { StepUp } from '../api/schema.ts';

/** What a policy wants of a login; empty lists want nothing. */
export interface StepUpNeed {
  /** Who wants it, as messages name policies. */
  policy: string;
  maxAgeMs?: number;
  /** The class must be one of these. */
  acr: readonly string[];
  /** One of these means must have been used. */
  amr: readonly string[];
}

/** What is known of a login. */
export interface LoginFacts {
  /** `auth_time`, milliseconds. */
  atMs?: number | undefined;
  acr?: string | undefined;
  amr?: readonly string[] | undefined;
}

/** A duration that can not be read wants a login of this moment: nothing is let through by a typo. */
export function stepUpNeed(policy: string, spec: StepUp): StepUpNeed {
  return {
    policy,
    ...(spec.maxAge === undefined ? {} : { maxAgeMs: parseDuration(spec.maxAge) ?? 0 }),
    acr: [...(spec.acr ?? [])],
    amr: [...(spec.amr ?? [])],
  };
}

/** The facts of a stamp's `auth`. */
export function loginOf(
  auth: { at?: string; acr?: string; amr?: readonly string[] } | undefined,
): LoginFacts | undefined {
  if (auth === undefined) return undefined;
  const atMs = auth.at === undefined ? Number.NaN : Date.parse(auth.at);
  return { ...(Number.isNaN(atMs) ? {} : { atMs }), acr: auth.acr, amr: auth.amr };
}

/** How far a provider's clock may be ahead of ours. */
const SKEW_MS = 30_000;

/** What the login lacks, as a clause for people that names the policy; undefined: it does. `atMs`: when it is used. */
export function stepUpLack(
  needs: readonly StepUpNeed[],
  login: LoginFacts | undefined,
  atMs: number,
): string | undefined {
  for (const need of needs) {
    const lack = lackOf(need, login, atMs);
    if (lack !== undefined) return `policy ${need.policy} wants ${wish(need)}, and ${lack}`;
  }
  return undefined;
}

function lackOf(need: StepUpNeed, login: LoginFacts | undefined, atMs: number): string | undefined {
  if (login === undefined) return 'nobody says how this person logged in';
  if (need.maxAgeMs !== undefined) {
    if (login.atMs === undefined) return 'the login does not say when it was';
    if (login.atMs > atMs + SKEW_MS) return 'the login is from the future';
    const ageMs = atMs - login.atMs;
    if (ageMs > need.maxAgeMs) return `this login was ${formatDuration(Math.ceil(ageMs / 1000) * 1000)} old`;
  }
  if (need.acr.length > 0 && (login.acr === undefined || !need.acr.includes(login.acr)))
    return login.acr === undefined ? 'this login names no class' : `this login is of class ${login.acr.slice(0, 64)}`;
  if (need.amr.length > 0 && !need.amr.some((means) => login.amr?.includes(means) === true))
    return `this login used ${login.amr?.slice(0, 8).join(', ') || 'no means that is named'}`;
  return undefined;
}

/** What is wanted, in words: `a login at most 5m old of class gold by mfa`. */
export function wish(need: StepUpNeed): string {
  return [
    'a login',
    ...(need.maxAgeMs === undefined ? [] : [`at most ${formatDuration(need.maxAgeMs)} old`]),
    ...(need.acr.length === 0 ? [] : [`of class ${need.acr.join(' or ')}`]),
    ...(need.amr.length === 0 ? [] : [`by ${need.amr.join(' or ')}`]),
  ].join(' ');
}
