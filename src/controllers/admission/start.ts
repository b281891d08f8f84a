// Admission as every replica of the operator serves it: the stamping webhook over TLS, its certificate made in memory and
// renewed in time, and the configuration through which the API server finds and trusts it. Guarantees: `ready` is true
// only once the API server can have been told whom to trust; a renewal that fails is tried again and the old certificate
// serves on; of what is asked here nothing is remembered but which proofs were used (proof-ledger.ts).

import { proofKeyOf } from '../../identity/proof-encryption.ts';
import { type AdmissionHandler, type AdmissionRequest, startAdmissionServer } from '../../kube/admission-server.ts';
import type { KubeClient } from '../../kube/client.ts';
import { startReflector } from '../../kube/reflector.ts';
import { type SigningKey, type TrustedKey, trustedKeyOf } from '../../policy/bundle-signing.ts';
import type { ProtocolRules } from '../../policy/session-policy.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { Authority } from '../pki/authority.ts';
import type { Log } from '../runtime.ts';
import type { Sealer } from '../seal.ts';
import {
  hasOthers,
  planBundle,
  WEBHOOK_CONFIGURATION,
  WEBHOOK_SERVICE,
  type WebhookConfiguration,
} from './ca-bundle.ts';
import { guardrailHandler } from './guardrail.ts';
import type { ProofSources } from './proof.ts';
import { createProofLedger } from './proof-ledger.ts';
import { stampOrProve } from './stamp.ts';
import { followTrustedProviders } from './trusted-providers.ts';

export interface AdmissionOptions {
  client: KubeClient;
  /** The operator's own. */
  namespace: string;
  authority: Authority;
  sealer: Sealer;
  clock: Clock;
  random: Random;
  log: Log;
  /** What ClusterAccessPolicies are judged by. */
  protocols: readonly ProtocolRules[];
  /** What proofs of the approval page and of pipelines are taken by; undefined: none is taken. */
  proofs?: {
    /** Username of the portal's ServiceAccount. */
    portal: string;
    /** Its client at the identity provider. Default: any whose ID tokens are declared. */
    client?: string;
    key: SigningKey;
    alsoTrusted: readonly TrustedKey[];
    /** As ProofSources has it. Whoever asks issuers bounds how often. */
    onUnknownKey?(provider: string): void;
  };
  /** 0: any free one. */
  port: number;
  host?: string;
}

export interface Admission {
  readonly port: number;
  ready(): { ok: boolean; reasons: readonly string[] };
  /** Goes on to answer, and has API servers turn to another replica the next time. */
  retire(): void;
  stop(): Promise<void>;
}

const CERTIFICATE_LIFE_MS = 30 * 86_400_000;
const RETRY_MS = 60_000;
/** How long a rollout may take: so long replicas with an earlier authority are still trusted. */
const ROLLOUT_MS = 15 * 60_000;
const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';

/** Resolves once it listens; throws where the port can not be had. */
export async function startAdmission(options: AdmissionOptions): Promise<Admission> {
  const { authority, clock, log, namespace } = options;
  const service = `${WEBHOOK_SERVICE}.${namespace}`;
  // The API server asks for `.svc`; the rest is for people who look.
  const names = [`${service}.svc`, `${service}.svc.cluster.local`, service];
  const issue = (): ReturnType<Authority['issue']> => authority.issue(names, CERTIFICATE_LIFE_MS);
  const proofs = proofSources(options);
  const server = await startAdmissionServer({
    handlers: {
      '/stamp': stampHandler(options, proofs?.sources),
      '/guardrail': guardrailHandler(options.protocols, log),
    },
    tls: await issue(),
    port: options.port,
    ...(options.host === undefined ? {} : { host: options.host }),
    log,
  }).catch(async (error: unknown) => {
    await proofs?.stop();
    throw error;
  });

  let stopped = false;
  let cancelRenewal: () => void = () => undefined;
  const renewIn = (ms: number): void => {
    if (stopped) return;
    cancelRenewal = clock.after(ms, () => {
      issue()
        .then((issued) => server.swapTls(issued))
        .then(
          () => renewIn((CERTIFICATE_LIFE_MS * 2) / 3),
          (error: unknown) => {
            log('error', 'the webhook’s certificate could not be renewed; it is tried again', { error: String(error) });
            renewIn(RETRY_MS);
          },
        );
    });
  };
  renewIn((CERTIFICATE_LIFE_MS * 2) / 3);

  const trust = keepTrusted(options);
  return {
    port: server.port,
    ready: () => {
      const problem = trust.problem();
      return { ok: problem === undefined, reasons: problem === undefined ? [] : [problem] };
    },
    retire: () => server.retire(),
    async stop() {
      stopped = true;
      cancelRenewal();
      await trust.stop();
      await proofs?.stop();
      await server.close();
    },
  };
}

const REASONS = { 403: 'Forbidden', 409: 'Conflict', 422: 'Invalid', 503: 'ServiceUnavailable' } as const;
export function stampHandler(
  {
    sealer,
    clock,
    random,
    log,
    namespace: home,
  }: Pick<AdmissionOptions, 'sealer' | 'clock' | 'random' | 'log' | 'namespace'>,
  proofs?: (review: Review) => ProofSources,
): AdmissionHandler {
  return async (request) => {
    const answer = await stampOrProve(
      request,
      {
        nonce: random.bytes(18).toString('base64url'),
        nowMs: clock.now(),
        seal: (unsealed) => sealer.sealStamp(unsealed),
        own: {
          operator: `system:serviceaccount:${home}:sallyport`,
          isSealed: (given, spec) =>
            sealer.checkStamp(given, spec, new Date(clock.now()).toISOString()).kind === 'Good',
        },
      },
      proofs?.(request),
    );
    if (answer.kind === 'Stamped') return { kind: 'Allow', patch: answer.patch };
    const { kind, namespace, userInfo } = request;
    log('info', 'a request was refused at admission', {
      kind: kind.kind,
      namespace,
      user: userInfo.username,
      why: answer.message,
      ...(answer.cause === undefined ? {} : { cause: answer.cause }),
    });
    return { kind: 'Deny', code: answer.status, reason: REASONS[answer.status], message: answer.message };
  };
}

/** What is asked of a request beside what it says. */
type Review = Pick<AdmissionRequest, 'uid' | 'dryRun'>;

function proofSources(
  options: AdmissionOptions,
): { sources: (review: Review) => ProofSources; stop(): Promise<void> } | undefined {
  const { clock, proofs } = options;
  if (proofs === undefined) return undefined;
  const trusted = [trustedKeyOf(proofs.key), ...proofs.alsoTrusted];
  const providers = followTrustedProviders({ ...options, trusted });
  const ledger = createProofLedger(options);
  const common: Omit<ProofSources, 'nowMs' | 'spend'> = {
    portal: proofs.portal,
    client: proofs.client,
    providers: () => providers.current(),
    clusters: trusted.map(({ keyId }) => keyId),
    key: proofKeyOf(proofs.key),
    onUnknownKey: (provider) => proofs.onUnknownKey?.(provider),
  };
  return {
    sources: ({ uid, dryRun }) => ({
      ...common,
      spend: (use) => ledger.spend({ ...use, review: uid, dryRun }),
      nowMs: clock.now(),
    }),
    async stop() {
      ledger.stop();
      await providers.stop();
    },
  };
}

/** Keeps the own authority in the webhook's configuration, and tells why it is not there. */
function keepTrusted(options: AdmissionOptions): { problem(): string | undefined; stop(): Promise<void> } {
  const { client, clock, log, namespace, authority } = options;
  const missing = `MutatingWebhookConfiguration ${WEBHOOK_CONFIGURATION} is not there: requests can not be stamped. Install the chart again`;
  let problem: string | undefined = `MutatingWebhookConfiguration ${WEBHOOK_CONFIGURATION} was not read yet`;
  let latest: WebhookConfiguration | undefined;
  let othersSince: number | undefined;
  let cancel: () => void = () => undefined;
  let stopped = false;
  const again = (ms: number): void => {
    cancel();
    if (!stopped) cancel = clock.after(ms, () => void look());
  };

  let looking = false;
  /** Level-triggered: whatever happened, look at what is there. */
  const look = async (): Promise<void> => {
    if (looking || stopped) return;
    looking = true;
    try {
      while (latest !== undefined && !stopped) {
        const seen = latest;
        const now = clock.monotonic();
        othersSince = hasOthers(seen, authority.caPem) ? (othersSince ?? now) : undefined;
        const keepOthers = othersSince !== undefined && now - othersSince < ROLLOUT_MS;
        const plan = planBundle(seen, { caPem: authority.caPem, namespace, keepOthers, nowMs: clock.now() });
        if (plan.kind === 'Patch') {
          const answer = await client.patch<WebhookConfiguration>(
            `${CONFIGURATIONS}/${WEBHOOK_CONFIGURATION}`,
            plan.patch,
            'json',
            { fieldManager: 'sallyport' },
          );
          if (answer.kind === 'Ok') {
            log('info', 'the webhook’s configuration trusts this operator now');
            problem = undefined;
            if (latest === seen) latest = answer.value;
          } else if (latest === seen) {
            // Somebody was quicker: the watch tells what is there now.
            problem = `MutatingWebhookConfiguration ${WEBHOOK_CONFIGURATION} can not be written: ${answer.message}`;
            again(RETRY_MS);
            return;
          }
          continue;
        }
        const next = plan.kind === 'Fits' ? undefined : plan.message;
        if (next !== undefined && next !== problem) log('error', next);
        problem = next;
        if (othersSince !== undefined) again(ROLLOUT_MS);
        if (latest === seen) return;
      }
    } catch (error) {
      problem = `MutatingWebhookConfiguration ${WEBHOOK_CONFIGURATION} can not be written: ${(error as Error).message}`;
      log('warn', problem);
      again(RETRY_MS);
    } finally {
      looking = false;
    }
  };

  const reflector = startReflector<WebhookConfiguration>({
    client,
    path: CONFIGURATIONS,
    name: WEBHOOK_CONFIGURATION,
    clock,
    random: options.random,
    log,
    onEvent: ({ type, object }) => {
      latest = type === 'Deleted' ? undefined : object;
      if (latest === undefined) {
        problem = missing;
        log('error', missing);
      }
      void look();
    },
    onSynced: () => {
      if (latest === undefined) problem = missing;
    },
  });
  reflector.synced.catch(() => undefined);
  return {
    problem: () => problem,
    async stop() {
      stopped = true;
      cancel();
      await reflector.stop();
    },
  };
}
