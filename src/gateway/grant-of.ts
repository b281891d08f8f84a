// Which grant somebody who has proven an identity uses: tokens name people, tickets name grants. Pure.
//
// Guarantees: to allow, names are compared octet by octet; a grant is its holder's by uid, by name only where neither side
// has a uid or a delegator named the person, and by the cluster's name for the person only where the IdentityProvider repeats the API server's mapping and
// the grant came through that door. A reused name or e-mail therefore inherits nothing; a renamed uid keeps its grants.
import type { BundleGrant } from '../policy/bundle.ts';
import type { Principal } from '../policy/principal.ts';

/** What the client gave as its user: `reader`, or `reader+orders-db-7fk2p` where somebody has several grants for it. */
export interface LoginName {
  account: string;
  grant?: string;
}

/** Neither accounts nor grants have a plus in their names, so the first one divides. */
export function readLoginName(user: string): LoginName {
  const plus = user.indexOf('+');
  return plus < 0 ? { account: user } : { account: user.slice(0, plus), grant: user.slice(plus + 1) };
}

/** `provider`: name of the IdentityProvider that vouches for them. */
export type Vouched = Principal & { provider?: string | undefined };

/** Whether the grant was given to `who`. Workloads are known by their uid alone. */
export function owns(grant: Pick<BundleGrant, 'principal' | 'via' | 'named'>, who: Vouched): boolean {
  const { principal: holder, via, named } = grant;
  if (holder.uid && who.uid && holder.uid === who.uid) return true;
  if (who.workload !== undefined) return false;
  if (named?.provider !== undefined && named.provider !== who.provider) return false;
  // A delegator knows people by name: no uid is there to be equal.
  if (named !== undefined && !holder.uid && who.username !== '' && holder.username === who.username) return true;
  if (!holder.uid && !who.uid) return who.username !== '' && holder.username === who.username;
  // Locally the daemon's API is what the API server is in a cluster: its users have the names it was told.
  const cluster = via === 'Kubernetes' || via === 'Local';
  return cluster && who.kubernetes !== undefined && who.kubernetes !== '' && holder.username === who.kubernetes;
}

export type GrantChoice =
  | { kind: 'One'; grant: BundleGrant }
  | { kind: 'Several'; grants: readonly BundleGrant[] }
  /** `others`: their grants in force for other accounts, or of other names. */
  | { kind: 'None'; others: readonly BundleGrant[] };

/**
 * The grant of this person that `login` means. `inForce` is asked once a grant; where none is, the one that has yet to
 * begin is given, so that its owner can be told when.
 */
export function grantOf(
  grants: Iterable<BundleGrant>,
  who: Vouched,
  login: LoginName,
  inForce: (grant: BundleGrant) => boolean,
): GrantChoice {
  const current: BundleGrant[] = [];
  const early: BundleGrant[] = [];
  const others: BundleGrant[] = [];
  for (const grant of grants) {
    if (!owns(grant, who)) continue;
    const meant = grant.account === login.account && (login.grant === undefined || grant.name === login.grant);
    const now = inForce(grant);
    if (meant) (now ? current : early).push(grant);
    else if (now) others.push(grant);
  }
  const byName = (a: BundleGrant, b: BundleGrant): number => (a.name < b.name ? -1 : 1);
  const found = current.length > 0 ? current : early.sort((a, b) => a.notBeforeMs - b.notBeforeMs).slice(0, 1);
  if (found.length === 0) return { kind: 'None', others: others.sort(byName) };
  return found.length === 1 ? { kind: 'One', grant: found[0]! } : { kind: 'Several', grants: found.sort(byName) };
}

/**
 * Who is judged by the policy in a session of the grant: named as the grant names them (a rename since changes nothing),
 * in the groups and with the claims that the token says they have now.
 */
export function personIn(grant: BundleGrant, who: Principal): Principal {
  const { principal: holder } = grant;
  const uid = holder.uid || who.uid;
  return {
    username: holder.username,
    ...(uid ? { uid } : {}),
    groups: who.groups,
    aliases: [...new Set([...holder.aliases, who.username, ...who.aliases])],
    ...(who.kubernetes === undefined ? {} : { kubernetes: who.kubernetes }),
    ...(who.workload === undefined ? {} : { workload: who.workload }),
  };
}

/**
 * The same person with every name they are known to have: locks exclude, so they reach whoever any name means, in any
 * group they have or had.
 */
export function personToLock(grant: BundleGrant, who: Principal | undefined, groups: readonly string[]): Principal {
  const { principal: holder } = grant;
  if (who === undefined) return { ...holder, groups: [...new Set([...holder.groups, ...groups])] };
  const names = [who.uid, who.username, who.kubernetes, ...who.aliases].filter((name) => name !== undefined);
  return {
    ...holder,
    aliases: [...new Set([...holder.aliases, ...names])],
    groups: [...new Set([...holder.groups, ...who.groups, ...groups])],
  };
}
