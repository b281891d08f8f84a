// Sessions of the one process, told to notifiers in the form in which a cluster has them as objects. Looks twice a second:
// one that came and went in between is in the records alone.
import { API_GROUP_VERSION } from '../../api/group.ts';
import type { AccessSession } from '../../api/session.ts';
import { rfc3339 } from '../../controllers/conditions.ts';
import type { Gateway, SessionInfo } from '../../gateway/gateway.ts';
import type { Clock } from '../../system/clock.ts';

/** Where Secrets of ClusterNotifiers are in a directory. */
export const LOCAL_NOTIFIERS_NAMESPACE = 'sallyport-system';
const LOOK_EVERY_MS = 500;

export function watchSessions(options: {
  gateway: Pick<Gateway, 'sessions'>;
  clock: Clock;
  tell(session: AccessSession): void;
}): () => void {
  const { gateway, clock, tell } = options;
  const live = new Map<string, { info: SessionInfo; cut: string | undefined }>();
  let cancel = (): void => undefined;

  const look = (): void => {
    const seen = new Set<string>();
    for (const info of gateway.sessions()) {
      if (info.grant === undefined || info.principal === undefined || info.state === 'Handshake') continue;
      seen.add(info.id);
      const known = live.get(info.id);
      live.set(info.id, { info, cut: info.cut ?? known?.cut });
      if (known === undefined) tell(sessionOf(info, { phase: 'Live' }));
    }
    for (const [id, { info, cut }] of live) {
      if (seen.has(id)) continue;
      live.delete(id);
      tell(
        sessionOf(info, {
          phase: 'Ended',
          endedAt: rfc3339(clock.now()),
          ...(cut === undefined ? {} : { reason: cut }),
        }),
      );
    }
    cancel = clock.after(LOOK_EVERY_MS, look);
  };
  look();
  return () => cancel();
}

function sessionOf(info: SessionInfo, status: NonNullable<AccessSession['status']>): AccessSession {
  const startedAt = rfc3339(info.startedAtMs);
  return {
    apiVersion: API_GROUP_VERSION,
    kind: 'AccessSession',
    metadata: {
      name: info.id,
      namespace: info.connection.namespace,
      uid: info.id,
      resourceVersion: '0',
      generation: 1,
      creationTimestamp: startedAt,
    },
    spec: {
      connectionRef: { name: info.connection.name },
      grantRef: { name: info.grant!.name, uid: info.grant!.uid },
      username: info.principal!.username,
      account: info.account ?? '',
      client: info.client.address,
      replica: 'local',
      startedAt,
    },
    status,
  };
}
