// The operator's process in a cluster. Every replica answers admission and health; the one that holds the Lease runs the
// controllers. Takes things down in the order in which they lean on each other. Losing the lead ends the process: a new
// one starts from nothing, so nothing half-stopped can act beside the new leader.
import fs from 'node:fs';
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { parseDuration } from '../../api/duration.ts';
import { type Admission, startAdmission } from '../../controllers/admission/start.ts';
import { createSignal } from '../../controllers/identity-providers/signal.ts';
import { authorityOf } from '../../controllers/pki/authority.ts';
import { loadSecretKeys, type OperatorKeys } from '../../controllers/pki/secret-keys.ts';
import { publishTrust } from '../../controllers/pki/trust.ts';
import type { ControlRecords } from '../../controllers/ports.ts';
import { createSealer } from '../../controllers/seal.ts';
import { proofKeyOf, publishedProofKey } from '../../identity/proof-encryption.ts';
import { inClusterAccess, type KubeAccess } from '../../kube/access.ts';
import { createKubeClient, type KubeClient } from '../../kube/client.ts';
import { startLeaderElection } from '../../kube/lease.ts';
import { trustedKeyOf } from '../../policy/bundle-signing.ts';
import { postgresDefinition } from '../../protocols/postgres/definition.ts';
import { sshDefinition } from '../../protocols/ssh/definition.ts';
import { openRecordLog } from '../../recording/log/record-log.ts';
import { openRecordSigner, rawPublicKey } from '../../recording/signer.ts';
import { systemClock } from '../../system/clock.ts';
import { systemFiles } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import { startTelemetry } from '../../telemetry/http.ts';
import { createLog, LOG_LEVELS, type LogLevel } from '../../telemetry/log.ts';
import { createMetrics } from '../../telemetry/metrics.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';
import { version } from '../version.ts';
import { type Control, startControl } from './control.ts';
import { clusterNotifierServices } from './notifiers.ts';

export interface OperatorCommandOptions {
  logLevel?: string;
  /** Port of the admission webhook. Default 9443. */
  webhookPort?: string;
  /** Port of /healthz, /readyz and /metrics. Default 8080. */
  healthPort?: string;
}

/** Where a pod has what it is given; elsewhere for processes that are measured on their own. */
export interface OperatorPlaces {
  /** Folder of the ServiceAccount's token. Default: where Kubernetes mounts it. */
  serviceAccount?: string;
}

/** Name of the Lease, of the operator's ServiceAccount and of its Deployment. */
const NAME = 'sallyport';
const KEYS_RETRY_MS = 2_000;

/** `serviceAccount`: folder of the token, the CA and the namespace; undefined: where Kubernetes mounts them. */
export async function operatorCommand(
  io: Io,
  options: OperatorCommandOptions,
  places: { serviceAccount?: string } = {},
): Promise<ExitCode> {
  // What it holds it holds for long, and most of what it reads is garbage at once. V8 would let the heap grow to several
  // times of what lives before it looks; a little more processor halves the memory of a large installation.
  setFlagsFromString('--heap-growing-percent=20');
  const clock = systemClock;
  const random = systemRandom;
  const files = systemFiles;
  const access = await accessOf(io, places.serviceAccount);
  const namespace = required(io, 'SALLYPORT_NAMESPACE', 'the namespace the operator runs in');
  const image = required(io, 'SALLYPORT_IMAGE', 'the image that proxies run');
  const identity = io.env['POD_NAME'] ?? `operator-${process.pid}`;
  const level = LOG_LEVELS.find((each): each is LogLevel => each === options.logLevel) ?? 'info';
  const log = createLog({ clock, level });
  const metrics = createMetrics(clock, version());
  const userAgent = `sallyport/${version()}`;
  const client = createKubeClient(access, { userAgent });
  // The lease does not queue behind a thousand Connections: who can not renew it in time leads no more.
  const leaseClient = createKubeClient(access, { userAgent, connections: 1 });
  let admission: Admission | undefined;
  const telemetry = await startTelemetry({
    host: '::',
    port: portOf('--health-port', options.healthPort, 8080),
    metrics,
    ready: () =>
      admission === undefined ? { ok: false, reasons: ['admission is not served yet'] } : admission.ready(),
  });
  const undo: (() => Promise<void> | void)[] = [
    () => client.close(),
    () => leaseClient.close(),
    () => telemetry.close(),
  ];
  try {
    const keys = await keysOf(client, namespace, io.signal, log);
    if (keys === undefined) return EXIT.ok;
    const sealer = createSealer(keys.key, keys.alsoTrusted);
    const authority = await authorityOf(keys.authority, { clock, random });

    const folder = path.join(io.env['SALLYPORT_STATE'] ?? '/var/lib/sallyport', 'records', identity);
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const records = await openRecordLog({
      folder,
      files,
      clock,
      random,
      signer: openRecordSigner({ controllerKey: keys.key, nowMs: clock.now() }),
      trusted: [trustedKeyOf(keys.key), ...keys.alsoTrusted],
      onHealth: (health) => {
        if (health.kind === 'Writable' || health.kind === 'Unwritable')
          metrics.recordsWritable(health.kind === 'Writable');
        if (health.kind === 'Unwritable')
          log('error', 'records can not be written: nothing is decided', { error: health.message });
      },
    });
    undo.push(() => records.close());
    const control: ControlRecords = { write: (body, options) => records.control(body, options) };

    let leading: Control | undefined;
    const signal = createSignal({ client, namespace, clock, log });
    const portal = io.env['SALLYPORT_PORTAL'] || undefined;
    const portalClient = io.env['SALLYPORT_PORTAL_CLIENT'] || undefined;
    const proofs =
      portal === undefined
        ? undefined
        : {
            portal,
            ...(portalClient === undefined ? {} : { client: portalClient }),
            key: keys.key,
            alsoTrusted: keys.alsoTrusted,
            // The replica that leads asks; the others tell it.
            onUnknownKey: (provider: string) =>
              leading === undefined ? signal(provider) : leading.operator.unknownKey(provider),
          };
    admission = await startAdmission({
      client,
      namespace,
      authority,
      sealer,
      protocols: [postgresDefinition.rules, sshDefinition.rules],
      ...(proofs === undefined ? {} : { proofs }),
      clock,
      random,
      log,
      port: portOf('--webhook-port', options.webhookPort, 9443),
    });
    // Undone after the lead is given up: for a while API servers still call a pod that is going.
    const lingerMs = io.env['SALLYPORT_LINGER'] === undefined ? 0 : (parseDuration(io.env['SALLYPORT_LINGER']) ?? 0);
    undo.push(async () => {
      admission?.retire();
      if (io.signal.aborted && lingerMs > 0) await new Promise((resolve) => setTimeout(resolve, lingerMs));
      await admission?.stop();
    });

    const failed = new AbortController();
    let running: Promise<Control> | undefined;
    const lead = async (epoch: number, signal: AbortSignal): Promise<Control> => {
      log('info', 'this replica leads', { epoch });
      // Nothing stands or falls with it: whoever verifies has the keys from elsewhere as well.
      await publishTrust({
        client,
        namespace,
        trusted: [trustedKeyOf(keys.key), ...keys.alsoTrusted],
        proofKey: publishedProofKey(proofKeyOf(keys.key)),
      }).catch((error: unknown) =>
        log('warn', 'the public keys for auditors are not published', { error: (error as Error).message }),
      );
      const started = await startControl({
        client,
        ...(io.env['SALLYPORT_PORTAL_URL'] ? { portal: io.env['SALLYPORT_PORTAL_URL'] } : {}),
        keys,
        authority,
        sealer,
        definitions: [postgresDefinition, sshDefinition],
        records: control,
        epoch,
        settings: {
          image,
          imagePullPolicy: pullPolicy(io.env['SALLYPORT_IMAGE_PULL_POLICY']),
          imagePullSecrets: (io.env['SALLYPORT_IMAGE_PULL_SECRETS'] ?? '').split(',').filter((name) => name !== ''),
          trust: [trustedKeyOf(keys.key), ...keys.alsoTrusted].map(
            ({ keyId, publicKey }) => `${keyId}:${rawPublicKey(publicKey)}`,
          ),
          operatorNamespace: namespace,
          tunnelRoles: io.env['SALLYPORT_TUNNEL_ROLES'] !== 'false',
        },
        notifiers: clusterNotifierServices({
          client,
          namespace,
          key: keys.key.privateKey,
          apiServer: io.env['KUBERNETES_SERVICE_HOST'],
          env: io.env,
          clock,
          count: (type, outcome) => metrics.notice(type, outcome),
        }),
        signOffsDue: (count) => metrics.signOffsDue(count),
        clock,
        random,
        log,
        onFenced: () => failed.abort(new Error('another operator leads with a newer epoch')),
      });
      await control.write({
        act: 'operator.lead',
        actor: { username: identity },
        details: { epoch, version: version() },
      });
      if (signal.aborted) await started.stop();
      else leading = started;
      return started;
    };
    const election = startLeaderElection({
      client: leaseClient,
      namespace,
      name: NAME,
      identity,
      clock,
      random,
      log,
      onAcquired: (epoch, signal) => {
        running = lead(epoch, signal);
        running.catch((error: unknown) => failed.abort(error));
      },
      onLost: async () => {
        await running?.then(
          (started) => started.stop(),
          () => undefined,
        );
        if (!io.signal.aborted) failed.abort(new Error('the lease was lost'));
      },
    });
    undo.push(() => election.stop());
    log('info', 'the operator is up', { version: version(), namespace, identity });

    await new Promise<void>((resolve) => {
      const alive = setInterval(() => undefined, 3_600_000);
      const done = (): void => {
        clearInterval(alive);
        resolve();
      };
      if (io.signal.aborted || failed.signal.aborted) return done();
      io.signal.addEventListener('abort', done, { once: true });
      failed.signal.addEventListener('abort', done, { once: true });
    });
    if (!failed.signal.aborted) return EXIT.ok;
    const why: unknown = failed.signal.reason;
    log('error', 'the operator ends and is to be started again', {
      error: why instanceof Error ? why.message : String(why),
    });
    return EXIT.failed;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

/** The keys, tried for as long as the API server can not be reached or refuses; undefined: told to stop. */
async function keysOf(
  client: KubeClient,
  namespace: string,
  signal: AbortSignal,
  log: ReturnType<typeof createLog>,
): Promise<OperatorKeys | undefined> {
  while (!signal.aborted) {
    try {
      return await loadSecretKeys({ client, namespace, clock: systemClock, random: systemRandom });
    } catch (error) {
      log('error', 'the operator’s keys can not be had; it is tried again', { error: (error as Error).message });
      await new Promise((resolve) => setTimeout(resolve, KEYS_RETRY_MS));
    }
  }
  return undefined;
}

/** In a pod: its own ServiceAccount. Outside of one, for development: the kubeconfig's current context. */
async function accessOf(io: Io, folder: string | undefined): Promise<KubeAccess> {
  const own = inClusterAccess({ env: io.env, ...(folder === undefined ? {} : { folder }) });
  if (own !== undefined) return own;
  const { openKubeTarget } = await import('./kubeconfig.ts');
  return (await openKubeTarget({}, io)).access;
}

function required(io: Io, name: string, what: string): string {
  const value = io.env[name];
  if (value !== undefined && value !== '') return value;
  throw new CliError(EXIT.misconfigured, `${name} is not set`, `It names ${what}; the Helm chart sets it.`);
}

function portOf(option: string, text: string | undefined, standard: number): number {
  const port = text === undefined ? standard : Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new CliError(EXIT.misconfigured, `${option} ${text} is no port`, 'Write a number from 0 (any) to 65535.');
}

function pullPolicy(text: string | undefined): 'Always' | 'IfNotPresent' | 'Never' {
  return text === 'Always' || text === 'Never' ? text : 'IfNotPresent';
}
