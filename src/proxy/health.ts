// Whether this pod is to be sent clients. Sentences for people, as /readyz prints them. Pure.
//
// Silence of the operator alone makes no pod unready: every pod would go at once, and clients would meet a closed port
// instead of the reason. A pod that is itself cut off from the API server is another matter: others may not be.

export interface HealthFacts {
  draining: boolean;
  /** What is to be served cannot be known: why. */
  replica: string | undefined;
  /** Keys that are not certified. */
  identity: readonly string[];
  /** Why records can not be written; undefined: they can. */
  records: string | undefined;
  /** Whether the tunnel's port is open. */
  tunnel: boolean;
  connections: readonly ConnectionHealth[];
  /** What watches of bundles say of themselves while something is missing. */
  feed: readonly string[];
  /** Why the API server can not be heard now. */
  outOfTouch: string | undefined;
}

export interface ConnectionHealth {
  name: string;
  listening: boolean;
  /** Why no command may run on it now. */
  silent: string | undefined;
  /** Whether commands could run once. */
  wasReady: boolean;
}

export function readinessOf(facts: HealthFacts): { ok: boolean; reasons: readonly string[] } {
  if (facts.draining) return { ok: false, reasons: ['it is shutting down'] };
  const reasons: string[] = [];
  if (facts.replica !== undefined) reasons.push(facts.replica);
  reasons.push(...facts.identity);
  if (facts.records !== undefined) reasons.push(facts.records);
  if (!facts.tunnel) reasons.push('the tunnel is not open yet');
  if (facts.replica === undefined && facts.connections.length === 0)
    reasons.push('the operator has given it no Connection to serve');
  let missing = false;
  for (const { name, listening, silent, wasReady } of facts.connections) {
    if (silent !== undefined && (!wasReady || facts.outOfTouch !== undefined)) {
      reasons.push(`${name}: ${silent}`);
      missing ||= !wasReady;
    }
    if (!listening) reasons.push(`${name}: its port is not open`);
  }
  if (missing) reasons.push(...facts.feed);
  else if (reasons.length > 0 && facts.outOfTouch !== undefined)
    reasons.push(`the API server can not be heard: ${facts.outOfTouch}`);
  return { ok: reasons.length === 0, reasons };
}
