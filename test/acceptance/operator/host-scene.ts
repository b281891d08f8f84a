// A bare API server with Sallyport beside it as processes of this machine, one Connection to a real PostgreSQL, Alice who
// asks and Carol who approves: what the groups about speed and failure start from.
import pg from 'pg';
import { specHash } from '../../../src/api/canonical.ts';
import type { Connection } from '../../../src/api/connection.ts';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import type { ProcessLimits } from '../../../src/gateway/limits.ts';
import { type ClientKeyPair, generateClientKey } from '../../../src/identity/keys.ts';
import { issueTicket } from '../../../src/identity/tickets.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import { systemRandom } from '../../../src/system/random.ts';
import { type ControlPlane, startControlPlane } from '../../support/cluster/control-plane.ts';
import {
  ok,
  type ProxyProgram,
  SALLYPORT_USERS,
  type Sallyport,
  type SallyportOptions,
  startSallyport,
  until,
} from '../../support/cluster/sallyport.ts';
import { type PostgresServer, startPostgres } from '../../support/postgres.ts';

export const NAMESPACE = 'payments';
export const CONNECTION = 'orders-db';
export const WORKLOAD = 'sallyport-orders-db';
const API = `/apis/sallyport.dev/v1alpha1/namespaces/${NAMESPACE}`;
export const GRANTS = `${API}/accessgrants`;
export const APPROVALS = `${API}/accessapprovals`;
export const HOLDS = `${API}/commandholds`;
export const SECRET = { username: 'orders_app', password: 'pw-orders-app-31c7' };

export interface Held {
  grant: AccessGrant;
  key: ClientKeyPair;
}

export interface Session {
  client: pg.Client;
  /** PostgreSQL's own number of the backend. */
  backend: number;
  /** Resolves when the socket is gone, with performance.now(). */
  closed: Promise<number>;
  errors: Error[];
}

export interface HostScene {
  plane: ControlPlane;
  sallyport: Sallyport;
  proxy: ProxyProgram;
  target: PostgresServer;
  admin: KubeClient;
  connection: Connection;
  /** Alice asks; not approved yet. `account` of policies that need nobody is `free`. */
  request(options?: { duration?: string; commandHashes?: string[] }): Promise<Held>;
  /** Carol's word; resolves when the API server has it. */
  decide(grant: AccessGrant, decision: AccessApproval['spec']['decision']): Promise<void>;
  grant(name: string): Promise<AccessGrant | undefined>;
  untilPhase(name: string, phase: string, withinMs?: number): Promise<AccessGrant>;
  /** Asked, approved, and known to the proxy. */
  held(options?: { duration?: string }): Promise<Held>;
  /** One attempt. */
  login(held: Held): Promise<Session>;
  /** Attempts until one succeeds. */
  loginSoon(held: Held, withinMs?: number): Promise<Session>;
  /** Whether PostgreSQL still has this backend. */
  alive(backend: number): Promise<boolean>;
  stop(): Promise<void>;
}

export async function startHostScene(
  options: SallyportOptions & { proxyLimits?: Partial<ProcessLimits> } = {},
): Promise<HostScene> {
  const undo: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const target = await startPostgres({
      database: 'orders',
      setup: `create role ${SECRET.username} login password '${SECRET.password}';
        create table orders (id int primary key, state text);
        insert into orders select g, 'new' from generate_series(1, 20) g;
        alter table orders owner to ${SECRET.username};`,
    });
    undo.push(() => target.stop());
    const plane = await startControlPlane({
      users: [{ name: 'alice', groups: ['payments'] }, { name: 'carol', groups: ['dba'] }, ...SALLYPORT_USERS],
    });
    undo.push(() => plane.stop());
    const sallyport = await startSallyport(plane, options);
    undo.push(() => sallyport.stop());
    await plane.apply(...people(), ...access(target));
    const proxy = await sallyport.startProxy(
      NAMESPACE,
      WORKLOAD,
      { orders: { ...SECRET, 'sallyport-hosts': `orders.${NAMESPACE}.svc:${target.port}` } },
      options.proxyLimits,
    );
    const { admin } = sallyport;
    const connection = await until('the Connection to be Ready', async () => {
      const seen = ok(await admin.get<Connection>(`${API}/connections/${CONNECTION}`));
      const ready = seen.status?.conditions?.find(({ type }) => type === 'Ready');
      if (ready?.status !== 'True') throw new Error(`${ready?.reason}: ${ready?.message}`);
      return seen;
    });
    const watcher = new pg.Pool({
      host: '127.0.0.1',
      port: target.port,
      user: target.superuser.username,
      password: target.superuser.password,
      database: 'postgres',
      ssl: { ca: target.ca },
      max: 2,
    });
    watcher.on('error', () => undefined);
    undo.push(() => watcher.end());
    return sceneOf({ plane, sallyport, proxy, target, admin, connection, watcher, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

function sceneOf(given: {
  plane: ControlPlane;
  sallyport: Sallyport;
  proxy: ProxyProgram;
  target: PostgresServer;
  admin: KubeClient;
  connection: Connection;
  watcher: pg.Pool;
  stop(): Promise<void>;
}): HostScene {
  const { plane, admin, connection, sallyport } = given;
  const alice = plane.clientFor('alice');
  const carol = plane.clientFor('carol');
  const port = (async (): Promise<number> => {
    const set = ok(
      await admin.get<{ metadata: { annotations: Record<string, string> } }>(
        `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets/${WORKLOAD}`,
      ),
    );
    const ports = JSON.parse(set.metadata.annotations['sallyport.dev/ports']!) as Record<string, number>;
    return ports[connection.metadata.uid]!;
  })();
  const scene: HostScene = {
    ...given,
    sallyport,
    async request(options = {}) {
      const key = generateClientKey();
      const grant = ok(
        await alice.create<AccessGrant>(GRANTS, {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessGrant',
          metadata: { generateName: `${CONNECTION}-` },
          spec: {
            connectionRef: { name: CONNECTION },
            duration: options.duration ?? '1h',
            reason: 'INC-1234',
            clientKey: key.publicKey,
          },
        }),
      );
      return { grant, key };
    },
    async decide({ metadata, spec }, decision) {
      ok(
        await carol.create(APPROVALS, {
          apiVersion: 'sallyport.dev/v1alpha1',
          kind: 'AccessApproval',
          metadata: { generateName: `${metadata.name}-` },
          spec: {
            targetRef: { kind: 'AccessGrant', name: metadata.name, uid: metadata.uid },
            specHash: specHash(spec),
            decision,
          },
        }),
      );
    },
    async grant(name) {
      const answer = await admin.get<AccessGrant>(`${GRANTS}/${name}`);
      if (answer.kind === 'Ok') return answer.value;
      if (answer.status === 404) return undefined;
      throw new Error(answer.message);
    },
    untilPhase: (name, phase, withinMs = 30_000) =>
      until(
        `grant ${name} to be ${phase}`,
        async () => {
          const seen = await scene.grant(name);
          if (seen?.status?.phase !== phase) throw new Error(`${seen?.status?.phase}: ${JSON.stringify(seen?.status)}`);
          return seen;
        },
        withinMs,
        20,
      ),
    async held(options = {}) {
      const asked = await scene.request(options);
      await scene.untilPhase(asked.grant.metadata.name, 'Pending');
      await scene.decide(asked.grant, 'Approve');
      await scene.untilPhase(asked.grant.metadata.name, 'Active');
      return asked;
    },
    async login(held) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: await port,
        user: 'alice',
        password: issueTicket({
          privateKey: held.key.privateKey,
          grantUid: held.grant.metadata.uid,
          connectionUid: connection.metadata.uid,
          nowMs: Date.now(),
          random: systemRandom,
        }),
        database: 'orders',
        ssl: { ca: connection.status!.caBundle!, servername: connection.status!.endpoint!.host },
        connectionTimeoutMillis: 10_000,
      });
      const errors: Error[] = [];
      client.on('error', (error) => errors.push(error));
      const closed = new Promise<number>((resolve) => client.once('end', () => resolve(performance.now())));
      try {
        await client.connect();
      } catch (error) {
        await client.end().catch(() => undefined);
        throw error;
      }
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      return { client, backend: rows[0]!.pid, closed, errors };
    },
    loginSoon: (held, withinMs = 20_000) => until('a login', () => scene.login(held), withinMs, 10),
    async alive(backend) {
      const { rowCount } = await given.watcher.query('select 1 from pg_stat_activity where pid = $1', [backend]);
      return (rowCount ?? 0) > 0;
    },
  };
  return scene;
}

function people(): Parameters<ControlPlane['apply']> {
  const bind = (role: string, user: string) => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: `${role}-${user}`, namespace: NAMESPACE },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: [{ kind: 'User', name: user, apiGroup: 'rbac.authorization.k8s.io' }],
  });
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    bind('sallyport-requester', 'alice'),
    bind('sallyport-approver', 'carol'),
  ];
}

/** The host's name is what the proxies' launcher leads to this machine; the certificate is for that one. */
function access(target: PostgresServer): Parameters<ControlPlane['apply']> {
  return [
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name: CONNECTION, namespace: NAMESPACE },
      spec: {
        type: 'PostgreSQL',
        postgresql: {
          host: `orders.${NAMESPACE}.svc`,
          port: target.port,
          databases: ['orders'],
          tls: { mode: 'VerifyCA', ca: target.ca },
        },
        accounts: [{ name: 'app', secretRef: { name: 'orders' } }],
      },
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: 'orders-team', namespace: NAMESPACE },
      spec: {
        connectionSelector: { names: [CONNECTION] },
        subjects: [{ kind: 'Group', name: 'payments' }],
        accounts: ['app'],
        access: 'Grant',
        maxDuration: '8h',
        approval: { timeout: '1h', steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }] },
        rules: [{ name: 'all', action: 'Allow' }],
      },
    },
  ];
}
