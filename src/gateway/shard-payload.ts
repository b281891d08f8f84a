// Reads a shard: is it an envelope at all, and is its payload of the shape that its name promises? Signatures and order
// are bundle-store.ts' business. Pure.
import {
  type BundleGrant,
  type GrantsShard,
  type HeartbeatShard,
  type IdentityShard,
  type OverlayShard,
  type PolicyShard,
  type Release,
  type ReleasesShard,
  SHARD_LIMIT,
  type ShardEnvelope,
} from '../policy/bundle.ts';

const MOST_GRANT_SHARDS = 4096;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** The envelope comes from storage that others may write: its shape is checked before anything is computed over it. */
export function envelopeFault(envelope: ShardEnvelope): string | undefined {
  if (typeof envelope.payload !== 'string' || typeof envelope.payloadHash !== 'string') return 'Malformed';
  if (typeof envelope.connectionUid !== 'string' || typeof envelope.shard !== 'string') return 'Malformed';
  if (!isCount(envelope.epoch) || !isCount(envelope.sequence)) return 'Malformed';
  if (!Array.isArray(envelope.signatures) || envelope.signatures.length > 8) return 'Malformed';
  if (envelope.payload.length > SHARD_LIMIT || Buffer.byteLength(envelope.payload) > SHARD_LIMIT) return 'TooBig';
  return undefined;
}

export type Payload =
  | { kind: 'Policy'; policy: PolicyShard }
  | { kind: 'Grants'; grants: GrantsShard }
  | { kind: 'Releases'; releases: readonly Release[] }
  | { kind: 'Overlay'; overlay: OverlayShard }
  | { kind: 'Heartbeat'; heartbeat: HeartbeatShard }
  | { kind: 'Identity'; identity: IdentityShard };

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** What signed it is trusted to mean it; this only keeps a shard of the wrong shape from half-applying. */
export function readPayload(envelope: ShardEnvelope, payload: unknown): Payload | undefined {
  if (!isObject(payload)) return undefined;
  switch (envelope.shard) {
    case 'policy':
      return isObject(payload['connection']) &&
        isObject(payload['connection']['spec']) &&
        Array.isArray(payload['policies'])
        ? { kind: 'Policy', policy: payload as unknown as PolicyShard }
        : undefined;
    case 'releases':
      return Array.isArray(payload['releases']) && payload['releases'].every(isObject)
        ? { kind: 'Releases', releases: (payload as unknown as ReleasesShard).releases }
        : undefined;
    case 'overlay':
      return Array.isArray(payload['locks']) &&
        payload['locks'].every((lock) => isObject(lock) && isObject(lock['target'])) &&
        Array.isArray(payload['voidTickets'])
        ? { kind: 'Overlay', overlay: payload as unknown as OverlayShard }
        : undefined;
    case 'heartbeat':
      return Number.isFinite(payload['atMs'])
        ? { kind: 'Heartbeat', heartbeat: payload as unknown as HeartbeatShard }
        : undefined;
    case 'identity':
      return Array.isArray(payload['providers']) && payload['providers'].every(isProvider)
        ? { kind: 'Identity', identity: payload as unknown as IdentityShard }
        : undefined;
    default:
      return /^grants-[0-9]{1,4}$/.test(envelope.shard) &&
        Number(envelope.shard.slice(7)) < MOST_GRANT_SHARDS &&
        Array.isArray(payload['grants']) &&
        payload['grants'].every(isGrant) &&
        (payload['sealed'] === undefined || (Array.isArray(payload['sealed']) && payload['sealed'].every(isSealed)))
        ? { kind: 'Grants', grants: allGrants(payload as unknown as GrantsShard) }
        : undefined;
  }
}

const isProvider = (value: unknown): boolean =>
  isObject(value) &&
  typeof value['name'] === 'string' &&
  typeof value['issuer'] === 'string' &&
  Number.isFinite(value['keysGoodUntilMs']) &&
  ['keys', 'algorithms', 'audiences', 'void'].every((field) => Array.isArray(value[field]));

/** Each by its mark: a grant is never taken for what its place does not say. */
function allGrants({ grants, sealed = [] }: GrantsShard): GrantsShard {
  return { grants: [...grants.filter((grant) => grant.sealed === undefined), ...sealed] };
}

const isSealed = (value: unknown): boolean =>
  isGrant(value) && isCount(value.sealed?.durationMs) && isCount(value.sealed.uses);

function isGrant(value: unknown): value is BundleGrant {
  return (
    isObject(value) &&
    typeof value['uid'] === 'string' &&
    Number.isFinite(value['notBeforeMs']) &&
    Number.isFinite(value['expiresAtMs']) &&
    isObject(value['principal']) &&
    typeof value['principal']['username'] === 'string' &&
    Array.isArray(value['principal']['groups']) &&
    Array.isArray(value['commandHashes'])
  );
}
