// What the portal needs of the Sallyport behind it: a daemon on this machine or a cluster's API server. It may read
// everything, so nothing of it is shown that `concerns.ts` did not let through, and it can write only what carries a
// person's proof.
import type { Resource } from '../api/resource.ts';
import type { TrustedProvider } from '../policy/bundle.ts';
import type { KindName, NewObject } from '../store/resource-store.ts';

export type PortalKind = Extract<
  KindName,
  'Connection' | 'AccessPolicy' | 'AccessGrant' | 'AccessApproval' | 'CommandHold'
>;

export type CreateResult =
  | { kind: 'Made'; object: Resource }
  /** It is there already: the proof was used. */
  | { kind: 'Exists' }
  | { kind: 'Refused'; message: string; hint?: string }
  | { kind: 'Unavailable'; message: string };

export interface LiveSession {
  id: string;
  namespace: string;
  connection: string;
  /** The grant it runs under, by uid: whose it is follows from that. */
  grant: { name: string; uid: string };
  username: string;
  account: string;
  client: string;
  startedAt: string;
  state: string;
  holds: readonly string[];
}

export interface World {
  /** Id of the operator's signing key; acts are bound to it. */
  cluster(): Promise<string>;
  providers(): Promise<readonly TrustedProvider[]>;
  /** Somebody showed a token by a key that this provider is not known to have: it is asked, at most once a minute. */
  unknownKey(provider: string): void;
  /** Of every namespace. */
  list<R extends Resource>(kind: PortalKind): Promise<readonly R[]>;
  get<R extends Resource>(kind: PortalKind, namespace: string, name: string): Promise<R | undefined>;
  sessions(): Promise<readonly LiveSession[]>;
  /** The object's stamp holds the proof alone: who did it follows from that. */
  create(object: NewObject): Promise<CreateResult>;
  /** Calls back after requests, votes or held commands changed. Returns the function that stops it. */
  onChange(listener: () => void): () => void;
  /** Why nothing can be done at present; undefined: it can. */
  trouble(): string | undefined;
  /** How an engineer's commands begin: `sallyport` or `kubectl access`. */
  prefix: string;
}
