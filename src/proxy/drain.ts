// How long a stopping proxy lets sessions end by themselves. Pure.
import type { Connection } from '../api/connection.ts';
import { parseDuration } from '../api/duration.ts';

const DEFAULT_DRAIN_MS = 30_000;

/**
 * The longest of what is served, where each that says nothing asks for the default; as the operator reckons the pod's grace
 * period, which a longer drain would run into. Milliseconds.
 */
export function longestDrainMs(connections: readonly Pick<Connection, 'spec'>[]): number {
  if (connections.length === 0) return DEFAULT_DRAIN_MS;
  return Math.max(...connections.map(({ spec }) => parseDuration(spec.proxy?.drainTimeout ?? '') ?? DEFAULT_DRAIN_MS));
}
