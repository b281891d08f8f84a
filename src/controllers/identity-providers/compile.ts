// An IdentityProvider as the verifier wants it: defaults filled in, and what could only lead to refusals or confusion said
// in a sentence with the fix. Pure. Guarantees: what compiles has audiences of which no token can fit two uses, a prefix
// that makes no name of the system's, and an issuer and authorities that no older provider claims: a second one takes nothing
// from the people of the first.
import { X509Certificate } from 'node:crypto';
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import { parseDuration } from '../../api/duration.ts';
import { DEFAULT_ALGORITHMS, type IdentityProvider, type IdentityProviderSpec } from '../../api/identity-provider.ts';
import { readAuthorityLine } from '../../identity/ssh-certificates.ts';
import type { TrustedJwk, TrustedProvider } from '../../policy/bundle.ts';

const DEFAULT_SKEW_MS = 30_000;
const MOST_SKEW_MS = 120_000;

/** Keys that are believed, and until when. */
export interface LastGoodKeys {
  /** Where they came from: keys of another issuer, or from under another CA, are not kept over a change. */
  from: string;
  keys: TrustedJwk[];
  fetchedAtMs: number;
  goodUntilMs: number;
}

type Audience = IdentityProviderSpec['audiences'][number];

/** Of the issuer and the CA: what an answer's truth hangs on. */
export function sourceOf(spec: IdentityProviderSpec): string {
  return sha256Hex(canonicalJson({ issuer: spec.issuer, caBundle: spec.caBundle ?? null })).slice(0, 32);
}

/** Fills in what is left out. `keys` undefined: none is believed, so no token is. */
export function compileProvider(
  { metadata, spec }: Pick<IdentityProvider, 'metadata' | 'spec'>,
  keys: LastGoodKeys | undefined,
): TrustedProvider {
  const { claims = {}, prefix = {}, kubernetes, login, ssh } = spec;
  return {
    name: metadata.name,
    issuer: spec.issuer,
    algorithms: [...(spec.algorithms ?? DEFAULT_ALGORITHMS)],
    keys: keys?.keys ?? [],
    keysGoodUntilMs: keys?.goodUntilMs ?? 0,
    ...(keys === undefined ? {} : { keysFrom: keys.from }),
    skewMs: skewOf(spec) ?? DEFAULT_SKEW_MS,
    audiences: spec.audiences.map((audience) => ({
      audience: audience.audience,
      use: audience.use,
      clients: audience.clients ?? [],
      types: typesOf(audience),
      marks: audience.marks ?? {},
    })),
    claims: {
      uid: claims.uid ?? 'sub',
      username: claims.username ?? 'sub',
      ...(claims.groups === undefined ? {} : { groups: claims.groups }),
      ...(claims.email === undefined ? {} : { email: claims.email }),
      workload: claims.workload ?? [],
    },
    prefix: {
      username: prefix.username ?? `${metadata.name}:`,
      groups: prefix.groups ?? `${metadata.name}:`,
    },
    ...(kubernetes === undefined ? {} : { kubernetes: { ...kubernetes } }),
    ...(login === undefined ? {} : { login: { scope: login.oauthScope } }),
    ...(ssh === undefined
      ? {}
      : { ssh: { userAuthorities: authoritiesOf(spec), principals: ssh.principals ?? 'Username' } }),
    void: [],
  };
}

/** Each key once; lines that are none are told by `specProblem`. */
const authoritiesOf = ({ ssh }: IdentityProviderSpec): string[] => [
  ...new Set((ssh?.userAuthorities ?? []).flatMap((line) => readAuthorityLine(line) ?? [])),
];

const typesOf = ({ use, types, marks }: Audience): string[] =>
  types ?? (use === 'Access' && marks === undefined ? ['at+jwt'] : []);

function skewOf(spec: IdentityProviderSpec): number | undefined {
  return spec.clockSkew === undefined ? undefined : parseDuration(spec.clockSkew);
}

/** Why the provider can not be used, with what to write instead; undefined: it can. `others`: all that there are. */
export function specProblem(provider: IdentityProvider, others: readonly IdentityProvider[]): string | undefined {
  const { spec } = provider;
  const first = oldest(others.filter((each) => each.spec.issuer === spec.issuer));
  if (first !== undefined && isBefore(first, provider))
    return `Issuer ${spec.issuer} is that of ${first.metadata.name}, which came first and so alone counts: of two, whose rules hold for a token could not be told. Keep one.`;
  if (!isIssuer(spec.issuer)) return `${spec.issuer} is no https address. Write issuer as the tokens spell it in iss.`;
  if (spec.caBundle !== undefined && !isCertificates(spec.caBundle))
    return 'caBundle holds no certificate that can be read. Write PEM: -----BEGIN CERTIFICATE-----.';
  const skew = skewOf(spec);
  if (skew !== undefined && skew > MOST_SKEW_MS)
    return `clockSkew ${spec.clockSkew} is more than 120s: tokens would live on long after their end. Set the clocks right.`;
  const { username = '', groups = '' } = spec.prefix ?? {};
  const reserved = [username, groups].find((each) => each.toLowerCase().startsWith('system:'));
  if (reserved !== undefined) return `Prefix ${reserved} is the cluster’s own. Write another.`;
  return audienceProblem(spec.audiences) ?? authorityProblem(provider, others);
}

function authorityProblem(provider: IdentityProvider, others: readonly IdentityProvider[]): string | undefined {
  const { spec } = provider;
  const bad = spec.ssh?.userAuthorities.findIndex((line) => readAuthorityLine(line) === undefined) ?? -1;
  if (bad >= 0)
    return `ssh.userAuthorities[${bad}] is no public key. Write the line of the authority’s .pub file, without options in front.`;
  const first = oldest(sharingAuthority(provider, others));
  return first === undefined || !isBefore(first, provider)
    ? undefined
    : `An authority of ssh.userAuthorities is listed by ${first.metadata.name}, which came first, so this one is not used: whose people its certificates name could not be told. Keep one.`;
}

function sharingAuthority(
  { spec, metadata }: IdentityProvider,
  others: readonly IdentityProvider[],
): IdentityProvider[] {
  const own = authoritiesOf(spec);
  return others.filter(
    (each) => each.metadata.name !== metadata.name && authoritiesOf(each.spec).some((key) => own.includes(key)),
  );
}

/** By when they were made, of one second by name: the same whoever looks, and nothing that an author can write. */
function isBefore({ metadata: a }: IdentityProvider, { metadata: b }: IdentityProvider): boolean {
  const [made, than] = [Date.parse(a.creationTimestamp), Date.parse(b.creationTimestamp)];
  return made === than ? a.name < b.name : made < than;
}

const oldest = (providers: readonly IdentityProvider[]): IdentityProvider | undefined =>
  providers.reduce<IdentityProvider | undefined>(
    (first, each) => (first === undefined || isBefore(each, first) ? each : first),
    undefined,
  );

/** What works but is seldom meant; empty where there is nothing to say. `others`: all that there are. */
export function specNote(provider: IdentityProvider, others: readonly IdentityProvider[]): string {
  const { spec, metadata } = provider;
  const rest = others.filter((each) => each.metadata.name !== metadata.name);
  const names = (some: readonly IdentityProvider[]): string => some.map((each) => each.metadata.name).join(', ');
  const twins = rest.filter(
    (each) => each.spec.issuer === spec.issuer || sharingAuthority(provider, [each]).length > 0,
  );
  const own = compileProvider(provider, undefined).prefix;
  const sharing = rest
    .filter((each) => !twins.includes(each))
    .filter((each) => {
      const { username, groups } = compileProvider(each, undefined).prefix;
      return username === own.username || groups === own.groups;
    });
  return [
    twins.length === 0
      ? ''
      : ` ${names(twins)}, which came later with the same issuer or authority, is not used. Keep one.`,
    sharing.length === 0
      ? ''
      : ` It shares a prefix with ${names(sharing)}: to policies a name or group of one is the same as the other’s, so each issuer can make members of the other’s groups.`,
  ].join('');
}

function audienceProblem(audiences: readonly Audience[]): string | undefined {
  for (const [index, one] of audiences.entries()) {
    if (one.use === 'Access' && (one.types?.includes('jwt') ?? false) && one.marks === undefined)
      return `Audience ${one.audience}: access tokens of type jwt can not be told from ID tokens. Add marks: a claim that only access tokens have, such as typ: Bearer.`;
    for (const other of audiences.slice(index + 1)) {
      if (one.audience !== other.audience) continue;
      if (one.use === other.use) return `Audience ${one.audience} is listed twice for ${one.use}. Merge the two.`;
      if (!apart(one, other))
        return `Audience ${one.audience} is for ${one.use} and for ${other.use}, and a token could be both. Have the issuer give access tokens an audience of their own, or tell the two apart by types or by a mark with two values.`;
    }
  }
  return undefined;
}

/** Whether no token can fit both. */
function apart(one: Audience, other: Audience): boolean {
  const types = [one, other].map((each) => {
    const listed = typesOf(each);
    return listed.length === 0 ? ['jwt'] : listed;
  });
  if (!types[0]!.some((type) => types[1]!.includes(type))) return true;
  return Object.entries(one.marks ?? {}).some(([claim, value]) => (other.marks?.[claim] ?? value) !== value);
}

function isIssuer(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url?.protocol === 'https:' && url.username === '' && url.search === '' && url.hash === '';
}

function isCertificates(pem: string): boolean {
  const parts = pem.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g) ?? [];
  try {
    return parts.length > 0 && parts.every((part) => new X509Certificate(part).subject !== '');
  } catch {
    return false;
  }
}
