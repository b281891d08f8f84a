// Name patterns of policies: `schema.table.column` and `schema.function`, with `*` for any run of characters. Matching is
// generous: letter case does not count and `*` crosses dots, because a mask that misses is worse than one that hits too much.

/** Linear-time wildcard match (no regular expression, so no backtracking to exploit). Both sides are folded. */
export function matchesPattern(pattern: string, text: string): boolean {
  return matchesFolded(pattern.toLowerCase(), text.toLowerCase());
}

/** The same for a pattern and a text in lower case already. */
export function matchesFolded(p: string, t: string): boolean {
  let i = 0;
  let j = 0;
  let star = -1;
  let resume = 0;
  while (j < t.length) {
    if (i < p.length && p[i] !== '*' && p[i] === t[j]) {
      i += 1;
      j += 1;
    } else if (i < p.length && p[i] === '*') {
      star = i;
      resume = j;
      i += 1;
    } else if (star >= 0) {
      resume += 1;
      j = resume;
      i = star + 1;
    } else {
      return false;
    }
  }
  while (i < p.length && p[i] === '*') i += 1;
  return i === p.length;
}

/** Fills in the leading parts a pattern leaves out: `cards.number` means `*.cards.number`. */
export function completePattern(pattern: string, parts: number): string {
  const given = pattern.split('.').length;
  return given >= parts ? pattern : `${'*.'.repeat(parts - given)}${pattern}`;
}

/**
 * The form in which names are compared: two spellings that some server, in whatever encoding, takes for one identifier
 * have the same key. Servers cut names to 63 bytes, at places that depend on their encoding, and in single-byte
 * encodings fold more letters than ASCII. Different names may share a key; then both are meant.
 */
export function nameKey(name: string): string {
  const plain = PLAIN.test(name);
  if (plain && name.length < 60) return name;
  const bytes = Buffer.from(name);
  // Cut first: folding may change the length.
  const kept = bytes.length < 60 ? name : bytes.toString('utf8', 0, 56);
  return plain ? kept : kept.toLowerCase();
}
const PLAIN = /^[\x20-\x7e]*$/;
