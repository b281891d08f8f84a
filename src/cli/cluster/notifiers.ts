// What notifiers get from the operator of a cluster: Secrets of its own namespace, those that the chart's Role names and
// no others, and connections under the dial guard. A Notifier of a namespace gets no Secret, and reaches what a proxy of
// that namespace would: neither the cluster's API nor other namespaces' Services (INV-05, INV-12). A ClusterNotifier is
// the administrators': it may reach Services too.
import type { KeyObject } from 'node:crypto';
import type { NotifierServices } from '../../controllers/notifiers/channel.ts';
import { KEYS_SECRET } from '../../controllers/pki/secret-keys.ts';
import { createDialGuard, type DialGuard } from '../../gateway/dial-guard.ts';
import type { KubeClient } from '../../kube/client.ts';
import { clusterDomain, dialRules } from '../../proxy/dial-rules.ts';
import type { Clock } from '../../system/clock.ts';
import type { Environment } from '../../system/http-proxy.ts';
import { dialThroughProxy } from '../notifier-dial.ts';

export function clusterNotifierServices(options: {
  client: KubeClient;
  namespace: string;
  key: KeyObject;
  /** KUBERNETES_SERVICE_HOST. */
  apiServer: string | undefined;
  /** HTTPS_PROXY and NO_PROXY. */
  env: Environment;
  clock: Clock;
  count: NonNullable<NotifierServices['count']>;
}): NotifierServices {
  const { client, namespace, apiServer, clock } = options;
  const domain = clusterDomain(namespace);
  const ownGuard = createDialGuard({
    ...(apiServer === undefined ? {} : { deny: [apiServer] }),
    refuseName: (host) =>
      /^kubernetes(\.default(\.svc(\..*)?)?)?\.?$/i.test(host) ? 'is the cluster’s API' : undefined,
  });
  const guards = new Map<string, DialGuard>();
  const guardOf = (tenant: string): DialGuard => {
    let guard = guards.get(tenant);
    if (guard === undefined) {
      guard = createDialGuard(
        dialRules({ namespace: tenant, apiServer, clock, ...(domain === undefined ? {} : { domain }) }),
      );
      guards.set(tenant, guard);
    }
    return guard;
  };
  return {
    clusterNamespace: namespace,
    key: options.key,
    count: options.count,
    readSecret: (scope) =>
      scope === 'Notifier'
        ? undefined
        : async (place, name) => {
            if (name === KEYS_SECRET) throw new Error(`Secret ${name} holds the operator’s keys and is no credential`);
            const answer = await client.get<{ data?: Record<string, string> }>(
              `/api/v1/namespaces/${encodeURIComponent(place)}/secrets/${encodeURIComponent(name)}`,
            );
            if (answer.kind === 'Failed')
              throw new Error(
                answer.status === 403
                  ? `the operator may not read Secret ${place}/${name}: name it in the chart’s value notifiers.secrets`
                  : answer.status === 404
                    ? `there is no Secret ${place}/${name}`
                    : `Secret ${place}/${name} can not be read (${answer.status})`,
              );
            return Object.fromEntries(
              Object.entries(answer.value.data ?? {}).map(([key, value]) => [
                key,
                Buffer.from(value, 'base64').toString('utf8'),
              ]),
            );
          },
    dial: (scope) => {
      const guard = scope.kind === 'Notifier' ? guardOf(scope.namespace) : ownGuard;
      return dialThroughProxy((target, hosts, signal) => guard.dial(target, hosts, signal), { env: options.env });
    },
  };
}
