// What a proxy meets in its pod, with a real API server and a real PostgreSQL: namespaces, rights, a token bound to its
// Pod, mounted Secrets; and an operator reduced to what a proxy sees of one: signed bundles, certificates, a heartbeat.
import 'reflect-metadata'; // x509's injector needs it loaded first
import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import pg from 'pg';
import { sha256Hex } from '../../src/api/canonical.ts';
import type { ConnectionSpec } from '../../src/api/connection.ts';
import type { AccessGrant } from '../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../src/api/group.ts';
import type { ProxyReplica } from '../../src/api/replica.ts';
import { type Authority, authorityOf, makeAuthorityKeys } from '../../src/controllers/pki/authority.ts';
import { type ClientKeyPair, generateClientKey } from '../../src/identity/keys.ts';
import { issueTicket } from '../../src/identity/tickets.ts';
import { type KubeAccess, tokenAccess } from '../../src/kube/access.ts';
import type { KubeAnswer } from '../../src/kube/answer.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import type { BundleGrant, CompiledPolicy, CompiledRule, ShardEnvelope, ShardName } from '../../src/policy/bundle.ts';
import { keyIdOf, type SigningKey, signShard, type TrustedKey, trustedKeyOf } from '../../src/policy/bundle-signing.ts';
import { issueRecordCertificate, publicKeyFromRaw } from '../../src/recording/signer.ts';
import { systemClock } from '../../src/system/clock.ts';
import { systemRandom } from '../../src/system/random.ts';
import { freePorts } from '../support/cluster/children.ts';
import { type ControlPlane, startControlPlane } from '../support/cluster/control-plane.ts';
import { type PostgresServer, startPostgres } from '../support/postgres.ts';

export const NAMESPACE = 'payments';
export const OPERATOR_NAMESPACE = 'sallyport-system';
export const CONNECTION = { uid: '3f2b7c1e-1111-4222-8333-444455556666', name: 'orders-db' };
export const SECRET = 'orders-db-reader';
const API = `/apis/${API_GROUP_VERSION}/namespaces`;

export const bundlePath = (name = '', namespace = NAMESPACE): string =>
  `${API}/${namespace}/enforcementbundles${name === '' ? '' : `/${name}`}`;
export const grantPath = (name = ''): string => `${API}/${NAMESPACE}/accessgrants${name === '' ? '' : `/${name}`}`;
export const replicaPath = (name = ''): string => `${API}/${NAMESPACE}/proxyreplicas${name === '' ? '' : `/${name}`}`;
export const sessionPath = (name = ''): string => `${API}/${NAMESPACE}/accesssessions${name === '' ? '' : `/${name}`}`;

export function value<T>(answer: KubeAnswer<T>): T {
  if (answer.kind === 'Failed') throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
  return answer.value;
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  ms = 20_000,
): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`);
    await sleep(50);
  }
}

export interface Bed {
  plane: ControlPlane;
  admin: KubeClient;
  target: PostgresServer;
  operator: TestOperator;
  folder: string;
  credentials: string;
  /** As the kubelet swaps a Secret. */
  mount(values: Readonly<Record<string, string>>): void;
  /** A Pod with its ProxyReplica, and access by a token bound to it. */
  pod(name: string, connections?: readonly string[]): Promise<{ uid: string; access: KubeAccess; port: number }>;
  stop(): Promise<void>;
}

export interface TestOperator {
  trusted: TrustedKey[];
  authority: Authority;
  key: SigningKey;
  envelope(
    shard: ShardName,
    payload: unknown,
    more?: { connectionUid?: string; key?: SigningKey; at?: number },
  ): ShardEnvelope;
  /** The sequence it has. */
  publish(shard: ShardName, payload: unknown): Promise<number>;
  write(envelope: ShardEnvelope, name?: string): Promise<KubeAnswer<unknown>>;
  heartbeat(atMs?: number): Promise<void>;
  policy(rules?: CompiledRule[], spec?: Partial<ConnectionSpec>): Promise<void>;
  /** Makes the AccessGrant and puts it into the bundle. */
  grant(): Promise<{ grant: BundleGrant; key: ClientKeyPair; sequence: number }>;
  grants: BundleGrant[];
  /** Certifies keys, and beats, until stopped. */
  stop(): Promise<void>;
}

export async function startBed(): Promise<Bed> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-proxy-'));
  const undo: (() => Promise<void> | void)[] = [() => fs.rmSync(folder, { recursive: true, force: true })];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const target = await startPostgres({
      setup: `create role reader login password 'svc-secret';
        create role other login password 'svc-secret-2';
        create table orders (id int primary key, state text);
        insert into orders select i, 'new' from generate_series(1, 10) i;
        grant select on orders to reader, other`,
    });
    undo.push(() => target.stop());
    const plane = await startControlPlane({ crds: true });
    undo.push(() => plane.stop());
    const admin = plane.clientFor();
    const namespace = (name: string) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
    await plane.apply(namespace(NAMESPACE), namespace(OPERATOR_NAMESPACE), {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'heartbeat', namespace: OPERATOR_NAMESPACE },
      rules: [
        {
          apiGroups: ['sallyport.dev'],
          resources: ['enforcementbundles'],
          resourceNames: ['heartbeat', 'identity'],
          verbs: ['get', 'list', 'watch'],
        },
      ],
    });
    await plane.apply({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'heartbeat', namespace: OPERATOR_NAMESPACE },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'heartbeat' },
      subjects: [{ kind: 'Group', name: 'system:serviceaccounts', apiGroup: 'rbac.authorization.k8s.io' }],
    });

    const operator = await startOperator(admin, target);
    undo.push(() => operator.stop());
    await operator.heartbeat();
    await operator.policy();
    await operator.publish('overlay', { locks: [], voidTickets: [] });
    await operator.publish('releases', { releases: [] });
    await operator.publish('grants-0', { grants: [] });

    const credentials = path.join(folder, 'credentials');
    let version = 0;
    const bed: Bed = {
      plane,
      admin,
      target,
      operator,
      folder,
      credentials,
      mount(values) {
        const secret = path.join(credentials, SECRET);
        const next = `..${(version += 1)}`;
        fs.mkdirSync(path.join(secret, next), { recursive: true });
        for (const [key, text] of Object.entries(values)) fs.writeFileSync(path.join(secret, next, key), text);
        fs.symlinkSync(next, path.join(secret, '..data.new'));
        fs.renameSync(path.join(secret, '..data.new'), path.join(secret, '..data'));
        for (const key of Object.keys(values))
          if (!fs.existsSync(path.join(secret, key))) fs.symlinkSync(`..data/${key}`, path.join(secret, key));
      },
      pod: (name, connections = [CONNECTION.uid]) => makePod(plane, admin, name, connections),
      stop,
    };
    bed.mount({ username: 'reader', password: 'svc-secret', 'sallyport-hosts': `127.0.0.1:${target.port}` });
    return bed;
  } catch (error) {
    await stop();
    throw error;
  }
}

export const SHARDS = ['policy', 'overlay', 'releases', 'grants-0'] as const;

async function makePod(
  plane: ControlPlane,
  admin: KubeClient,
  name: string,
  connections: readonly string[],
): Promise<{ uid: string; access: KubeAccess; port: number }> {
  const bundles = connections.flatMap((uid) => SHARDS.map((shard) => `${uid}.${shard}`));
  const group = ['sallyport.dev'];
  const meta = (own: string) => ({ name: own, namespace: NAMESPACE });
  const rbac = 'rbac.authorization.k8s.io';
  await plane.apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: meta(name) },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'Role',
      metadata: meta(name),
      rules: [
        {
          apiGroups: group,
          resources: ['enforcementbundles'],
          resourceNames: bundles,
          verbs: ['get', 'list', 'watch'],
        },
        {
          apiGroups: group,
          resources: ['proxyreplicas'],
          resourceNames: [name],
          verbs: ['get', 'list', 'watch', 'patch'],
        },
        { apiGroups: group, resources: ['accessgrants'], verbs: ['get', 'list', 'watch'] },
        { apiGroups: group, resources: ['commandholds'], verbs: ['create', 'get', 'list', 'watch'] },
        { apiGroups: group, resources: ['commandholds/status'], verbs: ['patch'] },
        {
          apiGroups: group,
          resources: ['accesssessions'],
          verbs: ['create', 'get', 'list', 'watch', 'delete', 'patch'],
        },
        { apiGroups: group, resources: ['accesssessions/status'], verbs: ['patch'] },
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: meta(name),
      roleRef: { apiGroup: rbac, kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: NAMESPACE }],
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: meta(name),
      spec: { serviceAccountName: name, containers: [{ name: 'proxy', image: 'none' }] },
    },
    { apiVersion: API_GROUP_VERSION, kind: 'ProxyReplica', metadata: meta(name), spec: {} },
  );
  const pod = value(await admin.get<{ metadata: { uid: string } }>(`/api/v1/namespaces/${NAMESPACE}/pods/${name}`));
  const { uid } = pod.metadata;
  const token = value(
    await admin.create<{ status: { token: string } }>(`/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${name}/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 3600, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid } },
    }),
  ).status.token;
  const [port] = (await freePorts(1)) as [number];
  const status = {
    connections: connections.map((each, index) => ({
      uid: each,
      name: each === CONNECTION.uid ? CONNECTION.name : `other-${index}`,
      port,
      bundles: SHARDS.map((shard) => `${each}.${shard}`),
    })),
  };
  value(await admin.patch(`${replicaPath(name)}/status`, { status }, 'merge'));
  return { uid, access: tokenAccess(plane.server, token, plane.ca), port };
}

async function startOperator(admin: KubeClient, target: PostgresServer): Promise<TestOperator> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const key: SigningKey = { keyId: keyIdOf(publicKey), privateKey };
  const sources = { clock: systemClock, random: systemRandom };
  const authority = await authorityOf(await makeAuthorityKeys('Test CA', sources), sources);
  let sequence = 0;
  let stopped = false;

  const operator: TestOperator = {
    trusted: [trustedKeyOf(key)],
    authority,
    key,
    grants: [],
    envelope: (shard, payload, more = {}) =>
      signShard(more.key ?? key, {
        connectionUid: more.connectionUid ?? CONNECTION.uid,
        shard,
        epoch: 1,
        sequence: more.at ?? ++sequence,
        payload,
      }),
    async publish(shard, payload) {
      const envelope = operator.envelope(shard, payload);
      value(await operator.write(envelope));
      return envelope.sequence;
    },
    write(envelope, name = `${envelope.connectionUid}.${envelope.shard}`) {
      const namespace = name === 'heartbeat' || name === 'identity' ? OPERATOR_NAMESPACE : NAMESPACE;
      const body = {
        apiVersion: API_GROUP_VERSION,
        kind: 'EnforcementBundle',
        metadata: { name, namespace },
        spec: envelope,
      };
      return admin.patch(bundlePath(name, namespace), body, 'apply', { fieldManager: 'test', force: true });
    },
    async heartbeat(atMs = Date.now()) {
      value(await operator.write(operator.envelope('heartbeat', { atMs }, { connectionUid: '*' }), 'heartbeat'));
    },
    async policy(rules = RULES, spec = {}) {
      await operator.publish('policy', policyShard(target, rules, spec));
    },
    async grant() {
      const client = generateClientKey();
      const made = value(
        await admin.create<AccessGrant>(grantPath(), {
          apiVersion: API_GROUP_VERSION,
          kind: 'AccessGrant',
          metadata: { generateName: `${CONNECTION.name}-`, namespace: NAMESPACE },
          spec: {
            connectionRef: { name: CONNECTION.name },
            duration: '1h',
            clientKey: client.publicKey,
            reason: 'INC-1',
          },
        }),
      );
      const grant: BundleGrant = {
        name: made.metadata.name,
        uid: made.metadata.uid,
        specHash: 'h',
        principal: { username: 'alice@corp.example', groups: ['payments'], aliases: [] },
        via: 'Kubernetes',
        account: 'reader',
        policy: `${NAMESPACE}/orders-team`,
        clientKey: client.publicKey,
        commandHashes: [],
        notBeforeMs: Date.now() - 60_000,
        expiresAtMs: Date.now() + 3_600_000,
        ticketUntilExpiry: false,
      };
      operator.grants.push(grant);
      const published = await operator.publish('grants-0', { grants: operator.grants });
      return { grant, key: client, sequence: published };
    },
    async stop() {
      stopped = true;
      await working;
    },
  };

  async function certify(): Promise<void> {
    const found = await admin.list<ProxyReplica>(replicaPath());
    if (found.kind === 'Failed') return;
    for (const { metadata, spec, status } of found.value.items) {
      if (spec?.csr === undefined || spec.recordKey === undefined || status?.certificateFor === sha256Hex(spec.csr))
        continue;
      const request = new x509.Pkcs10CertificateRequest(spec.csr);
      if (!(await request.verify())) throw new Error('a request that does not verify');
      const der = new Uint8Array(request.publicKey.rawData);
      const { cert } = await authority.certify(der, ['localhost', '127.0.0.1'], 7 * 86_400_000);
      const now = Date.now();
      const record = issueRecordCertificate(key, publicKeyFromRaw(spec.recordKey)!, {
        notBeforeMs: now - 60_000,
        notAfterMs: now + 86_400_000,
      });
      const patch = {
        certificate: cert,
        certificateFor: sha256Hex(spec.csr),
        recordCertificate: JSON.stringify(record),
      };
      value(await admin.patch(`${replicaPath(metadata.name)}/status`, { status: patch }, 'merge'));
    }
  }
  const working = (async () => {
    while (!stopped) {
      // The API server is killed under it in some tests.
      await certify().catch(() => undefined);
      await sleep(200);
    }
  })();
  return operator;
}

export const rule = (name: string, action: CompiledRule['action'], more: Partial<CompiledRule> = {}): CompiledRule => ({
  ref: { policy: `${NAMESPACE}/orders-team`, rule: name },
  action,
  enforce: true,
  exempt: [],
  ...more,
});
const RULES: CompiledRule[] = [
  rule('all', 'Allow'),
  rule('no-ddl', 'Deny', { matcher: { member: 'sql', value: { effects: ['Define'] } } }),
];

function policyShard(target: PostgresServer, rules: CompiledRule[], spec: Partial<ConnectionSpec>): unknown {
  const policy: CompiledPolicy = {
    kind: 'AccessPolicy',
    name: `${NAMESPACE}/orders-team`,
    uid: 'policy-uid',
    generation: 1,
    accepted: true,
    subjects: [{ kind: 'Group', name: 'payments' }],
    accounts: ['reader'],
    rules,
    masks: [],
    trustedFunctions: [],
    session: { ticketUntilExpiry: false },
  };
  const connection = {
    ...CONNECTION,
    namespace: NAMESPACE,
    generation: 1,
    spec: {
      type: 'PostgreSQL',
      postgresql: { host: '127.0.0.1', port: target.port, tls: { mode: 'VerifyFull', ca: target.ca } },
      accounts: [{ name: 'reader', secretRef: { name: SECRET } }],
      ...spec,
    },
  };
  return { connection, policies: [policy] };
}

export function ticket(held: { grant: BundleGrant; key: ClientKeyPair }): string {
  return issueTicket({
    privateKey: held.key.privateKey,
    grantUid: held.grant.uid,
    connectionUid: CONNECTION.uid,
    nowMs: Date.now(),
    random: systemRandom,
  });
}

export interface Login {
  client: pg.Client;
  errors: Error[];
  closed: Promise<void>;
}

export async function login(
  bed: Bed,
  port: number,
  held: { grant: BundleGrant; key: ClientKeyPair },
  onEnd: (step: () => Promise<void>) => void,
): Promise<Login> {
  const errors: Error[] = [];
  const client = new pg.Client({
    host: 'localhost',
    port,
    user: 'alice',
    password: ticket(held),
    database: 'postgres',
    ssl: { ca: bed.operator.authority.caPem, servername: 'localhost' },
  });
  client.on('error', (error) => errors.push(error));
  const closed = new Promise<void>((resolve) => client.once('end', () => resolve()));
  onEnd(() => client.end().catch(() => undefined));
  await client.connect();
  return { client, errors, closed };
}
