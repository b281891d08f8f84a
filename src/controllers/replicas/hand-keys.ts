// What a replica is handed of a Connection whose protocol has keys of its own: the seed, for its process alone, and host
// certificates. Kept while they fit and are not due, so that steady state makes and writes nothing.
import { canonicalJson, sha256Hex } from '../../api/canonical.ts';
import type { ProxyReplicaSpec, ProxyReplicaStatus } from '../../api/replica.ts';
import { sealSeed } from '../../identity/seed-sealing.ts';
import type { SigningKey } from '../../policy/bundle-signing.ts';
import type { ProtocolDefinition, PublishedName } from '../../protocols/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import { rfc3339 } from '../conditions.ts';
import { certifyKeys, seedsOf } from '../pki/connection-keys.ts';

export type HandedKeys = NonNullable<NonNullable<ProxyReplicaStatus['connections']>[number]['keys']>;

export interface HandKeysOptions {
  spec: Pick<ProxyReplicaSpec, 'keyAgreement'>;
  known: HandedKeys | undefined;
  definition: Pick<ProtocolDefinition, 'ownKeys'> | undefined;
  connectionUid: string;
  names: readonly PublishedName[];
  key: SigningKey;
  clock: Clock;
  random: Random;
}

/** undefined: its protocol has none, or the process has not told a key of its own that anything could be sealed to. */
export function handKeys(options: HandKeysOptions): HandedKeys | undefined {
  const { spec, known, definition, connectionUid, names, key, clock, random } = options;
  const recipient = spec.keyAgreement;
  if (definition?.ownKeys === undefined || recipient === undefined) return undefined;
  const wanted = sha256Hex(canonicalJson({ recipient, names, keyId: key.keyId })).slice(0, 32);
  if (known?.for === wanted && Date.parse(known.renewAt) > clock.now()) return known;
  const seeds = seedsOf(key, connectionUid);
  const sealed = sealSeed(seeds.connection, { connectionUid, recipient, key, random });
  if (sealed === undefined) return undefined;
  const { lines, renewAtMs } = certifyKeys(definition, seeds, names, { clock, random });
  return { ...sealed, certificates: [...lines], for: wanted, renewAt: rfc3339(renewAtMs) };
}
