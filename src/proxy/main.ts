// The process of a proxy in its pod. It takes what it is to do from its ProxyReplica, proves it by the operator's
// signatures, serves it through the gateway, and says what it does in the same object.
//
// Start: health at once; then the operator certifies this process's keys; then records are opened (those that a process
// before it left are sealed first); then listeners and the tunnel. Stop: unready at once, nothing new, sessions get the
// drain time, records are sealed, then everything is let go. Without the API server what runs goes on.
import { createServer } from 'node:net';
import type { ProxyReplicaSpec, ProxyReplicaStatus } from '../api/replica.ts';
import type { DialGuard } from '../gateway/dial-guard.ts';
import { createGateway, type Gateway, type ServedConnection } from '../gateway/gateway.ts';
import type { ProcessLimits } from '../gateway/limits.ts';
import type { LogLine } from '../gateway/observer.ts';
import { openSealedUses, type SealedUses } from '../gateway/sealed-grants.ts';
import { createUnknownKeys } from '../identity/oidc/unknown-keys.ts';
import { sleep } from '../kube/backoff.ts';
import type { KubeClient } from '../kube/client.ts';
import type { TrustedKey } from '../policy/bundle-signing.ts';
import type { Protocol } from '../protocols/protocol.ts';
import { shareKeys } from '../recording/keys-file.ts';
import type { ProcessRecordLog, RecordHealth } from '../recording/log/process-log.ts';
import { openRecordLog } from '../recording/log/record-log.ts';
import type { RecordSigner } from '../recording/signer.ts';
import type { Clock } from '../system/clock.ts';
import type { Files } from '../system/files.ts';
import type { Random } from '../system/random.ts';
import { startTelemetry } from '../telemetry/http.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { kubeControlPlane } from './control-plane.ts';
import type { MountedCredentials } from './credentials.ts';
import { longestDrainMs } from './drain.ts';
import { createKubeFeed } from './feed.ts';
import { readinessOf } from './health.ts';
import { createIdentity } from './identity.ts';
import { type Probes, startProbes } from './probe.ts';
import { startReplica } from './replica.ts';
import { type SessionObjects, startSessionObjects } from './sessions.ts';
import { startTunnels, type TunnelServer } from './tunnel.ts';

export interface ProxyOptions {
  client: KubeClient;
  namespace: string;
  /** Of the pod and of its ProxyReplica. */
  name: string;
  podUid: string;
  operatorNamespace: string;
  /** The operator's keys. */
  trusted: readonly TrustedKey[];
  version: string;
  protocols: readonly Protocol[];
  credentials: MountedCredentials;
  dialGuard: DialGuard;
  /** Bounds of the process; default: the gateway's. */
  limits?: Partial<ProcessLimits>;
  recordsFolder: string;
  healthPort: number;
  tunnelPort: number;
  clock: Clock;
  random: Random;
  files: Files;
  log: LogLine;
  metrics: Metrics;
  /** How long sockets are still taken once the pod is unready, ms: Services learn of it a moment later. Default 2 s. */
  lingerMs?: number;
}

export interface Proxy {
  readonly gateway: Gateway;
  readonly health: { host: string; port: number };
  /** 0 until it is open. */
  tunnelPort(): number;
  ready(): { ok: boolean; reasons: readonly string[] };
  /** Resolves when the gateway serves; rejects if it was stopped before. */
  readonly started: Promise<void>;
  /** Writes to the ProxyReplica so far. */
  replicaWrites(): number;
  /** Lets sessions end by themselves for `drainMs`; default: the longest drainTimeout of what is served. */
  stop(drainMs?: number): Promise<void>;
  /** Ends what still lives, where `stop` is waiting for it. */
  hurry(): void;
}

const DEFAULT_LINGER_MS = 2_000;
const RETRY_RECORDS_MS = 5_000;
const REPORT_EVERY_MS = 30_000;
/** What the API may take to be told of the end. */
const FAREWELL_MS = 2_000;

/** Resolves once its health can be asked for. Rejects with Node's error if that port can not be had. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const { client, namespace, name, clock, random, files, log, metrics } = options;
  const host = await anyAddress();
  const stopping = new AbortController();
  const { signal } = stopping;
  /** Once no session is left. */
  const over = new AbortController();
  const trustedKeys = (): readonly TrustedKey[] => options.trusted;

  let served: NonNullable<ProxyReplicaStatus['connections']> = [];
  let draining = false;
  let records: ProcessRecordLog | undefined;
  let recordsProblem: string | undefined = 'records are not open yet';
  let tunnels: TunnelServer | undefined;
  let sessionObjects: SessionObjects | undefined;
  let probes: Probes | undefined;
  const wasReady = new Set<string>();
  const unknownKeys = createUnknownKeys(clock);
  let certificateSeen = '';
  const certified = Promise.withResolvers<void>();

  const identity = createIdentity({ name, trustedKeys, clock });
  const kubeFeed = createKubeFeed({
    client,
    namespace,
    operatorNamespace: options.operatorNamespace,
    clock,
    random,
    log,
  });

  // Beside the records: on the one volume that outlives this process.
  let sealedUses: SealedUses | undefined;
  try {
    sealedUses = openSealedUses(files, `${options.recordsFolder}/sealed-uses.json`);
  } catch (error) {
    log('error', 'uses of sealed grants can not be read; none is opened', { error: String(error) });
  }

  const gateway = createGateway({
    protocols: options.protocols,
    feed: {
      subscribe: (listener) =>
        kubeFeed.subscribe((event) => {
          listener(event);
          if (event.kind === 'GrantEnded') return;
          if (event.kind !== 'Shard' || event.envelope.shard === 'policy') probes?.look();
          replica.touch();
        }),
    },
    trustedKeys,
    controlPlane: kubeControlPlane({ client, replica: name, clock, signal: over.signal }),
    credentials: options.credentials,
    records: {
      session(stream, given) {
        if (records === undefined) throw new Error('records are not open');
        return records.session(stream, given);
      },
    },
    tlsFor: () => identity.tls,
    keysFor: ({ uid }) => identity.keysOf(uid),
    listen({ uid, name: connection }) {
      const port = served.find((each) => each.uid === uid)?.port;
      if (port === undefined) throw new Error(`the operator has given ${connection} no port`);
      return { host, port };
    },
    dialGuard: options.dialGuard,
    ...(sealedUses === undefined ? {} : { sealedUses }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    clock,
    random,
    log,
    metrics,
    onUnknownKey(provider) {
      if (unknownKeys.saw(provider)) replica.touch();
    },
    serves: (uid) => kubeFeed.serves(uid),
    commandPrefix: 'kubectl access',
  });

  function report(): Omit<ProxyReplicaSpec, 'observedAt'> {
    const known = gateway.connections();
    const endpoints = gateway.endpoints();
    return {
      csr: identity.csr,
      recordKey: identity.recordKey,
      keyAgreement: identity.keyAgreement,
      version: options.version,
      podUid: options.podUid,
      sessions: gateway.sessions().filter(({ state }) => state === 'Live').length,
      recordsWritable: recordsProblem === undefined,
      ...sealedReport(),
      ...unknownReport(),
      connections: served.map(({ uid }) => {
        const shards = kubeFeed.shards(uid);
        const target = probes?.of(uid);
        return {
          uid,
          listening: endpoints.has(uid),
          applied: [...(known.get(uid)?.applied ?? [])]
            .filter(([shard]) => shards.has(shard))
            .map(([shard, { epoch, sequence }]) => ({ shard, epoch, sequence }))
            .sort((a, b) => (a.shard < b.shard ? -1 : 1)),
          ...(target === undefined ? {} : { target }),
        };
      }),
    };
  }

  /** The operator asks issuers; here is only said that a token came with a key that nobody knows. */
  function unknownReport(): Pick<ProxyReplicaSpec, 'unknownKeys'> {
    const told = unknownKeys.told();
    return told.length === 0 ? {} : { unknownKeys: told };
  }

  function sealedReport(): Pick<ProxyReplicaSpec, 'sealedUses'> {
    const all = sealedUses?.all() ?? [];
    if (all.length === 0) return {};
    return {
      sealedUses: all.map(({ grant, startedMs }) => ({
        grant: grant.name,
        uid: grant.uid,
        startedAt: startedMs.slice(0, 10).map((ms) => new Date(ms).toISOString()),
      })),
    };
  }

  function ready(): { ok: boolean; reasons: readonly string[] } {
    const known = gateway.connections();
    const endpoints = gateway.endpoints();
    return readinessOf({
      draining,
      replica: replica.problem(),
      identity: identity.problems(),
      records: recordsProblem,
      tunnel: tunnels !== undefined,
      connections: served.map(({ uid, name: connection }) => {
        const found = known.get(uid);
        const silent = found === undefined ? 'nothing of it has arrived' : (found.silent ?? keysMissing(found));
        if (silent === undefined) wasReady.add(uid);
        return { name: connection, listening: endpoints.has(uid), silent, wasReady: wasReady.has(uid) };
      }),
      feed: kubeFeed.problems(),
      outOfTouch: kubeFeed.outOfTouch(),
    });
  }

  function keysMissing({ connection }: ServedConnection): string | undefined {
    const protocol = options.protocols.find(({ type }) => type === connection?.spec.type);
    if (connection === undefined || protocol?.ownKeys === undefined) return undefined;
    return identity.keysOf(connection.uid) === undefined ? 'the operator has not handed its keys' : undefined;
  }

  const replica = startReplica({
    client,
    namespace,
    name,
    clock,
    random,
    log,
    report,
    onStatus(status) {
      identity.learn(status);
      if (status.certificate !== undefined && status.certificate !== certificateSeen) {
        certificateSeen = status.certificate;
        tunnels?.certificateChanged();
      }
      if (identity.signer() !== undefined && identity.hasChain()) certified.resolve();
      if (status.connections === undefined) return;
      served = status.connections;
      probes?.look(); // it may have been handed keys
      for (const uid of wasReady) if (!served.some((each) => each.uid === uid)) wasReady.delete(uid);
      kubeFeed.serve(served);
    },
  });
  const health = await startTelemetry({ host, port: options.healthPort, metrics, ready }).catch(
    async (error: unknown) => {
      await replica.stop();
      throw error;
    },
  );
  let cancelReport = clock.after(REPORT_EVERY_MS, function again() {
    replica.touch();
    cancelReport = clock.after(REPORT_EVERY_MS, again);
  });
  // Nothing else keeps the process alive while it waits for the operator.
  const alive = setInterval(() => {}, 3_600_000);

  function onRecordHealth(state: RecordHealth): void {
    switch (state.kind) {
      case 'Writable':
        recordsProblem = undefined;
        log('info', 'records are written again');
        break;
      case 'Unwritable':
        recordsProblem = `records can not be written: ${state.message}`;
        log('error', 'records can not be written: commands are refused', { error: state.message });
        break;
      case 'SealFailing':
        return log('error', 'records can not be sealed; they are kept as they are', { error: state.message });
      case 'SealWorking':
        return log('info', 'records are sealed again');
    }
    metrics.recordsWritable(recordsProblem === undefined);
    replica.touch();
  }

  async function openRecords(signer: RecordSigner): Promise<ProcessRecordLog> {
    for (;;) {
      signal.throwIfAborted();
      try {
        const opened = await openRecordLog({
          folder: options.recordsFolder,
          files,
          clock,
          random,
          signer,
          trusted: options.trusted,
          onHealth: onRecordHealth,
          onBatch: ({ milliseconds }) => metrics.recordLag(milliseconds),
        });
        for (const lost of opened.recovered.sessions)
          log('warn', 'a session of an earlier process was recovered', { session: lost.stream });
        for (const damage of opened.recovered.damage)
          log('error', 'records of an earlier process are damaged', { ...damage });
        return opened;
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        recordsProblem = `records can not be opened in ${options.recordsFolder}: ${why}`;
        log('error', 'records can not be opened; it is tried again', { error: why });
        replica.touch();
        await sleep(clock, RETRY_RECORDS_MS, signal);
      }
    }
  }

  async function start(): Promise<void> {
    await Promise.race([certified.promise, aborted(signal)]);
    signal.throwIfAborted();
    const signer = identity.signer()!;
    records = await openRecords(signer);
    recordsProblem = undefined;
    metrics.recordsWritable(true);
    identity.onRecordCertificate(() => {
      try {
        shareKeys(files, options.recordsFolder, signer);
      } catch (error) {
        log('error', 'the new certificate of the record key could not be stored', { error: String(error) });
      }
    });
    await records.control({
      act: 'process.start',
      actor: { username: name },
      details: { version: options.version, podUid: options.podUid },
    });
    signal.throwIfAborted();
    tunnels = await startTunnels({
      host,
      port: options.tunnelPort,
      tls: identity.tls,
      replica: name,
      find: (connection) =>
        served.find((each) => each.name === connection && gateway.connections().get(each.uid)?.connection)?.uid,
      accept: gateway.accept,
      renew: gateway.renew,
      clock,
      random,
      log,
    });
    signal.throwIfAborted();
    await gateway.start();
    signal.throwIfAborted();
    gateway.onEndpoints(() => replica.touch());
    probes = startProbes({
      protocols: options.protocols,
      credentials: options.credentials,
      dialGuard: options.dialGuard,
      keysFor: (uid) => identity.keysOf(uid),
      connections: () => [...gateway.connections().values()].flatMap(({ connection }) => connection ?? []),
      onChange: () => replica.touch(),
      clock,
      random,
    });
    sessionObjects = startSessionObjects({
      client,
      namespace,
      replica: name,
      sessions: gateway.sessions,
      kill: gateway.kill,
      clock,
      random,
      log,
    });
    replica.touch();
    log('info', 'the proxy serves', { connections: served.length });
  }
  const started = start();
  started.catch((error: unknown) => {
    if (signal.aborted) return;
    recordsProblem ??= `it could not start: ${String(error)}`;
    log('error', 'the proxy could not start', { error: String(error) });
  });

  const drainTime = (): number =>
    longestDrainMs([...gateway.connections().values()].flatMap(({ connection }) => connection ?? []));

  let stopped: Promise<void> | undefined;
  async function stop(drainMs: number): Promise<void> {
    log('info', 'the proxy is stopping', { sessions: gateway.sessions().length, drainMs });
    if (gateway.endpoints().size > 0)
      await sleep(clock, Math.min(options.lingerMs ?? DEFAULT_LINGER_MS, drainMs), signal);
    stopping.abort(new Error('the proxy is stopping'));
    await started.catch(() => undefined);
    tunnels?.refuse();
    await gateway.stop(drainMs);
    over.abort();
    cancelReport();
    await Promise.all([sessionObjects?.stop(FAREWELL_MS), probes?.stop(), replica.stop(), kubeFeed.stop()]);
    await tunnels?.close();
    if (records !== undefined) {
      await records.control({ act: 'process.stop', actor: { username: name } }).catch(() => undefined);
      await records
        .close()
        .catch((error: unknown) =>
          log('error', 'some records could not be sealed; the next process does it', { error: String(error) }),
        );
    }
    await client.close();
    await health.close();
    clearInterval(alive);
    log('info', 'the proxy has stopped');
  }

  return {
    gateway,
    health,
    tunnelPort: () => tunnels?.port ?? 0,
    ready,
    started,
    replicaWrites: () => replica.writes(),
    stop(drainMs) {
      draining = true;
      stopped ??= stop(drainMs ?? drainTime());
      return stopped;
    },
    hurry: () => void gateway.stop(0),
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

/** Both address families where the machine has them, else IPv4 alone. */
async function anyAddress(): Promise<'::' | '0.0.0.0'> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve('0.0.0.0'));
    server.listen({ host: '::', port: 0 }, () => server.close(() => resolve('::')));
  });
}
