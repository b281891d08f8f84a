// What a policy's step-up asks of the identity provider when somebody requests or decides. It is only asked here; whether
// the login was recent and strong enough is judged on the token that comes back, by the operator.
import type { AccessPolicy } from '../api/policy.ts';
import { STEP_UP_ACTS } from '../api/schema.ts';
import { stepUpNeed } from '../policy/step-up.ts';
import type { Decision } from './concerns.ts';

/** Parameters of the authorization request (OpenID Connect Core 3.1.2.1). There is none for `amr`: a class stands for means. */
export function stepUpOf(
  policy: AccessPolicy | undefined,
  act: Decision | 'Request',
): Readonly<Record<string, string>> {
  const wanted = policy?.spec.approval?.stepUp;
  if (policy === undefined || wanted === undefined) return {};
  if (!(wanted.on ?? STEP_UP_ACTS).some((each) => each === act)) return {};
  const need = stepUpNeed(policy.metadata.name, wanted);
  return {
    ...(need.maxAgeMs === undefined ? {} : { max_age: String(Math.floor(need.maxAgeMs / 1000)) }),
    ...(need.acr.length === 0 ? {} : { acr_values: need.acr.join(' ') }),
  };
}
