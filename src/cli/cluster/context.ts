// What the verbs work with in a cluster: the kubeconfig's place, and who one is there by the API server's own word
// (SelfSubjectReview), impersonation included.
import { KubeConnectionError } from '../../kube/answer.ts';
import { createKubeClient, type KubeClient } from '../../kube/client.ts';
import type { Principal } from '../../policy/principal.ts';
import { type CommonOptions, type Context, quoted } from '../context.ts';
import { CliError, EXIT } from '../io.ts';
import { version } from '../version.ts';
import { type ClusterClient, createClusterClient } from './client.ts';
import { type Attempt, connectionFailure, failureError, type Place } from './failures.ts';
import { openKubeTarget } from './kubeconfig.ts';

export interface ClusterHandle {
  kube: KubeClient;
  client: ClusterClient;
  place: Place;
  /** What kubectl would use without -n. */
  defaultNamespace: string;
  /** Flags that hints repeat, so that they go to the same cluster. */
  repeat: readonly string[];
  /** Flags that hints repeat, so that they are the same person’s. */
  identity: readonly string[];
  close(): Promise<void>;
}

export async function openClusterContext(base: Context, options: CommonOptions): Promise<Context> {
  const { io } = base;
  const target = await openKubeTarget(
    {
      kubeconfig: options.kubeconfig,
      context: options.context,
      as: options.as,
      asUid: options.asUid,
      asGroup: options.asGroup,
    },
    io,
  );
  const { access, contextName } = target;
  const kube = createKubeClient(access, { connections: 8, userAgent: `kubectl-access/${version()}` });
  const place: Place = { contextName, server: access.server, who: undefined };
  try {
    const actor = await whoAmI(kube, place, io.signal);
    place.who = actor;
    const namespace = options.allNamespaces ? undefined : (options.namespace ?? target.namespace);
    const client = createClusterClient({ kube, place, namespace, signal: io.signal });
    const flag = (name: string, value: string | undefined): string[] =>
      value === undefined ? [] : [`--${name} ${quoted(value)}`];
    const cluster: ClusterHandle = {
      kube,
      client,
      place,
      defaultNamespace: target.namespace,
      repeat: [...flag('kubeconfig', options.kubeconfig), ...flag('context', options.context)],
      identity: [
        ...flag('as', options.as),
        ...(options.asGroup ?? []).flatMap((group) => flag('as-group', group)),
        ...flag('as-uid', options.asUid),
      ],
      close: () => kube.close(),
    };
    return { ...base, actor, namespace, client, cluster };
  } catch (error) {
    await kube.close();
    throw error;
  }
}

interface Review {
  status?: { userInfo?: { username?: string; uid?: string; groups?: string[] } };
}

async function whoAmI(kube: KubeClient, place: Place, signal: AbortSignal): Promise<Principal> {
  const attempt: Attempt = { verb: 'create', resource: 'selfsubjectreviews' };
  let answer: Awaited<ReturnType<typeof kube.create<Review>>>;
  try {
    answer = await kube.create<Review>(
      '/apis/authentication.k8s.io/v1/selfsubjectreviews',
      { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
      { signal },
    );
  } catch (error) {
    if (error instanceof KubeConnectionError) throw connectionFailure(error, attempt, place);
    throw error;
  }
  if (answer.kind === 'Failed') {
    if (answer.status === 404) {
      throw new CliError(
        EXIT.misconfigured,
        `${place.server} is no Kubernetes, or older than 1.28`,
        'Sallyport needs Kubernetes 1.32 or newer.',
      );
    }
    throw failureError(answer, attempt, place);
  }
  const info = answer.value.status?.userInfo;
  if (info?.username === undefined || info.username === '') {
    throw new CliError(EXIT.denied, `Cluster ${place.contextName} does not say who you are`);
  }
  return { username: info.username, ...(info.uid ? { uid: info.uid } : {}), groups: info.groups ?? [], aliases: [] };
}
