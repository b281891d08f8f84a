// metav1.Condition, kept as Kubernetes keeps it: the transition time moves only when the status does.
import type { Condition } from '../api/schema.ts';

export function withCondition(
  conditions: readonly Condition[] | undefined,
  next: Omit<Condition, 'lastTransitionTime'>,
  nowMs: number,
): Condition[] {
  const known = conditions?.find((condition) => condition.type === next.type);
  const lastTransitionTime =
    known !== undefined && known.status === next.status ? known.lastTransitionTime : rfc3339(nowMs);
  const condition: Condition = { ...next, lastTransitionTime };
  if (known === undefined) return [...(conditions ?? []), condition];
  return conditions!.map((other) => (other.type === next.type ? condition : other));
}

export function conditionIs(
  conditions: readonly Condition[] | undefined,
  type: string,
  status: Condition['status'],
): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === status) ?? false;
}

/** RFC 3339 in UTC; milliseconds are kept only where there are some. */
export function rfc3339(ms: number): string {
  const text = new Date(ms).toISOString();
  return ms % 1000 === 0 ? text.replace('.000Z', 'Z') : text;
}
