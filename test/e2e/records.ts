// What an auditor does with the records of a proxy: the same image in a pod, the volume read-only.
import assert from 'node:assert/strict';
import { NAMESPACE, type Scene } from './scene.ts';

const STATE = '/state';

/** What the proxies of a workload are told to trust: the root of every signature in their records. */
export async function trustedRoot(scene: Scene, workload: string): Promise<string> {
  const path = 'jsonpath={.spec.template.spec.containers[0].args}';
  const args = await scene.inNamespace('get', 'statefulset', workload, '-o', path);
  const root = /"--trust[", =]+[0-9a-f]+:([A-Za-z0-9_-]{43})"/.exec(args)?.[1];
  assert.ok(root !== undefined, args);
  return root;
}

export async function claimOf(scene: Scene, workload: string): Promise<string> {
  const claims = await scene.inNamespace('get', 'pvc', '-o', 'name');
  const claim = claims.split('\n').find((name) => name.includes(workload));
  assert.ok(claim !== undefined, claims);
  return claim.split('/')[1]!;
}

/** What `sallyport verify` says of a volume. Throws where it finds something. */
export async function verifyRecords(scene: Scene, claimName: string, root: string): Promise<string> {
  const output = await readRecords(scene, claimName, ['verify', `${STATE}/records`, '--root', root]);
  return output.split('\n').find((line) => /verif|intact|good/i.test(line)) ?? output.slice(0, 160);
}

/** Output of another verb about records. Throws where it does not succeed. */
export async function readRecords(scene: Scene, claimName: string, args: readonly string[]): Promise<string> {
  const name = `records-${Math.random().toString(36).slice(2, 8)}`;
  await scene.apply(reader(name, scene.image, claimName, args));
  const phase = await scene.until('the reader to end', async () => {
    const now = await scene.inNamespace('get', 'pod', name, '-o', 'jsonpath={.status.phase}');
    return now === 'Succeeded' || now === 'Failed' ? now : undefined;
  });
  const output = await scene.inNamespace('logs', name);
  assert.equal(phase, 'Succeeded', output);
  // A pod's log has both outputs in one, in any order.
  return output.replace(/^No Sallyport is running here, so this reading is not recorded\.\n/m, '');
}

const reader = (name: string, image: string, claimName: string, args: readonly string[]): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: NAMESPACE },
  spec: {
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 65532,
      fsGroup: 65532,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    containers: [
      {
        name: 'reader',
        image,
        imagePullPolicy: 'Never',
        args: [...args, ...(args[0] === 'verify' ? [] : ['--state', STATE])],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        volumeMounts: [{ name: 'records', mountPath: `${STATE}/records`, readOnly: true }],
      },
    ],
    volumes: [{ name: 'records', persistentVolumeClaim: { claimName, readOnly: true } }],
  },
});
