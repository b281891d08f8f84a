// What attackers of the operator find: a bare API server with the chart's own objects, the operator and one proxy as
// processes with their own rights, a real PostgreSQL, and people who may do some things in one of two namespaces.
import assert from 'node:assert/strict';
import pg from 'pg';
import { specHash } from '../../../src/api/canonical.ts';
import type { Connection } from '../../../src/api/connection.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import type { ProcessLimits } from '../../../src/gateway/limits.ts';
import { type ClientKeyPair, generateClientKey } from '../../../src/identity/keys.ts';
import { issueTicket } from '../../../src/identity/tickets.ts';
import type { KubeAnswer } from '../../../src/kube/answer.ts';
import { createKubeClient, type KubeClient } from '../../../src/kube/client.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { RELEASE_NAMESPACE } from '../../support/chart.ts';
import { type ControlPlane, type KubernetesObject, startControlPlane } from '../../support/cluster/control-plane.ts';
import {
  ok,
  type ProxyProgram,
  SALLYPORT_USERS,
  type Sallyport,
  startSallyport,
  until,
} from '../../support/cluster/sallyport.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

export const SHOP = 'shop';
export const OTHER = 'other';
export const WORKLOAD = 'sallyport-orders';
export const PASSWORD = 'pw-orders-app-77d1';
export const api = (plural: string, name = '', namespace = SHOP): string =>
  `/apis/sallyport.dev/v1alpha1/namespaces/${namespace}/${plural}${name && `/${name}`}`;

/**
 * alice asks (payments); bob asks and approves; carol, dan approve. carol2 is carol renamed (same uid); Carol looks like
 * her. nora has no uid anywhere, asks and approves. ann writes Connections and may read Secret `orders`; mallory writes
 * them and may not. eve may do anything in namespace `other`.
 */
export const PEOPLE = [
  { name: 'alice', groups: ['payments'] },
  { name: 'bob', groups: ['payments', 'dba'] },
  { name: 'bob-renamed', uid: 'uid-bob', groups: ['payments', 'dba'] },
  { name: 'carol', groups: ['dba'] },
  { name: 'carol2', uid: 'uid-carol', groups: ['dba'] },
  { name: 'Ｃarol', uid: 'uid-looks-like-carol', groups: ['dba'] },
  { name: 'dan', groups: ['dba'] },
  { name: 'nora', uid: '', groups: ['payments', 'dba'] },
  { name: 'ann', groups: ['authors'] },
  { name: 'mallory', groups: ['authors'] },
  { name: 'eve', groups: ['others', 'dba', 'payments'] },
];

export interface Asked {
  grant: AccessGrant;
  key: ClientKeyPair;
}

export interface SecurityScene {
  plane: ControlPlane;
  sallyport: Sallyport;
  proxy: ProxyProgram;
  target: PostgresServer;
  admin: KubeClient;
  connection: Connection;
  as(user: string): KubeClient;
  /** A cluster-admin who passes himself off as the operator in its pod: nothing at the API server stops him. */
  usurper: KubeClient;
  ask(user: string, options?: { connection?: string; name?: string; duration?: string }): Promise<Asked>;
  vote(user: string, grant: AccessGrant, decision?: string, more?: object): Promise<AccessApproval>;
  grant(name: string, namespace?: string): Promise<AccessGrant>;
  untilPhase(grant: AccessGrant, phase: string, withinMs?: number): Promise<AccessGrant>;
  /** The condition `Counted` of an approval, once it is told: its reason. */
  verdict(approval: AccessApproval): Promise<string>;
  /** Asks as alice, approves as carol, waits for Active. */
  held(options?: { duration?: string }): Promise<Asked>;
  /** One attempt at the proxy. */
  login(asked: Asked, user?: string): Promise<pg.Client>;
  /** Attempts for as long as the bundle may be on its way. */
  loginSoon(asked: Asked, withinMs?: number): Promise<pg.Client>;
  /** Asserts that the proxy lets nobody in with it. */
  noLogin(asked: Asked, why: string): Promise<void>;
  condition(
    kind: string,
    name: string,
    type: string,
    namespace?: string,
  ): Promise<{ status: string; reason: string; message: string }>;
  stop(): Promise<void>;
}

export function refused(answer: KubeAnswer<unknown>, message: RegExp, statuses: readonly number[] = [403]): void {
  if (answer.kind === 'Ok') assert.fail(`was let through; expected ${message}`);
  assert.ok(statuses.includes(answer.status), `${answer.status} ${answer.message}`);
  assert.match(answer.message, message);
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function startSecurityScene(
  options: { proxyLimits?: Partial<ProcessLimits> } = {},
): Promise<SecurityScene> {
  const undo: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const target = await startPostgres({
      database: 'orders',
      setup: `create role orders_app login password '${PASSWORD}';
        create table cards (id int primary key, number text);
        insert into cards values (1, '4111111111111111');
        alter table cards owner to orders_app;`,
    });
    undo.push(() => target.stop());
    const plane = await startControlPlane({ users: [...PEOPLE, ...SALLYPORT_USERS] });
    undo.push(() => plane.stop());
    const sallyport = await startSallyport(plane);
    undo.push(() => sallyport.stop());
    await plane.apply(...rights(), ...access(target));
    const orders = {
      username: 'orders_app',
      password: PASSWORD,
      'sallyport-hosts': `orders.${SHOP}.svc:${target.port}`,
    };
    const proxy = await sallyport.startProxy(SHOP, WORKLOAD, { orders }, options.proxyLimits);
    const { admin } = sallyport;
    const connection = await until('the Connection to be Ready', async () => {
      const seen = ok(await admin.get<Connection>(api('connections', 'orders')));
      const ready = seen.status?.conditions?.find(({ type }) => type === 'Ready');
      if (ready?.status !== 'True') throw new Error(`${ready?.reason}: ${ready?.message}`);
      return seen;
    });
    const set = ok(await admin.get<KubernetesObject>(`/apis/apps/v1/namespaces/${SHOP}/statefulsets/${WORKLOAD}`))
      .metadata as unknown as { annotations: Record<string, string> };
    const port = (JSON.parse(set.annotations['sallyport.dev/ports']!) as Record<string, number>)[
      connection.metadata.uid
    ]!;
    const usurper = createKubeClient({
      ...plane.access(),
      headers: async () => ({
        ...(await plane.access().headers()),
        'impersonate-user': `system:serviceaccount:${RELEASE_NAMESPACE}:sallyport`,
        'impersonate-group': 'system:masters',
        'impersonate-extra-authentication.kubernetes.io%2fpod-name': 'sallyport-a',
      }),
    });
    undo.push(() => usurper.close());
    return sceneOf({ plane, sallyport, proxy, target, admin, connection, port, usurper, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

function sceneOf(
  given: Pick<
    SecurityScene,
    'plane' | 'sallyport' | 'proxy' | 'target' | 'admin' | 'connection' | 'usurper' | 'stop'
  > & {
    port: number;
  },
): SecurityScene {
  const { plane, admin, connection, port } = given;
  const clients = new Map<string, KubeClient>();
  const scene: SecurityScene = {
    ...given,
    as(user) {
      const client = clients.get(user) ?? plane.clientFor(user);
      clients.set(user, client);
      return client;
    },
    async ask(user, options = {}) {
      const key = generateClientKey();
      const grant = ok(
        await scene.as(user).create<AccessGrant>(api('accessgrants'), {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessGrant',
          metadata: options.name === undefined ? { generateName: 'g-' } : { name: options.name },
          spec: {
            connectionRef: { name: options.connection ?? 'orders' },
            duration: options.duration ?? '1h',
            reason: 'INC-1234',
            clientKey: key.publicKey,
          },
        }),
      );
      return { grant, key };
    },
    vote: async (user, { metadata, spec }, decision = 'Approve', more = {}) =>
      ok(
        await scene.as(user).create<AccessApproval>(api('accessapprovals'), {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessApproval',
          metadata: { generateName: 'a-' },
          spec: {
            targetRef: { kind: 'AccessGrant', name: metadata.name, uid: metadata.uid },
            specHash: specHash(spec),
            decision,
            ...more,
          },
        }),
      ),
    grant: async (name, namespace = SHOP) => ok(await admin.get<AccessGrant>(api('accessgrants', name, namespace))),
    untilPhase: ({ metadata }, phase, withinMs = 20_000) =>
      until(
        `grant ${metadata.name} to be ${phase}`,
        async () => {
          const seen = await scene.grant(metadata.name, metadata.namespace);
          if (seen.status?.phase !== phase) throw new Error(JSON.stringify(seen.status));
          return seen;
        },
        withinMs,
        20,
      ),
    verdict: ({ metadata }) =>
      until(`the verdict on approval ${metadata.name}`, async () => {
        const seen = ok(await admin.get<AccessApproval>(api('accessapprovals', metadata.name, metadata.namespace)));
        return seen.status?.conditions?.find(({ type }) => type === 'Counted')?.reason;
      }),
    async held(options = {}) {
      const asked = await scene.ask('alice', options);
      await scene.vote('carol', asked.grant);
      await scene.untilPhase(asked.grant, 'Active');
      return asked;
    },
    async login(asked, user = 'alice') {
      const client = new pg.Client({
        host: '127.0.0.1',
        port,
        user,
        password: issueTicket({
          privateKey: asked.key.privateKey,
          grantUid: asked.grant.metadata.uid,
          connectionUid: connection.metadata.uid,
          nowMs: Date.now(),
          random: systemRandom,
        }),
        database: 'orders',
        ssl: { ca: connection.status!.caBundle!, servername: connection.status!.endpoint!.host },
        connectionTimeoutMillis: 10_000,
      });
      client.on('error', () => undefined);
      try {
        await client.connect();
      } catch (error) {
        await client.end().catch(() => undefined);
        throw error;
      }
      return client;
    },
    loginSoon: (asked, withinMs = 20_000) => until('a login', () => scene.login(asked), withinMs, 50),
    async noLogin(asked, why) {
      // The proxy itself waits some seconds for a grant that may be on its way.
      const client = await scene.login(asked).catch(() => undefined);
      await client?.end();
      assert.equal(client, undefined, `the proxy let somebody in: ${why}`);
    },
    condition: (plural, name, type, namespace = SHOP) =>
      until(`condition ${type} of ${plural} ${name}`, async () => {
        const seen = ok(
          await admin.get<{
            status?: { conditions?: { type: string; status: string; reason: string; message: string }[] };
          }>(api(plural, name, namespace)),
        );
        return seen.status?.conditions?.find((each) => each.type === type);
      }),
  };
  return scene;
}

const RBAC = 'rbac.authorization.k8s.io';
function rights(): KubernetesObject[] {
  const bind = (role: string, kind: 'User' | 'Group', name: string, namespace = SHOP): KubernetesObject => ({
    apiVersion: `${RBAC}/v1`,
    kind: 'RoleBinding',
    metadata: { name: `${role}-${name.toLowerCase()}`, namespace },
    roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: role },
    subjects: [{ kind, name, apiGroup: RBAC }],
  });
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: SHOP } },
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: OTHER } },
    ...['alice', 'bob', 'bob-renamed', 'nora'].map((user) => bind('sallyport-requester', 'User', user)),
    ...['bob', 'bob-renamed', 'carol', 'carol2', 'dan', 'nora'].map((user) => bind('sallyport-approver', 'User', user)),
    {
      ...bind('sallyport-approver', 'User', 'Ｃarol'),
      metadata: { name: 'sallyport-approver-looks-like-carol', namespace: SHOP },
    },
    bind('sallyport-author', 'Group', 'authors'),
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'Role',
      metadata: { name: 'reads-orders', namespace: SHOP },
      rules: [{ apiGroups: [''], resources: ['secrets'], resourceNames: ['orders'], verbs: ['get'] }],
    },
    {
      apiVersion: `${RBAC}/v1`,
      kind: 'RoleBinding',
      metadata: { name: 'reads-orders', namespace: SHOP },
      roleRef: { apiGroup: RBAC, kind: 'Role', name: 'reads-orders' },
      subjects: [{ kind: 'User', name: 'ann', apiGroup: RBAC }],
    },
    bind('cluster-admin', 'User', 'eve', OTHER),
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'orders', namespace: SHOP },
      stringData: { password: PASSWORD },
    },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'payroll', namespace: SHOP }, stringData: { password: 'x' } },
  ];
}

export function connectionOf(name: string, host: string, more: object = {}): KubernetesObject {
  return {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'Connection',
    metadata: { name, namespace: SHOP },
    spec: {
      type: 'PostgreSQL',
      postgresql: { host },
      accounts: [{ name: 'app', secretRef: { name: 'orders' } }],
      ...more,
    },
  };
}

export function policyOf(name: string, connections: string[], more: object): KubernetesObject {
  return {
    apiVersion: 'sallyport.dev/v1alpha1',
    kind: 'AccessPolicy',
    metadata: { name, namespace: SHOP },
    spec: {
      connectionSelector: { names: connections },
      subjects: [{ kind: 'Group', name: 'payments' }],
      accounts: ['app'],
      access: 'Grant',
      rules: [{ name: 'all', action: 'Allow' }],
      ...more,
    },
  };
}

const DBA = [{ kind: 'Group', name: 'dba' }];
function access(target: PostgresServer): KubernetesObject[] {
  const postgresql = {
    host: `orders.${SHOP}.svc`,
    port: target.port,
    databases: ['orders'],
    tls: { mode: 'VerifyCA', ca: target.ca },
  };
  return [
    connectionOf('orders', postgresql.host, { postgresql }),
    connectionOf('vault', 'vault.example.com'),
    connectionOf('quick', 'quick.example.com'),
    policyOf('orders-team', ['orders'], { approval: { timeout: '1h', steps: [{ name: 'dba', approvers: DBA }] } }),
    policyOf('vault-team', ['vault'], {
      approval: { timeout: '1h', steps: [{ name: 'dba', count: 2, approvers: DBA }] },
    }),
    policyOf('quick-team', ['quick'], { approval: { timeout: '2s', steps: [{ name: 'dba', approvers: DBA }] } }),
  ];
}
