// What the controllers are handed by whoever composes the process.
import type { GrantShardName, ShardEnvelope } from '../policy/bundle.ts';
import type { ProtocolDefinition } from '../protocols/protocol.ts';
import type { ControlBody } from '../recording/envelope.ts';
import type { KindName, ResourceStore } from '../store/resource-store.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { Cache, Log } from './runtime.ts';
import type { Sealer } from './seal.ts';

/** Writes acts of the control plane as records; resolves once written (`Disk`: synced). Rejects if they can not be. */
export interface ControlRecords {
  write(body: ControlBody, options?: { durability?: 'Write' | 'Disk' }): Promise<void>;
}

/** A file or object that could not be read in full: whatever it selects is to be denied. */
export interface BrokenObject {
  kind: KindName;
  namespace?: string;
  name: string;
  problem: string;
}

/** Where signed shards go: the gateway's feed in local mode, objects in a cluster. */
export interface ShardPublisher {
  publish(envelope: ShardEnvelope): void;
  withdraw(connectionUid: string, shard: string): void;
  /** Withdraws whatever else is stored of this Connection: shards of an earlier life, or put there by somebody. */
  keepOnly?(connectionUid: string, shards: ReadonlySet<string>): void;
  /** The shard that each grant of this Connection is stored in, by uid. Absent: nothing outlives the process. */
  placed?(connectionUid: string): ReadonlyMap<string, GrantShardName>;
  /** Whether anything of this Connection is stored or about to be. Absent: never waited for (local mode). */
  holds?(connectionUid: string): boolean;
}

/** What every controller shares. */
export interface ControllerContext {
  store: ResourceStore;
  cache: Cache;
  definitions: readonly ProtocolDefinition[];
  sealer: Sealer;
  records: ControlRecords;
  clock: Clock;
  random: Random;
  log: Log;
}
