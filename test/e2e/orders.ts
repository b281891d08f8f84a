// A PostgreSQL target in a pod, the Connection to it and its policy, as a team would commit them.
import { testCertificates } from '../support/certificates.ts';
import { buildTestImages } from '../support/cluster/node/postgres-image/images.ts';
import { clientPod, postgresTarget, targetNames } from '../support/cluster/node/postgres-image/manifests.ts';
import { NAMESPACE, type Ran, type Scene, startScene } from './scene.ts';

/** Never to be seen by anybody but the target and the proxies. */
export const PASSWORDS = { orders_reader: 'pw-reader-7d1f0c', orders_writer: 'pw-writer-55e2aa' };

export async function startOrdersScene(progress: (text: string) => void): Promise<Scene> {
  const images = (folder: string): string[] => Object.values(buildTestImages(folder));
  return startScene(progress, images, async (scene) => {
    const certificate = await testCertificates(targetNames('orders-db', NAMESPACE));
    await scene.apply(
      ...postgresTarget({
        namespace: NAMESPACE,
        name: 'orders-db',
        password: 'pw-superuser-1c9e',
        roles: PASSWORDS,
        certificate: certificate.server,
      }),
      clientPod({ namespace: NAMESPACE, name: 'client' }),
      ...Object.entries(PASSWORDS).map(([username, password]) => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: `orders-db-${username.replace('orders_', '')}`, namespace: NAMESPACE },
        stringData: { username, password, 'sallyport-hosts': `orders-db.${NAMESPACE}.svc` },
      })),
    );
    await scene.inNamespace('rollout', 'status', 'deployment/orders-db', '--timeout=60s');
    await scene.apply(...ordersAccess(certificate.ca));
  });
}

/** A Connection and the policy over it, as a team would commit them. */
export function ordersAccess(ca: string, name = 'orders-db'): object[] {
  return [
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'Connection',
      metadata: { name, namespace: NAMESPACE },
      spec: {
        type: 'PostgreSQL',
        postgresql: { host: `orders-db.${NAMESPACE}.svc`, databases: ['orders'], tls: { ca } },
        accounts: [
          { name: 'writer', secretRef: { name: 'orders-db-writer' } },
          { name: 'reader', secretRef: { name: 'orders-db-reader' } },
        ],
      },
    },
    {
      apiVersion: 'sallyport.dev/v1alpha1',
      kind: 'AccessPolicy',
      metadata: { name: `${name}-team`, namespace: NAMESPACE },
      spec: {
        connectionSelector: { names: [name] },
        subjects: [{ kind: 'Group', name: 'payments' }],
        accounts: ['writer', 'reader'],
        access: 'Grant',
        maxDuration: '8h',
        approval: {
          timeout: '1h',
          steps: [{ name: 'dba', approvers: [{ kind: 'Group', name: 'dba' }] }],
        },
        rules: [
          { name: 'read', action: 'Allow', sql: { effects: ['Read'] } },
          { name: 'write-orders', action: 'Allow', sql: { effects: ['Write'], tables: ['public.orders'] } },
          {
            name: 'unbounded-write',
            action: 'Hold',
            sql: { unbounded: true },
            hold: { approvers: [{ kind: 'Group', name: 'dba' }], timeout: '60s' },
          },
          { name: 'no-ddl', action: 'Deny', sql: { effects: ['Define', 'Grant'] } },
        ],
        masking: [{ name: 'cards', columns: ['*.cards.number'], with: 'Last4' }],
      },
    },
  ];
}

/** One statement through `kubectl access connect`, as a person types it; the rows are bare. */
export const askPsql = (
  scene: Scene,
  user: string,
  connection: string,
  sql: string,
  extra: readonly string[] = [],
): Promise<Ran> => scene.access(user, ['connect', connection, ...extra, '--', 'psql', '-X', '-A', '-t', '-c', sql]);
