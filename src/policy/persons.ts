// Whether two identities are one person, for rules that exclude: nobody approves their own request, nobody votes
// twice, a lock reaches whoever it names. Generous on purpose: any shared uid, name, alias or e-mail is enough, compared
// after compatibility normalisation and case folding. Never used to allow anything (see subjects.ts for that).

/** Principals and stamps both fit. */
export interface Identity {
  username: string;
  uid?: string | undefined;
  aliases?: readonly string[] | undefined;
  /** Name in the cluster: here one more name of theirs. */
  kubernetes?: string | undefined;
}

/**
 * The form in which identifiers are compared: Unicode NFKC, invisible characters dropped, case folded.
 * Empty for what holds nothing to compare.
 */
export function foldIdentifier(text: string): string {
  return text
    .normalize('NFKC')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .toUpperCase()
    .toLowerCase()
    .normalize('NFKC')
    .trim();
}

/** Every folded identifier of somebody; a provider's prefix before an e-mail address is left off as well. */
export function identifiersOf(identity: Identity): Set<string> {
  const found = new Set<string>();
  for (const raw of [identity.uid, identity.username, identity.kubernetes, ...(identity.aliases ?? [])]) {
    if (raw === undefined) continue;
    const folded = foldIdentifier(raw);
    if (folded === '') continue;
    found.add(folded);
    const colon = folded.lastIndexOf(':');
    const bare = folded.slice(colon + 1);
    if (colon >= 0 && /^[^@]+@[^@]+$/.test(bare)) found.add(bare);
  }
  return found;
}

function intersects(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  for (const item of a) if (b.has(item)) return true;
  return false;
}

/** Whether two identities share any identifier. An identity with none is nobody's, not even its own. */
export function samePerson(a: Identity, b: Identity): boolean {
  return intersects(identifiersOf(a), identifiersOf(b));
}

/** Whether `name`, as an administrator typed it, means this person by any identifier. For locks. */
export function namesPerson(name: string, identity: Identity): boolean {
  return samePerson({ username: name }, identity);
}

/**
 * A number for each identity, equal for those that are one person: sharing an identifier is transitive, so A and C are
 * one when both share with B.
 */
export function groupPersons(identities: readonly Identity[]): number[] {
  const parent = identities.map((_, index) => index);
  const root = (index: number): number => {
    let at = index;
    while (parent[at] !== at) at = parent[at] = parent[parent[at]!]!;
    return at;
  };
  const owner = new Map<string, number>();
  identities.forEach((identity, index) => {
    for (const identifier of identifiersOf(identity)) {
      const first = owner.get(identifier);
      if (first === undefined) owner.set(identifier, index);
      else parent[root(index)] = root(first);
    }
  });
  return identities.map((_, index) => root(index));
}

/**
 * Whether `candidate` is one of `barred` (requester, beneficiary, robot), directly or through anybody in `others`
 * (all voters): the exclusion of INV-08.
 */
export function excluded(candidate: Identity, barred: readonly Identity[], others: readonly Identity[] = []): boolean {
  const groups = groupPersons([candidate, ...barred, ...others]);
  return barred.some((_, index) => groups[index + 1] === groups[0]);
}
