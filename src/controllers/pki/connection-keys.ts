// Keys of Connections' listeners, where their protocol has keys of its own: seeds, what is published of them, and host
// certificates. Guarantees: nothing is kept anywhere; whoever has the operator's key has them all, and a Connection's seed
// tells nothing of another's (HKDF-SHA256, RFC 5869, one label each). A Connection that is made again has another uid, so
// other keys. Losing or replacing the operator's key replaces them all.
import { hkdfSync } from 'node:crypto';
import { type Connection, type ConnectionStatus, hostAliasOf } from '../../api/connection.ts';
import type { SigningKey } from '../../policy/bundle-signing.ts';
import type { ConnectionKeys, KeySeeds, ProtocolDefinition, PublishedName } from '../../protocols/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';

const DAY_MS = 86_400_000;
const CERTIFICATE_LIFE_MS = 30 * DAY_MS;
/** Clients whose clock is behind are to believe them too. */
const BACKDATE_MS = 3_600_000;

type Named = { uid: string; name: string; namespace: string };
type Endpoint = { host: string; port: number };

/** `key`: the operator's Ed25519 key. */
export function seedsOf({ privateKey }: SigningKey, connectionUid: string): KeySeeds {
  const secret = privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
  const derive = (label: string): Buffer => Buffer.from(hkdfSync('sha256', secret, 'sallyport', label, 32));
  return {
    connection: derive(`keys of connection ${connectionUid} v1`),
    installation: derive('host authority of the installation v1'),
  };
}

/** By what its clients may look it up. The alias comes first. */
export function publishedNames({ name, namespace }: Named, endpoint: Endpoint | undefined): PublishedName[] {
  const alias = { host: hostAliasOf(name, namespace) };
  if (endpoint === undefined) return [alias];
  const loopback = endpoint.host === 'localhost' ? [{ host: '127.0.0.1', port: endpoint.port }] : [];
  return [alias, endpoint, ...loopback];
}

/** For the Connection's status. */
export function publishedKeys(
  { key, definitions }: { key: SigningKey; definitions: readonly ProtocolDefinition[] },
  { metadata, spec }: Connection,
  endpoint: Endpoint | undefined,
): Pick<ConnectionStatus, 'ssh'> {
  const { ownKeys } = definitions.find(({ type }) => type === spec.type) ?? {};
  const { uid, name, namespace = 'default' } = metadata;
  return ownKeys?.publish(seedsOf(key, uid), publishedNames({ uid, name, namespace }, endpoint)) ?? {};
}

export interface Certified {
  lines: readonly string[];
  renewAtMs: number;
}

/** Host certificates for as long as they are good; a third of that is left when they are to be made anew. */
export function certifyKeys(
  definition: Pick<ProtocolDefinition, 'ownKeys'>,
  seeds: KeySeeds,
  names: readonly PublishedName[],
  { clock, random }: { clock: Clock; random: Random },
): Certified {
  const now = clock.now();
  const lines =
    definition.ownKeys?.certify(seeds, names, {
      validAfterMs: now - BACKDATE_MS,
      validBeforeMs: now + CERTIFICATE_LIFE_MS,
      random,
    }) ?? [];
  return { lines, renewAtMs: now + (CERTIFICATE_LIFE_MS * 2) / 3 };
}

/** For a process that has the operator's key itself: keys of each Connection, certified for where it is reached now. */
export function ownConnectionKeys(options: {
  key: SigningKey;
  definitions: readonly ProtocolDefinition[];
  endpoint(connectionUid: string): Endpoint | undefined;
  clock: Clock;
  random: Random;
}): (connection: Named & { spec: { type: string } }) => ConnectionKeys | undefined {
  const { clock } = options;
  const made = new Map<string, Certified & { for: string }>();
  return (connection) => {
    const definition = options.definitions.find(({ type }) => type === connection.spec.type);
    if (definition?.ownKeys === undefined) return undefined;
    const { uid } = connection;
    const seeds = seedsOf(options.key, uid);
    return {
      seed: seeds.connection,
      certificates() {
        const names = publishedNames(connection, options.endpoint(uid));
        const wanted = JSON.stringify(names);
        const known = made.get(uid);
        if (known?.for === wanted && clock.now() < known.renewAtMs) return known.lines;
        const fresh = { for: wanted, ...certifyKeys(definition, seeds, names, options) };
        made.set(uid, fresh);
        return fresh.lines;
      },
    };
  };
}
