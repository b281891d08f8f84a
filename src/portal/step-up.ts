// What a policy's step-up asks of the identity provider when somebody requests or decides. It is only asked here; whether
// the login was recent and strong enough is judged on the token that comes back, by who stamps and by the operator.
import { parseDuration } from '../api/duration.ts';
import type { AccessPolicy } from '../api/policy.ts';
import type { Decision } from './concerns.ts';

interface StepUp {
  maxAge?: string;
  acr?: readonly string[];
}

/** Parameters of the authorization request (OpenID Connect Core 3.1.2.1). */
export function stepUpOf(
  policy: AccessPolicy | undefined,
  _act: Decision | 'Request',
): Readonly<Record<string, string>> {
  const wanted = (policy?.spec.approval as { stepUp?: StepUp } | undefined)?.stepUp;
  if (wanted === undefined) return {};
  const maxAgeMs = wanted.maxAge === undefined ? undefined : parseDuration(wanted.maxAge);
  return {
    ...(maxAgeMs === undefined ? {} : { max_age: String(Math.floor(maxAgeMs / 1000)) }),
    ...(wanted.acr === undefined || wanted.acr.length === 0 ? {} : { acr_values: wanted.acr.join(' ') }),
  };
}
