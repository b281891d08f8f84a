// What is said of a refused token: the cause to the log, one sentence to whoever sent it. Guarantees: the sentence is
// the same for every cause, so that it helps nobody to make a better forgery; neither holds anything of the token's text.
import type { MissingGroups } from './names.ts';
import type { TokenFault } from './token-fault.ts';
import type { ProvenToken, TokenVerdict } from './verify-token.ts';

export const CAUSES: Readonly<Record<TokenFault, string>> = {
  TooLarge: 'it is larger than 16 KiB',
  Encrypted: 'it is encrypted (JWE); only signed tokens are taken',
  NotThreeParts: 'it does not have the three parts of a signed token',
  NotBase64Url: 'a part of it is not base64url in its one spelling',
  BadHeader: 'its header is not a strict JSON object with alg, kid and typ as text',
  BadPayload: 'its payload is not a strict JSON object (a member twice, bytes after it, nesting, bad UTF-8)',
  HeaderParameter: 'its header brings a key of its own or asks for special processing',
  AlgorithmNone: 'it is not signed (alg none)',
  AlgorithmSymmetric: 'its algorithm is symmetric (HS…), by which a public key would serve as secret',
  NoIssuer: 'it names no issuer (iss)',
  UnknownIssuer:
    'no IdentityProvider has its issuer, octet by octet: compare iss with spec.issuer, slash at the end included',
  AmbiguousIssuer: 'two IdentityProviders have its issuer: remove one',
  KeysTooOld: 'the keys of its issuer could not be fetched for too long: see the conditions of the IdentityProvider',
  UnknownKey: 'its issuer published no key by its kid: either it is forged, or keys were changed a moment ago',
  AmbiguousKey: 'it names no key (kid) and several keys of its issuer fit',
  AlgorithmNotAllowed: 'its algorithm is not among those of the IdentityProvider: see spec.algorithms',
  AlgorithmMisfitsKey: 'its algorithm does not fit the key that it names',
  Signature: 'its signature is not good',
  LogoutToken: 'it is a logout token or security event, not a login',
  RefreshToken: 'it is a refresh token: send the access token',
  BoundToKey: 'it is bound to a key of its owner (cnf), which nothing here can check',
  Delegated: 'it speaks for somebody else (act)',
  Audience: 'its audience is not declared: see spec.audiences of the IdentityProvider',
  Use: 'it is a good token of another kind than is taken here',
  AmbiguousUse: 'it fits two declared uses: give the audiences types or marks that tell them apart',
  Client: 'it was not made for a client of its audience (azp, client_id)',
  Type: 'its header has another type (typ) than its audience declares',
  Mark: 'it does not carry the marks of its audience',
  HashOfAnother:
    'it has a hash of another token (at_hash, c_hash), as ID tokens alone do: send the access token; an issuer whose access tokens look so (Dex) can not log anybody in to targets',
  NoTime: 'it lacks iat or exp, or one of them (or nbf) is no moment',
  FromTheFuture: 'it was made in the future (iat): compare the clocks',
  NotYet: 'it is not good yet (nbf)',
  Expired: 'it is over (exp)',
  LivesTooLong: 'it is good for more than 24 hours, or for no time at all: have the issuer make shorter ones',
  Void: 'its login was ended',
  Nonce: 'it was made for another act than this (nonce)',
  NoSubject: 'it lacks sub',
  NoUid: 'the claim that is the uid is missing, or longer than can be kept',
  NoUsername: 'the claim that is the username is missing or no text',
  UnverifiedEmail: 'its e-mail address is the username and email_verified is not true',
  ForbiddenName: 'a mapped name begins with system:, has characters that are not seen, is not in NFC or too long',
  ForeignJob: 'the job runs in another project than it names (a merge request from a fork)',
};

/** For the log. `detail` is the sender's text: bounded, on one line. */
export function causeOf({ fault, provider, detail }: Extract<TokenVerdict, { kind: 'Bad' }>): string {
  const whose = provider === undefined ? 'A token' : `A token of ${provider}`;
  return `${whose} was refused (${fault}): ${CAUSES[fault]}${detail === undefined ? '' : ` [${detail}]`}`;
}

/** For the sender, whatever the cause. Callers add the id under which the log has it, and what to do in their protocol. */
export const TOKEN_REFUSED =
  'Sallyport does not take this token. Log in again; the log says why under the id of this refusal.';

const MISSING_GROUPS: Readonly<Record<MissingGroups, string>> = {
  Absent: 'the claim that its IdentityProvider names for groups is not in it',
  NotAList: 'the claim that its IdentityProvider names for groups is no list of texts',
  Overage: 'the issuer had more groups than it puts into a token: have it list those of this application alone',
  TooMany: 'there are more groups in it than are taken: have the issuer list those of this application alone',
};

/** What a good token does not give its owner, who may be told; undefined: nothing is amiss. */
export function lackOf({
  missingGroups,
  withheld,
}: Pick<ProvenToken, 'missingGroups' | 'withheld'>): string | undefined {
  const lacks = [
    ...(missingGroups === undefined ? [] : [`The token brings no groups: ${MISSING_GROUPS[missingGroups]}.`]),
    ...(withheld === undefined ? [] : [`Its ref does not count: ${withheld}.`]),
  ];
  return lacks.length === 0 ? undefined : lacks.join(' ');
}
