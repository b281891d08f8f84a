// How a proven payload becomes a principal. Pure. Guarantees: no name that Kubernetes keeps for itself, that a person
// would read as another, or that a stamp can not hold whole; groups are those that the token lists, or none; what may
// only exclude (e-mail, names elsewhere) stands among the aliases and nowhere else.
import type { TokenUse, TrustedProvider } from '../../policy/bundle.ts';
import type { Principal } from '../../policy/principal.ts';
import { isJsonObject, type JsonObject, type JsonValue } from './strict-json.ts';
import type { TokenFault } from './token-fault.ts';
import { actorsOf, claimText, isForeignJob, workloadClaims } from './workload-claims.ts';

/** Why a token has no groups, where the provider names a claim for them. */
export type MissingGroups = 'Absent' | 'NotAList' | 'Overage' | 'TooMany';

export type Naming =
  | { kind: 'Good'; principal: Principal; missingGroups?: MissingGroups; withheld?: string }
  | { kind: 'Bad'; fault: TokenFault; detail?: string };

/** Bounds of a stamp (api/schema.ts): a name that it can not hold is refused, never cut short. */
const LONGEST_NAME = 512;
const LONGEST_UID = 256;
const MOST_GROUPS = 512;
const MOST_ALIASES = 16;

/** Control and format characters (among them all that change the direction of text), line ends, halves of pairs. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const ALL_UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const SERVICE_ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

export function nameOf(provider: TrustedProvider, payload: JsonObject, use: TokenUse): Naming {
  const { claims, prefix, kubernetes } = provider;
  const sub = payload['sub'];
  if (typeof sub !== 'string' || sub === '') return { kind: 'Bad', fault: 'NoSubject' };
  const id = claims.uid === 'sub' ? sub : claimText(payload[claims.uid]);
  const uid = `${provider.issuer} ${id}`;
  if (id === undefined || id === '' || UNSEEN.test(id) || uid.length > LONGEST_UID) {
    return { kind: 'Bad', fault: 'NoUid', detail: claims.uid };
  }
  const bare = payload[claims.username];
  if (typeof bare !== 'string' || bare === '') return { kind: 'Bad', fault: 'NoUsername', detail: claims.username };
  if (!isProvenClaim(claims.username, payload, claims.email)) return { kind: 'Bad', fault: 'UnverifiedEmail' };
  const ownAccount = use === 'Workload' && isOwnServiceAccount(provider, payload);
  const username = prefix.username + bare;
  if (!isGoodName(username) && !(ownAccount && username === sub)) {
    return { kind: 'Bad', fault: 'ForbiddenName', detail: claims.username };
  }

  const elsewhere = kubernetes === undefined ? undefined : payload[kubernetes.claim];
  let inCluster: string | undefined;
  if (kubernetes !== undefined && typeof elsewhere === 'string' && elsewhere !== '') {
    inCluster = kubernetes.prefix + elsewhere;
    if (!isGoodName(inCluster) && !(ownAccount && inCluster === sub)) {
      return { kind: 'Bad', fault: 'ForbiddenName', detail: kubernetes.claim };
    }
  }
  const mayActInCluster = kubernetes !== undefined && isProvenClaim(kubernetes.claim, payload, claims.email);

  if (use === 'Workload' && isForeignJob(payload)) return { kind: 'Bad', fault: 'ForeignJob' };
  const workload = use === 'Workload' ? workloadClaims(payload, claims.workload) : undefined;
  const groups = groupsOf(provider, payload);
  const email = claims.email === undefined ? undefined : payload[claims.email];
  const aliases = aliasesOf(username, [
    bare,
    typeof email === 'string' ? email : '',
    inCluster ?? '',
    ...(use === 'Workload' ? actorsOf(payload) : []),
  ]);
  return {
    kind: 'Good',
    principal: {
      username,
      uid,
      groups: groups.groups,
      aliases,
      ...(inCluster !== undefined && mayActInCluster ? { kubernetes: inCluster } : {}),
      ...(workload === undefined ? {} : { workload: { provider: provider.name, claims: workload.claims } }),
    },
    ...(groups.missing === undefined ? {} : { missingGroups: groups.missing }),
    ...(workload?.withheld === undefined ? {} : { withheld: workload.withheld }),
  };
}

/** An e-mail address names somebody only where the issuer says, as a boolean, that it is theirs. */
function isProvenClaim(claim: string, payload: JsonObject, emailClaim: string | undefined): boolean {
  return (claim !== 'email' && claim !== emailClaim) || payload['email_verified'] === true;
}

/** Whether a name may be somebody's: whole, visible, and none of the cluster's own. */
export function isGoodName(name: string): boolean {
  return (
    name.length <= LONGEST_NAME &&
    !name.toLowerCase().startsWith('system:') &&
    !UNSEEN.test(name) &&
    name === name.normalize('NFC')
  );
}

/**
 * The cluster's own ServiceAccounts alone may bear a name of the system: the provider says that it repeats the API
 * server's names as they are, and the token says of which account it is a second time.
 */
function isOwnServiceAccount({ claims, prefix, kubernetes }: TrustedProvider, payload: JsonObject): boolean {
  const own =
    claims.username === 'sub' && prefix.username === '' && kubernetes?.claim === 'sub' && kubernetes.prefix === '';
  const sub = payload['sub'];
  const match = own && typeof sub === 'string' ? SERVICE_ACCOUNT.exec(sub) : null;
  const details = payload['kubernetes.io'];
  if (match === null || !isJsonObject(details) || UNSEEN.test(match[0])) return false;
  const account = details['serviceaccount'];
  return details['namespace'] === match[1] && isJsonObject(account) && account['name'] === match[2];
}

function groupsOf(
  { claims, prefix }: TrustedProvider,
  payload: JsonObject,
): { groups: string[]; missing?: MissingGroups } {
  if (claims.groups === undefined) return { groups: [] };
  // Too many for the token: the issuer says where to ask for them, and the list, if there is one, is not whole.
  if (payload['hasgroups'] !== undefined || namesElsewhere(payload['_claim_names'], claims.groups)) {
    return { groups: [], missing: 'Overage' };
  }
  const list = payload[claims.groups];
  if (list === undefined || list === null) return { groups: [], missing: 'Absent' };
  if (!Array.isArray(list) || !list.every((each): each is string => typeof each === 'string')) {
    return { groups: [], missing: 'NotAList' };
  }
  if (list.length > MOST_GROUPS) return { groups: [], missing: 'TooMany' };
  const groups = list.filter((each) => each !== '').map((each) => prefix.groups + each);
  return { groups: [...new Set(groups.filter(isGoodName))] };
}

function namesElsewhere(names: JsonValue | undefined, claim: string): boolean {
  if (names === undefined) return false;
  return !isJsonObject(names) || claim in names || 'groups' in names;
}

/** Made comparable rather than refused: they only exclude. */
function aliasesOf(username: string, names: readonly string[]): string[] {
  const seen = names.map((name) => name.replace(ALL_UNSEEN, '').slice(0, LONGEST_NAME));
  return [...new Set(seen)].filter((name) => name !== '' && name !== username).slice(0, MOST_ALIASES);
}
