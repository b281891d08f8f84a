// The chart's objects on a real API server, and the identities that a cluster would give to what runs in it.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAllDocuments } from 'yaml';
import { tokenAccess } from '../../src/kube/access.ts';
import { createKubeClient, type KubeClient } from '../../src/kube/client.ts';
import type { ControlPlane, ControlPlaneUser, KubernetesObject } from './cluster/control-plane.ts';
import { helm } from './helm.ts';

export const RELEASE_NAMESPACE = 'sallyport-system';

/** Kubernetes' own programs, as users with tokens: there is no node and no controller manager beside a bare API server. */
export const KUBERNETES_USERS: readonly ControlPlaneUser[] = [
  { name: 'system:node:n1', groups: ['system:nodes', 'system:masters'] },
  { name: 'system:serviceaccount:kube-system:statefulset-controller', groups: ['system:masters'] },
  { name: 'system:serviceaccount:kube-system:generic-garbage-collector', groups: ['system:masters'] },
];

export async function chartObjects(values: readonly string[] = []): Promise<KubernetesObject[]> {
  const sets = values.flatMap((value) => ['--set', value]);
  const { stdout } = await helm('4', ['template', 'sallyport', 'charts/sallyport', '-n', RELEASE_NAMESPACE, ...sets]);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

/** Applies what of the chart `wanted` lets through. Its admission policies bite only some time later. */
export async function applyChart(
  plane: ControlPlane,
  wanted: (object: KubernetesObject) => boolean = () => true,
  values: readonly string[] = [],
): Promise<void> {
  const objects = (await chartObjects(values)).filter(wanted);
  const isCrd = (object: KubernetesObject): boolean => object.kind === 'CustomResourceDefinition';
  await plane.applyCrds();
  await plane.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: RELEASE_NAMESPACE } },
    ...objects.filter((object) => !isCrd(object)),
  );
}

/** Calls until the answer is what is waited for; policies take some seconds to bite after they are made. */
export async function until<T>(what: string, call: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  const end = performance.now() + 60_000;
  for (;;) {
    const value = await call();
    if (good(value)) return value;
    if (performance.now() > end) throw new Error(`${what}: still ${JSON.stringify(value).slice(0, 500)}`);
    await sleep(200);
  }
}

/** A client with a token that is bound to this pod, as kubelet gets it. The ServiceAccount and the pod are made. */
export async function podClient(
  plane: ControlPlane,
  pod: { namespace: string; name: string; serviceAccount: string; labels?: Record<string, string> },
): Promise<KubeClient & { podUid: string }> {
  const { namespace, name, serviceAccount } = pod;
  const controller = plane.clientFor('system:serviceaccount:kube-system:statefulset-controller');
  const node = plane.clientFor('system:node:n1');
  await plane.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: serviceAccount, namespace } });
  const made = await controller.create<{ metadata: { uid: string } }>(
    `/api/v1/namespaces/${namespace}/pods`,
    podObject({ name, serviceAccount, ...(pod.labels === undefined ? {} : { labels: pod.labels }) }),
  );
  if (made.kind === 'Failed') throw new Error(made.message);
  const { uid } = made.value.metadata;
  const token = await node.create<{ status: { token: string } }>(
    `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 3600, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid } },
    },
  );
  if (token.kind === 'Failed') throw new Error(token.message);
  const client = createKubeClient(tokenAccess(plane.server, token.value.status.token, plane.ca));
  return Object.assign(client, { podUid: uid });
}

export function podObject(pod: {
  name: string;
  serviceAccount?: string;
  labels?: Record<string, string>;
  claim?: string;
  deprecatedField?: boolean;
}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: pod.name, ...(pod.labels === undefined ? {} : { labels: pod.labels }) },
    spec: {
      ...(pod.serviceAccount === undefined
        ? {}
        : { [pod.deprecatedField === true ? 'serviceAccount' : 'serviceAccountName']: pod.serviceAccount }),
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'main',
          image: 'example.com/image:1',
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
      ...(pod.claim === undefined
        ? {}
        : { volumes: [{ name: 'records', persistentVolumeClaim: { claimName: pod.claim } }] }),
    },
  };
}
