// The gateway's bundle feed within one process: the controllers publish signed shards into it, the gateway verifies
// them as it would from anywhere else. Ends of grants go straight through, unsigned: a deny needs no signature.
import type { ShardPublisher } from '../../controllers/ports.ts';
import type { BundleFeed, FeedEvent } from '../../gateway/ports.ts';
import type { ShardEnvelope } from '../../policy/bundle.ts';

export interface LocalFeed extends BundleFeed, ShardPublisher {
  grantEnded(event: Omit<Extract<FeedEvent, { kind: 'GrantEnded' }>, 'kind'>): void;
}

export function createFeed(): LocalFeed {
  const shards = new Map<string, ShardEnvelope>();
  const listeners = new Set<(event: FeedEvent) => void>();
  const tell = (event: FeedEvent): void => {
    for (const listener of Array.from(listeners)) listener(event);
  };
  return {
    subscribe(listener) {
      listeners.add(listener);
      for (const envelope of Array.from(shards.values())) listener({ kind: 'Shard', envelope });
      return () => void listeners.delete(listener);
    },
    publish(envelope) {
      shards.set(`${envelope.connectionUid} ${envelope.shard}`, envelope);
      tell({ kind: 'Shard', envelope });
    },
    withdraw(connectionUid, shard) {
      shards.delete(`${connectionUid} ${shard}`);
      tell({ kind: 'ShardGone', connectionUid, shard });
    },
    grantEnded: (event) => tell({ kind: 'GrantEnded', ...event }),
  };
}
