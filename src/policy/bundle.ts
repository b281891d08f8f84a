// What a proxy enforces, as the controller signs it. Shards are published apart, so that one more grant rewrites one shard.
// Payloads are JSON; `format` is raised when a reader of the old one would enforce less than it should.
import type { ConnectionSpec } from '../api/connection.ts';
import type { Stamp, Subject } from '../api/schema.ts';
import type { HoldRequirement, RuleRef } from './decision.ts';
import type { Principal } from './principal.ts';
import type { StepUpNeed } from './step-up.ts';

export const BUNDLE_FORMAT = 1;
/** Largest payload of one shard, bytes. */
export const SHARD_LIMIT = 256 * 1024;

/** In place of a Connection's uid: the shard is for all of them. Only `heartbeat` and `identity` may be. */
export const EVERY_CONNECTION = '*';

export type GrantShardName = `grants-${number}`;
export type ShardName = 'policy' | 'identity' | GrantShardName | 'releases' | 'overlay' | 'heartbeat';

/** A shard as stored: the signature is Ed25519 over `signedBytes(envelope)` (see bundle-signing.ts). */
export interface ShardEnvelope {
  connectionUid: string;
  shard: ShardName;
  /** Raised when a controller's history starts anew; (epoch, sequence) only ever grows. */
  epoch: number;
  sequence: number;
  format: number;
  /** SHA-256 of the payload's bytes, hex. */
  payloadHash: string;
  /** JSON text. */
  payload: string;
  signatures: { keyId: string; signature: string }[];
}

/** A compiled rule: defaults filled in, presets expanded, durations in milliseconds. */
export interface CompiledRule {
  ref: RuleRef;
  action: 'Allow' | 'Deny' | 'Hold';
  enforce: boolean;
  /** Key of the protocol's matcher (`sql`) and its value; absent: every command. */
  matcher?: { member: string; value: unknown };
  exempt: Subject[];
  message?: string;
  hold?: Omit<HoldRequirement, 'by'>;
}

export interface CompiledMask {
  ref: RuleRef;
  columns: string[];
  detectors: string[];
  with: 'Redact' | 'Last4' | 'Email' | 'Null';
  predicates: 'Deny' | 'Equality' | 'Any';
  exempt: Subject[];
}

export interface CompiledPolicy {
  kind: 'AccessPolicy' | 'ClusterAccessPolicy';
  /** `namespace/name` or name. */
  name: string;
  uid: string;
  generation: number;
  /** false: whatever it selects is denied; `problem` says why. */
  accepted: boolean;
  problem?: string;
  subjects: Subject[];
  accounts: string[];
  rules: CompiledRule[];
  masks: CompiledMask[];
  trustedFunctions: string[];
  session: {
    idleTimeoutMs?: number;
    maxDurationMs?: number;
    reauthenticateMs?: number;
    ticketUntilExpiry: boolean;
    /** How a login must have been made; each must be met (step-up.ts). */
    stepUp?: StepUpNeed[];
  };
}

export interface PolicyShard {
  connection: { uid: string; name: string; namespace: string; generation: number; spec: ConnectionSpec };
  /** Every policy that selects the Connection. */
  policies: CompiledPolicy[];
}

/** A grant that may be used now or from `notBefore` on. Ended ones are simply absent. */
export interface BundleGrant {
  name: string;
  uid: string;
  /** SHA-256 of its canonical spec. */
  specHash: string;
  principal: Principal;
  via: Stamp['via'];
  /**
   * A delegator named the person: `principal` is a name and nothing else. A token logs in if exactly that is its user
   * name and, where `provider` is there, that IdentityProvider issued it.
   */
  named?: { provider?: string };
  account: string;
  /** `CompiledPolicy.name` whose allows it runs under. */
  policy: string;
  /** Raw Ed25519 public key, base64url. */
  clientKey?: string;
  commandHashes: string[];
  notBeforeMs: number;
  expiresAtMs: number;
  ticketUntilExpiry: boolean;
  /** Opens only while the controller can not be heard, for so long and so often; see gateway/sealed-grants.ts. */
  sealed?: { durationMs: number; uses: number };
  /** Uid of the grant it continues: that one's live sessions move to this one when theirs ends. */
  extends?: string;
}
export interface GrantsShard {
  grants: BundleGrant[];
  /** Apart, so that a reader that knows nothing of sealed grants opens none: in memory they are among the others. */
  sealed?: BundleGrant[];
}

/** A decided hold. `Approved` is good for one run of the same command until `usableUntilMs`. */
export interface Release {
  hold: string;
  holdUid: string;
  grantUid: string;
  sessionId: string;
  commandHash: string;
  decision: 'Approved' | 'Denied';
  by: string[];
  reason?: string;
  usableUntilMs: number;
}
export interface ReleasesShard {
  releases: Release[];
}

export interface LockEntry {
  name: string;
  target: { user?: string; group?: string; everything?: boolean; connection?: boolean };
  reason: string;
  untilMs?: number;
}
export interface OverlayShard {
  locks: LockEntry[];
  /** Ticket ids (jti) that are void. */
  voidTickets: string[];
}

/** What tokens are verified by. One for every Connection of the installation; proxies need no way to any issuer. */
export interface IdentityShard {
  providers: TrustedProvider[];
}

/** What a token of an audience may be used for. No use serves as another. */
export type TokenUse = 'Access' | 'ID' | 'Workload';

/** An IdentityProvider, compiled: defaults filled in. */
export interface TrustedProvider {
  /** Name of the IdentityProvider. */
  name: string;
  /** Compared to `iss` octet by octet. */
  issuer: string;
  algorithms: string[];
  /** Public JWKs (RFC 7517); the controller refused sets with anything else in them. */
  keys: TrustedJwk[];
  /** Past it no token of the issuer is good: its keys could not be fetched for too long. */
  keysGoodUntilMs: number;
  /** Hash of where they came from (issuer and CA), for whoever keeps them over a restart. */
  keysFrom?: string;
  skewMs: number;
  audiences: {
    audience: string;
    use: TokenUse;
    /** `azp` or `client_id` must be one of these; empty for Workload only: those tokens name no client. */
    clients: string[];
    /** `typ` of the header, lower case, `application/` left off; empty: absent or `jwt`. */
    types: string[];
    /** Claims an access token must carry as text beside that (`typ: Bearer`). */
    marks: Record<string, string>;
  }[];
  claims: { uid: string; username: string; groups?: string; email?: string; workload: string[] };
  /** Put before names and groups of this provider. */
  prefix: { username: string; groups: string };
  /** How the API server names these people, where it trusts the same issuer. */
  kubernetes?: { claim: string; prefix: string };
  /** For clients that ask where to log in: psql's OAUTHBEARER. */
  login?: { scope: string };
  /** Whose SSH certificates name the same people. */
  ssh?: {
    /** Wire form of each authority's public key, base64. */
    userAuthorities: string[];
    /** What the principals of a certificate are: names as tokens have them, or immutable ids. */
    principals: 'Username' | 'Uid';
  };
  /** Tokens and certificates that are void: of this person or login session, made before then. */
  void: { uid?: string; sid?: string; beforeMs: number }[];
}
export interface TrustedJwk {
  kty: 'RSA' | 'EC' | 'OKP';
  kid?: string;
  alg?: string;
  n?: string;
  e?: string;
  crv?: string;
  x?: string;
  y?: string;
}

export interface HeartbeatShard {
  atMs: number;
}

export interface ShardPayloads {
  policy: PolicyShard;
  releases: ReleasesShard;
  overlay: OverlayShard;
  identity: IdentityShard;
  heartbeat: HeartbeatShard;
}
