// Whether a subject of a policy names a principal. To allow, names are compared octet by octet: no folding, no
// trimming, no aliases. A Claim subject matches nobody: what would prove its claims does not reach the engine.
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
      return false;
    default:
      return false;
  }
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
      return `workload of ${subject.provider ?? '(no provider)'}`;
    default:
      return 'unknown subject';
  }
}
