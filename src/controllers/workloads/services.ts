// Services: one a Connection, where its clients come, and a headless one a workload, which names its pods. Pure.
import { CONNECTION_LABEL, type Manifest, ownerOf, ownersOf, podLabels, workloadLabels } from './manifest.ts';
import { connectionLabel, headlessName } from './names.ts';
import type { PlannedConnection, WorkloadPlan } from './plan.ts';

export const TUNNEL_PORT = 8443;
export const HEALTH_PORT = 8081;
/** Of the Service, where the API server looks for the tunnel by name. */
export const TUNNEL_PORT_NAME = 'tunnel';

export function connectionLabels(plan: WorkloadPlan, connection: PlannedConnection): Record<string, string> {
  return { ...workloadLabels(plan.name), [CONNECTION_LABEL]: connectionLabel(connection.name) };
}

export function connectionService(plan: WorkloadPlan, connection: PlannedConnection): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: connection.service,
      namespace: plan.namespace,
      labels: connectionLabels(plan, connection),
      ...(Object.keys(connection.annotations).length === 0 ? {} : { annotations: { ...connection.annotations } }),
      ownerReferences: [ownerOf(connection)],
    },
    spec: {
      type: connection.exposure,
      ...(connection.sourceRanges === undefined ? {} : { loadBalancerSourceRanges: [...connection.sourceRanges] }),
      selector: podLabels(plan.name),
      // A cancel request is a connection of its own, and only the replica that has the session knows its key.
      sessionAffinity: 'ClientIP',
      ports: [
        {
          name: connection.protocol,
          protocol: 'TCP',
          port: connection.servicePort,
          targetPort: connection.containerPort,
        },
        {
          name: TUNNEL_PORT_NAME,
          protocol: 'TCP',
          port: connection.servicePort === 443 ? TUNNEL_PORT : 443,
          targetPort: TUNNEL_PORT,
        },
      ],
    },
  };
}

export function headlessService(plan: WorkloadPlan): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: headlessName(plan.name),
      namespace: plan.namespace,
      labels: workloadLabels(plan.name),
      ownerReferences: ownersOf(plan.connections),
    },
    spec: {
      type: 'ClusterIP',
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: podLabels(plan.name),
      ports: [{ name: TUNNEL_PORT_NAME, protocol: 'TCP', port: TUNNEL_PORT, targetPort: TUNNEL_PORT }],
    },
  };
}
