// The identity provider as a client on somebody's machine sees it: a public client, over TLS that is verified with the
// system's roots or a pinned CA. Guarantees: https only, every answer bounded in time and size, no redirect followed, the
// signature of ID tokens checked although TLS would do; what goes wrong becomes a CliError without anything of a token.
import * as oidc from 'openid-client';
import { CliError, EXIT } from '../io.ts';
import { line } from '../render.ts';
import { deepest, pinnedFetch, transportFailure } from './https.ts';

export interface IssuerSettings {
  issuer: string;
  /** PEM; absent: the roots of this system. */
  caPem?: string;
}

const DEADLINE_S = 20;

/** Reads the issuer's metadata. Rejects with CliError. */
export async function openIssuer(settings: IssuerSettings, clientId: string): Promise<oidc.Configuration> {
  let server: URL;
  try {
    server = new URL(settings.issuer);
  } catch {
    throw new CliError(EXIT.misconfigured, `The issuer ${line(settings.issuer)} is no URL`);
  }
  if (server.protocol !== 'https:') {
    throw new CliError(
      EXIT.misconfigured,
      `The issuer ${line(settings.issuer)} is not reached over https`,
      'Tokens are passwords: they travel over verified TLS alone.',
    );
  }
  const config = await oidc
    .discovery(server, clientId, { token_endpoint_auth_method: 'none' }, oidc.None(), {
      [oidc.customFetch]: (await pinnedFetch(settings.caPem)) as unknown as oidc.CustomFetch,
      execute: [oidc.enableNonRepudiationChecks],
      timeout: DEADLINE_S,
    })
    .catch((error: unknown) => {
      throw issuerFailure(error, settings.issuer);
    });
  if (config.serverMetadata().issuer !== settings.issuer) {
    throw new CliError(
      EXIT.misconfigured,
      `${line(settings.issuer)} calls itself ${line(config.serverMetadata().issuer)}`,
      'Write the issuer exactly as it calls itself: the trailing slash counts.',
    );
  }
  return config;
}

/** What a failed exchange means. Names the OAuth error, never a token, a code or an answer's body. */
export function issuerFailure(error: unknown, issuer: string): CliError {
  if (error instanceof CliError) return error;
  const name = line(issuer);
  if (error instanceof oidc.ResponseBodyError || error instanceof oidc.AuthorizationResponseError) {
    const told = error.error_description === undefined ? '' : `: ${line(error.error_description).slice(0, 300)}`;
    const code = line(error.error).slice(0, 64);
    switch (error.error) {
      case 'access_denied':
        return new CliError(EXIT.denied, `The login at ${name} was refused${told}`);
      case 'expired_token':
        return new CliError(EXIT.denied, `Nobody finished the login at ${name} in time`, 'Start it again.');
      case 'invalid_client':
      case 'unauthorized_client':
      case 'invalid_scope':
      case 'invalid_target':
      case 'unsupported_grant_type':
        return new CliError(
          EXIT.misconfigured,
          `${name} does not let this client log in (${code}${told})`,
          'The client must be a public one with the redirect http://127.0.0.1/callback (any port), and for --device with the device grant; see docs/identity.md.',
        );
      default:
        return new CliError(EXIT.failed, `The login at ${name} failed (${code}${told})`);
    }
  }
  return (
    transportFailure(
      error,
      name,
      'Where its CA is not one of the system’s, the IdentityProvider names it (caBundle), or --ca-file does.',
    ) ?? new CliError(EXIT.failed, `The answer of ${name} is not to be trusted: ${line(deepest(error).message)}`)
  );
}
