// Keeps what tokens are verified by: asks every issuer for its keys, publishes all providers as the one shard `identity`,
// and says on each IdentityProvider how it stands. Guarantees: the shard alone is memory: what a leader before this one
// signed is believed again until it would have ended anyway, so that a restart while an issuer is away takes nobody's
// login, and the status of an object, which others might write, is never read back. A change of keys changes no policy.
import type { IdentityProvider } from '../../api/identity-provider.ts';
import {
  EVERY_CONNECTION,
  type IdentityShard,
  SHARD_LIMIT,
  type ShardEnvelope,
  type TrustedProvider,
} from '../../policy/bundle.ts';
import { type TrustedKey, verifyShard } from '../../policy/bundle-signing.ts';
import { objectOf } from '../grants/controller.ts';
import type { ControllerContext } from '../ports.ts';
import { keyOf, type Reconcile, splitKey } from '../runtime.ts';
import { writeStatus } from '../status.ts';
import { sourceOf, specNote, specProblem } from './compile.ts';
import { afterFetch, decideProvider, FETCH_EVERY_MS, fetchDue, KEYS_SERVE_MS, type ProviderMemory } from './decide.ts';
import type { HttpsGet } from './fetch.ts';
import { fetchKeys } from './keys.ts';

/** What was published before this process began. */
export interface StoredIdentity {
  /** Rejects if it can not be told; undefined: nothing was. */
  read(): Promise<ShardEnvelope | undefined>;
  /** Where publishing alone keeps nothing. */
  keep?(envelope: ShardEnvelope): void;
}

export interface IdentityControllerOptions extends ControllerContext {
  get: HttpsGet;
  stored: StoredIdentity;
  trusted: readonly TrustedKey[];
  /** Signs and publishes, if it says something else than the last. */
  publish(shard: IdentityShard): void;
}

export interface IdentityController {
  reconcile: Reconcile;
  /** Reads what was published before. Once, before the first reconcile. */
  recover(): Promise<void>;
  /** What tokens are verified by now. */
  readonly shard: IdentityShard;
  /** Somebody showed a token by a key that is not known: true if the issuer is to be asked, once a minute at most for that. */
  hint(provider: string): boolean;
}

export function createIdentityController(options: IdentityControllerOptions): IdentityController {
  const { cache, clock, records, log } = options;
  const memories = new Map<string, ProviderMemory>();
  const hinted = new Set<string>();
  const compiled = new Map<string, TrustedProvider>();
  let shard: IdentityShard = { providers: [] };
  /** A shard was published once, so an empty one must follow when the last provider goes. */
  let exists = false;

  const publish = (): void => {
    const all = [...compiled.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const next = { providers: fitting(all) };
    if (next.providers.length < all.length)
      log('error', 'identity providers are left out: together they are too large', {
        left: all.slice(next.providers.length).map((each) => each.name),
      });
    // One object for as long as it says the same: signatures are remembered by it.
    if (JSON.stringify(next) !== JSON.stringify(shard)) shard = next;
    if (shard.providers.length === 0 && !exists) return;
    exists = true;
    options.publish(shard);
  };

  const judge = (resource: IdentityProvider): { problem: string | undefined; note: string } => {
    const all = cache.list<IdentityProvider>('IdentityProvider');
    return { problem: specProblem(resource, all), note: specNote(resource, all) };
  };

  const reconcile: Reconcile = async (key, signal) => {
    const { name } = splitKey(key);
    const resource = cache.get<IdentityProvider>({ kind: 'IdentityProvider', name });
    if (resource === undefined) {
      memories.delete(name);
      hinted.delete(name);
      if (compiled.delete(name)) publish();
      return undefined;
    }
    const judged = judge(resource);
    const { problem } = judged;
    const from = sourceOf(resource.spec);
    let memory = memories.get(name) ?? { good: undefined };
    const before = memory.good?.from === from ? memory.good : undefined;
    if (problem === undefined && fetchDue(memory, from, clock.monotonic(), hinted.has(name)) === 0) {
      const wasHinted = hinted.delete(name);
      const fetched = await fetchKeys(options.get, resource.spec, signal);
      if (signal.aborted) return undefined;
      const atMs = clock.monotonic();
      const hintedAtMs = wasHinted ? atMs : memory.asked?.hintedAtMs;
      const asked = {
        from,
        atMs,
        failed: fetched.kind === 'Bad',
        ...(hintedAtMs === undefined ? {} : { hintedAtMs }),
      };
      memory = { ...afterFetch(memory, fetched, from, clock.now()), asked };
      if (fetched.kind === 'Bad')
        log('warn', 'keys of an issuer can not be had', { provider: name, reason: fetched.reason });
    }
    const now = clock.now();
    const { provider, status } = decideProvider(resource, judged, memory, now);
    if (resource.status?.observedGeneration !== resource.metadata.generation || keysDiffer(before, memory.good))
      await records.write({
        act: resource.status?.observedGeneration === undefined ? 'identityprovider.create' : 'identityprovider.change',
        actor: { username: 'sallyport' },
        object: objectOf(resource),
        details: {
          generation: resource.metadata.generation,
          issuer: resource.spec.issuer,
          keys: (memory.good?.keys ?? []).map((each) => each.kid ?? ''),
        },
      });
    // Only now: keys that nobody could record are fetched once more, not believed.
    memories.set(name, memory);
    if (provider === undefined) compiled.delete(name);
    else compiled.set(name, provider);
    publish();
    await writeStatus(options, resource, status);
    const waits = [
      problem === undefined ? fetchDue(memory, from, clock.monotonic(), hinted.has(name)) : FETCH_EVERY_MS,
      ...(memory.good !== undefined && memory.good.goodUntilMs > now ? [memory.good.goodUntilMs - now] : []),
    ];
    return { againInMs: Math.max(1, Math.min(...waits)) };
  };

  return {
    reconcile,
    async recover() {
      const envelope = await options.stored.read();
      exists = envelope !== undefined;
      const providers = envelope && believed(envelope, options.trusted);
      if (envelope !== undefined && providers === undefined)
        log('warn', 'the stored keys of issuers are signed by nobody known here; they are not used');
      for (const { name, keys, keysGoodUntilMs, keysFrom } of providers ?? []) {
        if (keysFrom === undefined || keys.length === 0 || keysGoodUntilMs <= clock.now()) continue;
        const fetchedAtMs = keysGoodUntilMs - KEYS_SERVE_MS;
        memories.set(name, { good: { from: keysFrom, keys, fetchedAtMs, goodUntilMs: keysGoodUntilMs } });
      }
      // Before anything is fetched: an issuer that hangs must not keep what is known of the others; and whoever is left out
      // of what is published is trusted no more, which ends the sessions of their people.
      for (const resource of cache.list<IdentityProvider>('IdentityProvider')) {
        const { name } = resource.metadata;
        const memory = memories.get(name) ?? { good: undefined };
        const { provider } = decideProvider(resource, judge(resource), memory, clock.now());
        if (provider !== undefined) compiled.set(name, provider);
      }
      if (providers !== undefined) publish();
    },
    get shard() {
      return shard;
    },
    hint(name) {
      const resource = cache.get<IdentityProvider>({ kind: 'IdentityProvider', name });
      if (resource === undefined || hinted.has(name)) return false;
      hinted.add(name);
      return true;
    },
  };
}

/** A new one, or another's end, bears on all: of two of one issuer the older is used. */
export function providersTouchedBy(cache: ControllerContext['cache'], changed: string): string[] {
  const all = cache.list<IdentityProvider>('IdentityProvider').map((each) => keyOf(undefined, each.metadata.name));
  return [...new Set([keyOf(undefined, changed), ...all])];
}

/** As many as one shard holds, in their order. */
function fitting(providers: readonly TrustedProvider[]): TrustedProvider[] {
  let size = 64;
  return providers.filter((each) => (size += Buffer.byteLength(JSON.stringify(each)) + 1) <= SHARD_LIMIT);
}

const keysDiffer = (before: ProviderMemory['good'], after: ProviderMemory['good']): boolean =>
  JSON.stringify(before?.keys ?? []) !== JSON.stringify(after?.keys ?? []);

/** What a stored shard says, if it is one and a trusted key signed it for this place. */
function believed(envelope: ShardEnvelope, trusted: readonly TrustedKey[]): TrustedProvider[] | undefined {
  if (envelope.connectionUid !== EVERY_CONNECTION || envelope.shard !== 'identity') return undefined;
  const verdict = verifyShard(trusted, envelope);
  const providers = verdict.kind === 'Good' ? (verdict.payload as Partial<IdentityShard> | null)?.providers : undefined;
  return Array.isArray(providers) ? providers : undefined;
}
