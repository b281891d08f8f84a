// Whether whoever says who somebody is, is still trusted to. Pure. What tokens proved rests on their provider: the login of
// a session, and the person of a grant that was asked for by proof. Both end with the trust; a person whom the cluster or
// this machine vouched for stays who they are. Without the shard of providers nothing is known, and nothing ends by it.
import type { BundleGrant, IdentityShard } from '../policy/bundle.ts';
import type { Login } from './proof.ts';

export interface TrustFacts {
  identity: IdentityShard | undefined;
  grant: Pick<BundleGrant, 'name' | 'via' | 'principal'>;
  /** Name of the provider of the session's newest token, and its person; undefined: no token. */
  token: { provider: string; uid: string | undefined } | undefined;
}

/** A sentence's part, what ended; undefined: nothing did. */
export function endedTrust({ identity, grant, token }: TrustFacts): string | undefined {
  if (identity === undefined) return undefined;
  const { providers } = identity;
  if (token !== undefined) {
    const provider = providers.find(({ name }) => name === token.provider);
    if (provider === undefined || !isOf(provider.issuer, token.uid)) {
      return `identity provider ${token.provider}, which says who its user is, is not trusted any more`;
    }
  }
  if (grant.via !== 'Portal' && grant.via !== 'Pipeline') return undefined;
  if (providers.some(({ issuer }) => isOf(issuer, grant.principal.uid))) return undefined;
  return `the identity provider that said who asked for grant ${grant.name} is not trusted any more`;
}

export function tokenFacts(login: Login): TrustFacts['token'] {
  return login.kind === 'Token' ? { provider: login.token.provider, uid: login.token.principal.uid } : undefined;
}

/** A uid is its issuer, a space, and the id there; one that names no issuer says nothing. */
function isOf(issuer: string, uid: string | undefined): boolean {
  return uid === undefined || !uid.includes(' ') || uid.startsWith(`${issuer} `);
}
