// What becomes of a provider once a fetch has ended, or time has passed: which keys are believed until when, and what the
// conditions say. Pure. Guarantees: a good set serves 24 h from when it was fetched and not a moment longer; a failed
// fetch takes nothing away before; keys of another issuer or from under another CA are not kept over a change of spec.
import { formatDuration } from '../../api/duration.ts';
import type { IdentityProvider, IdentityProviderStatus } from '../../api/identity-provider.ts';
import type { Condition } from '../../api/schema.ts';
import type { TrustedJwk, TrustedProvider } from '../../policy/bundle.ts';
import { rfc3339, withCondition } from '../conditions.ts';
import { compileProvider, type LastGoodKeys, sourceOf } from './compile.ts';
import type { IssuerFacts, KeyFetch } from './keys.ts';

/** How long a good set is believed. */
export const KEYS_SERVE_MS = 24 * 3_600_000;
export const FETCH_EVERY_MS = 600_000;
/** After a failure, and at most so often, beside its turn, because somebody showed a key that is not known. */
export const FETCH_AGAIN_MS = 60_000;

/** What is remembered of a provider between two looks at it. */
export interface ProviderMemory {
  good: LastGoodKeys | undefined;
  facts?: IssuerFacts;
  /** Of the last fetch, if that failed. */
  failure?: { reason: string; message: string };
  /** Where and when (monotonic, ms) was asked last, and last because somebody showed a key that is not known. */
  asked?: { from: string; atMs: number; failed: boolean; hintedAtMs?: number };
}

export function afterFetch(memory: ProviderMemory, fetched: KeyFetch, from: string, nowMs: number): ProviderMemory {
  const good = memory.good?.from === from ? memory.good : undefined;
  if (fetched.kind === 'Bad') {
    const { reason, message } = fetched;
    return { ...memory, good, failure: { reason, message } };
  }
  const { failure: _failure, ...rest } = memory;
  return {
    ...rest,
    good: { from, keys: fetched.keys, fetchedAtMs: nowMs, goodUntilMs: nowMs + KEYS_SERVE_MS },
    facts: fetched.facts,
  };
}

/**
 * Milliseconds until it is to be asked; 0: now. `hinted`: somebody showed a key that is not known. That is worth asking at
 * once, however lately its turn was: an issuer may change keys at any moment, and strangers add one question a minute.
 */
export function fetchDue(memory: ProviderMemory, from: string, monotonicMs: number, hinted: boolean): number {
  const { asked } = memory;
  if (asked === undefined || asked.from !== from) return 0;
  const turnMs = asked.atMs + (asked.failed ? FETCH_AGAIN_MS : FETCH_EVERY_MS);
  const dueMs = hinted ? Math.min(turnMs, (asked.hintedAtMs ?? -Infinity) + FETCH_AGAIN_MS) : turnMs;
  return Math.max(0, dueMs - monotonicMs);
}

export interface ProviderDecision {
  /** Undefined: none of its tokens is believed, whatever they say. */
  provider: TrustedProvider | undefined;
  status: IdentityProviderStatus;
}

export function decideProvider(
  resource: IdentityProvider,
  judged: { problem: string | undefined; note: string },
  memory: ProviderMemory,
  nowMs: number,
): ProviderDecision {
  const { problem, note } = judged;
  const { spec, metadata, status: last } = resource;
  const good = memory.good?.from === sourceOf(spec) ? memory.good : undefined;
  const provider = problem === undefined ? compileProvider(resource, good) : undefined;
  let conditions = last?.conditions;
  const set = (type: string, status: Condition['status'], reason: string, message: string): void => {
    const condition = {
      type,
      status,
      reason,
      message: message.slice(0, 4096),
      observedGeneration: metadata.generation,
    };
    conditions = withCondition(conditions, condition, nowMs);
  };
  if (provider === undefined) {
    set('Accepted', 'False', 'NotAccepted', problem!);
    set('Ready', 'False', 'NotAccepted', `None of its tokens is believed. ${problem}`);
  } else {
    set('Accepted', 'True', 'Accepted', `Its tokens are believed while its keys are known.${note}`);
    const { status, reason, message } = readiness(provider, good, memory, nowMs);
    set('Ready', status, reason, message);
  }
  const { failure } = memory;
  if (problem !== undefined) conditions = conditions?.filter(({ type }) => type !== 'KeysFresh');
  if (problem === undefined && failure !== undefined) set('KeysFresh', 'False', failure.reason, failure.message);
  else if (problem === undefined && good !== undefined)
    set('KeysFresh', 'True', 'Fetched', 'The last fetch of its keys went well.');
  const hitches = provider === undefined ? [] : loginHitches(resource, memory.facts);
  if (spec.login === undefined) conditions = conditions?.filter(({ type }) => type !== 'Login');
  else if (hitches.length > 0) set('Login', 'False', 'Hitch', hitches.join(' '));
  else if (provider !== undefined)
    set(
      'Login',
      'True',
      'Possible',
      `Nothing stands in the way of logging in.${unlistedScopes(resource, memory.facts)}`,
    );
  const kept = good !== undefined && provider !== undefined;
  return {
    provider,
    status: {
      observedGeneration: metadata.generation,
      keys: kept && good.goodUntilMs > nowMs ? good.keys.length : 0,
      ...(kept ? { fetchedAt: rfc3339(good.fetchedAtMs), goodUntil: rfc3339(good.goodUntilMs) } : {}),
      ...(conditions === undefined ? {} : { conditions }),
    },
  };
}

function readiness(
  provider: TrustedProvider,
  good: LastGoodKeys | undefined,
  { failure }: ProviderMemory,
  nowMs: number,
): Pick<Condition, 'status' | 'reason' | 'message'> {
  if (good === undefined || good.goodUntilMs <= nowMs) {
    const gone = good === undefined ? '' : ` Its keys were believed until ${rfc3339(good.goodUntilMs)}.`;
    return failure === undefined
      ? { status: 'Unknown', reason: 'NotFetched', message: 'Its keys have not been fetched yet.' }
      : {
          status: 'False',
          reason: failure.reason,
          message: `Nobody can log in with its tokens: ${failure.message}${gone}`,
        };
  }
  const usable = good.keys.filter((key) => provider.algorithms.some((algorithm) => fits(algorithm, key)));
  const count = `${usable.length} key${usable.length === 1 ? '' : 's'}`;
  if (usable.length === 0)
    return {
      status: 'False',
      reason: 'NoUsableKey',
      message: `None of its ${good.keys.length} keys is for ${provider.algorithms.join(', ')}. Add to algorithms what it signs with.`,
    };
  if (failure !== undefined)
    return {
      status: 'True',
      reason: 'LastKeys',
      message: `${count} fetched ${formatDuration(nowMs - good.fetchedAtMs)} ago serve until ${rfc3339(good.goodUntilMs)}, then logins stop. ${failure.message}`,
    };
  return { status: 'True', reason: 'Ready', message: `Tokens are verified with ${count}.` };
}

/** Whether a key could have made a signature by the algorithm (RFC 7518, 3.1). */
function fits(algorithm: string, key: TrustedJwk): boolean {
  if (key.alg !== undefined && key.alg !== algorithm && !(algorithm === 'EdDSA' && key.alg === 'Ed25519')) return false;
  if (algorithm === 'EdDSA') return key.kty === 'OKP';
  if (algorithm.startsWith('ES')) return key.kty === 'EC';
  return key.kty === 'RSA';
}

/** What will keep people from logging in although the keys are good, each with the fix. */
function loginHitches({ spec }: IdentityProvider, facts: IssuerFacts | undefined): string[] {
  const { login, issuer, audiences } = spec;
  if (login === undefined) return [];
  const hitches: string[] = [];
  const access = audiences.filter(({ use }) => use === 'Access');
  if (access.length === 0)
    hitches.push(
      'No audience is for Access, so no token logs in to a target. psql and connect show access tokens: add the audience that scope ' +
        `${login.oauthScope} brings, and if the issuer’s access tokens are no JWTs (opaque), register an API or resource there so that they are.`,
    );
  const strangers = [login.clientId, login.deviceClientId].filter(
    (client) => client !== undefined && access.length > 0 && !access.some(({ clients }) => clients?.includes(client)),
  );
  if (strangers.length > 0)
    hitches.push(
      `No Access audience lists ${strangers.join(' or ')} among its clients, so tokens made for it are refused.`,
    );
  if (issuer.endsWith('/'))
    hitches.push(
      `psql drops the slash at the end of the issuer: write oauth_issuer with two slashes there, or have the issuer name itself ${issuer.slice(0, -1)}.`,
    );
  if (facts === undefined) return hitches;
  if (login.deviceClientId !== undefined && !facts.deviceFlow)
    hitches.push(
      'The issuer offers no device flow, which psql and logins without a browser need. Turn it on there, or leave deviceClientId out.',
    );
  if (facts.pkce !== undefined && !facts.pkce.includes('S256'))
    hitches.push('The issuer does not take PKCE with S256, which browser logins use. Turn it on there.');
  return hitches;
}

/** Many issuers list the scopes of the standard alone (RFC 8414, 2, leaves it to them): not listed does not mean not there. */
function unlistedScopes({ spec }: IdentityProvider, facts: IssuerFacts | undefined): string {
  const unlisted = (spec.login?.oauthScope ?? '')
    .split(' ')
    .filter((scope) => facts?.scopes !== undefined && !facts.scopes.includes(scope));
  return unlisted.length === 0
    ? ''
    : ` The issuer does not list scope ${unlisted.join(', ')}, and need not; check oauthScope if tokens come without audience or groups.`;
}
