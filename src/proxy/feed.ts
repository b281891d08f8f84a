// The gateway's bundle feed over the Kubernetes API: one watch for each EnforcementBundle by its name (more than names
// RBAC does not give a proxy), one for the operator's heartbeat, one for the keys of issuers, one for the AccessGrants of
// the namespace.
//
// Guarantees: without the API what was told stands, and whatever changed meanwhile is told once it is back, deletions
// too (INV-10); a grant that was denied, revoked or deleted ends unsigned (INV-03); objects are not kept, only their names
// and versions. Does not: believe or order anything. That is the gateway's bundle store.

import type { EnforcementBundle } from '../api/bundle-object.ts';
import type { AccessGrant } from '../api/grant.ts';
import { API_GROUP, API_VERSION } from '../api/group.ts';
import type { ProxyReplicaStatus } from '../api/replica.ts';
import type { LogLine } from '../gateway/observer.ts';
import type { BundleFeed, FeedEvent } from '../gateway/ports.ts';
import type { KubeClient } from '../kube/client.ts';
import { resourcePath } from '../kube/paths.ts';
import { type Reflector, startReflector } from '../kube/reflector.ts';
import { EVERY_CONNECTION, type ShardEnvelope } from '../policy/bundle.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';

export const HEARTBEAT = 'heartbeat';
/** What tokens are verified by. */
export const IDENTITY = 'identity';

type Served = NonNullable<ProxyReplicaStatus['connections']>;

export interface KubeFeed extends BundleFeed {
  /** What is to be served from now on. What is no longer listed is told to be gone. */
  serve(connections: Served): void;
  serves(connectionUid: string): boolean;
  /** Shards of the Connection that there are, told and not gone. */
  shards(connectionUid: string): ReadonlySet<string>;
  /** Resolves when all that is to be served, the heartbeat and the grants were listed once. */
  listed(): Promise<void>;
  /** Sentences: what is not listed yet, or can not be read. */
  problems(): string[];
  /** Why the API server can not be heard now; undefined: it can. */
  outOfTouch(): string | undefined;
  stop(): Promise<void>;
}

export interface FeedOptions {
  client: KubeClient;
  namespace: string;
  operatorNamespace: string;
  clock: Clock;
  random: Random;
  log: LogLine;
}

const bundles = { group: API_GROUP, version: API_VERSION, plural: 'enforcementbundles' };
const grants = { group: API_GROUP, version: API_VERSION, plural: 'accessgrants' };
/** An end of a grant must not wait long for an API server that is back. */
const BACKOFF = { firstMs: 200, longestMs: 5_000 };

/** Subscribe once; watching begins then. */
export function createKubeFeed(options: FeedOptions): KubeFeed {
  const { client, clock, random, log } = options;
  const common = { client, clock, random, log, backoff: BACKOFF };
  const connections = new Map<string, { name: string; watches: Map<string, Watch>; shards: Set<string> }>();
  const stopping = new Set<Promise<void>>();
  let tell: ((event: FeedEvent) => void) | undefined;
  let wanted: Served = [];
  let heartbeat: Watch | undefined;
  /** Not waited for: without it nobody logs in by token, and that is all. */
  let identity: Watch | undefined;
  let ends: Reflector<AccessGrant> | undefined;
  const waiting = new Set<() => void>();

  interface Watch {
    reflector: Reflector<EnforcementBundle>;
    /** Late events of a watch that is stopped are nobody's. */
    live: boolean;
  }

  function follow(namespace: string, name: string, uid: string, shard: string): Watch {
    let told = false;
    const watch: Watch = {
      live: true,
      reflector: startReflector<EnforcementBundle>({
        ...common,
        path: resourcePath(bundles, { namespace }),
        name,
        onEvent({ type, object }) {
          if (!watch.live) return;
          const connection = connections.get(uid);
          if (type === 'Deleted') {
            connection?.shards.delete(shard);
            // The heartbeat's absence tells by itself, five minutes later: a restored operator has time to come back. Keys
            // end by themselves too.
            if (told && uid !== EVERY_CONNECTION) tell?.({ kind: 'ShardGone', connectionUid: uid, shard });
            told = false;
            return;
          }
          const { spec } = object;
          if (spec.connectionUid !== uid || spec.shard !== shard) {
            log('warn', 'a bundle object holds another shard than its name says; it is not used', { bundle: name });
            return;
          }
          told = true;
          connection?.shards.add(shard);
          tell?.({ kind: 'Shard', envelope: { ...spec } as ShardEnvelope });
          // The reflector needs its name and version; the payload lives on where it is in force.
          spec.payload = '';
          spec.signatures = [];
        },
        onSynced: look,
      }),
    };
    return watch;
  }

  function end(watch: Watch | undefined): void {
    if (watch === undefined) return;
    watch.live = false;
    const stopped = watch.reflector.stop();
    stopping.add(stopped);
    void stopped.finally(() => stopping.delete(stopped));
  }

  function arrange(): void {
    if (tell === undefined) return;
    const listed = new Map(wanted.map((each) => [each.uid, each]));
    for (const [uid, known] of connections) {
      if (listed.has(uid)) continue;
      for (const watch of known.watches.values()) end(watch);
      connections.delete(uid);
      tell({ kind: 'ConnectionGone', connectionUid: uid });
    }
    for (const { uid, name, bundles: names } of listed.values()) {
      const known = connections.get(uid) ?? { name, watches: new Map<string, Watch>(), shards: new Set<string>() };
      known.name = name;
      connections.set(uid, known);
      for (const [bundle, watch] of known.watches) {
        if (names.includes(bundle)) continue;
        end(watch);
        known.watches.delete(bundle);
        const shard = bundle.slice(uid.length + 1);
        if (known.shards.delete(shard)) tell({ kind: 'ShardGone', connectionUid: uid, shard });
      }
      for (const bundle of names) {
        if (known.watches.has(bundle)) continue;
        if (!bundle.startsWith(`${uid}.`)) {
          log('warn', 'a bundle of another Connection is named; it is not watched', { connection: name, bundle });
          continue;
        }
        known.watches.set(bundle, follow(options.namespace, bundle, uid, bundle.slice(uid.length + 1)));
      }
    }
    look();
  }

  function allListed(): boolean {
    if (heartbeat === undefined || ends === undefined) return false;
    if (!heartbeat.reflector.status().synced || !ends.status().synced) return false;
    for (const { watches } of connections.values())
      for (const { reflector } of watches.values()) if (!reflector.status().synced) return false;
    return true;
  }

  function look(): void {
    if (waiting.size === 0 || !allListed()) return;
    for (const resolve of waiting) resolve();
    waiting.clear();
  }

  return {
    subscribe(listener) {
      if (tell !== undefined) throw new Error('one subscriber only');
      tell = listener;
      heartbeat = follow(options.operatorNamespace, HEARTBEAT, EVERY_CONNECTION, HEARTBEAT);
      identity = follow(options.operatorNamespace, IDENTITY, EVERY_CONNECTION, IDENTITY);
      ends = startReflector<AccessGrant>({
        ...common,
        path: resourcePath(grants, { namespace: options.namespace }),
        trim: slim,
        onEvent({ type, object }) {
          const { uid } = object.metadata;
          const { phase, finishedBy } = object.status ?? {};
          if (type === 'Deleted') tell?.({ kind: 'GrantEnded', grantUid: uid, phase: 'Deleted' });
          // Expiry is left to the gateway's own clock: an extension may take over.
          else if (phase === 'Denied' || phase === 'Revoked')
            tell?.({ kind: 'GrantEnded', grantUid: uid, phase, ...(finishedBy ? { by: finishedBy } : {}) });
        },
        onSynced: look,
      });
      arrange();
      return () => {
        tell = () => {};
      };
    },
    serve(next) {
      wanted = next;
      arrange();
    },
    serves: (uid) => connections.has(uid),
    shards: (uid) => connections.get(uid)?.shards ?? new Set(),
    listed: () =>
      new Promise((resolve) => {
        waiting.add(resolve);
        look();
      }),
    problems() {
      const problems: string[] = [];
      const ask = (
        what: string,
        reflector: Reflector<never> | Reflector<EnforcementBundle> | Reflector<AccessGrant>,
      ) => {
        const { synced, problem } = reflector.status();
        if (!synced)
          problems.push(`${what} ${problem === undefined ? 'was not read yet' : `can not be read: ${problem}`}`);
      };
      if (heartbeat !== undefined) ask(`the heartbeat in ${options.operatorNamespace}`, heartbeat.reflector);
      if (ends !== undefined) ask('the list of grants', ends);
      for (const { name, watches } of connections.values())
        for (const [bundle, { reflector }] of watches) ask(`bundle ${bundle} of ${name}`, reflector);
      return problems.slice(0, 16);
    },
    outOfTouch: () => heartbeat?.reflector.status().problem,
    async stop() {
      for (const { watches } of connections.values()) for (const watch of watches.values()) end(watch);
      end(heartbeat);
      end(identity);
      await ends?.stop();
      await Promise.all(stopping);
    },
  };
}

/** What an end is told by. Ten thousand grants of years are kept as this. */
function slim(grant: AccessGrant): AccessGrant {
  const { name, namespace, uid, resourceVersion, generation, creationTimestamp } = grant.metadata;
  const { phase, finishedBy } = grant.status ?? {};
  return {
    apiVersion: grant.apiVersion,
    kind: grant.kind,
    metadata: { name, ...(namespace ? { namespace } : {}), uid, resourceVersion, generation, creationTimestamp },
    spec: {} as AccessGrant['spec'],
    ...(phase === undefined ? {} : { status: { phase, ...(finishedBy ? { finishedBy } : {}) } }),
  };
}
