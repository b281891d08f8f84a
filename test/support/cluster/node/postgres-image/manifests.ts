// The objects of a PostgreSQL target and of a client pod in a test cluster. Pure, but for the certificate that is handed in.
import { CLIENT_IMAGE, POSTGRES_IMAGE, TEST_IMAGE_USER } from './images.ts';

export interface PostgresTarget {
  namespace: string;
  /** Of the Service, the Deployment and, with suffixes, the Secrets `<name>-server` and `<name>-tls`. */
  name: string;
  /** Of the superuser `postgres`. */
  password: string;
  /** Roles with a login, of orders_reader, orders_writer, orders_owner, by name: their passwords. */
  roles: Readonly<Record<string, string>>;
  /** PEM, valid for `<name>.<namespace>.svc`; see testCertificates(). */
  certificate: { cert: string; key: string };
  /** Keeps the data in a PersistentVolumeClaim `<name>-data`. Default: gone with the pod. */
  persistent?: boolean;
  /** File name (`….sql`) to SQL, run once after the built-in schema as superuser in the database `orders`. */
  seed?: Readonly<Record<string, string>>;
}

/** Names that a target's certificate must be valid for. */
export const targetNames = (name: string, namespace: string): string[] => [
  name,
  `${name}.${namespace}`,
  `${name}.${namespace}.svc`,
  `${name}.${namespace}.svc.cluster.local`,
];

const hardened = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};
/** Of every pod here: what the restricted Pod Security Standard asks for. */
const podSecurity = {
  runAsNonRoot: true,
  runAsUser: TEST_IMAGE_USER,
  runAsGroup: TEST_IMAGE_USER,
  fsGroup: TEST_IMAGE_USER,
  seccompProfile: { type: 'RuntimeDefault' },
};

export function postgresTarget(target: PostgresTarget): object[] {
  const { name, namespace, persistent = false, seed } = target;
  const labels = { app: name };
  const metadata = (suffix = '') => ({ name: `${name}${suffix}`, namespace, labels });
  const passwords = Object.entries(target.roles).map(([role, password]) => [`${role}.password`, password]);
  // The server refuses a key that others may read.
  const secret = (suffix: string) => ({ secretName: `${name}${suffix}`, defaultMode: 0o440 });
  return [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: metadata('-server'),
      stringData: { password: target.password, ...Object.fromEntries(passwords) },
    },
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: metadata('-tls'),
      type: 'kubernetes.io/tls',
      stringData: { 'tls.crt': target.certificate.cert, 'tls.key': target.certificate.key },
    },
    ...(seed === undefined ? [] : [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: metadata('-seed'), data: seed }]),
    ...(persistent
      ? [
          {
            apiVersion: 'v1',
            kind: 'PersistentVolumeClaim',
            metadata: metadata('-data'),
            spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
          },
        ]
      : []),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: metadata(),
      spec: { selector: labels, ports: [{ name: 'postgresql', port: 5432 }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: metadata(),
      spec: {
        replicas: 1,
        strategy: { type: 'Recreate' },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            automountServiceAccountToken: false,
            terminationGracePeriodSeconds: 3,
            securityContext: podSecurity,
            containers: [
              {
                name: 'postgres',
                image: POSTGRES_IMAGE,
                imagePullPolicy: 'Never',
                securityContext: hardened,
                ports: [{ name: 'postgresql', containerPort: 5432 }],
                readinessProbe: { tcpSocket: { port: 5432 }, periodSeconds: 1 },
                volumeMounts: [
                  { name: 'data', mountPath: '/data' },
                  { name: 'tmp', mountPath: '/tmp' },
                  { name: 'server', mountPath: '/secret', readOnly: true },
                  { name: 'tls', mountPath: '/tls', readOnly: true },
                  ...(seed === undefined ? [] : [{ name: 'seed', mountPath: '/seed', readOnly: true }]),
                ],
              },
            ],
            volumes: [
              persistent
                ? { name: 'data', persistentVolumeClaim: { claimName: `${name}-data` } }
                : { name: 'data', emptyDir: {} },
              { name: 'tmp', emptyDir: {} },
              { name: 'server', secret: secret('-server') },
              { name: 'tls', secret: secret('-tls') },
              ...(seed === undefined ? [] : [{ name: 'seed', configMap: { name: `${name}-seed` } }]),
            ],
          },
        },
      },
    },
  ];
}

/** A pod that sleeps, to `kubectl exec` psql in. `files`: a Secret's or ConfigMap's worth of files below /files. */
export const clientPod = (options: { namespace: string; name: string; files?: { configMap: string } }): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: options.name, namespace: options.namespace, labels: { app: options.name } },
  spec: {
    automountServiceAccountToken: false,
    terminationGracePeriodSeconds: 0,
    securityContext: podSecurity,
    containers: [
      {
        name: 'client',
        image: CLIENT_IMAGE,
        imagePullPolicy: 'Never',
        securityContext: hardened,
        command: ['/bin/sleep', 'infinity'],
        volumeMounts: [
          { name: 'tmp', mountPath: '/tmp' },
          ...(options.files === undefined ? [] : [{ name: 'files', mountPath: '/files', readOnly: true }]),
        ],
      },
    ],
    volumes: [
      { name: 'tmp', emptyDir: {} },
      ...(options.files === undefined ? [] : [{ name: 'files', configMap: { name: options.files.configMap } }]),
    ],
  },
});
