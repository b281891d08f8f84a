// Checks and defaults that the compiler's parts share. A check adds one sentence to `problems` and goes on, so that an
// author sees every problem of a policy at once.
import { parseDuration } from '../api/duration.ts';
import type { Subject } from '../api/schema.ts';

/** How long a grant may be at most when its policy does not say. */
export const DEFAULT_MAX_DURATION_MS = 8 * 3_600_000;
/** No grant is longer, whatever its policy says. */
export const LONGEST_GRANT_MS = 30 * 24 * 3_600_000;
/** How long one held command waits when its rule does not say. */
export const DEFAULT_HOLD_TIMEOUT_MS = 60_000;

/** Milliseconds if given and within bounds; a problem otherwise. */
export function bounded(
  field: string,
  text: string | undefined,
  leastMs: number,
  mostMs: number,
  problems: string[],
): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms === undefined) {
    problems.push(`${field}: "${text}" is no duration; write for example 30m or 1h30m`);
    return undefined;
  }
  if (ms < leastMs || ms > mostMs) {
    problems.push(`${field}: ${text} is out of bounds; write ${spell(leastMs)} to ${spell(mostMs)}`);
    return undefined;
  }
  return ms;
}

function spell(ms: number): string {
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  return ms % 60_000 === 0 ? `${ms / 60_000}m` : `${ms / 1000}s`;
}

export function checkUnique(field: string, names: readonly string[], problems: string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) problems.push(`${field} has two entries named "${name}"; give each its own name`);
    seen.add(name);
  }
}

/** A ServiceAccount's namespace written out, so that it means the same wherever the compiled subject is read. */
export function withNamespace(subject: Subject, namespace: string | undefined): Subject {
  if (subject.kind !== 'ServiceAccount' || subject.namespace !== undefined || namespace === undefined) return subject;
  return { ...subject, namespace };
}
