// proxy: the process of a proxy pod. What it needs to know comes from the pod: its name by the downward API, its token
// and the cluster's CA as files, the operator's keys as arguments. Nothing here decides.
import { createDialGuard, type DialGuard } from '../../gateway/dial-guard.ts';
import type { ProcessLimits } from '../../gateway/limits.ts';
import { inClusterAccess } from '../../kube/access.ts';
import { createKubeClient } from '../../kube/client.ts';
import { keyIdOf, type TrustedKey } from '../../policy/bundle-signing.ts';
import { loadClassifier } from '../../protocols/postgres/classify/classify.ts';
import { createPostgresProtocol } from '../../protocols/postgres/protocol.ts';
import { createSshProtocol } from '../../protocols/ssh/protocol.ts';
import { CREDENTIALS_FOLDER, mountedCredentials } from '../../proxy/credentials.ts';
import { dialRules } from '../../proxy/dial-rules.ts';
import { startProxy } from '../../proxy/main.ts';
import { publicKeyFromRaw } from '../../recording/signer.ts';
import { systemClock } from '../../system/clock.ts';
import { systemFiles } from '../../system/files.ts';
import { collectGarbage } from '../../system/garbage.ts';
import { systemRandom } from '../../system/random.ts';
import { createLog, LOG_LEVELS } from '../../telemetry/log.ts';
import { createMetrics } from '../../telemetry/metrics.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { version } from '../version.ts';

export interface ProxyCommandOptions {
  /** `keyId:rawBase64url` of each key of the operator. */
  trust?: readonly string[];
  operatorNamespace?: string;
  logLevel?: string;
}

/** Where things are in the pod, as the operator makes it. */
export interface PodPlaces {
  records: string;
  credentials: string;
  /** Token, CA and namespace; undefined: where Kubernetes mounts them. */
  serviceAccount?: string;
  healthPort: number;
  tunnelPort: number;
  /** What may be dialled; undefined: what may be from a pod. */
  dialGuard?: DialGuard;
  /** Other bounds than the standard ones. */
  limits?: Partial<ProcessLimits>;
}
const POD: PodPlaces = { records: '/records', credentials: CREDENTIALS_FOLDER, healthPort: 8081, tunnelPort: 8443 };
const USER_AGENT = 'sallyport-proxy';
/** Once it serves and has looked at its targets, what the start needed is given back. */
const SETTLED_MS = 5_000;

/** Runs until SIGTERM or SIGINT, then drains; a second signal ends what still lives, a third ends the process. */
export async function proxyCommand(io: Io, options: ProxyCommandOptions, places: PodPlaces = POD): Promise<ExitCode> {
  const env = (key: string): string => {
    const value = io.env[key];
    if (value !== undefined && value !== '') return value;
    throw new CliError(EXIT.misconfigured, `${key} is not set`, 'This command runs in pods that the operator makes.');
  };
  const name = env('POD_NAME');
  const podUid = env('POD_UID');
  const namespace = env('POD_NAMESPACE');
  const trusted = (options.trust ?? []).map(trustedKeyIn);
  if (trusted.length === 0)
    throw new CliError(EXIT.misconfigured, 'No key of the operator is given', 'Pass --trust keyId:publicKey.');
  if (options.operatorNamespace === undefined)
    throw new CliError(EXIT.misconfigured, 'The operator’s namespace is not given', 'Pass --operator-namespace.');
  const access = inClusterAccess({
    env: io.env,
    ...(places.serviceAccount === undefined ? {} : { folder: places.serviceAccount }),
  });
  if (access === undefined)
    throw new CliError(EXIT.misconfigured, 'KUBERNETES_SERVICE_HOST is not set', 'This command runs in a pod.');

  const clock = systemClock;
  const log = createLog({ clock, level: LOG_LEVELS.find((each) => each === options.logLevel) ?? 'info' });
  const rules = dialRules({ namespace, apiServer: io.env['KUBERNETES_SERVICE_HOST'], clock });
  await loadClassifier();
  const proxy = await startProxy({
    client: createKubeClient(access, { clock, connections: 4, userAgent: `${USER_AGENT}/${version()}` }),
    namespace,
    name,
    podUid,
    operatorNamespace: options.operatorNamespace,
    trusted,
    version: version(),
    protocols: [createPostgresProtocol(), createSshProtocol({ commandPrefix: 'kubectl access' })],
    credentials: mountedCredentials(places.credentials),
    dialGuard: places.dialGuard ?? createDialGuard(rules),
    ...(places.limits === undefined ? {} : { limits: places.limits }),
    recordsFolder: places.records,
    healthPort: places.healthPort,
    tunnelPort: places.tunnelPort,
    clock,
    random: systemRandom,
    files: systemFiles,
    log,
    metrics: createMetrics(clock, version()),
  });
  let cancelGiveBack = (): void => undefined;
  proxy.started.then(
    () => {
      cancelGiveBack = clock.after(SETTLED_MS, collectGarbage);
    },
    () => undefined,
  );
  await new Promise<void>((resolve) => {
    if (io.signal.aborted) return resolve();
    io.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  cancelGiveBack();
  let signals = 0;
  const again = (): void => {
    signals += 1;
    if (signals > 1) process.exit(EXIT.failed);
    log('warn', 'told again to stop: sessions are ended now');
    proxy.hurry();
  };
  process.on('SIGTERM', again);
  process.on('SIGINT', again);
  try {
    await proxy.stop();
  } finally {
    process.off('SIGTERM', again);
    process.off('SIGINT', again);
  }
  return EXIT.ok;
}

function trustedKeyIn(text: string): TrustedKey {
  const [keyId = '', raw = ''] = text.split(':');
  const publicKey = publicKeyFromRaw(raw);
  if (publicKey === undefined || keyIdOf(publicKey) !== keyId)
    throw new CliError(EXIT.misconfigured, `--trust ${text} is no key`, 'Write keyId:publicKey as the operator does.');
  return { keyId, publicKey };
}
