// Round trips to the identity provider: code + PKCE S256, `state`, `nonce`, and `iss` of the answer where the provider
// says it sends one (RFC 9207). Guarantees: an answer is taken only with the verifier of the round trip that began it; the
// ID token is verified by Sallyport's own rules, with the keys that the operator signed, not with what the provider serves
// this process; nothing of a token leaves here but as a proof. Every call has a deadline and a bounded answer, and goes
// through the proxy that the environment names.
import * as oidc from 'openid-client';
import { EnvHttpProxyAgent, fetch as undiciFetch } from 'undici';

export interface LoginOptions {
  issuer: string;
  clientId: string;
  clientSecret: string | undefined;
  /** PEM; undefined: the system's. */
  ca: string | undefined;
  redirectUri: string;
  scope: string;
}

export interface Login {
  /** Origin of the authorization endpoint, for `form-action`. Rejects where the provider can not be reached. */
  origin(): Promise<string>;
  /** Where to send the browser. */
  begin(trip: {
    state: string;
    nonce: string;
    verifier: string;
    parameters?: Readonly<Record<string, string>>;
  }): Promise<URL>;
  /** The ID token of the answer that came to `redirectUri`. */
  finish(answer: URL, trip: { state: string; nonce: string; verifier: string }): Promise<LoginOutcome>;
  stop(): Promise<void>;
}

export type LoginOutcome =
  | { kind: 'Good'; idToken: string }
  /** `code`: of RFC 6749 or OpenID Connect: `login_required`, `access_denied`. */
  | { kind: 'Refused'; code: string }
  | { kind: 'Failed'; message: string };

export const newVerifier = (): string => oidc.randomPKCECodeVerifier();
export const newState = (): string => oidc.randomState();

const DEADLINE_MS = 10_000;
const ANSWER_BYTES = 256 * 1024;
/** Discovery is asked anew after so long. */
const FRESH_MS = 10 * 60_000;

export function createLogin(options: LoginOptions, now: () => number): Login {
  const trust = { timeout: DEADLINE_MS, ...(options.ca === undefined ? {} : { ca: options.ca }) };
  const agent = new EnvHttpProxyAgent({
    connect: trust,
    requestTls: trust,
    maxResponseSize: ANSWER_BYTES,
    connections: 16,
  });
  const request = async (url: string, init: oidc.CustomFetchOptions): Promise<Response> => {
    const { body, headers, method, signal } = init;
    const answer = await undiciFetch(url, {
      method,
      headers,
      redirect: 'manual',
      dispatcher: agent,
      signal: AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), ...(signal === undefined ? [] : [signal])]),
      ...(body === undefined || body === null ? {} : { body: body as string | URLSearchParams }),
    });
    // undici's own class and the global one are two; the library asks for nothing else of it.
    return answer as unknown as Response;
  };
  let known: { config: oidc.Configuration; atMs: number } | undefined;
  let asking: Promise<oidc.Configuration> | undefined;
  const discover = async (): Promise<oidc.Configuration> => {
    const config = await oidc.discovery(
      new URL(options.issuer),
      options.clientId,
      options.clientSecret,
      options.clientSecret === undefined ? oidc.None() : oidc.ClientSecretBasic(options.clientSecret),
      { [oidc.customFetch]: request, timeout: DEADLINE_MS / 1000 },
    );
    if (config.serverMetadata().issuer !== options.issuer) {
      throw new Error(`the provider calls itself ${config.serverMetadata().issuer}, not ${options.issuer}`);
    }
    known = { config, atMs: now() };
    return config;
  };
  const configuration = (): Promise<oidc.Configuration> => {
    if (known !== undefined && now() - known.atMs < FRESH_MS) return Promise.resolve(known.config);
    asking ??= discover()
      .catch((error: unknown) => {
        // What was good a moment ago goes on while the provider is not there.
        if (known !== undefined) return known.config;
        throw error;
      })
      .finally(() => {
        asking = undefined;
      });
    return asking;
  };
  return {
    origin: async () =>
      new URL((await configuration()).serverMetadata().authorization_endpoint ?? options.issuer).origin,
    async begin({ state, nonce, verifier, parameters = {} }) {
      return oidc.buildAuthorizationUrl(await configuration(), {
        redirect_uri: options.redirectUri,
        response_type: 'code',
        scope: options.scope,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
        state,
        nonce,
        ...parameters,
      });
    },
    async finish(answer, { state, nonce, verifier }) {
      try {
        const tokens = await oidc.authorizationCodeGrant(await configuration(), answer, {
          pkceCodeVerifier: verifier,
          expectedState: state,
          expectedNonce: nonce,
          idTokenExpected: true,
        });
        return tokens.id_token === undefined
          ? { kind: 'Failed', message: 'the provider sent no ID token' }
          : { kind: 'Good', idToken: tokens.id_token };
      } catch (error) {
        if (error instanceof oidc.AuthorizationResponseError) return { kind: 'Refused', code: error.error };
        // Its cause may hold what the provider sent: only the sentence goes on.
        return { kind: 'Failed', message: error instanceof Error ? error.message : 'the round trip failed' };
      }
    },
    stop: () => agent.destroy(),
  };
}
