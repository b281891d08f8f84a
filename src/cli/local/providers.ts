// The identity providers in force, as the operator signed them: of the shard that proxies get.
import type { BundleFeed } from '../../gateway/ports.ts';
import { readPayload } from '../../gateway/shard-payload.ts';
import { EVERY_CONNECTION, type ShardEnvelope, type TrustedProvider } from '../../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../../policy/bundle-signing.ts';

/** The providers of the envelope; undefined: it is none of theirs, or not signed by a key that is trusted. */
export function readProviders(
  trusted: readonly TrustedKey[],
  envelope: ShardEnvelope,
): readonly TrustedProvider[] | undefined {
  if (envelope.connectionUid !== EVERY_CONNECTION || envelope.shard !== 'identity') return undefined;
  const verdict = verifyShard(trusted, envelope);
  if (verdict.kind === 'Bad') return undefined;
  const payload = readPayload(envelope, verdict.payload);
  return payload?.kind === 'Identity' ? payload.identity.providers : undefined;
}

/** What there is now; nobody before the first shard. */
export function followProviders(
  feed: BundleFeed,
  trusted: readonly TrustedKey[],
): { current: () => readonly TrustedProvider[]; stop: () => void } {
  let providers: readonly TrustedProvider[] = [];
  const stop = feed.subscribe((event) => {
    if (event.kind === 'Shard') providers = readProviders(trusted, event.envelope) ?? providers;
    else if (event.kind === 'ShardGone' && event.connectionUid === EVERY_CONNECTION && event.shard === 'identity')
      providers = [];
  });
  return { current: () => providers, stop };
}
