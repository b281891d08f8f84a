// The policy of one session, prepared when first asked for and again when the bundle's or the person's groups change.
//
// Guarantees: every preparation has a generation of its own, higher than those before, since protocols keep what they
// decided for a generation; what can not be prepared denies everything.
import type { BundleGrant } from '../policy/bundle.ts';
import { prepareSessionPolicy } from '../policy/prepare-session.ts';
import type { Principal } from '../policy/principal.ts';
import type { ProtocolRules, SessionPolicy } from '../policy/session-policy.ts';
import type { ConnectionBundle } from './bundle-store.ts';

export interface Preparation {
  /** Cheap while nothing changed. */
  policy(grant: BundleGrant, principal: Principal): SessionPolicy;
  /** Grant or person are others from now on. */
  forget(): void;
}

export function preparePolicies(
  bundle: Pick<ConnectionBundle, 'view'>,
  rules: ProtocolRules,
  onProblem: (error: unknown) => void,
): Preparation {
  let prepared: SessionPolicy | undefined;
  let preparedFrom: number | undefined;
  let lastGeneration = 0;
  return {
    policy(grant, principal) {
      const { view } = bundle;
      if (prepared !== undefined && (view === undefined || view.generation === preparedFrom)) return prepared;
      const generation = Math.max(view?.generation ?? 0, lastGeneration + 1);
      preparedFrom = view?.generation;
      lastGeneration = generation;
      if (view === undefined)
        return (prepared = nothingAllowed(generation, grant.policy, 'the Connection was removed'));
      try {
        prepared = prepareSessionPolicy(
          view.policy,
          { policy: grant.policy, principal, account: grant.account, generation },
          rules,
        );
      } catch (error) {
        onProblem(error);
        prepared = nothingAllowed(generation, grant.policy, 'it could not be prepared');
      }
      return prepared;
    },
    forget() {
      prepared = undefined;
    },
  };
}

function nothingAllowed(generation: number, policy: string, problem: string): SessionPolicy {
  return {
    generation,
    broken: [{ policy, problem }],
    denies: [],
    holds: [],
    allows: [],
    masks: [],
    trustedFunctions: [],
    transparent: undefined,
  };
}
