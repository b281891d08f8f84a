// Fresh tokens of a login. Providers that rotate refresh tokens take a second use of one for theft and end the login, so a
// refresh is made by one process at a time, under a lock, after reading again what another may have done meanwhile; and
// never twice within a minute. What comes back is on disk before it is used.
import { decodeJwt } from 'jose';
import * as oidc from 'openid-client';
import { lockState, StateInUse } from '../../store/directory/state-lock.ts';
import { systemRandom } from '../../system/random.ts';
import { CliError, EXIT, pause } from '../io.ts';
import { line } from '../render.ts';
import { issuerFailure, openIssuer } from './issuer.ts';
import { REFRESH_APART_MS } from './keep-proven.ts';
import type { NameRules } from './settings.ts';
import type { Login, LoginFacts, LoginStore, Tokens } from './store.ts';

/** A token that ends sooner is refreshed before it is used. */
const ENOUGH_MS = 45_000;
const LOCK_MS = 45_000;
const LOCK_POLL_MS = 50;

export interface TokenNeed {
  /** A token handed out before then will not do: renewals want a newer `iat`. */
  obtainedAfterMs?: number;
  signal: AbortSignal;
  nowMs(): number;
}

/** The login with an access token that is good for a while. Rejects with CliError where one has to log in again. */
export async function freshLogin(store: LoginStore, id: string, need: TokenNeed): Promise<Login> {
  const read = async (): Promise<Login> => {
    const found = await store.read(id);
    if (found === undefined) throw new CliError(EXIT.denied, 'You are not logged in here any more', 'Log in again.');
    return found;
  };
  const known = await read();
  if (!isDue(known.tokens, need)) return known;
  return underLock(store, id, need.signal, async () => {
    const again = await read();
    if (!isDue(again.tokens, need)) return again;
    return refresh(store, again, need);
  });
}

/** Pure. Whether a refresh is wanted and allowed. */
export function isDue(tokens: Tokens, need: Pick<TokenNeed, 'obtainedAfterMs' | 'nowMs'>): boolean {
  const now = need.nowMs();
  const ending = tokens.expiresAtMs - now < ENOUGH_MS;
  const wanted = ending || (need.obtainedAfterMs !== undefined && tokens.obtainedAtMs <= need.obtainedAfterMs);
  // A clock that was set back must not keep a login from being refreshed.
  const apart = Math.abs(now - tokens.obtainedAtMs) >= REFRESH_APART_MS;
  return wanted && (apart || tokens.expiresAtMs <= now);
}

async function refresh(store: LoginStore, login: Login, need: TokenNeed): Promise<Login> {
  const { tokens, issuer } = login;
  const usable = tokens.expiresAtMs > need.nowMs();
  if (tokens.refresh === undefined) {
    if (usable) return login;
    throw loginOver(login, 'has ended, and the provider gave nothing to renew it with');
  }
  try {
    const config = await openIssuer(login, login.clientId);
    const answer = await oidc.refreshTokenGrant(config, tokens.refresh);
    const next: Login = { ...login, tokens: tokensOf(answer, need.nowMs(), tokens) };
    next.who = whoOf(next.tokens, login.names);
    await store.write(next);
    return next;
  } catch (error) {
    if (error instanceof oidc.ResponseBodyError && error.error === 'invalid_grant') {
      // Nothing renews it any more: what is left would only fail later.
      await store.remove(login.id);
      throw loginOver(login, 'was ended by the provider', error);
    }
    const failure = issuerFailure(error, issuer);
    if (usable && failure.exitCode === EXIT.unavailable && need.obtainedAfterMs === undefined) return login;
    throw failure;
  }
}

function loginOver(login: LoginFacts, what: string, cause?: unknown): CliError {
  return new CliError(
    EXIT.denied,
    `Your login at ${line(login.issuer)} ${what}`,
    login.flow === 'Device' ? 'Log in again: login --device.' : 'Log in again.',
    { cause },
  );
}

/** What a token endpoint answered. Throws CliError where a gateway could not use it. */
export function tokensOf(
  answer: oidc.TokenEndpointResponse & Partial<oidc.TokenEndpointResponseHelpers>,
  nowMs: number,
  before?: Tokens,
): Tokens {
  const { access_token: access, refresh_token: refreshed, id_token: id, expires_in: expiresIn } = answer;
  let exp: number | undefined;
  try {
    exp = decodeJwt(access).exp;
  } catch {
    throw new CliError(
      EXIT.misconfigured,
      'The identity provider hands out access tokens that are no JWTs, which gateways can not verify',
      'Ask for a scope or resource for which it makes JWTs: IdentityProvider spec.login.oauthScope; see docs/identity.md.',
    );
  }
  const refresh = refreshed ?? before?.refresh;
  const idToken = id ?? before?.id;
  return {
    access,
    ...(refresh === undefined ? {} : { refresh }),
    ...(idToken === undefined ? {} : { id: idToken }),
    expiresAtMs: exp !== undefined ? exp * 1000 : nowMs + (expiresIn ?? 60) * 1000,
    obtainedAtMs: nowMs,
  };
}

/** What the access token says of its person: for people to read, and to find grants; decided by nobody here. */
export function whoOf(tokens: Tokens, names: NameRules): LoginFacts['who'] {
  const said = decodeJwt(tokens.access) as Record<string, unknown>;
  const text = (name: string): string | undefined =>
    typeof said[name] === 'string' && said[name] !== '' ? (said[name] as string) : undefined;
  const groups = names.groups === undefined ? undefined : said[names.groups];
  const mapped = names.kubernetes === undefined ? undefined : text(names.kubernetes.claim);
  return {
    uid: `${text('iss') ?? ''} ${text(names.uid) ?? ''}`,
    username: names.usernamePrefix + (text(names.username) ?? text('sub') ?? ''),
    groups: Array.isArray(groups)
      ? groups.filter((each): each is string => typeof each === 'string').map((each) => names.groupsPrefix + each)
      : [],
    ...(mapped === undefined || names.kubernetes === undefined ? {} : { kubernetes: names.kubernetes.prefix + mapped }),
  };
}

/** One process at a time, for this login. Gives up after a while with CliError. */
export async function underLock<T>(
  store: LoginStore,
  id: string,
  signal: AbortSignal,
  act: () => Promise<T>,
): Promise<T> {
  const { mkdirSync } = await import('node:fs');
  const folder = `${store.folder}/${id}.lock`;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const until = performance.now() + LOCK_MS;
  let release: (() => void) | undefined;
  while (release === undefined) {
    try {
      release = lockState(folder, systemRandom);
    } catch (error) {
      if (!(error instanceof StateInUse)) throw error;
      if (performance.now() > until) {
        throw new CliError(
          EXIT.unavailable,
          'Another process has been renewing this login for too long',
          `If there is none, remove ${folder}.`,
        );
      }
      await pause(LOCK_POLL_MS, signal);
    }
  }
  try {
    return await act();
  } finally {
    release();
  }
}
