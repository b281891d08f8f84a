// How the replica that leads learns that somebody, elsewhere, showed a token by a key that is not known: it alone asks
// issuers. Proxies say so in their ProxyReplica; what runs beside the operator (its other replicas, the approval page) in
// annotations of one Lease. Guarantees: a change is told within moments of being written; writers are bounded
// (identity/oidc/unknown-keys.ts) and so is, once more, whoever is told: an issuer is asked once a minute at most. What is
// written here is a hint and nothing else: the worst that a forged one does is that one question.
import { createHash } from 'node:crypto';
import type { ProxyReplica } from '../../api/replica.ts';
import { createUnknownKeys } from '../../identity/oidc/unknown-keys.ts';
import type { KubeClient } from '../../kube/client.ts';
import { LEASES, resourcePath } from '../../kube/paths.ts';
import { startReflector } from '../../kube/reflector.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';

/** Name of the Lease; the chart lets the portal patch it. */
export const SIGNAL_LEASE = 'sallyport-unknown-keys';
const ANNOTATION = 'unknown-key.sallyport.dev/';
const CALL_MS = 5_000;
/** More than these are not read: nobody has so many providers. */
const MOST_ANNOTATIONS = 256;

type SignalLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;

interface SignalLease {
  metadata: {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    annotations?: Record<string, string>;
  };
}

/** Tells the replica that leads. Never rejects and is not waited for. */
export function createSignal(options: {
  client: Pick<KubeClient, 'patch'>;
  /** The operator's. */
  namespace: string;
  clock: Clock;
  log: SignalLog;
}): (provider: string) => void {
  const keys = createUnknownKeys(options.clock);
  const path = resourcePath(LEASES, { namespace: options.namespace, name: SIGNAL_LEASE });
  return (provider) => {
    if (!keys.saw(provider)) return;
    // A name may be longer than a key of annotations.
    const key = `${ANNOTATION}${createHash('sha256').update(provider).digest('hex').slice(0, 32)}`;
    const at = new Date(options.clock.now()).toISOString();
    const failed = (error: string): void =>
      options.log('warn', 'the operator could not be told of a key that is not known', { provider, error });
    options.client
      .patch(path, { metadata: { annotations: { [key]: `${at} ${provider}` } } }, 'merge', { deadlineMs: CALL_MS })
      .then(
        (answer) => answer.kind === 'Failed' && failed(`${answer.status} ${answer.message}`),
        (error: unknown) => failed(error instanceof Error ? error.message : String(error)),
      );
  };
}

/** Hears what others tell; for the replica that leads. Makes the Lease. */
export function followSignals(options: {
  client: KubeClient;
  namespace: string;
  clock: Clock;
  random: Random;
  log: SignalLog;
  onUnknownKey(provider: string): void;
}): { /** Resolves once nothing is missed any more. */ listening: Promise<void>; stop(): Promise<void> } {
  const { client, namespace, clock, log } = options;
  const path = resourcePath(LEASES, { namespace });
  const lease = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name: SIGNAL_LEASE, namespace },
    spec: {},
  };
  let cancel = (): void => undefined;
  let stopped = false;
  const make = (): void => {
    client.create(path, lease, { deadlineMs: CALL_MS }).then(
      (answer) => answer.kind === 'Failed' && answer.status !== 409 && again(answer.message),
      (error: unknown) => again(String(error)),
    );
  };
  const again = (error: string): void => {
    log('warn', `Lease ${SIGNAL_LEASE} can not be made; new keys of issuers are learnt in their turn`, { error });
    if (!stopped) cancel = clock.after(60_000, make);
  };
  make();
  let seen: Record<string, string> | undefined;
  const reflector = startReflector<SignalLease>({
    client,
    path,
    name: SIGNAL_LEASE,
    clock,
    random: options.random,
    log,
    onEvent({ type, object }) {
      if (type === 'Deleted') return make();
      const next = object.metadata.annotations ?? {};
      // What was there before is of somebody else's time: all issuers are asked at the start anyway.
      if (seen !== undefined) for (const provider of told(seen, next)) options.onUnknownKey(provider);
      seen = next;
    },
    // Where there was none, all that comes is new.
    onSynced: () => (seen ??= {}),
  });
  const listening = reflector.synced.then(
    () => undefined,
    () => undefined,
  );
  return {
    listening,
    async stop() {
      stopped = true;
      cancel();
      await reflector.stop();
    },
  };
}

function told(before: Record<string, string>, after: Record<string, string>): string[] {
  return Object.entries(after)
    .filter(([key, value]) => key.startsWith(ANNOTATION) && before[key] !== value)
    .slice(0, MOST_ANNOTATIONS)
    .flatMap(([, value]) => value.split(' ')[1] ?? []);
}

/** Providers of which this proxy has told since it was seen last. */
export function toldByReplica(replica: ProxyReplica, previous: ProxyReplica | undefined): string[] {
  const before = previous?.spec?.unknownKeys ?? [];
  return (replica.spec?.unknownKeys ?? [])
    .filter(({ provider, at }) => !before.some((each) => each.provider === provider && each.at === at))
    .map(({ provider }) => provider);
}
