// The data plane. One listener a Connection; every accepted socket becomes a session with an id of its own; who, whether
// and when are decided here, the wire is the protocol's. Knows no protocol by name.
//
// Guarantees: no session without a proven grant in force (INV-01); a session ends when its grant ends, is locked or
// killed, by the gateway's own clocks (INV-03); without a fresh signed heartbeat or writable records no command is let
// through (INV-04); half-open handshakes, sessions and holds are bounded (INV-11).
// Does not guarantee: that a protocol asks before it forwards. That is the protocol's half of INV-01.
import type { ConnectionSpec } from '../api/connection.ts';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { CredentialSource } from '../protocols/credential.ts';
import type { Cut, Protocol, ServerTls } from '../protocols/protocol.ts';
import type { SessionRecorder } from '../recording/recorder.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import type { DialGuard } from './dial-guard.ts';
import type { ProcessLimits } from './limits.ts';
import type { GatewayMetrics, LogLine } from './observer.ts';
import type { BundleFeed, ControlPlane } from './ports.ts';

/** A Connection as the gateway knows it: from its signed policy shard. */
export interface GatewayConnection {
  uid: string;
  name: string;
  namespace: string;
  spec: ConnectionSpec;
}

/** Where sessions write their records. A `RecordLog` is one. */
export interface SessionRecords {
  session(stream: string, options: { durability: 'Write' | 'Disk' }): SessionRecorder;
}

export interface GatewayOptions {
  protocols: readonly Protocol[];
  feed: BundleFeed;
  /** Whose signatures on bundle shards count. Read at each shard, so that keys may rotate. */
  trustedKeys: () => readonly TrustedKey[];
  controlPlane: ControlPlane;
  credentials: CredentialSource;
  records: SessionRecords;
  /** TLS of a Connection's listener; undefined: none, and protocols decide whether they talk without. */
  tlsFor(connection: GatewayConnection): ServerTls | undefined;
  /** Where a Connection is to be reached; port 0: any. Asked again at every change of the Connection. */
  listen(connection: GatewayConnection): { host: string; port: number };
  dialGuard: DialGuard;
  clock: Clock;
  random: Random;
  log: LogLine;
  metrics?: GatewayMetrics;
  limits?: Partial<ProcessLimits>;
  /** Connections this process serves; a shard of any other is refused. Default: all that are signed. */
  serves?: (connectionUid: string) => boolean;
  /** How hints begin: `sallyport` (default) or `kubectl access`. */
  commandPrefix?: string;
}

export interface SessionInfo {
  id: string;
  connection: { uid: string; name: string; namespace: string };
  protocol: string;
  state: 'Handshake' | 'Live' | 'Ending';
  client: { address: string; port: number };
  startedAtMs: number;
  lastActivityMs: number;
  /** From authentication on. */
  principal?: { username: string };
  grant?: { name: string; uid: string; policy: string; expiresAtMs: number };
  account?: string;
  /** Names of the holds it waits for. */
  holds: readonly string[];
  cut?: Cut['code'];
}

export interface Endpoint {
  host: string;
  port: number;
}

export interface Readiness {
  ok: boolean;
  /** Sentences for people; empty when ok. */
  reasons: readonly string[];
}

export interface Gateway {
  /** Subscribes to the feed and opens listeners as Connections come. Resolves once every Connection that the feed told at once is listening or has failed to. */
  start(): Promise<void>;
  /** Stops accepting, lets sessions finish for `drainMs`, cuts the rest (`Shutdown`). Resolves when none is left. */
  stop(drainMs: number): Promise<void>;
  sessions(): SessionInfo[];
  /** Ends one session; false if there is none of that id. */
  kill(id: string, by: string): boolean;
  /** By Connection uid: where each is reached now. */
  endpoints(): ReadonlyMap<string, Endpoint>;
  /** Calls back whenever an endpoint opened, moved or closed. Returns the function that stops it. */
  onEndpoints(listener: () => void): () => void;
  ready(): Readiness;
}
