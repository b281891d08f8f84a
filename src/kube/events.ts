// Kubernetes Events (events.k8s.io/v1): what people see in `kubectl describe`. They are hints and never authority.
// Guarantees: telling never waits and never throws; memory and writes are bounded however much is told (the rest is
// dropped and counted); the same thing told again becomes a count on one Event.
import type { Clock } from '../system/clock.ts';
import { type Random, randomUid } from '../system/random.ts';
import { sleep } from './backoff.ts';
import type { KubeClient } from './client.ts';
import type { KubeLog } from './log.ts';
import { EVENTS, resourcePath } from './paths.ts';

/** The object that it is about. */
export interface EventSubject {
  apiVersion: string;
  kind: string;
  name: string;
  /** Absent: cluster-scoped; its events are in `default`. */
  namespace?: string | undefined;
  uid: string;
}

export interface EventNote {
  type: 'Normal' | 'Warning';
  /** CamelCase: why. */
  reason: string;
  /** CamelCase: what was done about it. */
  action: string;
  /** A sentence. Cut at 1 KiB. */
  note: string;
}

export interface EventRecorder {
  tell(subject: EventSubject, note: EventNote): void;
  /** Events that were not written since the start. */
  readonly dropped: number;
  /** Writes what waits, for at most `deadlineMs`. Default 2 s. */
  stop(deadlineMs?: number): Promise<void>;
}

export interface EventRecorderOptions {
  client: KubeClient;
  /** `sallyport.dev/operator`. */
  controller: string;
  /** The pod. */
  instance: string;
  clock: Clock;
  random: Random;
  log: KubeLog;
}

const MOST_WAITING = 256;
const MOST_SERIES = 1024;
/** Told again within this it is the same Event; Kubernetes ends a series so. */
const SERIES_MS = 360_000;
// A subject's allowance: as client-go's, 25 at once and one more each 5 minutes.
const BURST = 25;
const REFILL_MS = 300_000;
// All subjects together: one write each 100 ms is no load that anybody notices.
const PACE_MS = 100;
const LONGEST_NOTE = 1024;

interface Series {
  path: string;
  listPath: string;
  body: Record<string, unknown>;
  count: number;
  lastMs: number;
  lastWallMs: number;
  /** Whether the object is at the server. */
  written: boolean;
  waiting: boolean;
}

export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  const { client, clock, random, log } = options;
  const series = new Map<string, Series>();
  const allowances = new Map<string, { tokens: number; atMs: number }>();
  const waiting: Series[] = [];
  const stopping = new AbortController();
  const ended = new AbortController();
  let dropped = 0;
  let working: Promise<void> | undefined;

  const micro = (ms: number): string => `${new Date(ms).toISOString().slice(0, -1)}000Z`;

  const allowed = (uid: string): boolean => {
    const now = clock.monotonic();
    const known = allowances.get(uid) ?? { tokens: BURST, atMs: now };
    const tokens = Math.min(BURST, known.tokens + (now - known.atMs) / REFILL_MS);
    allowances.delete(uid);
    allowances.set(uid, { tokens: tokens >= 1 ? tokens - 1 : tokens, atMs: now });
    trimOldest(allowances, MOST_SERIES);
    return tokens >= 1;
  };

  const write = async (entry: Series): Promise<void> => {
    const { count } = entry;
    const inSeries = { series: { count, lastObservedTime: micro(entry.lastWallMs) } };
    const call = { deadlineMs: 5000, signal: ended.signal };
    if (entry.written) {
      const answer = await client.patch(entry.path, inSeries, 'merge', call);
      if (answer.kind === 'Ok' || answer.status !== 404) return;
    }
    // Its time to live passed, or it is the first.
    const answer = await client.create(entry.listPath, count > 1 ? { ...entry.body, ...inSeries } : entry.body, call);
    if (answer.kind === 'Ok' || answer.reason === 'AlreadyExists') entry.written = true;
    else throw new Error(`${answer.status} ${answer.reason}: ${answer.message}`);
  };

  const work = async (): Promise<void> => {
    for (let entry = waiting.shift(); entry !== undefined && !ended.signal.aborted; entry = waiting.shift()) {
      entry.waiting = false;
      try {
        await write(entry);
      } catch (error) {
        dropped++;
        log('debug', 'an event could not be written', { problem: String(error) });
      }
      await sleep(clock, PACE_MS, stopping.signal);
    }
  };

  const queue = (entry: Series): void => {
    if (entry.waiting) return;
    if (waiting.length >= MOST_WAITING) {
      dropped++;
      return;
    }
    entry.waiting = true;
    waiting.push(entry);
    working ??= work().finally(() => {
      working = undefined;
    });
  };

  return {
    tell(subject, note) {
      if (stopping.signal.aborted) return;
      if (!allowed(subject.uid)) {
        dropped++;
        return;
      }
      const key = JSON.stringify([subject.uid, note.type, note.reason, note.action, note.note]);
      const known = series.get(key);
      const nowMs = clock.now();
      const monoMs = clock.monotonic();
      if (known !== undefined && monoMs - known.lastMs < SERIES_MS) {
        known.count++;
        known.lastMs = monoMs;
        known.lastWallMs = nowMs;
        queue(known);
        return;
      }
      const namespace = subject.namespace ?? 'default';
      const name = `${subject.name.slice(0, 200)}.${randomUid(random).slice(0, 13).replace('-', '')}`;
      const entry: Series = {
        path: resourcePath(EVENTS, { namespace, name }),
        listPath: resourcePath(EVENTS, { namespace }),
        body: {
          apiVersion: 'events.k8s.io/v1',
          kind: 'Event',
          metadata: { name, namespace },
          eventTime: micro(nowMs),
          reportingController: options.controller,
          reportingInstance: options.instance.slice(0, 128),
          regarding: { ...subject },
          type: note.type,
          reason: note.reason,
          action: note.action,
          note: cut(note.note, LONGEST_NOTE),
        },
        count: 1,
        lastMs: monoMs,
        lastWallMs: nowMs,
        written: false,
        waiting: false,
      };
      series.delete(key);
      series.set(key, entry);
      trimOldest(series, MOST_SERIES);
      queue(entry);
    },
    get dropped() {
      return dropped;
    },
    async stop(deadlineMs = 2000) {
      stopping.abort();
      const cancel = clock.after(deadlineMs, () => ended.abort());
      await working;
      cancel();
      ended.abort();
    },
  };
}

function trimOldest(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
}

/** At most `bytes` of UTF-8, no character halved. */
function cut(text: string, bytes: number): string {
  const encoded = Buffer.from(text);
  if (encoded.length <= bytes) return text;
  return `${encoded
    .subarray(0, bytes - 4)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')}…`;
}
