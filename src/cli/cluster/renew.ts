// A newer token for a live session, through the API server to the proxy that has it, as its tunnel goes. The API server
// chooses a replica by chance; one that does not have the session says so, and another is asked.
import { serviceName } from '../../controllers/workloads/names.ts';
import type { Renewal, RenewalProof } from '../../gateway/renewal.ts';
import { KubeConnectionError } from '../../kube/answer.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RENEW_PATH } from '../../proxy/tunnel-protocol.ts';
import type { SessionPlace } from '../client.ts';
import { CliError, EXIT } from '../io.ts';
import { line } from '../render.ts';

/** With three replicas, one of them is missed once in 130 times. */
const MOST_TRIES = 12;

/** Rejects with CliError where no proxy could be asked. */
export async function renewThrough(
  kube: KubeClient,
  { namespace, connection, id }: SessionPlace,
  proof: RenewalProof,
  signal: AbortSignal,
): Promise<Renewal> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/https:${encodeURIComponent(serviceName(connection))}:tunnel/proxy${RENEW_PATH}${encodeURIComponent(id)}`;
  for (let left = MOST_TRIES; ; left -= 1) {
    let answer: Awaited<ReturnType<typeof kube.create<Renewal>>>;
    try {
      answer = await kube.create<Renewal>(path, proof, { signal });
    } catch (error) {
      if (error instanceof KubeConnectionError) throw new CliError(EXIT.unavailable, error.message);
      throw error;
    }
    if (answer.kind === 'Ok') return answer.value;
    const message = line(answer.message).slice(0, 300);
    switch (answer.status) {
      case 404:
        if (left > 1) continue;
        return { kind: 'Refused', code: 'NoSession', message };
      case 403:
        return { kind: 'Refused', code: 'InvalidProof', message };
      case 409:
        return { kind: 'Refused', code: 'NotNewer', message };
      case 429:
        return { kind: 'Refused', code: 'LimitReached', message };
      default:
        throw new CliError(EXIT.unavailable, `The proxy of ${namespace}/${connection} took no newer token: ${message}`);
    }
  }
}
