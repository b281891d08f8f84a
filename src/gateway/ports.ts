// What the gateway is handed by whoever composes the process. Local mode and the cluster differ only here.
import type { CommandHoldSpec } from '../api/hold.ts';
import type {
  BundleGrant,
  HeartbeatShard,
  IdentityShard,
  OverlayShard,
  PolicyShard,
  Release,
  ShardEnvelope,
} from '../policy/bundle.ts';

/** One Connection's bundle, verified. */
export interface BundleView {
  policy: PolicyShard;
  /** Rises whenever `policy` changes. */
  generation: number;
  grants: ReadonlyMap<string, BundleGrant>; // by uid
  overlay: OverlayShard;
  releases: readonly Release[];
  heartbeat: HeartbeatShard | undefined;
  /** Absent: only tickets log in. */
  identity: IdentityShard | undefined;
}

/** Raw shards in, in any order and as often as they come; the gateway verifies and orders them itself. */
export interface BundleFeed {
  /** Calls back with every current shard, then with each change; null payload: the shard is gone. Returns the function that stops it. */
  subscribe(listener: (event: FeedEvent) => void): () => void;
}
export type FeedEvent =
  | { kind: 'Shard'; envelope: ShardEnvelope }
  | { kind: 'ShardGone'; connectionUid: string; shard: string }
  /** The process is not to serve it any more. Should it come back, its shards are judged as after a start. */
  | { kind: 'ConnectionGone'; connectionUid: string }
  /** Unsigned, from watching AccessGrants directly: a deny needs no signature. */
  | { kind: 'GrantEnded'; grantUid: string; phase: 'Denied' | 'Expired' | 'Revoked' | 'Deleted'; by?: string };

/** Where a proxy reports what it may not decide itself. */
export interface ControlPlane {
  /** Creates the CommandHold; resolves with its uid. The decision comes back as a Release in the bundle. */
  openHold(hold: { name: string; namespace: string; spec: CommandHoldSpec }): Promise<{ uid: string }>;
  /** Tells how a hold ended on the proxy's side: withdrawn, timed out, or its approval was used. */
  closeHold(
    hold: { name: string; namespace: string; uid: string },
    event: 'Withdrawn' | 'TimedOut' | 'Used',
  ): Promise<void>;
}
