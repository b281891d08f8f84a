// Fields that this version does not act on, here or at all. Whoever relies on one must hear of it: a
// field whose silence would leave more open than its author means makes the policy not accepted; the others are warnings
// of `policy lint` and named in the conditions. Pure. What the gateway enforces (`session.*`) is not here.
import type { Connection } from '../api/connection.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../api/policy.ts';

export interface ReservedField {
  /** JSON pointer. */
  path: string;
  message: string;
  /** What to do instead. */
  hint: string;
}

/** Of a policy that is accepted all the same. */
export function reservedInPolicy(policy: AccessPolicy | ClusterAccessPolicy): ReservedField[] {
  if (policy.kind !== 'AccessPolicy') return [];
  const found: ReservedField[] = [];
  if (policy.spec.review !== undefined)
    found.push({
      path: '/spec/review',
      message: 'this version holds no reviews, so this access does not become stale',
      hint: 'shorten maxDuration, or look it over by hand',
    });
  return found;
}

/** Why a policy can not be accepted: it says that access ends by itself, and it would not. One sentence each. */
export function reservedProblems(policy: AccessPolicy | ClusterAccessPolicy): string[] {
  if (policy.kind !== 'AccessPolicy' || policy.spec.review?.onStale !== 'Deny') return [];
  return [
    'spec.review.onStale: Deny would end access that nobody reviewed, but this version holds no reviews; leave onStale out, and shorten maxDuration',
  ];
}

/** `where`: what the Connection's proxies are. */
export function reservedInConnection({ spec }: Connection, where: 'Local' | 'Cluster' = 'Local'): ReservedField[] {
  const found: ReservedField[] = [];
  const warn = (path: string, message: string, hint = 'leave it out'): void => void found.push({ path, message, hint });
  if (where === 'Cluster') {
    if (spec.postgresql?.tls?.caFile !== undefined)
      warn('/spec/postgresql/tls/caFile', 'in a cluster no file lies beside it', 'write its text into ca');
    return found;
  }
  if (spec.recording?.storeRef !== undefined)
    warn('/spec/recording/storeRef', 'local mode keeps records in its state folder, not in a RecordingStore');
  if (spec.proxy !== undefined) warn('/spec/proxy', 'local mode is one process and has no proxy pods');
  for (const member of ['type', 'annotations', 'sourceRanges'] as const) {
    if (spec.exposure?.[member] !== undefined)
      warn(`/spec/exposure/${member}`, 'local mode listens on loopback only and makes no Service');
  }
  if (spec.networkPolicy !== undefined) warn('/spec/networkPolicy', 'local mode closes no way around the gateway');
  return found;
}

/** For the end of a condition's message: what is there and does nothing; empty if all is acted on. */
export function reservedNote(fields: readonly ReservedField[]): string {
  if (fields.length === 0) return '';
  return ` Not acted on here: ${fields.map(({ path, message }) => `${path.slice(1).replaceAll('/', '.')} (${message})`).join('; ')}.`;
}
