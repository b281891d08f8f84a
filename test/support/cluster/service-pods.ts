// In a cluster without a node: leads the API server to a port of this machine, where it looks for a pod behind a Service.
import os from 'node:os';
import type { KubeAnswer } from '../../../src/kube/answer.ts';
import type { KubeClient } from '../../../src/kube/client.ts';
import { type KubernetesObject, skipWithoutCluster } from './control-plane.ts';

/** The API server goes to no loopback address. */
const reachable = Object.values(os.networkInterfaces())
  .flat()
  .find((each) => each !== undefined && !each.internal && each.family === 'IPv4')?.address;

/** As `skipWithoutCluster`, for tests of what goes through the API server. */
export async function skipWithoutTunnels(): Promise<string | false> {
  const missing = await skipWithoutCluster();
  return missing === false && reachable === undefined ? 'this machine has no address but loopback' : missing;
}

/** What a node says once a pod runs. */
export const podRuns = (node: KubeClient, namespace: string, pod: string): Promise<KubeAnswer<unknown>> =>
  node.patch(
    `/api/v1/namespaces/${namespace}/pods/${pod}/status`,
    { status: { phase: 'Running', podIP: reachable, podIPs: [{ ip: reachable }] } },
    'merge',
  );

/** What a controller writes of a Service and the one pod behind it. Without a port: that no pod is ready. */
export const tunnelEndpoints = (
  namespace: string,
  service: string,
  port: number | undefined,
): KubernetesObject & { subsets: object[] } => ({
  apiVersion: 'v1',
  kind: 'Endpoints',
  metadata: { name: service, namespace },
  subsets:
    port === undefined
      ? []
      : [
          {
            addresses: [{ ip: reachable, targetRef: { kind: 'Pod', namespace, name: `${service}-0` } }],
            ports: [{ name: 'tunnel', port, protocol: 'TCP' }],
          },
        ],
});
