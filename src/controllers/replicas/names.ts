// The names that a proxy's certificate carries, and how its Connections are reached. Pure. They are the operator's
// choice, from what is in Kubernetes; a proxy asks for none.
import { isIP } from 'node:net';
import type { LiveStatus } from '../workloads/live.ts';
import type { PlannedConnection } from '../workloads/plan.ts';

const LONGEST_ALL = 16_000;
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/;

/** Where a load balancer was given to a Service, what may stand in a certificate. */
export function externalNames(status: LiveStatus): string[] {
  return (status.loadBalancer?.ingress ?? []).flatMap(({ hostname, ip }) => {
    const host = hostname?.toLowerCase().replace(/\.$/, '');
    return [
      ...(host !== undefined && HOST_NAME.test(host) && isIP(host) === 0 ? [host] : []),
      ...(ip !== undefined && isIP(ip) !== 0 ? [ip] : []),
    ];
  });
}

/** Sorted. `external`: names outside the cluster by Service. */
export function certificateNames(
  namespace: string,
  connections: readonly PlannedConnection[],
  external: (service: string) => readonly string[],
): string[] {
  const every = (forms: (service: string) => readonly string[]): string[] =>
    ['localhost', ...connections.flatMap(({ service }) => [...forms(service), ...external(service)])].sort();
  const all = every((service) => [
    service,
    `${service}.${namespace}`,
    `${service}.${namespace}.svc`,
    `${service}.${namespace}.svc.cluster.local`,
  ]);
  // A certificate has to fit into the object; what is dropped first is what nobody is told to connect to.
  const size = all.reduce((sum, name) => sum + name.length, 0);
  const names =
    size <= LONGEST_ALL
      ? all
      : every((service) => [`${service}.${namespace}.svc`, `${service}.${namespace}.svc.cluster.local`]);
  return [...new Set(names)];
}

/** Where clients of a Connection connect to. */
export function endpointOf(
  namespace: string,
  connection: Pick<PlannedConnection, 'service' | 'servicePort' | 'exposure'>,
  status: LiveStatus,
): { host: string; port: number } {
  const outside = connection.exposure === 'LoadBalancer' ? externalNames(status)[0] : undefined;
  return { host: outside ?? `${connection.service}.${namespace}.svc`, port: connection.servicePort };
}
