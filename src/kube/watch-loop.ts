// One watch without end over many connections. Guarantees: every change after `from` is told once and in order, or the
// loop ends with `Gone`; resets, half lines, restarts and a server that sends nothing are outlived with jittered pauses;
// no more than one line is in memory beyond what a slow `onChange` holds back in the socket.
import type { Clock } from '../system/clock.ts';
import type { Random } from '../system/random.ts';
import { KubeConnectionError, type KubeFailure } from './answer.ts';
import { createBackoff, fraction, sleep } from './backoff.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './log.ts';
import { isBefore, isKubeObject, type KubeObject, withoutManagedFields } from './object.ts';
import type { Selection } from './pages.ts';

export interface WatchLoopOptions<T> extends Selection {
  client: KubeClient;
  path: string;
  /** Resource version of the list before. */
  from: string;
  signal: AbortSignal;
  clock: Clock;
  random: Random;
  log: KubeLog;
  /** Awaited before the next is read. Must not throw. */
  onChange(type: 'Added' | 'Modified' | 'Deleted', object: T): void | Promise<void>;
  /** The server was heard: a line, a bookmark, or the end of a watch in time. */
  onContact?(): void;
  /** An attempt failed; it is retried. */
  onTrouble?(message: string): void;
  /** Longest silence, ms. An API server sends a bookmark a minute. Default 180,000. */
  silenceMs?: number;
  /** Pauses. Default 200 ms to 30 s. */
  backoff?: { firstMs: number; longestMs: number };
}

const TYPES = { ADDED: 'Added', MODIFIED: 'Modified', DELETED: 'Deleted' } as const;
const SHORTEST_SECONDS = 240;
const SILENCE_MS = 180_000;
/** A watch that ends sooner without a word is a failure, or the loop would spin. */
const SHORTEST_GOOD_MS = 1000;

/** Resolves `Gone` when the server no longer knows what came after; the caller lists anew. Never rejects. */
export async function followChanges<T extends KubeObject>(options: WatchLoopOptions<T>): Promise<'Gone' | 'Stopped'> {
  const { client, path, signal, clock, random, log } = options;
  const backoff = createBackoff(random, options.backoff?.firstMs, options.backoff?.longestMs);
  let from = options.from;
  let lastTrouble = '';

  const trouble = (message: string): void => {
    options.onTrouble?.(message);
    // The same trouble again is not news.
    log(message === lastTrouble ? 'debug' : 'warn', 'a watch broke; it is resumed', { path, problem: message });
    lastTrouble = message;
  };

  while (!signal.aborted) {
    const began = clock.monotonic();
    let heard = false;
    let failure: KubeFailure | undefined;
    let broken: string | undefined;
    try {
      const lines = client.watch<T>(path, {
        resourceVersion: from,
        fieldSelector: options.fieldSelector,
        labelSelector: options.labelSelector,
        timeoutSeconds: Math.round(SHORTEST_SECONDS * (1 + fraction(random))),
        silenceMs: options.silenceMs ?? SILENCE_MS,
        signal,
      });
      for await (const line of lines) {
        if (line.type === 'ERROR') {
          failure = line.failure;
          break;
        }
        const version = line.object.metadata?.resourceVersion;
        if (typeof version !== 'string' || version === '') throw new KubeConnectionError('Garbage', 'no version');
        if (line.type === 'BOOKMARK') {
          // An etcd restored from a backup counts from before: what it tells next would be missed.
          if (isBefore(version, from)) return 'Gone';
        } else {
          if (!isKubeObject(line.object)) throw new KubeConnectionError('Garbage', 'an object without a name');
          await options.onChange(TYPES[line.type], withoutManagedFields(line.object));
          if (signal.aborted) return 'Stopped';
        }
        from = version;
        if (!heard) backoff.reset();
        heard = true;
        lastTrouble = '';
        options.onContact?.();
      }
    } catch (error) {
      if (signal.aborted) return 'Stopped';
      if (error instanceof KubeConnectionError && error.code === 'Closed') return 'Stopped';
      broken = error instanceof Error ? error.message : String(error);
    }
    if (signal.aborted) return 'Stopped';
    if (failure?.status === 410) {
      log('debug', 'a watch is too old; it is listed anew', { path });
      return 'Gone';
    }
    if (failure !== undefined) broken = `${failure.status} ${failure.reason}: ${failure.message}`;
    const lasted = clock.monotonic() - began;
    if (broken === undefined && (heard || lasted >= SHORTEST_GOOD_MS)) {
      backoff.reset();
      options.onContact?.();
      continue;
    }
    trouble(broken ?? 'the server ended it at once');
    await sleep(clock, Math.max(failure?.retryAfterMs ?? 0, backoff.next()), signal);
  }
  return 'Stopped';
}
