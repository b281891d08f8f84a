// Waits for an object to become what somebody waits for: by watch in a cluster, by looking again on one machine.
import type { Resource } from '../../api/resource.ts';
import type { KindName } from '../../store/resource-store.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../io.ts';

/** Until `goesOn` is false or `mostMs` are over; resolves with the last state seen. Rejects when it is gone. */
export async function waitWhile<R extends Resource<KindName>>(
  context: Context,
  object: R,
  goesOn: (object: R) => boolean,
  mostMs?: number,
): Promise<R> {
  let seen = object;
  if (!goesOn(seen)) return seen;
  const { namespace, name, uid } = object.metadata;
  const over = new AbortController();
  const timer = mostMs === undefined ? undefined : setTimeout(() => over.abort(), mostMs);
  try {
    const signal = AbortSignal.any([context.io.signal, over.signal]);
    for await (const next of context.client.follow<R>(object.kind, namespace, name, signal)) {
      if (next === undefined || next.metadata.uid !== uid)
        throw new CliError(EXIT.failed, `${object.kind} ${name} is gone`);
      seen = next;
      if (!goesOn(seen)) return seen;
    }
    return seen;
  } catch (error) {
    if (over.signal.aborted && !context.io.signal.aborted) return seen;
    throw error;
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}
