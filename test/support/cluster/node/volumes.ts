// Binds PersistentVolumeClaims of the class `standard`: a folder and a `local` volume for each, which the kubelet gives to
// a pod's fsGroup as a disk of a cloud would be. Deletes both when the claim has gone. It looks twice a second; a test
// cluster has few claims, and a look that failed is repeated by the next.
import fs from 'node:fs';
import path from 'node:path';
import { PROVISIONER } from './plan.ts';

type Request = (method: string, at: string, body?: unknown) => Promise<{ status: number; text: string }>;

interface Claim {
  metadata: { name: string; namespace: string; uid: string };
  spec: {
    storageClassName?: string;
    volumeName?: string;
    accessModes: string[];
    volumeMode?: string;
    resources: { requests: { storage: string } };
  };
}

interface Volume {
  metadata: { name: string; annotations?: Record<string, string> };
  spec: { persistentVolumeReclaimPolicy?: string };
  status?: { phase?: string };
}

const EVERY_MS = 500;
const ANNOTATION = 'pv.kubernetes.io/provisioned-by';
const CLAIMS = '/api/v1/persistentvolumeclaims';
const VOLUMES = '/api/v1/persistentvolumes';

/** Pure: the volume for a claim. */
export const volumeFor = (claim: Claim, folder: string, node: string): Record<string, unknown> => ({
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name: `pvc-${claim.metadata.uid}`, annotations: { [ANNOTATION]: PROVISIONER } },
  spec: {
    storageClassName: 'standard',
    capacity: { storage: claim.spec.resources.requests.storage },
    accessModes: claim.spec.accessModes,
    volumeMode: 'Filesystem',
    persistentVolumeReclaimPolicy: 'Delete',
    local: { path: path.join(folder, `pvc-${claim.metadata.uid}`) },
    claimRef: {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      name: claim.metadata.name,
      namespace: claim.metadata.namespace,
      uid: claim.metadata.uid,
    },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] }],
      },
    },
  },
});

export async function provisionVolumes(options: {
  request: Request;
  folder: string;
  node: string;
  signal: AbortSignal;
}): Promise<void> {
  const { request, folder, node, signal } = options;
  fs.mkdirSync(folder, { recursive: true });
  const items = async <T>(at: string): Promise<T[]> => {
    const answer = await request('GET', at);
    return answer.status === 200 ? (JSON.parse(answer.text) as { items: T[] }).items : [];
  };
  while (!signal.aborted) {
    for (const claim of await items<Claim>(CLAIMS)) {
      const { storageClassName, volumeName, volumeMode = 'Filesystem' } = claim.spec;
      if (storageClassName !== 'standard' || volumeName !== undefined || volumeMode !== 'Filesystem') continue;
      fs.mkdirSync(path.join(folder, `pvc-${claim.metadata.uid}`), { recursive: true, mode: 0o755 });
      await request('POST', VOLUMES, volumeFor(claim, folder, node)); // 409: the binding is on its way
    }
    for (const volume of await items<Volume>(VOLUMES)) {
      // Kubernetes has no deleter for local volumes: it says Failed instead of Released where the policy is Delete.
      const left = volume.status?.phase === 'Released' || volume.status?.phase === 'Failed';
      if (!left || volume.metadata.annotations?.[ANNOTATION] !== PROVISIONER) continue;
      if (volume.spec.persistentVolumeReclaimPolicy !== 'Delete') continue;
      await request('DELETE', `${VOLUMES}/${volume.metadata.name}`);
      fs.rmSync(path.join(folder, volume.metadata.name), { recursive: true, force: true });
    }
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, EVERY_MS);
      signal.addEventListener('abort', done);
    });
  }
}
