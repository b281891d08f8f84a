// Whether a subject of a policy names a principal. To allow, names are compared octet by octet: no folding, no
// trimming, no aliases. A Claim subject goes by what a workload's token proved, and by nothing that anybody else says.
import type { Subject } from '../api/schema.ts';
import type { Principal } from './principal.ts';

/**
 * `policyNamespace` is where a ServiceAccount without a namespace of its own lives; a cluster-scoped policy has none,
 * and then such a subject matches nobody.
 */
export function matchesSubject(subject: Subject, principal: Principal, policyNamespace: string | undefined): boolean {
  const { name } = subject;
  switch (subject.kind) {
    case 'User':
      return name !== undefined && name !== '' && principal.username === name;
    case 'Group':
      return name !== undefined && name !== '' && principal.groups.includes(name);
    case 'ServiceAccount': {
      const namespace = subject.namespace ?? policyNamespace;
      // A colon in either part would let one account be spelled as another's.
      if (!name || !namespace || name.includes(':') || namespace.includes(':')) return false;
      return principal.username === `system:serviceaccount:${namespace}:${name}`;
    }
    case 'Claim':
      return matchesClaims(subject, principal);
    default:
      return false;
  }
}

/** All claims equal as text, at least one of them, and never `sub`: issuers have changed what they put there. */
function matchesClaims({ provider, claims }: Subject, { workload }: Principal): boolean {
  if (!provider || claims === undefined || workload === undefined || workload.provider !== provider) return false;
  const wanted = Object.entries(claims);
  return (
    wanted.length > 0 &&
    wanted.every(
      ([name, value]) => name !== 'sub' && Object.hasOwn(workload.claims, name) && workload.claims[name] === value,
    )
  );
}

export function matchesAny(
  subjects: readonly Subject[],
  principal: Principal,
  policyNamespace: string | undefined,
): boolean {
  return subjects.some((subject) => matchesSubject(subject, principal, policyNamespace));
}

/** For people: `group dba`, `alice@corp.example`, `service account ci/deployer`. */
export function subjectText(subject: Subject): string {
  switch (subject.kind) {
    case 'User':
      return `user ${subject.name ?? '(no name)'}`;
    case 'Group':
      return `group ${subject.name ?? '(no name)'}`;
    case 'ServiceAccount':
      return `service account ${subject.namespace === undefined ? '' : `${subject.namespace}/`}${subject.name ?? '(no name)'}`;
    case 'Claim':
      return `workload of ${subject.provider ?? '(no provider)'}${claimsText(subject.claims)}`;
    default:
      return 'unknown subject';
  }
}

function claimsText(claims: Subject['claims']): string {
  const parts = Object.entries(claims ?? {}).map(([name, value]) => `${name} ${value}`);
  return parts.length === 0 ? '' : ` with ${parts.join(', ')}`;
}
