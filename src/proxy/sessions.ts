// AccessSessions: what can be seen of live sessions in the API, and where they are ended by deleting. Never on the way
// of a login: a session is looked at when it is five seconds old, and what the API says or does not say changes nothing
// for it but one thing: an AccessSession that somebody deletes cuts every session it stands for.
//
// Guarantees: one object for each grant and client address, however many connections a pool opens; at most two writes a
// second and a bounded number waiting; an object that was not made (API down, too many) costs only its being seen.
import { API_GROUP, API_GROUP_VERSION, API_VERSION, REPLICA_LABEL } from '../api/group.ts';
import type { AccessSession, AccessSessionStatus } from '../api/session.ts';
import type { SessionInfo } from '../gateway/gateway.ts';
import type { LogLine } from '../gateway/observer.ts';
import type { KubeAnswer } from '../kube/answer.ts';
import type { KubeClient } from '../kube/client.ts';
import { resourcePath } from '../kube/paths.ts';
import { startReflector } from '../kube/reflector.ts';
import type { Clock } from '../system/clock.ts';
import { type Random, randomSuffix } from '../system/random.ts';

const kind = { group: API_GROUP, version: API_VERSION, plural: 'accesssessions' };
const OLD_ENOUGH_MS = 5_000;
const LOOK_EVERY_MS = 1_000;
/** A pool that closes one connection and opens the next goes on under the same object. */
const LINGER_MS = 5_000;
const WRITE_EVERY_MS = 500;
const MOST_GROUPS = 1_000;
const CALL_MS = 5_000;

export interface SessionObjectsOptions {
  client: KubeClient;
  namespace: string;
  replica: string;
  sessions(): readonly SessionInfo[];
  kill(id: string, by: string): boolean;
  clock: Clock;
  random: Random;
  log: LogLine;
}

export interface SessionObjects {
  /** Tells the API that all have ended, as far as it answers within `ms`. */
  stop(ms: number): Promise<void>;
}

interface Group {
  key: string;
  name: string;
  first: SessionInfo;
  /** Ids of the live sessions it stands for. */
  members: Set<string>;
  emptySince: number | undefined;
  /** How its last session ended, where the gateway said. */
  lastCut: string | undefined;
  state: 'Wanted' | 'Made' | 'Live' | 'Ended';
  uid: string | undefined;
}

export function startSessionObjects(options: SessionObjectsOptions): SessionObjects {
  const { client, namespace, clock, log } = options;
  const groups = new Map<string, Group>();
  const byUid = new Map<string, Group>();
  const stopping = new AbortController();
  let cancelLook = (): void => {};
  let cancelWrite: (() => void) | undefined;
  let writing: Promise<void> | undefined;
  let trouble = '';

  const reflector = startReflector<AccessSession>({
    client,
    path: resourcePath(kind, { namespace }),
    labelSelector: `${REPLICA_LABEL}=${options.replica}`,
    clock,
    random: options.random,
    log,
    backoff: { firstMs: 200, longestMs: 10_000 },
    trim: slim,
    async onEvent({ type, object }) {
      const group = byUid.get(object.metadata.uid);
      if (type === 'Deleted') return group === undefined ? undefined : deleted(group);
      // Left by a process before this one: its sessions ended with it.
      if (group === undefined && type === 'Added' && object.status?.phase === 'Live' && !ours(object))
        await say(object.metadata.name, 'Lost', 'the proxy that served it has started anew');
    },
  });

  /** One of ours whose making was not answered yet. */
  const ours = (object: AccessSession): boolean =>
    [...groups.values()].some(({ name }) => name === object.metadata.name);

  function deleted(group: Group): void {
    byUid.delete(group.uid!);
    const wasLive = group.state !== 'Ended';
    group.state = 'Ended';
    groups.delete(group.key);
    if (!wasLive) return;
    for (const id of group.members) options.kill(id, `deleting AccessSession ${namespace}/${group.name}`);
  }

  function look(): void {
    const now = clock.monotonic();
    const live = new Set<string>();
    for (const info of options.sessions()) {
      if (info.grant === undefined || info.state === 'Handshake') continue;
      live.add(info.id);
      const key = `${info.grant.uid} ${info.client.address}`;
      const group = groups.get(key);
      if (info.cut !== undefined && group !== undefined && group.members.has(info.id)) group.lastCut = info.cut;
      if (group !== undefined) {
        if (info.state === 'Live') {
          group.members.add(info.id);
          group.emptySince = undefined;
        }
      } else if (
        info.state === 'Live' &&
        clock.now() - info.startedAtMs >= OLD_ENOUGH_MS &&
        groups.size < MOST_GROUPS
      ) {
        const { id } = info;
        groups.set(key, {
          key,
          name: id,
          first: info,
          members: new Set([id]),
          emptySince: undefined,
          lastCut: undefined,
          state: 'Wanted',
          uid: undefined,
        });
      }
    }
    for (const group of groups.values()) {
      for (const id of group.members) if (!live.has(id)) group.members.delete(id);
      if (group.members.size === 0) group.emptySince ??= now;
    }
    cancelLook = clock.after(LOOK_EVERY_MS, look);
    schedule();
  }

  function schedule(): void {
    if (cancelWrite !== undefined || writing !== undefined || stopping.signal.aborted) return;
    if (next() === undefined) return;
    cancelWrite = clock.after(WRITE_EVERY_MS, () => {
      cancelWrite = undefined;
      const act = next();
      if (act === undefined) return;
      writing = act()
        .catch((error: unknown) => {
          const why = error instanceof Error ? error.message : String(error);
          log(why === trouble ? 'debug' : 'warn', 'a session can not be shown in the API now', { error: why });
          trouble = why;
        })
        .finally(() => {
          writing = undefined;
          schedule();
        });
    });
  }

  /** What is to be written next: ends first, they make room. */
  function next(): (() => Promise<void>) | undefined {
    const now = clock.monotonic();
    for (const group of groups.values()) {
      if (group.emptySince === undefined || now - group.emptySince < LINGER_MS) continue;
      if (group.state === 'Wanted')
        groups.delete(group.key); // came and went unseen
      else return () => finish(group);
    }
    for (const group of groups.values()) {
      if (group.state === 'Made') return () => begin(group);
      if (group.state === 'Wanted' && group.members.size > 0) return () => make(group);
    }
    return undefined;
  }

  async function make(group: Group): Promise<void> {
    const { first } = group;
    const { grant } = first;
    if (grant === undefined) return;
    const startedAt = rfc3339(first.startedAtMs);
    const answer = await client.create<AccessSession>(
      resourcePath(kind, { namespace }),
      {
        apiVersion: API_GROUP_VERSION,
        kind: 'AccessSession',
        metadata: { name: group.name, namespace, labels: { [REPLICA_LABEL]: options.replica } },
        spec: {
          connectionRef: { name: first.connection.name },
          grantRef: { name: grant.name, uid: grant.uid },
          username: first.principal?.username ?? 'unknown',
          account: first.account ?? 'unknown',
          client: first.client.address.slice(0, 128),
          replica: options.replica,
          startedAt,
        },
      },
      { deadlineMs: CALL_MS, signal: stopping.signal },
    );
    if (answer.kind === 'Ok') {
      group.uid = answer.value.metadata.uid;
      group.state = 'Made';
      byUid.set(group.uid, group);
      trouble = '';
      return;
    }
    if (answer.reason === 'AlreadyExists') {
      const found = await client.get<AccessSession>(resourcePath(kind, { namespace, name: group.name }), {
        deadlineMs: CALL_MS,
        signal: stopping.signal,
      });
      // A try that seemed lost had arrived; else the name is somebody else's.
      if (
        found.kind === 'Ok' &&
        found.value.spec.replica === options.replica &&
        found.value.spec.grantRef.uid === grant.uid &&
        found.value.spec.startedAt === startedAt
      ) {
        group.uid = found.value.metadata.uid;
        group.state = 'Made';
        byUid.set(group.uid, group);
        return;
      }
      group.name = `${first.id}-${randomSuffix(options.random, 4)}`;
    }
    throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
  }

  async function begin(group: Group): Promise<void> {
    if (isDone(await say(group.name, 'Live')) && group.state === 'Made') group.state = 'Live';
  }

  async function finish(group: Group): Promise<void> {
    if (!isDone(await say(group.name, 'Ended', group.lastCut ?? 'Closed'))) return;
    group.state = 'Ended';
    groups.delete(group.key);
    if (group.uid !== undefined) byUid.delete(group.uid);
  }

  function say(
    name: string,
    phase: AccessSessionStatus['phase'],
    reason?: string,
    deadlineMs = CALL_MS,
  ): Promise<KubeAnswer<AccessSession>> {
    const status: AccessSessionStatus = {
      phase,
      ...(phase === 'Live' ? {} : { endedAt: rfc3339(clock.now()) }),
      ...(reason === undefined ? {} : { reason }),
    };
    return client.patch<AccessSession>(
      resourcePath(kind, { namespace, name, subresource: 'status' }),
      { status },
      'merge',
      {
        deadlineMs,
      },
    );
  }

  look();

  return {
    async stop(ms) {
      cancelLook();
      cancelWrite?.();
      stopping.abort();
      await writing;
      await reflector.stop();
      const left = [...groups.values()].filter(({ state }) => state === 'Made' || state === 'Live');
      const end = clock.monotonic() + ms;
      for (const group of left) {
        const remaining = end - clock.monotonic();
        if (remaining <= 0) break;
        await say(group.name, 'Ended', group.lastCut ?? 'Shutdown', remaining).catch(() => undefined);
      }
    },
  };
}

/** Gone is as good as written: there is nothing left to say. */
function isDone(answer: KubeAnswer<unknown>): boolean {
  if (answer.kind === 'Ok' || answer.status === 404) return true;
  throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
}

const rfc3339 = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');

function slim(session: AccessSession): AccessSession {
  const { name, namespace, uid, resourceVersion, generation, creationTimestamp } = session.metadata;
  return {
    ...session,
    metadata: { name, ...(namespace ? { namespace } : {}), uid, resourceVersion, generation, creationTimestamp },
  };
}
