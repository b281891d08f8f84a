// What the leading operator of a cluster does: every controller over one store, bundles as objects, proxies as
// workloads. Composes; decides nothing. Whoever loses the lead stops all of it; whoever gets it starts from what the
// API server holds, so that a kill at any instant costs nothing but time.
import type { Connection } from '../../api/connection.ts';
import type { ProxyReplica } from '../../api/replica.ts';
import { openObjectPublisher } from '../../controllers/bundles/object-publisher.ts';
import { GARBAGE_KINDS, startGarbage } from '../../controllers/garbage/controller.ts';
import { followSignals, toldByReplica } from '../../controllers/identity-providers/signal.ts';
import type { NotifierServices } from '../../controllers/notifiers/channel.ts';
import { type Operator, startOperator } from '../../controllers/operator.ts';
import type { Authority } from '../../controllers/pki/authority.ts';
import type { OperatorKeys } from '../../controllers/pki/secret-keys.ts';
import type { ControlRecords } from '../../controllers/ports.ts';
import { createCertificateIssuer } from '../../controllers/replicas/issuer.ts';
import type { Log } from '../../controllers/runtime.ts';
import type { Sealer } from '../../controllers/seal.ts';
import { startWorkloads, WORKLOAD_KINDS, type WorkloadSettings } from '../../controllers/workloads/controller.ts';
import type { KubeClient } from '../../kube/client.ts';
import { EVERY_CONNECTION } from '../../policy/bundle.ts';
import { trustedKeyOf } from '../../policy/bundle-signing.ts';
import type { ProtocolDefinition } from '../../protocols/protocol.ts';
import { openKubeStore } from '../../store/kube/store.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';

export interface ControlOptions {
  client: KubeClient;
  keys: OperatorKeys;
  authority: Authority;
  sealer: Sealer;
  definitions: readonly ProtocolDefinition[];
  records: ControlRecords;
  /** Raised with each leader; see the Lease. */
  epoch: number;
  settings: WorkloadSettings;
  /** Address of the approval page, for hints. */
  portal?: string;
  /** Absent: nobody is told, and no ticket can be read. */
  notifiers?: NotifierServices;
  /** Told how many emergencies wait for their sign-off. */
  signOffsDue?(count: number): void;
  clock: Clock;
  random: Random;
  log: Log;
  /** Somebody else leads: stop. */
  onFenced(): void;
}

/** As many as the client has connections; a burst of grants for one Connection makes one bundle, not one each. */
const PACE = { concurrency: 16, restMs: 50 };
/** How often it is looked whether everything is in step for the first time. */
const LOOK_MS = 250;

export interface Control {
  operator: Operator;
  /** Whether everything is done that was to be done. */
  readonly idle: boolean;
  stop(): Promise<void>;
}

/** Resolves once everything is listed and the first round of every queue has begun. */
export async function startControl(options: ControlOptions): Promise<Control> {
  const { client, keys, clock, random, log } = options;
  const began = clock.monotonic();
  const store = openKubeStore({ client, clock, random, log });
  const trusted = [trustedKeyOf(keys.key), ...keys.alsoTrusted];
  // Bundles are placed by what is there now; Connections that come later are told by the cache.
  const places = new Map<string, { namespace: string; name: string }>();
  const placeOf = ({ metadata }: Connection): void => {
    places.set(metadata.uid, { namespace: metadata.namespace ?? 'default', name: metadata.name });
  };
  for (const connection of (await store.list<Connection>('Connection')).items) placeOf(connection);

  const publisher = await openObjectPublisher({
    client,
    operatorNamespace: options.settings.operatorNamespace,
    placeOf: (uid) => places.get(uid),
    trusted,
    clock,
    random,
    log,
    onLost: (uid) => operator.republish(uid),
    onStored: (uid) => workloads.bundlesStored(uid),
    onFenced: () => options.onFenced(),
  });
  const acknowledge = ({ spec }: ProxyReplica): void => {
    for (const { uid, applied } of spec?.connections ?? []) publisher.acknowledged(uid, applied);
  };
  const workloads = startWorkloads({
    client,
    store,
    definitions: options.definitions,
    settings: options.settings,
    issuer: createCertificateIssuer(options.authority),
    key: keys.key,
    trusted,
    bundles: publisher,
    clock,
    random,
    log,
  });
  const operator = await startOperator({
    store,
    definitions: options.definitions,
    sealer: options.sealer,
    records: options.records,
    clock,
    random,
    log,
    key: keys.key,
    epoch: options.epoch,
    publisher,
    commonHeartbeat: true,
    storedIdentity: { read: () => publisher.read(EVERY_CONNECTION, 'identity') },
    trusted,
    broken: () => [],
    endpoint: (uid) => workloads.endpoint(uid),
    caBundle: options.authority.caPem,
    // The operator has no credential of any target: its proxies look.
    probe: () => Promise.resolve({ kind: 'Failed', reason: 'The operator does not probe.', hint: '' }),
    proxies: workloads.proxies,
    also: {
      kinds: [...WORKLOAD_KINDS, ...GARBAGE_KINDS],
      onChange(event) {
        if (event.kind === 'Connection') {
          if (event.type === 'Deleted') places.delete(event.object.metadata.uid);
          else placeOf(event.object as Connection);
        }
        if (event.kind === 'ProxyReplica' && event.type !== 'Deleted') {
          acknowledge(event.object as ProxyReplica);
          const told = toldByReplica(event.object as ProxyReplica, event.previous as ProxyReplica | undefined);
          for (const provider of told) operator.unknownKey(provider);
        }
        workloads.onChange(event);
      },
    },
    ...(options.notifiers === undefined ? {} : { notifiers: options.notifiers }),
    ...(options.signOffsDue === undefined ? {} : { signOffsDue: options.signOffsDue }),
    pace: PACE,
    prefix: 'kubectl access',
    ...(options.portal === undefined ? {} : { portal: options.portal }),
  });
  for (const replica of operator.cache.list<ProxyReplica>('ProxyReplica')) acknowledge(replica);
  await workloads.attach(operator);
  const signals = followSignals({
    client,
    namespace: options.settings.operatorNamespace,
    clock,
    random,
    log,
    onUnknownKey: (provider) => operator.unknownKey(provider),
  });
  const garbage = startGarbage({ store, cache: operator.cache, clock, log });

  const idle = (): boolean => operator.idle && publisher.idle && workloads.idle && garbage.idle;
  let cancelLook: () => void;
  const look = (): void => {
    cancelLook = clock.after(LOOK_MS, () => {
      if (!idle()) return look();
      log('info', 'everything was looked at and is in step', { milliseconds: Math.round(clock.monotonic() - began) });
    });
  };
  look();
  return {
    operator,
    get idle() {
      return idle();
    },
    async stop() {
      cancelLook();
      await signals.stop();
      await garbage.stop();
      await operator.stop();
      await workloads.stop();
      await publisher.stop();
    },
  };
}
