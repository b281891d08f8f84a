// Whose access a grant is, and who stands behind the request. Pure. Guarantees: a beneficiary is a name and nothing else
// (no group, no alias is believed of somebody who has proven nothing), and only a delegator of the policy, before its
// absolute end, may name one.
import type { AccessGrantSpec } from '../../api/grant.ts';
import type { AccessPolicy } from '../../api/policy.ts';
import type { Principal } from '../../policy/principal.ts';
import { matchesSubject } from '../../policy/subjects.ts';

/** How long one use of a sealed grant lasts when its author does not say. */
export const SEALED_USE_MS = 1_800_000;

/** The person named by a delegator; undefined: the requester is who it is for. */
export function beneficiaryOf(spec: Pick<AccessGrantSpec, 'beneficiary'>): Principal | undefined {
  return spec.beneficiary === undefined
    ? undefined
    : { username: spec.beneficiary.name ?? '', groups: [], aliases: [] };
}

/** Who will have the access. */
export function ownerOf(spec: Pick<AccessGrantSpec, 'beneficiary'>, requester: Principal): Principal {
  return beneficiaryOf(spec) ?? requester;
}

/** Why no grant can be for this beneficiary, whatever the policy; undefined: one can. */
export function beneficiaryFault(spec: AccessGrantSpec): string | undefined {
  const { beneficiary } = spec;
  if (beneficiary === undefined) return undefined;
  if (beneficiary.kind !== 'User' || !beneficiary.name)
    return 'A beneficiary is a User by exact name; write kind: User and the name.';
  if (beneficiary.name.startsWith('system:'))
    return `${beneficiary.name} is no person: nobody asks on behalf of the cluster’s own users.`;
  if (spec.breakGlass === true) return 'Nobody breaks the glass for another: who has the emergency asks.';
  return undefined;
}

/** Why this requester may not ask for others under the policy; `atMs`: when they asked. */
export function delegationFault(policy: AccessPolicy, requester: Principal, atMs: number): string | undefined {
  const name = `${policy.metadata.namespace ?? ''}/${policy.metadata.name}`;
  const entries = (policy.spec.delegators ?? []).filter(({ subject }) =>
    matchesSubject(subject, requester, policy.metadata.namespace),
  );
  if (entries.length === 0)
    return `${requester.username} is no delegator of policy ${name}, so it may ask for nobody else. Its authors add one under delegators, with notAfter.`;
  // A time that can not be read is over.
  if (!entries.some(({ notAfter }) => atMs < Date.parse(notAfter)))
    return `${requester.username} may ask for others under policy ${name} until ${entries[0]!.notAfter}, and that is over. Its authors set a new notAfter.`;
  return undefined;
}
