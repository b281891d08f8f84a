// What this replica verifies tokens by: the identity shard that the leading one published and signed, as proxies get it,
// so every replica answers alike and none needs a way to an issuer. Guarantees: only what a key of the operator signed,
// never older than what was seen before; without the API server what was read last stands, until the keys in it are too
// old by their own word. Deleted means nobody is trusted: whoever can delete it can end logins, not forge them.
import type { EnforcementBundle } from '../../api/bundle-object.ts';
import type { KubeClient } from '../../kube/client.ts';
import { startReflector } from '../../kube/reflector.ts';
import {
  EVERY_CONNECTION,
  type IdentityShard,
  type ShardEnvelope,
  type ShardName,
  type TrustedProvider,
} from '../../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../../policy/bundle-signing.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { Log } from '../runtime.ts';

const SHARD: ShardName = 'identity';

export interface ProvidersView {
  /** undefined: not read yet, or there are none. The same array as long as nothing changes. */
  current(): readonly TrustedProvider[] | undefined;
  stop(): Promise<void>;
}

export function followTrustedProviders(options: {
  client: KubeClient;
  /** The operator's own. */
  namespace: string;
  trusted: readonly TrustedKey[];
  clock: Clock;
  random: Random;
  log: Log;
}): ProvidersView {
  const { log, namespace } = options;
  let providers: readonly TrustedProvider[] | undefined;
  let newest = { epoch: -1, sequence: -1 };
  const reflector = startReflector<EnforcementBundle>({
    client: options.client,
    path: `/apis/sallyport.dev/v1alpha1/namespaces/${namespace}/enforcementbundles`,
    name: SHARD,
    clock: options.clock,
    random: options.random,
    log,
    onEvent({ type, object }) {
      if (type === 'Deleted') {
        providers = undefined;
        return;
      }
      const envelope = object.spec as ShardEnvelope;
      const read = readShard(options.trusted, envelope);
      if (read === undefined) {
        log('warn', 'the identity shard is not one that this operator signed; it is not used', { namespace });
        return;
      }
      const { epoch, sequence } = envelope;
      if (epoch < newest.epoch || (epoch === newest.epoch && sequence < newest.sequence)) {
        log('warn', 'the identity shard is older than one that was there before; it is not used', { namespace });
        return;
      }
      newest = { epoch, sequence };
      providers = read;
    },
  });
  reflector.synced.catch(() => undefined);
  return { current: () => providers, stop: () => reflector.stop() };
}

/** The providers in it; undefined: it is another shard, or not signed by a key that is trusted. */
export function readShard(
  trusted: readonly TrustedKey[],
  envelope: ShardEnvelope,
): readonly TrustedProvider[] | undefined {
  if (envelope.connectionUid !== EVERY_CONNECTION || envelope.shard !== SHARD) return undefined;
  const verdict = verifyShard(trusted, envelope);
  if (verdict.kind === 'Bad') return undefined;
  const { providers } = verdict.payload as Partial<IdentityShard>;
  return Array.isArray(providers) ? providers : undefined;
}
