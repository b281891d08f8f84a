// Which Connections a policy is about. Pure.
import type { ConnectionSelector } from '../api/schema.ts';

export interface Selectable {
  namespace: string;
  name: string;
  labels: Readonly<Record<string, string>>;
}

/** Names and labels given are and-ed; names among themselves are or-ed; an empty selector selects every Connection. */
export function selectorMatches(selector: ConnectionSelector, connection: Selectable): boolean {
  if (selector.names !== undefined && !selector.names.includes(connection.name)) return false;
  for (const [label, value] of Object.entries(selector.matchLabels ?? {})) {
    if (!Object.hasOwn(connection.labels, label) || connection.labels[label] !== value) return false;
  }
  return true;
}

/** What a policy of either kind selects. An AccessPolicy never reaches out of its namespace (INV-12). */
export function policySelects(
  policy:
    | { kind: 'AccessPolicy'; namespace: string; selector: ConnectionSelector | undefined }
    | {
        kind: 'ClusterAccessPolicy';
        namespaces: readonly string[] | undefined;
        selector: ConnectionSelector | undefined;
      },
  connection: Selectable,
): boolean {
  if (policy.kind === 'AccessPolicy' && policy.namespace !== connection.namespace) return false;
  if (
    policy.kind === 'ClusterAccessPolicy' &&
    policy.namespaces !== undefined &&
    !policy.namespaces.includes(connection.namespace)
  )
    return false;
  return policy.selector === undefined || selectorMatches(policy.selector, connection);
}
