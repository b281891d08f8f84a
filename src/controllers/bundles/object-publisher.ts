// Publishes signed shards as EnforcementBundle objects, one object a shard, in the Connection's namespace. Guarantees:
// shards of one Connection are written one after the other in the order they were published; a write names the version
// it replaces, so a leader of yesterday overwrites nothing; a shard whose content is already there is not written again,
// so that a restart writes only what changed. What fails is retried for as long as it is still the newest.

import type { EnforcementBundle } from '../../api/bundle-object.ts';
import { API_GROUP_VERSION } from '../../api/group.ts';
import type { OwnerReference } from '../../api/resource.ts';
import type { KubeClient } from '../../kube/client.ts';
import { EVERY_CONNECTION, type ShardEnvelope, type ShardName } from '../../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../../policy/bundle-signing.ts';
import type { Clock } from '../../system/clock.ts';
import type { ShardPublisher } from '../ports.ts';
import { createQueue, type Log } from '../runtime.ts';

/** Name of the one object that holds the heartbeat, in the operator's namespace. */
export const HEARTBEAT_OBJECT = 'heartbeat';
const LABEL = 'sallyport.dev/connection-uid';

export interface Mark {
  epoch: number;
  sequence: number;
}

export interface ObjectPublisher extends ShardPublisher {
  /** Names of the objects that a Connection's shards are kept in. */
  objectsOf(connectionUid: string): string[];
  /** What is stored: (epoch, sequence) by shard. A shard still to be written is absent or older. */
  storedOf(connectionUid: string): ReadonlyMap<ShardName, Mark>;
  /** Whether everything published is stored. */
  readonly idle: boolean;
  stop(): Promise<void>;
}

export interface ObjectPublisherOptions {
  client: KubeClient;
  /** Where the heartbeat goes. */
  operatorNamespace: string;
  /** Where a Connection lives; undefined: it is gone, and its objects go with it. */
  placeOf(connectionUid: string): { namespace: string; name: string } | undefined;
  trusted: readonly TrustedKey[];
  clock: Clock;
  log: Log;
  /** A shard was stored or removed. */
  onStored(connectionUid: string): void;
  /** Somebody with a newer epoch has written: this process leads no more. */
  onFenced(): void;
}

interface Stored extends Mark {
  resourceVersion: string;
  payloadHash: string;
}
interface Home {
  namespace: string;
  owner: OwnerReference | undefined;
  stored: Map<ShardName, Stored>;
  /** What is still to be written, in order; null: the object is to go. */
  wanted: Map<ShardName, ShardEnvelope | null>;
}

export const bundleName = (connectionUid: string, shard: ShardName): string =>
  connectionUid === EVERY_CONNECTION ? HEARTBEAT_OBJECT : `${connectionUid}.${shard}`;

const collection = (namespace: string): string =>
  `/apis/${API_GROUP_VERSION}/namespaces/${namespace}/enforcementbundles`;

/** Reads what is stored; resolves once it may publish. */
export async function openObjectPublisher(options: ObjectPublisherOptions): Promise<ObjectPublisher> {
  const { client } = options;
  const homes = new Map<string, Home>();
  let fenced = false;

  const homeOf = (uid: string): Home | undefined => {
    const known = homes.get(uid);
    if (known !== undefined) return known;
    const place = uid === EVERY_CONNECTION ? { namespace: options.operatorNamespace, name: '' } : options.placeOf(uid);
    if (place === undefined) return undefined;
    const home: Home = {
      namespace: place.namespace,
      owner: ownerOf(uid, place.name),
      stored: new Map(),
      wanted: new Map(),
    };
    homes.set(uid, home);
    return home;
  };

  const writeOne = async (uid: string, home: Home, shard: ShardName, envelope: ShardEnvelope): Promise<void> => {
    const name = bundleName(uid, shard);
    const known = home.stored.get(shard);
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
        : await client.replace<EnforcementBundle>(`${collection(home.namespace)}/${name}`, object);
    if (answer.kind === 'Ok') {
      home.stored.set(shard, storedOf(answer.value));
      return;
    }
    if (answer.status !== 409 && answer.status !== 404 && answer.status !== 422) {
      throw new Error(`bundle ${name} can not be written: ${answer.message}`);
    }
    // Somebody else wrote it, or took it away: look, and let the queue try again.
    const found = await client.get<EnforcementBundle>(`${collection(home.namespace)}/${name}`);
    if (found.kind === 'Ok') {
      const theirs = storedOf(found.value);
      if (isGood(found.value) && theirs.epoch > envelope.epoch) return fence();
      home.stored.set(shard, theirs);
    } else if (found.status === 404) home.stored.delete(shard);
    throw new Error(`bundle ${name} can not be written: ${answer.message}`);
  };

  const removeOne = async (uid: string, home: Home, shard: ShardName): Promise<void> => {
    const answer = await client.delete(`${collection(home.namespace)}/${bundleName(uid, shard)}`);
    if (answer.kind === 'Failed' && answer.status !== 404) throw new Error(answer.message);
    home.stored.delete(shard);
  };

  function fence(): void {
    if (fenced) return;
    fenced = true;
    options.log('error', 'another operator has published with a newer epoch: this one stops');
    options.onFenced();
  }

  /** Whether a trusted key signed it: what nobody signed is as good as absent. */
  const isGood = (bundle: EnforcementBundle): boolean =>
    verifyShard(options.trusted, bundle.spec as ShardEnvelope).kind === 'Good';

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
        options.onStored(uid);
        if (fenced) return undefined;
      }
      if (home.wanted.size > 0) queue.add(uid);
      else if (home.stored.size === 0 && uid !== EVERY_CONNECTION) homes.delete(uid);
      return undefined;
    },
  });

  let next: string | undefined;
  do {
    const page = await client.list<EnforcementBundle>(`/apis/${API_GROUP_VERSION}/enforcementbundles`, {
      limit: 500,
      ...(next === undefined ? {} : { continue: next }),
    });
    if (page.kind === 'Failed') throw new Error(`stored bundles can not be listed: ${page.message}`);
    for (const bundle of page.value.items) {
      const { connectionUid, shard } = bundle.spec;
      if (bundle.metadata.name !== bundleName(connectionUid, shard as ShardName)) continue;
      const home = homeOf(connectionUid);
      if (home === undefined || home.namespace !== bundle.metadata.namespace) continue;
      const stored = storedOf(bundle);
      home.stored.set(shard as ShardName, isGood(bundle) ? stored : { ...stored, payloadHash: '' });
    }
    next = page.value.metadata.continue;
  } while (next !== undefined && next !== '');

  return {
    publish(envelope) {
      const { connectionUid: uid, shard } = envelope;
      const home = homeOf(uid);
      if (home === undefined || fenced) return;
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
    objectsOf(uid) {
      const home = homes.get(uid);
      if (home === undefined) return [];
      return [...new Set([...home.stored.keys(), ...home.wanted.keys()])]
        .filter((shard) => home.wanted.get(shard) !== null)
        .map((shard) => bundleName(uid, shard))
        .sort();
    },
    storedOf: (uid) => homes.get(uid)?.stored ?? new Map<ShardName, Mark>(),
    get idle() {
      return queue.idle && [...homes.values()].every((home) => home.wanted.size === 0);
    },
    stop: () => queue.stop(),
  };
}

function storedOf(bundle: EnforcementBundle): Stored {
  const { epoch, sequence, payloadHash } = bundle.spec;
  return { epoch, sequence, payloadHash, resourceVersion: bundle.metadata.resourceVersion };
}

function ownerOf(uid: string, name: string): OwnerReference | undefined {
  return uid === EVERY_CONNECTION ? undefined : { apiVersion: API_GROUP_VERSION, kind: 'Connection', name, uid };
}
