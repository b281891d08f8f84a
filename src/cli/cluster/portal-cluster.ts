// The portal's world in a cluster: what it shows is kept in step by watches, what people do goes to the API server with
// their proof, encrypted to the operator's key, for the webhook to verify and stamp. Guarantees: the portal's own word
// names nobody; the providers by which people are known here are those that the operator signed; without the API server
// it shows what it saw last and says so.
import type { EnforcementBundle } from '../../api/bundle-object.ts';
import type { IdentityProvider } from '../../api/identity-provider.ts';
import type { Resource } from '../../api/resource.ts';
import type { AccessSession } from '../../api/session.ts';
import { readShard } from '../../controllers/admission/trusted-providers.ts';
import { createSignal } from '../../controllers/identity-providers/signal.ts';
import { proofTermsOf, TRUST_CONFIG_MAP, type TrustConfigMap } from '../../controllers/pki/trust.ts';
import { encryptProof, type PublishedProofKey } from '../../identity/proof-encryption.ts';
import { causesOf, type KubeFailure } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import type { KubeObject } from '../../kube/object.ts';
import { type Reflector, startReflector } from '../../kube/reflector.ts';
import type { ShardEnvelope } from '../../policy/bundle.ts';
import { keyIdOf, type TrustedKey } from '../../policy/bundle-signing.ts';
import type { PortalLog } from '../../portal/portal.ts';
import type { CreateResult, LiveSession, PortalKind, World } from '../../portal/world.ts';
import { publicKeyFromRaw } from '../../recording/signer.ts';
import type { NewObject } from '../../store/resource-store.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import { CliError, EXIT } from '../io.ts';
import { admissionText } from './failures.ts';
import { pathOf } from './plurals.ts';

const FOLLOWED: readonly (PortalKind | 'AccessSession')[] = [
  'Connection',
  'AccessPolicy',
  'AccessGrant',
  'AccessApproval',
  'CommandHold',
  'AccessSession',
];
/** How often the operator's keys are read anew. */
const TRUST_MS = 60_000;
/** A burst of changes is told once. */
const BURST_MS = 100;

interface Terms {
  cluster: string;
  key: PublishedProofKey;
  trusted: readonly TrustedKey[];
}

export interface ClusterWorld extends World {
  stop(): Promise<void>;
}

export function createClusterWorld(options: {
  client: KubeClient;
  /** The operator's. */
  namespace: string;
  clock: Clock;
  random: Random;
  log: PortalLog;
}): ClusterWorld {
  const { client, namespace, clock, random, log } = options;
  const listeners = new Set<() => void>();
  let cancelTell: (() => void) | undefined;
  const changed = (): void => {
    cancelTell ??= clock.after(BURST_MS, () => {
      cancelTell = undefined;
      for (const listener of Array.from(listeners)) listener();
    });
  };
  const reflectors = new Map<string, Reflector<KubeObject>>();
  for (const kind of FOLLOWED) {
    const reflector = startReflector<KubeObject>({
      client,
      path: pathOf(kind),
      clock,
      random,
      log,
      // Lists have no kind in their items.
      trim: (object) => ({ ...object, kind }),
      onEvent: () => changed(),
    });
    reflector.synced.catch(() => undefined);
    reflectors.set(kind, reflector);
  }
  let envelope: ShardEnvelope | undefined;
  const identity = startReflector<EnforcementBundle>({
    client,
    path: `/apis/sallyport.dev/v1alpha1/namespaces/${namespace}/enforcementbundles`,
    name: 'identity',
    clock,
    random,
    log,
    onEvent({ type, object }) {
      const next = object.spec as ShardEnvelope;
      if (type === 'Deleted') envelope = undefined;
      else if (envelope === undefined || order(next, envelope) >= 0) envelope = next;
    },
  });
  identity.synced.catch(() => undefined);

  let terms: Terms | undefined;
  const readTrust = async (): Promise<Terms | undefined> => {
    const found = await client.get<TrustConfigMap>(`/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIG_MAP}`);
    if (found.kind === 'Failed') throw new Error(`ConfigMap ${TRUST_CONFIG_MAP}: ${found.message}`);
    const published = proofTermsOf(found.value);
    if (published === undefined) return undefined;
    const trusted = Object.values(found.value.data ?? {}).flatMap((raw) => {
      const publicKey = publicKeyFromRaw(raw);
      return publicKey === undefined ? [] : [{ keyId: keyIdOf(publicKey), publicKey }];
    });
    terms = { ...published, trusted };
    return terms;
  };
  let cancelTrust: () => void = () => undefined;
  let stopped = false;
  const followTrust = (): void => {
    readTrust()
      .catch((error: unknown) =>
        log('warn', 'the operator’s keys can not be read', { error: (error as Error).message }),
      )
      .finally(() => {
        if (!stopped) cancelTrust = clock.after(terms === undefined ? 2_000 : TRUST_MS, followTrust);
      });
  };
  followTrust();
  const needTerms = async (): Promise<Terms> => {
    const found = terms ?? (await readTrust().catch(() => undefined));
    if (found === undefined) throw new Error('the operator has not published its keys yet');
    return found;
  };

  const trouble = (): string | undefined => {
    const out = [...reflectors.values()].find((each) => !each.status().synced || each.status().problem !== undefined);
    return out === undefined ? undefined : 'The cluster does not answer; what you see may be missing things.';
  };

  return {
    prefix: 'kubectl access',
    cluster: async () => (await needTerms()).cluster,
    async providers() {
      const { trusted } = await needTerms();
      if (envelope === undefined) return [];
      const known = readShard(trusted, envelope);
      if (known !== undefined) return known;
      // Signed by a key that is newer than what was read.
      const again = await readTrust().catch(() => undefined);
      return (again && readShard(again.trusted, envelope)) ?? [];
    },
    unknownKey: createSignal({ client, namespace, clock, log }),
    list: <R extends Resource>(kind: PortalKind) =>
      Promise.resolve((reflectors.get(kind)?.list() ?? []) as unknown as readonly R[]),
    async get<R extends Resource>(kind: PortalKind, inNamespace: string, name: string) {
      const seen = reflectors.get(kind)?.get(inNamespace, name);
      if (seen !== undefined) return seen as unknown as R;
      const found = await client.get<R>(pathOf(kind, { namespace: inNamespace, name }));
      return found.kind === 'Ok' ? { ...found.value, kind } : undefined;
    },
    sessions: () =>
      Promise.resolve(
        ((reflectors.get('AccessSession')?.list() ?? []) as unknown as AccessSession[]).flatMap(
          ({ metadata, spec, status }) =>
            status?.phase === 'Ended' || status?.phase === 'Lost'
              ? []
              : [
                  {
                    id: metadata.name,
                    namespace: metadata.namespace ?? '',
                    connection: spec.connectionRef.name,
                    grant: spec.grantRef,
                    username: spec.username,
                    account: spec.account,
                    client: spec.client,
                    startedAt: spec.startedAt,
                    state: 'Live',
                    holds: [],
                  } satisfies LiveSession,
                ],
        ),
      ),
    async create(object) {
      try {
        return await create(client, await sealed(object, (await needTerms()).key));
      } catch (error) {
        return { kind: 'Unavailable', message: (error as Error).message };
      }
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    trouble,
    async stop() {
      stopped = true;
      cancelTrust();
      cancelTell?.();
      await Promise.all([identity.stop(), ...[...reflectors.values()].map((each) => each.stop())]);
    },
  };
}

const order = (a: ShardEnvelope, b: ShardEnvelope): number => a.epoch - b.epoch || a.sequence - b.sequence;

/** The object with its proof encrypted: audit logs keep bodies. */
async function sealed(object: NewObject, key: PublishedProofKey): Promise<NewObject> {
  const spec = { ...(object.spec as Record<string, unknown>) };
  for (const field of ['requester', 'approver']) {
    const stamp = spec[field] as { via: string; proof: string } | undefined;
    if (stamp !== undefined) spec[field] = { via: stamp.via, proof: await encryptProof(stamp.proof, key) };
  }
  return { ...object, spec };
}

async function create(client: KubeClient, object: NewObject): Promise<CreateResult> {
  const path = pathOf(object.kind, { namespace: object.metadata.namespace });
  const made = await client.create<Resource>(path, object, { fieldValidation: 'Strict' });
  return made.kind === 'Ok' ? { kind: 'Made', object: made.value } : resultOf(made);
}

export function resultOf(failure: KubeFailure): CreateResult {
  const { status, message } = failure;
  if (failure.reason === 'AlreadyExists') return { kind: 'Exists' };
  const said = admissionText(message);
  if (said !== undefined && status < 500) {
    // The webhook's answer for a token that made its grant in another namespace.
    return status === 409 ? { kind: 'Exists' } : { kind: 'Refused', message: said };
  }
  if (status === 422) return { kind: 'Refused', message: `It is not valid: ${causesOf(failure).join('; ')}` };
  if (status === 404) return { kind: 'Refused', message: 'Its namespace is not there.' };
  return {
    kind: 'Unavailable',
    message: /failed calling webhook/.test(message)
      ? 'the operator did not answer'
      : status === 403
        ? 'the portal may not make it; its administrator sees why in the log'
        : 'the cluster did not take it',
  };
}

/** The CA that the provider's IdentityProvider names; undefined: the system's are believed. */
export async function caOfIssuer(client: KubeClient, issuer: string): Promise<string | undefined> {
  const found = await client.list<IdentityProvider>(pathOf('IdentityProvider'));
  if (found.kind === 'Failed') {
    throw new CliError(
      EXIT.failed,
      `IdentityProviders can not be read: ${found.message}`,
      'The chart’s ClusterRole sallyport-login lets every ServiceAccount.',
    );
  }
  return found.value.items.find((each) => each.spec.issuer === issuer)?.spec.caBundle;
}
