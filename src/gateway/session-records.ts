// What a session's own records say of who uses it and by what. Pure.
import type { ProvenToken } from '../identity/oidc/verify-token.ts';
import type { StartBody } from '../recording/envelope.ts';
import type { LiveSeed } from './live-session.ts';
import type { Login } from './proof.ts';

/** The `start` record: who, by what, on what. */
export function startBody(
  protocol: string,
  { connection: { uid, name, namespace }, admission, client }: Pick<LiveSeed, 'connection' | 'admission' | 'client'>,
  policyGeneration: number,
): StartBody {
  const { grant, principal, login } = admission;
  const shown = loginBody(login);
  return {
    protocol,
    connection: { uid, name, namespace },
    grant: { name: grant.name, uid: grant.uid, policy: grant.policy },
    principal: {
      username: principal.username,
      ...(principal.uid === undefined ? {} : { uid: principal.uid }),
      groups: principal.groups,
    },
    ...(shown === undefined ? {} : { login: shown }),
    account: grant.account,
    client: { address: client.address },
    policyGeneration,
  };
}

function loginBody(login: Login): StartBody['login'] {
  switch (login.kind) {
    case 'Ticket':
      return undefined;
    case 'Key':
      return { use: 'Key', issuedAt: isoTime(login.atMs) };
    case 'Token': {
      const { provider, use, iatMs, jti } = login.token;
      return { provider, use, issuedAt: isoTime(iatMs), ...(jti === undefined ? {} : { jti }) };
    }
    case 'Certificate': {
      const { provider, validAfterMs, keyId, serial, authority } = login.certificate;
      return { provider, use: 'Certificate', issuedAt: isoTime(validAfterMs), keyId, serial, authority };
    }
  }
}

const isoTime = (ms: number): string => new Date(ms).toISOString();

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
