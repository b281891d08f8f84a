// Local mode: the whole of Sallyport in one process over a directory of YAML. Composes the store, the operator, the
// gateway and the record log, and takes them down in the order in which they lean on each other. Nothing here decides.
// A kill at any moment loses nothing that was answered; sessions end with the process.
import { createPublicKey } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Connection } from '../../api/connection.ts';
import type { AccessGrant } from '../../api/grant.ts';
import type { IdentityProvider } from '../../api/identity-provider.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import { nextEpoch } from '../../controllers/bundles/controller.ts';
import { type Operator, startOperator } from '../../controllers/operator.ts';
import { openAuthority } from '../../controllers/pki/authority.ts';
import { ownConnectionKeys } from '../../controllers/pki/connection-keys.ts';
import { loadOperatorKey } from '../../controllers/pki/operator-key.ts';
import { openServerTls } from '../../controllers/pki/server-tls.ts';
import type { ControlRecords } from '../../controllers/ports.ts';
import type { Log } from '../../controllers/runtime.ts';
import { createSealer } from '../../controllers/seal.ts';
import { createDialGuard } from '../../gateway/dial-guard.ts';
import { createGateway, type Gateway } from '../../gateway/gateway.ts';
import type { GatewayMetrics } from '../../gateway/observer.ts';
import { type TrustedKey, trustedKeyOf } from '../../policy/bundle-signing.ts';
import { type CredentialSource, credentialOf, hostsOf } from '../../protocols/credential.ts';
import type { Dial, ProbeResult, Protocol } from '../../protocols/protocol.ts';
import { keepCertified } from '../../recording/keys-file.ts';
import type { ProcessRecordLog } from '../../recording/log/process-log.ts';
import { openRecordLog } from '../../recording/log/record-log.ts';
import { openRecordSigner, rawPublicKey } from '../../recording/signer.ts';
import type { FileProblem } from '../../store/directory/file-problem.ts';
import { type DirectoryStore, openDirectoryStore } from '../../store/directory/store.ts';
import { systemClock } from '../../system/clock.ts';
import { systemFiles, writeFileAtomically } from '../../system/files.ts';
import { systemRandom } from '../../system/random.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { CliError, EXIT } from '../io.ts';
import { dialThroughProxy } from '../notifier-dial.ts';
import { type LocalApi, type LocalServices, serveLocalApi } from './api.ts';
import { type FileProblemView, LONGEST_SOCKET_PATH, SOCKET_NAME } from './api-types.ts';
import { createControlPlane } from './control-plane.ts';
import { createFeed } from './feed.ts';
import { OPERATOR_PUBLIC_KEY, RECORDS } from './folders.ts';
import { LOCAL_NOTIFIERS_NAMESPACE, watchSessions } from './notices.ts';
import { openPortBook } from './ports.ts';
import { followProviders } from './providers.ts';
import { createSpentProofs } from './spent-proofs.ts';
import { storedIdentity } from './stored-identity.ts';
import { connectionTable, problemLines, providerLines } from './view.ts';

/** Names clients may reach the listeners by. */
const SERVER_NAMES = ['localhost', '127.0.0.1', '::1'];
const PROBE_MS = 10_000;

export interface DaemonOptions {
  directory: string;
  state: string;
  prefix: string;
  version: string;
  protocols: readonly Protocol[];
  log: Log;
  metrics: (GatewayMetrics & Pick<Metrics, 'recordsWritable' | 'notice'>) | undefined;
  catalog: ((...given: [...Parameters<LocalServices['catalog']>, CredentialSource]) => Promise<unknown>) | undefined;
  /** Told when what there is to show changed. */
  onView(view: string): void;
}

export interface Daemon {
  gateway: Gateway;
  operator: Operator;
  records: ProcessRecordLog;
  view(): string;
  /** Raw public key of the operator, base64url: what records are verified against. */
  rootKey: string;
  /** Stops accepting, lets sessions go on for `drainMs`, seals the records. */
  stop(drainMs: number): Promise<void>;
}

export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { directory, state, log, prefix } = options;
  const clock = systemClock;
  const random = systemRandom;
  const files = systemFiles;
  checkFolders(directory, state);
  const undo: (() => Promise<void> | void)[] = [];
  const unwind = async (): Promise<void> => {
    for (const step of undo.reverse()) await step();
  };
  try {
    const pki = path.join(state, 'pki');
    fs.mkdirSync(pki, { recursive: true, mode: 0o700 });
    const key = loadOperatorKey(files, path.join(pki, 'operator.pem'));
    const sealer = createSealer(key);
    const publicKey = createPublicKey(key.privateKey);
    writeFileAtomically(
      files,
      path.join(state, OPERATOR_PUBLIC_KEY),
      Buffer.from(publicKey.export({ type: 'spki', format: 'pem' })),
      0o644,
    );
    const trusted: TrustedKey[] = [trustedKeyOf(key)];
    // The store's lock on the state folder comes first: two processes must never share any of what follows.
    const store = openDirectoryStore({
      directory,
      stateFolder: path.join(state, 'store'),
      clock,
      random,
      files,
      seal: (stamp) => sealer.sealStamp(stamp),
    });
    undo.push(() => store.close());
    const authority = await openAuthority({ folder: pki, files, clock, random });
    const serverTls = await openServerTls({ authority, names: SERVER_NAMES, clock, log });
    undo.push(() => serverTls.stop());
    const signer = openRecordSigner({ controllerKey: key, nowMs: clock.now() });
    const records = await openRecordLog({
      folder: path.join(state, RECORDS),
      files,
      clock,
      random,
      signer,
      trusted,
      onHealth: (health) => {
        if (health.kind === 'Writable' || health.kind === 'Unwritable')
          options.metrics?.recordsWritable(health.kind === 'Writable');
        if (health.kind === 'Unwritable')
          log('error', 'records can not be written: commands are refused', { error: health.message });
        else if (health.kind === 'SealFailing')
          log('error', 'records can not be sealed; they are kept as they are', { error: health.message });
        else log('info', health.kind === 'Writable' ? 'records are written again' : 'records are sealed again');
      },
    });
    undo.push(() => records.close());
    undo.push(
      keepCertified({
        files,
        folder: path.join(state, RECORDS),
        clock,
        signer,
        onError: (error) => log('error', 'the record key can not be certified anew', { error: error.message }),
      }),
    );
    for (const lost of records.recovered.sessions)
      log('warn', 'a session of an earlier process was recovered', {
        session: String((lost as { stream?: string }).stream),
      });
    const control: ControlRecords = { write: (body, options) => records.control(body, options) };

    const feed = createFeed();
    const providers = followProviders(feed, trusted);
    undo.push(providers.stop);
    const ports = await openPortBook(files, path.join(state, 'ports.json'));
    const endpoint = (uid: string): { host: string; port: number } | undefined => {
      const found = gateway.endpoints().get(uid);
      return found && { host: 'localhost', port: found.port };
    };
    const keysFor = ownConnectionKeys({ key, definitions: options.protocols, endpoint, clock, random });
    const gateway = createGateway({
      protocols: options.protocols,
      feed,
      trustedKeys: () => trusted,
      controlPlane: createControlPlane(store, clock),
      credentials: store.credentials,
      records,
      tlsFor: () => serverTls,
      keysFor,
      listen: (connection) => ({ host: '127.0.0.1', port: ports.portFor(connection, connection.spec.exposure?.port) }),
      dialGuard: createDialGuard({ allowLoopback: true }),
      clock,
      random,
      log,
      ...(options.metrics !== undefined ? { metrics: options.metrics } : {}),
      onUnknownKey: (provider) => operator.unknownKey(provider),
      commandPrefix: prefix,
    });

    const probe = createProbe(options.protocols, store, keysFor);
    const rotations = new Map<string, number>();
    const operator = await startOperator({
      store,
      definitions: options.protocols,
      sealer,
      records: control,
      clock,
      random,
      log,
      key,
      epoch: nextEpoch(files, path.join(state, 'epoch'), clock.now()),
      publisher: feed,
      storedIdentity: storedIdentity(files, path.join(state, 'identity.json')),
      broken: () => store.broken(),
      endpoint,
      caBundle: authority.caPem,
      probe,
      notifiers: {
        clusterNamespace: LOCAL_NOTIFIERS_NAMESPACE,
        readSecret: () => (namespace, name) => store.credentials.readData(namespace, name),
        dial: () => {
          const guard = createDialGuard({ allowLoopback: true });
          return dialThroughProxy((target, hosts, signal) => guard.dial(target, hosts, signal), { env: process.env });
        },
        key: key.privateKey,
        ...(options.metrics === undefined ? {} : { count: (type, outcome) => options.metrics?.notice(type, outcome) }),
      },
      probeStamp: (connection) => String(rotations.get(firstSecretOf(connection)) ?? 0),
      prefix,
    });
    undo.push(() => operator.stop());
    undo.push(watchEnds(store, log, feed.grantEnded));
    await settle(operator);
    await gateway.start();
    undo.push(() => gateway.stop(0));
    undo.push(watchSessions({ gateway, clock, tell: (session) => operator.notifiers?.session(session) }));

    let timer: NodeJS.Timeout | undefined;
    const view = (): string =>
      connectionTable(operator.cache.list<Connection>('Connection'), [
        ...operator.cache.list<AccessPolicy>('AccessPolicy'),
        ...operator.cache.list<ClusterAccessPolicy>('ClusterAccessPolicy'),
      ]) +
      providerLines(operator.cache.list<IdentityProvider>('IdentityProvider')) +
      problemLines(store.problems().map(problemView));
    let shown = view();
    const show = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        const next = view();
        if (next !== shown) options.onView((shown = next));
      }, 300);
    };
    undo.push(() => clearTimeout(timer));
    const rememberPorts = (): void => {
      for (const connection of operator.cache.list<Connection>('Connection')) {
        const { uid, namespace = 'default', name } = connection.metadata;
        const open = gateway.endpoints().get(uid);
        if (open !== undefined && connection.spec.exposure?.port === undefined)
          ports.remember({ namespace, name }, open.port);
      }
    };
    rememberPorts();
    undo.push(
      gateway.onEndpoints(() => {
        rememberPorts();
        operator.resync();
        show();
      }),
    );
    undo.push(
      store.onFilesChanged(() => {
        operator.resync();
        show();
      }),
    );
    undo.push(
      store.onSecretsChanged((secrets) => {
        for (const secret of secrets) rotations.set(secret, (rotations.get(secret) ?? 0) + 1);
        operator.notifiers?.secretsChanged();
        operator.resync();
      }),
    );
    for (const kind of ['Connection', 'AccessPolicy', 'ClusterAccessPolicy', 'IdentityProvider'] as const) {
      const { resourceVersion } = await store.list(kind);
      undo.push(store.watch(kind, resourceVersion, show, show));
    }
    operator.resync();
    show();

    const api: LocalApi = await serveLocalApi(path.join(state, SOCKET_NAME), {
      info: { version: options.version, pid: process.pid, directory, startedAt: new Date(clock.now()).toISOString() },
      store,
      operator,
      gateway,
      records: control,
      problems: () => store.problems().map(problemView),
      identity: {
        cluster: key.keyId,
        providers: providers.current,
        spent: createSpentProofs(() => clock.now()),
        onUnknownKey: (provider) => operator.unknownKey(provider),
      },
      catalog: async (connection, account, signal) => {
        if (options.catalog === undefined) throw new Error('No protocol here can export a catalog.');
        return options.catalog(connection, account, signal, store.credentials);
      },
    });
    undo.push(() => api.close());
    await control.write({
      act: 'process.start',
      actor: { username: 'sallyport' },
      details: { version: options.version, pid: process.pid },
    });

    return {
      gateway,
      operator,
      records,
      view: () => (shown = view()),
      rootKey: rawPublicKey(publicKey),
      async stop(drainMs) {
        await control
          .write({ act: 'process.stop', actor: { username: 'sallyport' }, details: { pid: process.pid } })
          .catch(() => undefined);
        await api.close();
        await gateway.stop(drainMs);
        await unwind();
        fs.rmSync(path.join(state, SOCKET_NAME), { force: true });
      },
    };
  } catch (error) {
    await unwind();
    throw error;
  }
}

/** Throws where the folders can not be what they are said to be. */
function checkFolders(directory: string, state: string): void {
  if (!fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new CliError(
      EXIT.misconfigured,
      `${directory} is no directory`,
      'Name a folder of YAML files, for example: sallyport local ./access',
    );
  }
  if (`${state}/`.startsWith(`${directory}/`)) {
    throw new CliError(
      EXIT.misconfigured,
      `The state ${state} must not lie in the directory of YAML`,
      'Choose another with --state.',
    );
  }
  const socket = path.join(state, SOCKET_NAME);
  if (Buffer.byteLength(socket) > LONGEST_SOCKET_PATH) {
    throw new CliError(EXIT.misconfigured, `${socket} is too long for a unix socket`, 'Choose a shorter --state.');
  }
  fs.mkdirSync(state, { recursive: true, mode: 0o700 });
  const { mode } = fs.statSync(state);
  if ((mode & 0o077) !== 0) {
    throw new CliError(
      EXIT.misconfigured,
      `The state ${state} can be read by others`,
      `It holds private keys: chmod 700 ${state}`,
    );
  }
}

/** The first round of everything, so that the gateway starts with every grant it is to honour. */
async function settle(operator: Operator): Promise<void> {
  for (let round = 0; round < 200 && !operator.idle; round += 1)
    await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Ends of grants, straight from the store. Expiry is left to the gateway's own clock: an extension may take over. */
function watchEnds(
  store: DirectoryStore,
  log: Log,
  ended: (event: { grantUid: string; phase: 'Denied' | 'Revoked' | 'Deleted'; by?: string }) => void,
): () => void {
  let stop: () => void = () => undefined;
  let stopped = false;
  const follow = async (): Promise<void> => {
    const { items, resourceVersion } = await store.list<AccessGrant>('AccessGrant');
    const look = (grant: AccessGrant): void => {
      const { phase, finishedBy } = grant.status ?? {};
      if (phase !== 'Denied' && phase !== 'Revoked') return;
      ended({ grantUid: grant.metadata.uid, phase, ...(finishedBy ? { by: finishedBy } : {}) });
    };
    for (const grant of items) look(grant);
    if (stopped) return;
    stop = store.watch<AccessGrant>(
      'AccessGrant',
      resourceVersion,
      ({ type, object }) => {
        if (type === 'Deleted') ended({ grantUid: object.metadata.uid, phase: 'Deleted' });
        else look(object);
      },
      () => again(),
    );
  };
  const again = (): void => {
    follow().catch((error: unknown) => log('error', 'ends of grants are not watched', { error: String(error) }));
  };
  again();
  return () => {
    stopped = true;
    stop();
  };
}

const problemView = (problem: FileProblem): FileProblemView => ({
  file: problem.file,
  line: problem.line,
  column: problem.column,
  field: problem.field,
  severity: problem.severity === 'Error' ? 'error' : 'warning',
  message: problem.message,
  hint: problem.hint,
});

/** `namespace/name` of the Secret that the Connection is probed with. */
function firstSecretOf({ metadata, spec }: Connection): string {
  return `${metadata.namespace ?? 'default'}/${spec.accounts[0]?.secretRef?.name ?? ''}`;
}

/** Logs in to a Connection's target once with its first account. */
function createProbe(
  protocols: readonly Protocol[],
  store: DirectoryStore,
  keysFor: ReturnType<typeof ownConnectionKeys>,
) {
  const guard = createDialGuard({ allowLoopback: true });
  return async (connection: Connection, signal: AbortSignal): Promise<ProbeResult> => {
    const { uid, name, namespace = 'default' } = connection.metadata;
    const protocol = protocols.find((each) => each.type === connection.spec.type);
    const account = connection.spec.accounts[0];
    if (protocol === undefined || account === undefined) {
      return { kind: 'Failed', reason: `No protocol serves type ${connection.spec.type}.`, hint: '' };
    }
    try {
      const credential = await credentialOf(store.credentials, { namespace, name }, account);
      const dial: Dial = (target, dialSignal) => guard.dial(target, hostsOf(credential, target), dialSignal);
      return await protocol.probe({
        connection: { uid, name, namespace, spec: connection.spec },
        account: account.name,
        credential,
        keys: keysFor({ uid, name, namespace, spec: connection.spec }),
        dial,
        signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]),
      });
    } catch (error) {
      return { kind: 'Failed', reason: error instanceof Error ? error.message : String(error), hint: '' };
    }
  };
}
