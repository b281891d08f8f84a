// What one Connection's bundle says, from resources. Pure. An allow is published only for what the operator sealed; a
// grant whose policy is gone, not accepted, or no longer names its owner is left out: its sessions end.
import { specHash } from '../../api/canonical.ts';
import { parseDuration } from '../../api/duration.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { CommandHold } from '../../api/hold.ts';
import type { AccessLock } from '../../api/lock.ts';
import {
  type BundleGrant,
  type GrantShardName,
  type GrantsShard,
  type LockEntry,
  type PolicyShard,
  type Release,
  SHARD_LIMIT,
} from '../../policy/bundle.ts';
import { homeOf, sessionLimits } from '../../policy/prepare-session.ts';
import type { Principal } from '../../policy/principal.ts';
import { matchesAny } from '../../policy/subjects.ts';
import { ownerOf, SEALED_USE_MS } from '../grants/people.ts';
import { sealedStatus } from '../grants/sealed.ts';
import { sealedHold } from '../holds/decide.ts';
import type { Sealer } from '../seal.ts';

/** A proxy knows no higher number of a shard. */
const MOST_GRANT_SHARDS = 4096;
/** What a shard takes in; a grant is well below 1 KiB, its command hashes and groups apart. */
const ROOM = { grants: 64, bytes: 200 * 1024 };
/** What may stay in it; a little is left for what is around the grants. */
const LIMIT = { grants: Number.POSITIVE_INFINITY, bytes: SHARD_LIMIT - 1024 };

export interface PublishedGrants {
  grants: BundleGrant[];
  /** Uid of a grant in force that is withheld, and why. */
  withheld: ReadonlyMap<string, string>;
}

/** `grants`: those of this Connection's namespace that name it. */
export function bundleGrants(
  shard: PolicyShard,
  grants: readonly AccessGrant[],
  sealer: Sealer,
  nowMs: number,
  hashOf: (account: string, text: string) => string,
): PublishedGrants {
  const published: BundleGrant[] = [];
  const withheld = new Map<string, string>();
  const inForce = new Map<string, { startMs: number; endMs: number }>();
  for (const grant of grants) {
    const status = sealedStatus(grant, sealer);
    if (status?.expiresAt === undefined || status.notBefore === undefined) continue;
    if (status.phase !== 'Active' && status.phase !== 'Pending') continue;
    inForce.set(grant.metadata.uid, { startMs: Date.parse(status.notBefore), endMs: Date.parse(status.expiresAt) });
  }
  for (const grant of grants) {
    const { uid, name, creationTimestamp } = grant.metadata;
    const life = inForce.get(uid);
    if (life === undefined || life.endMs <= nowMs) continue;
    const status = grant.status!;
    const stamp = sealer.checkStamp(grant.spec.requester, grant.spec, creationTimestamp);
    if (stamp.kind === 'Bad' || status.policy === undefined || status.account === undefined) continue;
    const principal = ownerOf(grant.spec, stamp.principal);
    const { beneficiary } = grant.spec;
    const policyName = `${status.policy.namespace ?? shard.connection.namespace}/${status.policy.name}`;
    const why = misfit(shard, policyName, status.policy.uid, status.account, principal);
    if (why !== undefined) {
      withheld.set(uid, why);
      continue;
    }
    published.push({
      name,
      uid,
      specHash: specHash(grant.spec),
      principal,
      via: grant.spec.requester!.via,
      account: status.account,
      policy: policyName,
      ...(grant.spec.clientKey ? { clientKey: grant.spec.clientKey } : {}),
      ...(beneficiary === undefined
        ? {}
        : { named: beneficiary.provider === undefined ? {} : { provider: beneficiary.provider } }),
      // Never what the author says: a hash is consent only to the statement that approvers could read.
      commandHashes: (grant.spec.commands ?? []).map((text) => hashOf(status.account!, text)),
      notBeforeMs: life.startMs,
      expiresAtMs: life.endMs,
      // The gateway moves live sessions on to it when the parent's time is over.
      ...(grant.spec.extends !== undefined ? { extends: grant.spec.extends.uid } : {}),
      ticketUntilExpiry: sessionLimits(shard, policyName).ticketUntilExpiry,
      ...(grant.spec.sealed === undefined
        ? {}
        : {
            sealed: {
              durationMs: parseDuration(grant.spec.duration ?? '') ?? SEALED_USE_MS,
              uses: grant.spec.sealed.uses ?? 1,
            },
          }),
    });
  }
  published.sort((a, b) => (a.uid < b.uid ? -1 : 1));
  return { grants: published, withheld };
}

/** Why a grant may not be published although it is in force; undefined: it may. */
export function misfit(
  shard: PolicyShard,
  name: string,
  uid: string,
  account: string,
  principal: Principal,
): string | undefined {
  const policy = shard.policies.find((each) => each.kind === 'AccessPolicy' && each.name === name);
  if (policy === undefined) return `policy ${name} is gone or no longer selects the Connection`;
  if (!policy.accepted) return undefined; // the gateway itself denies each command and says why
  if (policy.uid !== uid) return `policy ${name} was deleted and made anew`;
  if (!matchesAny(policy.subjects, principal, homeOf(policy)))
    return `policy ${name} no longer names ${principal.username}`;
  if (!policy.accounts.includes(account)) return `policy ${name} no longer offers account ${account}`;
  return undefined;
}

/**
 * Splits grants over `grants-N`, so that one more grant rewrites one shard. A proxy hears of each shard on its own, and
 * of a new one later than of a change to one it has: a grant that moved would be in none for a while, and its sessions be
 * cut. So each stays in the shard that `placed` names for as long as it is published; others go where there is room,
 * lowest first, so that high shards run empty. `grants-0` is always there, and others only with something in them.
 */
export function grantShards(
  grants: readonly BundleGrant[],
  placed: ReadonlyMap<string, GrantShardName> = new Map(),
): Map<GrantShardName, BundleGrant[]> {
  interface Shard {
    grants: BundleGrant[];
    bytes: number;
  }
  const shards: (Shard | undefined)[] = [];
  const shardAt = (index: number): Shard => (shards[index] ??= { grants: [], bytes: 0 });
  const put = (index: number, grant: BundleGrant, bytes: number): void => {
    const shard = shardAt(index);
    shard.grants.push(grant);
    shard.bytes += bytes;
  };
  const fits = (index: number, bytes: number, most: { grants: number; bytes: number }): boolean => {
    const shard = shardAt(index);
    return shard.grants.length === 0 || (shard.grants.length < most.grants && shard.bytes + bytes <= most.bytes);
  };
  const homeless: { grant: BundleGrant; bytes: number }[] = [];
  for (const grant of grants) {
    // With the comma behind it.
    const bytes = Buffer.byteLength(JSON.stringify(grant)) + 1;
    const index = indexOf(placed.get(grant.uid));
    // A proxy takes no shard above the limit at all: what has outgrown its shard has to move.
    if (index !== undefined && fits(index, bytes, LIMIT)) put(index, grant, bytes);
    else homeless.push({ grant, bytes });
  }
  for (const { grant, bytes } of homeless) {
    let index = 0;
    while (index < MOST_GRANT_SHARDS - 1 && !fits(index, bytes, ROOM)) index += 1;
    put(index, grant, bytes);
  }
  shardAt(0);
  const named = new Map<GrantShardName, BundleGrant[]>();
  for (const [index, shard] of shards.entries()) {
    if (shard === undefined || (index > 0 && shard.grants.length === 0)) continue;
    // However they came to be here: the same grants are the same content.
    named.set(
      `grants-${index}`,
      shard.grants.sort((a, b) => (a.uid < b.uid ? -1 : 1)),
    );
  }
  return named;
}

function indexOf(shard: GrantShardName | undefined): number | undefined {
  const index = shard === undefined ? Number.NaN : Number(shard.slice('grants-'.length));
  return Number.isInteger(index) && index >= 0 && index < MOST_GRANT_SHARDS ? index : undefined;
}

/** What a shard says: sealed grants apart from the others. */
export function grantsPayload(part: readonly BundleGrant[]): GrantsShard {
  const sealed = part.filter((grant) => grant.sealed !== undefined);
  return {
    grants: part.filter((grant) => grant.sealed === undefined),
    ...(sealed.length === 0 ? {} : { sealed }),
  };
}

export function bundleReleases(holds: readonly CommandHold[], sealer: Sealer, nowMs: number): Release[] {
  const releases: Release[] = [];
  for (const hold of holds) {
    const status = sealedHold(hold, sealer);
    if (status === undefined || (status.phase !== 'Approved' && status.phase !== 'Denied')) continue;
    if (status.usedAt !== undefined) continue;
    const { spec } = hold;
    // A denial is kept for as long as somebody may still be waiting for it.
    const usableUntilMs = status.usableUntil === undefined ? Date.parse(spec.until) : Date.parse(status.usableUntil);
    if (usableUntilMs + 60_000 < nowMs) continue;
    releases.push({
      hold: hold.metadata.name,
      holdUid: hold.metadata.uid,
      grantUid: spec.grantRef.uid,
      sessionId: spec.sessionId,
      commandHash: spec.commandHash,
      decision: status.phase,
      by: status.decidedBy ?? [],
      ...(status.reason ? { reason: status.reason } : {}),
      usableUntilMs,
    });
  }
  return releases.sort((a, b) => (a.holdUid < b.holdUid ? -1 : 1));
}

/** Locks of the Connection's namespace that bear on it. What can not be read locks: a lock is never lost to a typo. */
export function bundleLocks(connection: { name: string }, locks: readonly AccessLock[], nowMs: number): LockEntry[] {
  const entries: LockEntry[] = [];
  for (const lock of locks) {
    const { target, reason, until } = lock.spec;
    const untilMs = until === undefined ? undefined : Date.parse(until);
    if (untilMs !== undefined && untilMs <= nowMs) continue;
    if (target.connection !== undefined && target.connection !== connection.name) continue;
    entries.push({
      name: lock.metadata.name,
      target: {
        ...(target.user !== undefined ? { user: target.user } : {}),
        ...(target.group !== undefined ? { group: target.group } : {}),
        ...(target.everything ? { everything: true } : {}),
        ...(target.connection !== undefined ? { connection: true } : {}),
      },
      reason,
      ...(untilMs !== undefined && !Number.isNaN(untilMs) ? { untilMs } : {}),
    });
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}
