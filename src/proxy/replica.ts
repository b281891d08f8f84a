// This process's ProxyReplica: reads what the operator hands it (status), writes what it says of itself (spec). Writes
// are gathered: at most one in two seconds, and only where something that matters changed; at rest none. Without the API
// nothing is lost: what is true when it is back is written then.
import { isDeepStrictEqual } from 'node:util';
import { API_GROUP, API_VERSION } from '../api/group.ts';
import type { ProxyReplica, ProxyReplicaSpec, ProxyReplicaStatus } from '../api/replica.ts';
import type { LogLine } from '../gateway/observer.ts';
import type { KubeClient } from '../kube/client.ts';
import { resourcePath } from '../kube/paths.ts';
import { startReflector } from '../kube/reflector.ts';
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';

const replicas = { group: API_GROUP, version: API_VERSION, plural: 'proxyreplicas' };
const WRITE_EVERY_MS = 2_000;
/** A write that failed is tried again after this; changes meanwhile go along. */
const RETRY_MS = 5_000;
/** How stale the number of sessions may be, where nothing else changed. */
const SESSIONS_EVERY_MS = 60_000;

export interface ReplicaOptions {
  client: KubeClient;
  namespace: string;
  name: string;
  /** What this process says of itself now. */
  report(): Omit<ProxyReplicaSpec, 'observedAt'>;
  /** Told of every status, the first as well. */
  onStatus(status: ProxyReplicaStatus): void;
  clock: Clock;
  random: Random;
  log: LogLine;
}

export interface ReplicaLink {
  /** Something in the report may have changed. */
  touch(): void;
  /** Why it is not known what to serve, a sentence. */
  problem(): string | undefined;
  /** Writes that were made, for whoever counts. */
  writes(): number;
  stop(): Promise<void>;
}

export function startReplica(options: ReplicaOptions): ReplicaLink {
  const { client, namespace, name, clock, log } = options;
  const path = resourcePath(replicas, { namespace, name });
  const stopping = new AbortController();
  let known: ProxyReplica | undefined;
  let statusSeen = false;
  let cancel: (() => void) | undefined;
  let writing: Promise<void> | undefined;
  let lastWrite = Number.NEGATIVE_INFINITY;
  let writes = 0;
  let trouble = '';

  const reflector = startReflector<ProxyReplica>({
    client,
    path: resourcePath(replicas, { namespace }),
    name,
    clock,
    random: options.random,
    log,
    backoff: { firstMs: 200, longestMs: 10_000 },
    onEvent({ type, object }) {
      if (type === 'Deleted') {
        // What to serve stands until somebody says otherwise: bundles of a deleted Connection go by themselves.
        known = undefined;
        return;
      }
      known = object;
      const { status } = object;
      if (status?.connections !== undefined) statusSeen = true;
      if (status !== undefined) options.onStatus(status);
      touch();
    },
  });

  function touch(): void {
    if (stopping.signal.aborted || cancel !== undefined || writing !== undefined) return;
    if (known === undefined) return;
    const difference = differs(known.spec ?? {}, options.report());
    if (difference === 'Nothing') return;
    const wait = difference === 'SessionsOnly' ? SESSIONS_EVERY_MS : WRITE_EVERY_MS;
    schedule(Math.max(0, lastWrite + wait - clock.monotonic()), difference === 'SessionsOnly');
  }

  let lazy = false;
  function schedule(ms: number, isLazy = false): void {
    lazy = isLazy;
    cancel = clock.after(ms, () => {
      cancel = undefined;
      writing = write().finally(() => {
        writing = undefined;
        if (cancel === undefined) touch();
      });
    });
  }

  async function write(): Promise<void> {
    if (known === undefined || stopping.signal.aborted) return;
    const report = options.report();
    if (differs(known.spec ?? {}, report) === 'Nothing') return;
    lastWrite = clock.monotonic();
    try {
      const observedAt = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
      const answer = await client.patch<ProxyReplica>(path, { spec: { ...report, observedAt } }, 'merge', {
        deadlineMs: 5_000,
        signal: stopping.signal,
      });
      writes += 1;
      if (answer.kind === 'Ok') {
        trouble = '';
        known = answer.value;
        reflector.remember(answer.value);
        return;
      }
      fail(`${answer.status} ${answer.reason}: ${answer.message}`);
    } catch (error) {
      fail(error instanceof Error ? error.message : String(error));
    }
  }

  function fail(why: string): void {
    if (stopping.signal.aborted) return;
    log(why === trouble ? 'debug' : 'warn', 'the replica could not be reported; it is tried again', { error: why });
    trouble = why;
    schedule(RETRY_MS);
  }

  return {
    touch() {
      // A write that waits for a minute because only sessions changed must not hold up what matters.
      if (lazy && cancel !== undefined) {
        cancel();
        cancel = undefined;
      }
      touch();
    },
    problem() {
      if (statusSeen) return undefined;
      const { synced, problem } = reflector.status();
      if (problem !== undefined) return `ProxyReplica ${namespace}/${name} can not be read: ${problem}`;
      if (!synced) return `ProxyReplica ${namespace}/${name} was not read yet`;
      return known === undefined
        ? `the operator has not made ProxyReplica ${namespace}/${name} yet`
        : `the operator has not said yet what ProxyReplica ${namespace}/${name} is to serve`;
    },
    writes: () => writes,
    async stop() {
      stopping.abort();
      cancel?.();
      await reflector.stop();
      await writing;
    },
  };
}

/** How what is written differs from what is true. When it was written is no difference. */
export function differs(
  written: ProxyReplicaSpec,
  report: Omit<ProxyReplicaSpec, 'observedAt'>,
): 'Nothing' | 'SessionsOnly' | 'Something' {
  const { observedAt: _, sessions: before, ...old } = written;
  const { sessions: now, ...next } = report;
  // JSON drops what is undefined, as the API does.
  if (!isDeepStrictEqual(old, JSON.parse(JSON.stringify(next)))) return 'Something';
  return (before ?? 0) === (now ?? 0) ? 'Nothing' : 'SessionsOnly';
}
