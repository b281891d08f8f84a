// The operator's half that makes proxies, over a real API server: a cache, bundles that are only names, an authority of
// its own. Nothing runs the pods; what a StatefulSet's controller, the garbage collector and a proxy would do, a test does.
import { generateKeyPairSync } from 'node:crypto';
import type { Connection } from '../../src/api/connection.ts';
import { type Garbage, startGarbage } from '../../src/controllers/garbage/controller.ts';
import { authorityOf, makeAuthorityKeys } from '../../src/controllers/pki/authority.ts';
import { createCertificateIssuer } from '../../src/controllers/replicas/issuer.ts';
import type { ShardMark } from '../../src/controllers/replicas/programmed.ts';
import { keyOf, openCache, type RunningCache } from '../../src/controllers/runtime.ts';
import { startWorkloads, type Workloads } from '../../src/controllers/workloads/controller.ts';
import type { WorkloadSettings } from '../../src/controllers/workloads/plan.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import type { PolicyShard } from '../../src/policy/bundle.ts';
import { signingKeyFromPem, type TrustedKey, trustedKeyOf } from '../../src/policy/bundle-signing.ts';
import { postgresDefinition } from '../../src/protocols/postgres/definition.ts';
import { sshDefinition } from '../../src/protocols/ssh/definition.ts';
import { openKubeStore } from '../../src/store/kube/store.ts';
import type { ResourceStore } from '../../src/store/resource-store.ts';
import { type Clock, systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';

export const SETTINGS: WorkloadSettings = {
  image: 'registry.example/sallyport:test',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: ['pull'],
  trust: ['0123456789abcdef:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
  operatorNamespace: 'sallyport-system',
  tunnelRoles: true,
};

export interface WorkloadBed {
  workloads: Workloads;
  cache: RunningCache;
  store: ResourceStore;
  garbage: Garbage;
  /** By Connection uid. Default: policy and overlay of each. */
  bundles: Map<string, Map<string, ShardMark>>;
  /** Keys of Connections that were to be looked at again. */
  looked: string[];
  problems: string[];
  trusted: TrustedKey;
  caPem: string;
  /** Resolves once nothing is to be done and the watches have been quiet for a moment. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

export async function startWorkloadBed(options: {
  client: KubeClient;
  clock?: Clock;
  settings?: Partial<WorkloadSettings>;
  policies?: (connection: Connection) => PolicyShard['policies'];
}): Promise<WorkloadBed> {
  const clock = options.clock ?? systemClock;
  const random = systemRandom;
  const problems: string[] = [];
  const log = (level: string, message: string, fields?: object): void => {
    if (level === 'error' || level === 'warn') problems.push(`${message} ${JSON.stringify(fields ?? {})}`);
  };
  const store = openKubeStore({ client: options.client, clock, random, log });
  const key = signingKeyFromPem(
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  const authority = await authorityOf(await makeAuthorityKeys('test', { clock, random }), { clock, random });
  const bundles: WorkloadBed['bundles'] = new Map();
  const marks = (uid: string): Map<string, ShardMark> =>
    bundles.get(uid) ??
    new Map([
      ['policy', { epoch: 1, sequence: 1 }],
      ['overlay', { epoch: 1, sequence: 2 }],
    ]);
  const workloads = startWorkloads({
    client: options.client,
    store,
    definitions: [postgresDefinition, sshDefinition],
    settings: { ...SETTINGS, ...options.settings },
    issuer: createCertificateIssuer(authority),
    key,
    trusted: [trustedKeyOf(key)],
    bundles: {
      objectsOf: (uid) => [...marks(uid).keys()].map((shard) => `${uid}.${shard}`).sort(),
      storedOf: marks,
    },
    clock,
    random,
    log,
  });
  let changes = 0;
  const cache = await openCache(
    store,
    [
      'Connection',
      'AccessPolicy',
      'AccessGrant',
      'AccessApproval',
      'CommandHold',
      'ProxyReplica',
      'RecordingStore',
      'AccessSession',
    ],
    (event) => {
      changes += 1;
      workloads.onChange(event);
    },
    log,
    clock,
    {
      AccessGrant: {
        parent: (object) => {
          const ref = (object as unknown as { spec: { extends?: { uid: string } } }).spec.extends;
          return ref === undefined ? [] : [ref.uid];
        },
      },
    },
  );
  const looked: string[] = [];
  await workloads.attach({
    awaitsGrants: () => false,
    cache,
    compile: (connection) => ({
      connection: {
        uid: connection.metadata.uid,
        name: connection.metadata.name,
        namespace: connection.metadata.namespace ?? '',
        generation: connection.metadata.generation,
        spec: connection.spec,
      },
      policies: options.policies?.(connection) ?? [],
    }),
    lookAgain: ({ metadata }) => looked.push(keyOf(metadata.namespace, metadata.name)),
  });
  const garbage = startGarbage({ store, cache, clock, log });
  return {
    workloads,
    cache,
    store,
    garbage,
    bundles,
    looked,
    problems,
    trusted: trustedKeyOf(key),
    caPem: authority.caPem,
    async settled() {
      const end = performance.now() + 30_000;
      let quiet = 0;
      let seen = -1;
      while (quiet < 5) {
        if (performance.now() > end) throw new Error(`it does not come to rest: ${problems.join('\n')}`);
        await new Promise((resolve) => setTimeout(resolve, 60));
        const now = changes + workloads.writes;
        quiet = workloads.idle && garbage.idle && now === seen ? quiet + 1 : 0;
        seen = now;
      }
    },
    async stop() {
      cache.stop();
      await garbage.stop();
      await workloads.stop();
    },
  };
}
