// Holds over the Kubernetes API: the CommandHold that approvers see is made here, and told how it ended on this side. The
// decision itself comes back signed, in the bundle. Guarantees: an answer within seconds or a rejection, by which the
// gateway runs nothing; a hold is made once, however often a try was lost on the way; an approval is used once.

import { API_GROUP, API_GROUP_VERSION, API_VERSION, REPLICA_LABEL } from '../api/group.ts';
import type { CommandHold, CommandHoldSpec, CommandHoldStatus } from '../api/hold.ts';
import type { ControlPlane } from '../gateway/ports.ts';
import type { KubeAnswer } from '../kube/answer.ts';
import { sleep } from '../kube/backoff.ts';
import type { KubeClient } from '../kube/client.ts';
import { resourcePath } from '../kube/paths.ts';
import type { Clock } from '../system/clock.ts';

const holds = { group: API_GROUP, version: API_VERSION, plural: 'commandholds' };
const CALL_MS = 1_000;
const TRIES = 5;
const PAUSE_MS = 200;

export function kubeControlPlane(options: {
  client: KubeClient;
  /** Name of the ProxyReplica. */
  replica: string;
  clock: Clock;
  signal: AbortSignal;
}): ControlPlane {
  const { client, clock, signal } = options;
  const call = { deadlineMs: CALL_MS, signal };

  /** Until there is an answer that another try would not change. Rejects with the last failure. */
  async function insist<T>(act: () => Promise<KubeAnswer<T>>): Promise<KubeAnswer<T>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await act();
        if (answer.kind === 'Ok' || (answer.status < 500 && answer.status !== 429) || attempt === TRIES) return answer;
      } catch (error) {
        if (attempt === TRIES || signal.aborted) throw error;
      }
      await sleep(clock, PAUSE_MS * attempt, signal);
    }
  }

  return {
    async openHold({ name, namespace, spec }) {
      const { grantRef } = spec;
      const body = {
        apiVersion: API_GROUP_VERSION,
        kind: 'CommandHold',
        metadata: {
          name,
          namespace,
          labels: { [REPLICA_LABEL]: options.replica },
          ownerReferences: [
            { apiVersion: API_GROUP_VERSION, kind: 'AccessGrant', name: grantRef.name, uid: grantRef.uid },
          ],
        },
        spec,
      };
      const made = await insist(() => client.create<CommandHold>(resourcePath(holds, { namespace }), body, call));
      if (made.kind === 'Ok') return { uid: made.value.metadata.uid };
      if (made.reason === 'AlreadyExists') {
        // A try that seemed lost may have arrived.
        const found = await insist(() => client.get<CommandHold>(resourcePath(holds, { namespace, name }), call));
        if (found.kind === 'Ok' && isSame(found.value.spec, spec)) return { uid: found.value.metadata.uid };
      }
      throw new Error(`the hold could not be opened: ${made.message}`);
    },

    async closeHold({ name, namespace, uid }, event) {
      const path = resourcePath(holds, { namespace, name });
      for (let attempt = 0; attempt < TRIES; attempt += 1) {
        const found = await insist(() => client.get<CommandHold>(path, call));
        if (found.kind === 'Failed' && found.status !== 404)
          throw new Error(`the hold could not be read: ${found.message}`);
        if (found.kind === 'Failed' || found.value.metadata.uid !== uid) {
          // An approval that can not be marked as used could be used again: the gateway then runs nothing.
          if (event === 'Used') throw new Error('the hold is gone, so its approval can not be used');
          return;
        }
        const hold = found.value;
        const next = closed(hold.status, event, new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z'));
        if (next === undefined) return;
        const body = { metadata: { resourceVersion: hold.metadata.resourceVersion }, status: next };
        const result = await insist(() =>
          client.patch<CommandHold>(
            resourcePath(holds, { namespace, name, subresource: 'status' }),
            body,
            'merge',
            call,
          ),
        );
        if (result.kind === 'Ok' || (result.status === 404 && event !== 'Used')) return;
        if (result.reason !== 'Conflict') throw new Error(`the hold could not be closed: ${result.message}`);
      }
      throw new Error('the hold could not be closed: it kept changing');
    },
  };
}

/** What changes in its status; undefined: nothing. Throws where an approval can not be used. */
function closed(
  status: CommandHoldStatus | undefined,
  event: 'Withdrawn' | 'TimedOut' | 'Used',
  now: string,
): Partial<CommandHoldStatus> | undefined {
  if (event !== 'Used') {
    if (status?.phase !== undefined && status.phase !== 'Waiting') return undefined; // decided in the same moment: that stands
    return { phase: event, decidedAt: now };
  }
  if (status?.phase !== 'Approved') throw new Error('the hold is not approved');
  if (status.usedAt !== undefined) throw new Error('its approval was used before');
  return { usedAt: now };
}

/** Names are made anew for each hold, so these tell a hold of ours from anybody's. */
const isSame = (one: CommandHoldSpec, other: CommandHoldSpec): boolean =>
  one.sessionId === other.sessionId &&
  one.commandHash === other.commandHash &&
  one.requestedAt === other.requestedAt &&
  one.grantRef.uid === other.grantRef.uid;
