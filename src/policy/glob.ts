// The one wildcard of the policy language: `*` stands for any run of characters, the empty one included. Linear in
// pattern x text at worst (no regular expression, so no catastrophic pattern can be written in a policy).

/** Whether `text` as a whole matches `pattern`. Exact octets; callers fold case where their protocol does. */
export function globMatches(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.length && pattern[p] === text[t]) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.length && pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Whether whatever matches `inner` also matches `outer`: sound, since a `*` of `inner` is met only by a `*` of `outer`. */
export function globCovers(outer: string, inner: string): boolean {
  return globMatches(outer, inner);
}

/** A pattern prepared once: the common forms (`x`, `*`, `x*`, `*x`) cost one comparison. */
export function compileGlob(pattern: string): (text: string) => boolean {
  const first = pattern.indexOf('*');
  if (first < 0) return (text) => text === pattern;
  if (pattern === '*') return () => true;
  if (first === pattern.length - 1) {
    const prefix = pattern.slice(0, -1);
    return (text) => text.startsWith(prefix);
  }
  if (first === 0 && pattern.indexOf('*', 1) < 0) {
    const suffix = pattern.slice(1);
    return (text) => text.endsWith(suffix);
  }
  return (text) => globMatches(pattern, text);
}
