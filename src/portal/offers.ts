// Which Connections somebody may ask for, and under which policies: for the form. Pure. It promises nothing: the
// operator decides about each request by itself, from the same policies.
import type { Connection } from '../api/connection.ts';
import { formatDuration } from '../api/duration.ts';
import type { AccessPolicy } from '../api/policy.ts';
import { maxDurationOf } from '../policy/eligibility.ts';
import type { Principal } from '../policy/principal.ts';
import { policySelects } from '../policy/selectors.ts';
import { matchesAny, subjectText } from '../policy/subjects.ts';

export interface Offer {
  connection: Connection;
  policies: readonly OfferedPolicy[];
}
export interface OfferedPolicy {
  name: string;
  accounts: readonly string[];
  /** `8h`. */
  longest: string;
  /** Who approves, one entry a step; empty: nobody needs to. */
  steps: readonly string[];
  /** Whether the person may skip the steps in an emergency. */
  breakGlass: boolean;
}

export function offersFor(
  principal: Principal,
  connections: readonly Connection[],
  policies: readonly AccessPolicy[],
): Offer[] {
  return connections
    .flatMap((connection) => {
      const { namespace = '', name, labels = {} } = connection.metadata;
      const fitting = policies.filter(
        (policy) =>
          policy.metadata.namespace === namespace &&
          policySelects(
            { kind: 'AccessPolicy', namespace, selector: policy.spec.connectionSelector },
            { namespace, name, labels },
          ) &&
          matchesAny(policy.spec.subjects, principal, namespace),
      );
      return fitting.length === 0
        ? []
        : [{ connection, policies: fitting.map((policy) => offered(policy, principal)) }];
    })
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

const keyOf = ({ connection }: Offer): string => `${connection.metadata.namespace}/${connection.metadata.name}`;

function offered(policy: AccessPolicy, principal: Principal): OfferedPolicy {
  const { spec, metadata } = policy;
  return {
    name: metadata.name,
    accounts: spec.accounts,
    longest: formatDuration(maxDurationOf(policy)),
    steps:
      spec.access === 'Standing'
        ? []
        : (spec.approval?.steps ?? []).map(
            (step) => `${step.count ?? 1} of ${step.approvers.map(subjectText).join(' or ') || 'nobody'}`,
          ),
    breakGlass: matchesAny(spec.breakGlass?.subjects ?? [], principal, metadata.namespace),
  };
}
