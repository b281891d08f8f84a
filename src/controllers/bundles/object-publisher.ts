// Publishes signed shards as EnforcementBundle objects, one object a shard, in the Connection's namespace. Guarantees:
// shards of one Connection are written one after the other in the order they were published; a write names the version
// it replaces, so a leader of yesterday overwrites and deletes nothing; a shard whose content is already there is not
// written again, so that a restart writes only what changed. What fails is retried for as long as it is still the newest.
// What somebody else changed or deleted, or what is older than what a proxy says it has, is asked for anew and replaced
// by a newer one: the objects are watched, so that nothing is read or written while nothing happens. What was left by
// Connections that are gone goes as soon as it is found: Kubernetes takes it with them, unless somebody told it not to.
import { isDeepStrictEqual } from 'node:util';
import type { EnforcementBundle } from '../../api/bundle-object.ts';
import { API_GROUP_VERSION } from '../../api/group.ts';
import type { OwnerReference } from '../../api/resource.ts';
import { KubeFailedError } from '../../kube/answer.ts';
import { sleep } from '../../kube/backoff.ts';
import type { KubeClient } from '../../kube/client.ts';
import { isBefore } from '../../kube/object.ts';
import { listPages } from '../../kube/pages.ts';
import { followChanges } from '../../kube/watch-loop.ts';
import {
  EVERY_CONNECTION,
  type GrantShardName,
  type GrantsShard,
  type ShardEnvelope,
  type ShardName,
} from '../../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../../policy/bundle-signing.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { ShardPublisher } from '../ports.ts';
import { createQueue, type Log } from '../runtime.ts';

/** Shards for every Connection, in the operator's namespace, each in an object of its own name. */
const COMMON: readonly ShardName[] = ['heartbeat', 'identity'];
const LABEL = 'sallyport.dev/connection-uid';

export interface Mark {
  epoch: number;
  sequence: number;
}

export interface ObjectPublisher extends ShardPublisher {
  /** Names of the objects that a Connection's shards are kept in. */
  objectsOf(connectionUid: string): string[];
  /** A shard as it is stored now, believed or not. Throws KubeFailedError and KubeConnectionError. */
  read(connectionUid: string, shard: ShardName): Promise<ShardEnvelope | undefined>;
  /** What is stored: (epoch, sequence) by shard. A shard still to be written is absent or older. */
  storedOf(connectionUid: string): ReadonlyMap<ShardName, Mark>;
  /**
   * What a proxy says it has. Newer than what is stored, the store was set back: what it has now may be anything, so it is
   * to be told anew. A proxy that lies has shards written every two seconds at most.
   */
  acknowledged(connectionUid: string, applied: readonly (Mark & { shard: string })[]): void;
  /** Whether everything published is stored. */
  readonly idle: boolean;
  stop(): Promise<void>;
}

export interface ObjectPublisherOptions {
  client: KubeClient;
  /** Where the shards for every Connection go. */
  operatorNamespace: string;
  /** Where a Connection lives; undefined: it is gone, and its objects go with it. */
  placeOf(connectionUid: string): { namespace: string; name: string } | undefined;
  trusted: readonly TrustedKey[];
  clock: Clock;
  random: Random;
  log: Log;
  /** A shard was stored or removed. */
  onStored(connectionUid: string): void;
  /** What is stored is not what was published: to be published again, with a higher sequence. */
  onLost(connectionUid: string): void;
  /** Somebody with a newer epoch has written: this process leads no more. */
  onFenced(): void;
}

interface Stored extends Mark {
  resourceVersion: string;
  /** Empty: it may not stay as it is, whatever is wanted. */
  payloadHash: string;
  /** Whether a trusted key signed it. */
  good: boolean;
  /** Uids of what is in it, where it was found and not written here. */
  grants?: readonly string[];
}
interface Home {
  namespace: string;
  owner: OwnerReference | undefined;
  stored: Map<ShardName, Stored>;
  /** What is still to be written, in order; null: the object is to go. */
  wanted: Map<ShardName, ShardEnvelope | null>;
}

export const bundleName = (connectionUid: string, shard: ShardName): string =>
  connectionUid === EVERY_CONNECTION ? shard : `${connectionUid}.${shard}`;

/** The other way round; undefined: no name of a bundle. What the object's spec says may be anybody's word. */
function partsOf(name: string): { uid: string; shard: ShardName } | undefined {
  const common = COMMON.find((each) => each === name);
  if (common !== undefined) return { uid: EVERY_CONNECTION, shard: common };
  const dot = name.indexOf('.');
  return dot < 1 ? undefined : { uid: name.slice(0, dot), shard: name.slice(dot + 1) as ShardName };
}

/** What is found changed again and again is put right so often at most. */
const RESTORE_MS = 2_000;
const RELIST_MS = 5_000;
const ALL = `/apis/${API_GROUP_VERSION}/enforcementbundles`;
const collection = (namespace: string): string =>
  `/apis/${API_GROUP_VERSION}/namespaces/${namespace}/enforcementbundles`;

/** Reads what is stored; resolves once it may publish. */
export async function openObjectPublisher(options: ObjectPublisherOptions): Promise<ObjectPublisher> {
  const { client } = options;
  const homes = new Map<string, Home>();
  let fenced = false;

  const homeOf = (uid: string): Home | undefined => {
    const known = homes.get(uid);
    if (known !== undefined && !isLeftover(uid, known)) return known;
    const place = uid === EVERY_CONNECTION ? { namespace: options.operatorNamespace, name: '' } : options.placeOf(uid);
    if (place === undefined) return known;
    const home: Home = {
      namespace: place.namespace,
      owner: ownerOf(uid, place.name),
      stored: known?.stored ?? new Map(),
      wanted: known?.wanted ?? new Map(),
    };
    homes.set(uid, home);
    return home;
  };
  /** Whether the Connection was gone when this was found; then nobody waits for news of it. */
  const isLeftover = (uid: string, home: Home): boolean => home.owner === undefined && uid !== EVERY_CONNECTION;

  const writeOne = async (uid: string, home: Home, shard: ShardName, envelope: ShardEnvelope): Promise<void> => {
    const name = bundleName(uid, shard);
    const path = `${collection(home.namespace)}/${name}`;
    let known = home.stored.get(shard);
    if (known?.good === true && known.epoch > envelope.epoch) return fence();
    // Nobody's word, and higher than ours: the API server lets no bundle go back, but it can go.
    if (known?.good === false && isOlder(envelope, known)) {
      await removeOne(uid, home, shard);
      known = undefined;
    }
    const object = {
      apiVersion: API_GROUP_VERSION,
      kind: 'EnforcementBundle',
      metadata: {
        name,
        namespace: home.namespace,
        labels: { 'app.kubernetes.io/managed-by': 'sallyport', ...(uid === EVERY_CONNECTION ? {} : { [LABEL]: uid }) },
        ...(home.owner === undefined ? {} : { ownerReferences: [home.owner] }),
        ...(known === undefined ? {} : { resourceVersion: known.resourceVersion }),
      },
      spec: envelope,
    };
    const answer =
      known === undefined
        ? await client.create<EnforcementBundle>(collection(home.namespace), object)
        : await client.replace<EnforcementBundle>(path, object);
    if (answer.kind === 'Ok') {
      home.stored.set(shard, storedOf(answer.value, true));
      return;
    }
    if (answer.status !== 409 && answer.status !== 404 && answer.status !== 422) {
      throw new Error(`bundle ${name} can not be written: ${answer.message}`);
    }
    // Somebody else wrote it, or took it away, or the answer to an earlier attempt was lost: look, and try again.
    const found = await client.get<EnforcementBundle>(path);
    if (found.kind === 'Ok') {
      const theirs = storedOf(found.value, isGood(found.value, uid, shard));
      home.stored.set(shard, theirs);
      if (theirs.good && theirs.epoch > envelope.epoch) return fence();
      if (theirs.good && isSame(theirs, envelope)) return;
    } else if (found.status === 404) home.stored.delete(shard);
    throw new Error(`bundle ${name} can not be written: ${answer.message}`);
  };

  const removeOne = async (uid: string, home: Home, shard: ShardName): Promise<void> => {
    const path = `${collection(home.namespace)}/${bundleName(uid, shard)}`;
    const known = home.stored.get(shard);
    if (known === undefined) return;
    const answer = await client.delete(path, { resourceVersion: known.resourceVersion });
    if (answer.kind === 'Ok' || answer.status === 404) return void home.stored.delete(shard);
    const found = await client.get<EnforcementBundle>(path);
    if (found.kind === 'Ok') home.stored.set(shard, storedOf(found.value, isGood(found.value, uid, shard)));
    else if (found.status === 404) return void home.stored.delete(shard);
    if (leads(home.stored.get(shard))) return fence();
    throw new Error(`bundle ${bundleName(uid, shard)} can not be removed: ${answer.message}`);
  };

  /** The highest epoch published here. */
  let epoch = 0;
  const leads = (stored: Stored | undefined): boolean => stored?.good === true && epoch > 0 && stored.epoch > epoch;

  function fence(): void {
    if (fenced) return;
    fenced = true;
    options.log('error', 'another operator has published with a newer epoch: this one stops');
    options.onFenced();
  }

  /** Whether a trusted key signed it, for this very place: what nobody signed is as good as absent. */
  const proven = ({ spec }: EnforcementBundle, uid: string, shard: ShardName): { payload: unknown } | undefined => {
    if (spec.connectionUid !== uid || spec.shard !== shard) return undefined;
    const verdict = verifyShard(options.trusted, spec as ShardEnvelope);
    return verdict.kind === 'Good' ? { payload: verdict.payload } : undefined;
  };
  const isGood = (bundle: EnforcementBundle, uid: string, shard: ShardName): boolean =>
    proven(bundle, uid, shard) !== undefined;

  const restore = createQueue({
    name: 'restore',
    clock: options.clock,
    log: options.log,
    restMs: RESTORE_MS,
    reconcile: async (uid) => {
      if (!fenced && (uid === EVERY_CONNECTION || options.placeOf(uid) !== undefined)) options.onLost(uid);
      return undefined;
    },
  });
  const lost = (uid: string, home: Home, shard: ShardName, why: string): void => {
    const stored = home.stored.get(shard);
    if (stored !== undefined) home.stored.set(shard, { ...stored, payloadHash: '' });
    // It is written every half minute anyway.
    if (shard === 'heartbeat') return;
    options.log('warn', `a bundle ${why}: it is published again`, { bundle: bundleName(uid, shard) });
    restore.add(uid);
  };

  /** A bundle of a Connection that is gone: somebody deleted that while nobody led, and had what belongs to it left. */
  const leftover = (bundle: EnforcementBundle, uid: string, shard: ShardName): void => {
    const stored = storedOf(bundle, isGood(bundle, uid, shard));
    if (leads(stored)) return fence();
    const { namespace = '' } = bundle.metadata;
    const home: Home = homes.get(uid) ?? { namespace, owner: undefined, stored: new Map(), wanted: new Map() };
    if (home.namespace !== namespace) return;
    homes.set(uid, home);
    home.stored.set(shard, stored);
    home.wanted.set(shard, null);
    queue.add(uid);
  };

  /** Takes in what the API server has. */
  const seen = (bundle: EnforcementBundle, type: 'Listed' | 'Added' | 'Modified' | 'Deleted'): void => {
    const { name, namespace, resourceVersion } = bundle.metadata;
    const parts = partsOf(name);
    if (parts === undefined) return;
    const home = homeOf(parts.uid);
    if (type === 'Listed' && (home === undefined || isLeftover(parts.uid, home)))
      return leftover(bundle, parts.uid, parts.shard);
    if (home === undefined || home.namespace !== namespace) return;
    const { uid, shard } = parts;
    const known = home.stored.get(shard);
    if (known !== undefined && isBefore(resourceVersion, known.resourceVersion)) return;
    const waiting = home.wanted.get(shard);
    if (type === 'Deleted') {
      if (known === undefined) return;
      home.stored.delete(shard);
      if (waiting === undefined) lost(uid, home, shard, 'was deleted');
      return;
    }
    if (known?.resourceVersion === resourceVersion) return;
    // What was sent from here comes back before its answer at times.
    const own = !!waiting && isSame(waiting, bundle.spec) && isDeepStrictEqual(waiting, bundle.spec);
    const found = own ? undefined : proven(bundle, uid, shard);
    const now: Stored = {
      ...storedOf(bundle, own || found !== undefined),
      ...(found !== undefined && shard.startsWith('grants-') ? { grants: grantsIn(found.payload) } : {}),
    };
    home.stored.set(shard, now);
    if (leads(now)) return fence();
    // Before anything is published here it is only learnt what there is.
    if (epoch === 0 || (now.good && waiting && isSame(now, waiting))) return;
    if (now.good && known !== undefined && isSame(now, known) && known.payloadHash !== '') return;
    if (waiting === undefined) lost(uid, home, shard, 'was changed by somebody else');
  };

  const queue = createQueue({
    name: 'publish',
    clock: options.clock,
    log: options.log,
    concurrency: 16,
    async reconcile(uid) {
      const home = homes.get(uid);
      if (home === undefined || fenced) return undefined;
      for (const [shard, envelope] of home.wanted) {
        if (envelope === null) await removeOne(uid, home, shard);
        else await writeOne(uid, home, shard, envelope);
        // A newer one may have come while this one was written.
        if (home.wanted.get(shard) === envelope) home.wanted.delete(shard);
        if (!isLeftover(uid, home)) options.onStored(uid);
        if (fenced) return undefined;
      }
      if (home.wanted.size > 0) queue.add(uid);
      else if (home.stored.size === 0 && uid !== EVERY_CONNECTION) homes.delete(uid);
      return undefined;
    },
  });

  const stopping = new AbortController();
  /** The version listed. Throws what the client throws, KubeFailedError. */
  const list = async (): Promise<string> => {
    let there = new Set<string>();
    const end = await listPages<EnforcementBundle>(client, ALL, { signal: stopping.signal }, (page, { restarted }) => {
      if (restarted) there = new Set();
      for (const bundle of page) {
        there.add(`${bundle.metadata.namespace}/${bundle.metadata.name}`);
        seen(bundle, 'Listed');
      }
    });
    if (end.kind === 'Failed') throw new KubeFailedError('list stored bundles', end);
    for (const [uid, home] of homes) {
      for (const [shard, stored] of Array.from(home.stored)) {
        // Written since the list was made: the watch tells.
        if (there.has(`${home.namespace}/${bundleName(uid, shard)}`)) continue;
        if (isBefore(end.resourceVersion, stored.resourceVersion)) continue;
        home.stored.delete(shard);
        if (home.wanted.get(shard) === undefined) lost(uid, home, shard, 'is gone');
      }
    }
    return end.resourceVersion;
  };
  const follow = async (first: string): Promise<void> => {
    const { clock, random, log } = options;
    const { signal } = stopping;
    let from: string | undefined = first;
    while (!signal.aborted) {
      if (from !== undefined) {
        const began = clock.monotonic();
        await followChanges<EnforcementBundle>({
          client,
          path: ALL,
          from,
          signal,
          clock,
          random,
          log,
          onChange: (type, bundle) => seen(bundle, type),
        });
        from = undefined;
        // A server that forgets at once must not be listed in a circle.
        if (clock.monotonic() - began < RELIST_MS) await sleep(clock, RELIST_MS, signal);
      }
      if (signal.aborted) return;
      try {
        from = await list();
      } catch (error) {
        if (!signal.aborted)
          log('warn', 'stored bundles can not be listed; it is tried again', { error: String(error) });
        await sleep(clock, RELIST_MS, signal);
      }
    }
  };
  const following = follow(await list()).catch((error: unknown) =>
    options.log('error', 'the watch of bundles failed', { error: String(error) }),
  );

  return {
    publish(envelope) {
      const { connectionUid: uid, shard } = envelope;
      const home = homeOf(uid);
      if (home === undefined || fenced) return;
      epoch = Math.max(epoch, envelope.epoch);
      const waiting = home.wanted.get(shard);
      home.wanted.delete(shard);
      // What is stored says the same already; unless something else was about to replace it.
      if (waiting === undefined && home.stored.get(shard)?.payloadHash === envelope.payloadHash) return;
      home.wanted.set(shard, envelope);
      queue.add(uid);
    },
    withdraw(uid, shard) {
      const home = homes.get(uid);
      if (home === undefined) return;
      home.wanted.delete(shard as ShardName);
      if (!home.stored.has(shard as ShardName)) return;
      home.wanted.set(shard as ShardName, null);
      queue.add(uid);
    },
    keepOnly(uid, shards) {
      const home = homes.get(uid);
      for (const shard of new Set([...(home?.stored.keys() ?? []), ...(home?.wanted.keys() ?? [])])) {
        if (home === undefined || fenced || shards.has(shard) || home.wanted.get(shard) === null) continue;
        home.wanted.delete(shard);
        if (!home.stored.has(shard)) continue;
        home.wanted.set(shard, null);
        queue.add(uid);
      }
    },
    placed(uid) {
      const places = new Map<string, GrantShardName>();
      for (const [shard, { grants = [] }] of homes.get(uid)?.stored ?? [])
        for (const grant of grants) places.set(grant, shard as GrantShardName);
      return places;
    },
    holds(uid) {
      const home = homes.get(uid);
      return home !== undefined && home.stored.size + home.wanted.size > 0;
    },
    objectsOf(uid) {
      const home = homes.get(uid);
      if (home === undefined) return [];
      return [...new Set([...home.stored.keys(), ...home.wanted.keys()])]
        .filter((shard) => home.wanted.get(shard) !== null)
        .map((shard) => bundleName(uid, shard))
        .sort();
    },
    async read(uid, shard) {
      const home = homeOf(uid);
      if (home === undefined) return undefined;
      const name = bundleName(uid, shard);
      const answer = await client.get<EnforcementBundle>(`${collection(home.namespace)}/${name}`);
      if (answer.kind === 'Ok') return answer.value.spec as ShardEnvelope;
      if (answer.status === 404) return undefined;
      throw new KubeFailedError(`read bundle ${name}`, answer);
    },
    storedOf: (uid) => homes.get(uid)?.stored ?? new Map<ShardName, Mark>(),
    acknowledged(uid, applied) {
      const home = homes.get(uid);
      if (home === undefined || epoch === 0) return;
      for (const mark of applied) {
        const shard = mark.shard as ShardName;
        const stored = home.stored.get(shard);
        // What is about to be written is newer than anything.
        if (stored === undefined || home.wanted.has(shard) || !isOlder(stored, mark)) continue;
        lost(uid, home, shard, 'is older than what a proxy has');
      }
    },
    get idle() {
      return queue.idle && [...homes.values()].every((home) => home.wanted.size === 0);
    },
    async stop() {
      stopping.abort();
      await Promise.all([restore.stop(), queue.stop(), following]);
    },
  };
}

function storedOf(bundle: EnforcementBundle, good: boolean): Stored {
  const { epoch, sequence, payloadHash } = bundle.spec;
  const { resourceVersion } = bundle.metadata;
  return { epoch, sequence, payloadHash: good ? payloadHash : '', resourceVersion, good };
}

/** Uids of the grants in a shard, whatever else later formats put there. */
function grantsIn(payload: unknown): string[] {
  const { grants = [], sealed = [] } = payload as Partial<GrantsShard>;
  return [...grants, ...sealed].flatMap((grant) => (typeof grant?.uid === 'string' ? [grant.uid] : []));
}

const isOlder = (mark: Mark, than: Mark): boolean =>
  mark.epoch < than.epoch || (mark.epoch === than.epoch && mark.sequence < than.sequence);

const isSame = (a: Mark & { payloadHash: string }, b: Mark & { payloadHash: string }): boolean =>
  a.epoch === b.epoch && a.sequence === b.sequence && a.payloadHash === b.payloadHash;

function ownerOf(uid: string, name: string): OwnerReference | undefined {
  return uid === EVERY_CONNECTION ? undefined : { apiVersion: API_GROUP_VERSION, kind: 'Connection', name, uid };
}
