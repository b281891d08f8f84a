// The StatefulSet of a workload and its pods. Pure. A StatefulSet, because a replica's records stay on a claim of its
// own (docs/adr/0009-statefulset-and-claims.md). Pods meet the restricted Pod Security Standard. Nothing in here depends
// on policies or grants, so none of them restarts a pod.
import { type Manifest, ownersOf, PORTS_ANNOTATION, podLabels, workloadLabels } from './manifest.ts';
import { headlessName, secretVolume } from './names.ts';
import type { WorkloadPlan, WorkloadSettings } from './plan.ts';
import { HEALTH_PORT, TUNNEL_PORT } from './services.ts';

export const RECORDS_CLAIM = 'records';
export const RECORDS_PATH = '/records';
export const CREDENTIALS_PATH = '/credentials';
const USER = 65_532;
/** After the drain: sealing records, and saying so. */
const LAST_WORDS_SECONDS = 15;
const SERVICE_ACCOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';
const READ_ONLY_MODE = 0o440;

export function statefulSet(plan: WorkloadPlan, settings: WorkloadSettings): Manifest {
  const { name, namespace } = plan;
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: {
      name,
      namespace,
      labels: workloadLabels(name),
      annotations: {
        [PORTS_ANNOTATION]: JSON.stringify(
          Object.fromEntries(plan.connections.map(({ uid, containerPort }) => [uid, containerPort])),
        ),
      },
      ownerReferences: ownersOf(plan.connections),
    },
    spec: {
      replicas: plan.replicas,
      serviceName: headlessName(name),
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'RollingUpdate' },
      // Records outlive the proxy, its Connection and every change of either.
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      revisionHistoryLimit: 3,
      selector: { matchLabels: podLabels(name) },
      template: { metadata: { labels: workloadLabels(name) }, spec: podSpec(plan, settings) },
      volumeClaimTemplates: [
        {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          metadata: { name: RECORDS_CLAIM, labels: workloadLabels(name) },
          spec: {
            accessModes: [plan.records.accessMode],
            ...(plan.records.storageClassName === undefined ? {} : { storageClassName: plan.records.storageClassName }),
            resources: { requests: { storage: plan.records.size } },
          },
        },
      ],
    },
  };
}

function podSpec(plan: WorkloadPlan, settings: WorkloadSettings): Record<string, unknown> {
  const secrets = [...new Set(plan.connections.flatMap((connection) => connection.secrets))].sort();
  return {
    serviceAccountName: plan.name,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: plan.drainSeconds + LAST_WORDS_SECONDS,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      // A volume with years of records is not walked at each start.
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    // Always there, so that a second replica does not restart the first.
    topologySpreadConstraints: ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].map((topologyKey) => ({
      maxSkew: 1,
      topologyKey,
      whenUnsatisfiable: 'ScheduleAnyway',
      labelSelector: { matchLabels: podLabels(plan.name) },
    })),
    ...(settings.imagePullSecrets.length === 0
      ? {}
      : { imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })) }),
    containers: [container(plan, settings, secrets)],
    volumes: [
      { name: 'token', projected: projectedToken() },
      { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
      // Optional: without it the pod would hang in ContainerCreating; the proxy says which Secret is missing.
      ...secrets.map((secretName) => ({
        name: secretVolume(secretName),
        secret: { secretName, defaultMode: READ_ONLY_MODE, optional: true },
      })),
    ],
  };
}

/** What Kubernetes mounts by itself, with a token of one hour that is good for this pod alone. */
function projectedToken(): Record<string, unknown> {
  return {
    defaultMode: READ_ONLY_MODE,
    sources: [
      { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
      { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
      {
        downwardAPI: {
          items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
        },
      },
    ],
  };
}

function container(
  plan: WorkloadPlan,
  settings: WorkloadSettings,
  secrets: readonly string[],
): Record<string, unknown> {
  const field = (name: string, fieldPath: string): Record<string, unknown> => ({
    name,
    valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } },
  });
  const probe = (path: string, periodSeconds: number, failureThreshold: number): Record<string, unknown> => ({
    httpGet: { path, port: HEALTH_PORT, scheme: 'HTTP' },
    periodSeconds,
    timeoutSeconds: 3,
    failureThreshold,
  });
  const port = (name: string, containerPort: number): Record<string, unknown> => ({
    name,
    containerPort,
    protocol: 'TCP',
  });
  return {
    name: 'proxy',
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    args: [
      'proxy',
      ...settings.trust.flatMap((key) => ['--trust', key]),
      '--operator-namespace',
      settings.operatorNamespace,
    ],
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_UID', 'metadata.uid'),
      field('POD_NAMESPACE', 'metadata.namespace'),
    ],
    ports: [
      ...plan.connections
        .map(({ containerPort }) => containerPort)
        .sort((a, b) => a - b)
        .map((each) => port(`c-${each}`, each)),
      port('tunnel', TUNNEL_PORT),
      port('health', HEALTH_PORT),
    ],
    resources: plan.resources,
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    // Recovery after a crash reads and seals what the live log holds, which takes as long as the log is.
    startupProbe: probe('/healthz', 2, 300),
    livenessProbe: probe('/healthz', 10, 6),
    readinessProbe: probe('/readyz', 5, 2),
    volumeMounts: [
      { name: RECORDS_CLAIM, mountPath: RECORDS_PATH },
      { name: 'token', mountPath: SERVICE_ACCOUNT_PATH, readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
      ...secrets.map((secret) => ({
        name: secretVolume(secret),
        mountPath: `${CREDENTIALS_PATH}/${secret}`,
        readOnly: true,
      })),
    ],
  };
}
