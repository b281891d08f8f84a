// What a session's own records say of who uses it and by what. Pure.
import type { ProvenToken } from '../identity/oidc/verify-token.ts';
import type { StartBody } from '../recording/envelope.ts';
import type { LiveSeed } from './live-session.ts';
import { tokenOf } from './proof.ts';

/** The `start` record: who, by what, on what. */
export function startBody(
  protocol: string,
  { connection: { uid, name, namespace }, admission, client }: Pick<LiveSeed, 'connection' | 'admission' | 'client'>,
  policyGeneration: number,
): StartBody {
  const { grant, principal, login } = admission;
  const token = tokenOf(login);
  return {
    protocol,
    connection: { uid, name, namespace },
    grant: { name: grant.name, uid: grant.uid, policy: grant.policy },
    principal: {
      username: principal.username,
      ...(principal.uid === undefined ? {} : { uid: principal.uid }),
      groups: principal.groups,
    },
    ...(token === undefined
      ? {}
      : {
          login: {
            provider: token.provider,
            use: token.use,
            issuedAt: new Date(token.iatMs).toISOString(),
            ...(token.jti === undefined ? {} : { jti: token.jti }),
          },
        }),
    account: grant.account,
    client: { address: client.address },
    policyGeneration,
  };
}

/** The `notice` record of a session that goes on by a newer token. */
export function renewedBody(token: ProvenToken): object {
  return {
    event: 'TokenRenewed',
    provider: token.provider,
    issuedAt: new Date(token.iatMs).toISOString(),
    expiresAt: new Date(token.expMs).toISOString(),
    groups: token.principal.groups,
    ...(token.jti === undefined ? {} : { jti: token.jti }),
  };
}
