// Somebody's login at this place, as the verbs use it: which grants are theirs by it, and a token that is good now.
import type { AccessGrant } from '../../api/grant.ts';
import type { Context } from '../context.ts';
import { placeOf } from './settings.ts';
import { type LoginFacts, loginStore } from './store.ts';

export interface FreshToken {
  token: string;
  obtainedAtMs: number;
  expiresAtMs: number;
}

export interface Person extends LoginFacts {
  id: string;
  /** Good for a while; `obtainedAfterMs`: handed out after then, if the provider can be asked again already. */
  fresh(options: { obtainedAfterMs?: number; signal: AbortSignal }): Promise<FreshToken>;
}

/** The latest login at this place; undefined: there is none. */
export async function personHere(context: Context): Promise<Person | undefined> {
  const store = loginStore(context.home, context.io);
  const all = store.list();
  if (all.length === 0) return undefined;
  const place = await placeOf(context, {});
  const [latest] = all.filter((each) => each.place === place).sort((a, b) => b.loggedInAtMs - a.loggedInAtMs);
  if (latest === undefined) return undefined;
  return {
    ...latest,
    async fresh({ obtainedAfterMs, signal }) {
      // Only here is anything asked of a provider; other verbs start without its client.
      const { freshLogin } = await import('./tokens.ts');
      const { tokens } = await freshLogin(store, latest.id, {
        signal,
        nowMs: () => context.now(),
        ...(obtainedAfterMs === undefined ? {} : { obtainedAfterMs }),
      });
      return { token: tokens.access, obtainedAtMs: tokens.obtainedAtMs, expiresAtMs: tokens.expiresAtMs };
    },
  };
}

/**
 * Whether the gateway will take this person's token for the grant, as far as can be told here: by uid, by the cluster's
 * name where the provider maps it, or as its beneficiary.
 */
export function isTheirs(grant: AccessGrant, person: Pick<LoginFacts, 'who' | 'provider'>): boolean {
  const { requester, beneficiary } = grant.spec;
  const { uid, username, kubernetes } = person.who;
  if (beneficiary !== undefined) {
    return (
      (beneficiary.provider !== undefined &&
        beneficiary.provider === person.provider &&
        beneficiary.name === username) ||
      (beneficiary.provider === undefined && kubernetes !== undefined && beneficiary.name === kubernetes)
    );
  }
  if (requester === undefined) return false;
  if (requester.uid !== undefined && requester.uid === uid) return true;
  const cluster = requester.via === 'Kubernetes' || requester.via === 'Local';
  return cluster && kubernetes !== undefined && requester.username === kubernetes;
}
