// Verifies JSON Web Tokens (RFC 7519, by the advice of RFC 8725) of the issuers that the installation trusts: whom they
// name, for which use, until when.
//
// Guarantees: a token chooses neither its key nor its algorithm beyond what its issuer published and the provider
// allows; exactly one of its declared uses fits; every call judges time, voidness and nonce anew, though a signature is
// checked once; bounded memory; never throws for any text.
// Does not fetch anything (keys come with the providers) and does not count uses: whoever takes a Workload token or a
// nonce as proof of one act sees to it that there is one.
import { createHash } from 'node:crypto';
import type { CryptoKey } from 'jose';
import type { TokenUse, TrustedJwk, TrustedProvider } from '../../policy/bundle.ts';
import type { Principal } from '../../policy/principal.ts';
import { readClientKey, verifyStrictly } from '../ed25519.ts';
import { audienceOf } from './audiences.ts';
import { type MissingGroups, nameOf } from './names.ts';
import type { JsonObject, JsonValue } from './strict-json.ts';
import type { TokenFault } from './token-fault.ts';
import { readTokenText, type TokenText } from './token-text.ts';

export interface ProvenToken {
  /** Name of the IdentityProvider. */
  provider: string;
  use: TokenUse;
  principal: Principal;
  iatMs: number;
  expMs: number;
  jti?: string;
  sid?: string;
  authTimeMs?: number;
  acr?: string;
  amr?: string[];
  nonce?: string;
  /** The declared audience that it fits. */
  audience: string;
  client?: string;
  /** SHA-256 of what is signed, hex: the same for every spelling of its signature. For counting uses. */
  fingerprint: string;
  /** Why it has no groups, where the provider says which claim has them. */
  missingGroups?: MissingGroups;
  /** Why a pipeline's `ref` was not taken for proof; for people. */
  withheld?: string;
}

export type TokenVerdict =
  | { kind: 'Good'; token: ProvenToken }
  | {
      kind: 'Bad';
      fault: TokenFault;
      /** Name of the IdentityProvider, where the token names its issuer. */
      provider?: string;
      /** The issuer may have new keys: worth fetching them. */
      unknownKid?: boolean;
      /** For the log: what did not fit. Of the sender's making; bounded, one line. Never the token. */
      detail?: string;
    };

export interface TokenCheck {
  providers: readonly TrustedProvider[];
  /** What the token may be used for here. */
  uses: readonly TokenUse[];
  nowMs: number;
  /** The token must carry exactly this one. */
  nonce?: string;
}

/** Longest life of a token: `exp` - `iat`. */
export const TOKEN_LIFETIME_MS = 24 * 3_600_000;
/** Largest skew that is granted, whatever the provider says. */
const MOST_SKEW_MS = 120_000;
const LONGEST_DETAIL = 200;
/** Latest NumericDate, seconds: the year 9999. */
const LAST_SECOND = 253_402_300_799;

type Bad = Extract<TokenVerdict, { kind: 'Bad' }>;

export async function verifyToken(text: string, check: TokenCheck): Promise<TokenVerdict> {
  const reading = readTokenText(text);
  if (reading.kind === 'Bad') return bad(reading.fault, {}, reading.detail);
  const token = reading.text;
  const issuer = token.payload['iss'];
  if (typeof issuer !== 'string') return bad('NoIssuer');
  const providers = check.providers.filter((each) => each.issuer === issuer);
  const [provider] = providers;
  if (provider === undefined) return bad('UnknownIssuer', {}, issuer);
  const whose = { provider: provider.name };
  if (providers.length > 1) return bad('AmbiguousIssuer', whose);
  if (check.nowMs >= provider.keysGoodUntilMs) return bad('KeysTooOld', whose);
  const choice = chooseKey(provider, token);
  if (choice.kind === 'Bad') return { ...choice, ...whose };
  if (!(await isSigned(check.providers, text, token, choice.key))) return bad('Signature', whose);
  const verdict = judge(provider, token, check);
  return verdict.kind === 'Bad' ? { ...verdict, ...whose } : verdict;
}

function bad(fault: TokenFault, more: Partial<Bad> = {}, detail?: string): Bad {
  return { kind: 'Bad', fault, ...more, ...(detail === undefined ? {} : { detail: oneLine(detail) }) };
}

const oneLine = (text: string): string =>
  JSON.stringify(text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '?').slice(0, LONGEST_DETAIL)).slice(1, -1);

// Which key.

const CURVE_OF: Readonly<Record<string, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };

/** Whether a signature of this algorithm can be by this key (RFC 7518, 3.1; RFC 8037; RFC 9864). */
function fits(alg: string, key: TrustedJwk): boolean {
  if (/^(RS|PS)(256|384|512)$/.test(alg)) return key.kty === 'RSA' && (key.alg ?? alg) === alg;
  if (alg === 'EdDSA' || alg === 'Ed25519') {
    return key.kty === 'OKP' && key.crv === 'Ed25519' && ['EdDSA', 'Ed25519'].includes(key.alg ?? alg);
  }
  const curve = Object.hasOwn(CURVE_OF, alg) ? CURVE_OF[alg] : undefined;
  return curve !== undefined && key.kty === 'EC' && key.crv === curve && (key.alg ?? alg) === alg;
}

function chooseKey(provider: TrustedProvider, { alg, kid }: TokenText): { kind: 'Key'; key: TrustedJwk } | Bad {
  const named = kid === undefined ? provider.keys : provider.keys.filter((key) => key.kid === kid);
  if (named.length === 0) return bad('UnknownKey', { unknownKid: true }, kid);
  if (!provider.algorithms.includes(alg)) return bad('AlgorithmNotAllowed', {}, alg);
  const fitting = named.filter((key) => fits(alg, key));
  const [key] = fitting;
  if (key === undefined) return bad('AlgorithmMisfitsKey', {}, alg);
  return fitting.length === 1 ? { kind: 'Key', key } : bad('AmbiguousKey');
}

// The signature, once a token and set of keys.

interface Proven {
  /** Texts (as SHA-256) whose signature was good under a key; oldest first. */
  signed: Map<string, TrustedJwk>;
}
const MOST_PROVEN = 4096;
const provenOf = new WeakMap<readonly TrustedProvider[], Proven>();
const imported = new WeakMap<TrustedJwk, Map<string, Promise<CryptoKey | Uint8Array>>>();

/** How many signatures are remembered for these providers; never more than 4096. */
export function provenCount(providers: readonly TrustedProvider[]): number {
  return provenOf.get(providers)?.signed.size ?? 0;
}

async function isSigned(
  providers: readonly TrustedProvider[],
  text: string,
  token: TokenText,
  key: TrustedJwk,
): Promise<boolean> {
  let proven = provenOf.get(providers);
  if (proven === undefined) {
    proven = { signed: new Map() };
    provenOf.set(providers, proven);
  }
  const hash = createHash('sha256').update(text).digest('base64url');
  if (proven.signed.get(hash) === key) return true;
  if (!(await checkSignature(text, token, key))) return false;
  if (proven.signed.size >= MOST_PROVEN) {
    const [oldest] = proven.signed.keys();
    if (oldest !== undefined) proven.signed.delete(oldest);
  }
  proven.signed.set(hash, key);
  return true;
}

async function checkSignature(
  text: string,
  { alg, signingInput, signature }: TokenText,
  key: TrustedJwk,
): Promise<boolean> {
  try {
    if (key.kty === 'OKP') {
      // Beforehand: that the library refuses low-order points and unreduced scalars is not documented.
      const raw = readClientKey(key.x ?? '');
      if (raw.kind === 'Unusable' || !verifyStrictly(raw.key, Buffer.from(signingInput), signature)) return false;
    }
    // With the first token: a proxy that meets none does without.
    const { compactVerify, importJWK } = await import('jose');
    let byAlgorithm = imported.get(key);
    if (byAlgorithm === undefined) {
      byAlgorithm = new Map();
      imported.set(key, byAlgorithm);
    }
    let ready = byAlgorithm.get(alg);
    if (ready === undefined) {
      ready = importJWK(publicPart(key), alg);
      byAlgorithm.set(alg, ready);
    }
    await compactVerify(text, await ready, { algorithms: [alg] });
    return true;
  } catch {
    return false;
  }
}

/** Only what makes up the key: no `alg`, which one key may have in two spellings. */
function publicPart({ kty, n, e, crv, x, y }: TrustedJwk): Record<string, string> {
  const members = { kty, n, e, crv, x, y };
  return Object.fromEntries(
    Object.entries(members).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

// The claims.

function judge(provider: TrustedProvider, token: TokenText, check: TokenCheck): TokenVerdict {
  const { header, payload } = token;
  const fitted = audienceOf(provider, header, payload, check.uses);
  if (fitted.kind === 'Bad') return bad(fitted.fault, {}, fitted.detail);
  const times = timesOf(payload, check.nowMs, Math.min(provider.skewMs, MOST_SKEW_MS));
  if (typeof times === 'string') return bad(times);
  const { use, audience } = fitted.audience;
  const naming = nameOf(provider, payload, use);
  if (naming.kind === 'Bad') return bad(naming.fault, {}, naming.detail);
  const sid = textOf(payload['sid']);
  if (isVoid(provider, { uid: naming.principal.uid!, ...(sid === undefined ? {} : { sid }), iatMs: times.iatMs })) {
    return bad('Void');
  }
  const nonce = textOf(payload['nonce']);
  if (check.nonce !== undefined && nonce !== check.nonce) return bad('Nonce');
  return {
    kind: 'Good',
    token: {
      provider: provider.name,
      use,
      principal: naming.principal,
      ...times,
      audience,
      fingerprint: createHash('sha256').update(token.signingInput).digest('hex'),
      ...defined({ jti: textOf(payload['jti']), sid, nonce, client: fitted.client }),
      ...defined({
        acr: textOf(payload['acr']),
        amr: amrOf(payload['amr']),
        authTimeMs: momentOf(payload['auth_time']),
      }),
      ...defined({ missingGroups: naming.missingGroups, withheld: naming.withheld }),
    },
  };
}

/** Without the members that are undefined. */
function defined<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function timesOf(payload: JsonObject, nowMs: number, skewMs: number): { iatMs: number; expMs: number } | TokenFault {
  const iatMs = momentOf(payload['iat']);
  const expMs = momentOf(payload['exp']);
  if (iatMs === undefined || expMs === undefined) return 'NoTime';
  if (iatMs > nowMs + skewMs) return 'FromTheFuture';
  if ('nbf' in payload) {
    const nbfMs = momentOf(payload['nbf']);
    if (nbfMs === undefined) return 'NoTime';
    if (nbfMs > nowMs + skewMs) return 'NotYet';
  }
  if (expMs <= nowMs - skewMs) return 'Expired';
  if (expMs <= iatMs || expMs - iatMs > TOKEN_LIFETIME_MS) return 'LivesTooLong';
  return { iatMs, expMs };
}

/** NumericDate (RFC 7519, 2), as milliseconds. */
function momentOf(value: JsonValue | undefined): number | undefined {
  return typeof value === 'number' && value >= 0 && value <= LAST_SECOND ? Math.floor(value * 1000) : undefined;
}

function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= 256 ? value : undefined;
}

/** Means of login, whole or not at all: of half a list nobody knows which half. */
function amrOf(value: JsonValue | undefined): string[] | undefined {
  if (!Array.isArray(value) || value.length > 16) return undefined;
  return value.every((each): each is string => typeof each === 'string' && each.length <= 64) ? value : undefined;
}

/** Whether the token was made before what it stands for was ended. For live sessions too. */
export function isVoid(provider: TrustedProvider, token: { uid: string; sid?: string; iatMs: number }): boolean {
  return provider.void.some(({ uid, sid, beforeMs }) => {
    if (token.iatMs >= beforeMs) return false;
    // A login session's end reaches tokens that do not say of which session they are.
    if (sid !== undefined && token.sid !== undefined) return sid === token.sid;
    return uid === token.uid;
  });
}
