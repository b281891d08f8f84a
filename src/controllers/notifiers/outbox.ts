// Messages of one notifier that are still to be sent. Guarantees: one at a time, emergencies first, then in the order in
// which things happened; a failing receiver makes all wait (growing, jittered pauses, or as long as it asks), one message
// that it does not want is given up after some tries and holds up no other; ids stay the same over tries; at most
// MOST_WAITING wait, beyond that the least urgent and oldest are given up; nothing is tried for longer than a day. It
// remembers nothing over a restart: whoever owns it is told what was dealt with, in batches, and feeds it what was not.
import type { NotifierEvent } from '../../api/notifier.ts';
import type { Clock } from '../../system/clock.ts';
import type { Random } from '../../system/random.ts';
import type { Log } from '../runtime.ts';
import type { Delivery, Medium } from './media/medium.ts';
import type { Message } from './message.ts';

export const MOST_WAITING = 500;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5 * 60_000;
const MOST_TRIES = 4;
const LONGEST_TRY_MS = 24 * 3_600_000;
const DEADLINE_MS = 30_000;
/** What was dealt with is told at once after a pause, and then so often at most. */
const SETTLE_MS = 250;

export interface Settled {
  taken: readonly Message[];
  dropped: readonly Message[];
  /** Why nothing gets through; undefined: the last message did. */
  trouble: string | undefined;
  waiting: number;
  oldestWaitingMs: number | undefined;
}

export interface Outbox {
  /** Ignores what waits already. `maybeSent`: an earlier process may have sent it. */
  add(message: Message, maybeSent: boolean): void;
  has(id: string): boolean;
  /** What waits for this object is not wanted any more; what an attempt is under way for goes on. */
  retract(ids: ReadonlySet<string>): readonly Message[];
  /** The receiver may be another now: tried at once. */
  use(medium: Medium): void;
  readonly idle: boolean;
  readonly waiting: number;
  stop(): Promise<void>;
}

interface Entry {
  message: Message;
  urgent: boolean;
  tries: number;
  maybeSent: boolean;
  /** Monotonic, ms: not before. */
  restsUntil: number;
}

const URGENT: readonly NotifierEvent[] = ['BreakGlass', 'SignOffDue'];

export function createOutbox(options: {
  medium: Medium;
  clock: Clock;
  random: Random;
  log: Log;
  name: string;
  /** Resolves once it is kept; until then nothing else is told. A failure is tried again. */
  onSettled(settled: Settled): Promise<void>;
  count(outcome: 'Delivered' | 'Retried' | 'Dropped'): void;
}): Outbox {
  const { clock, random, log } = options;
  let { medium } = options;
  const waiting = new Map<string, Entry>();
  const stopping = new AbortController();
  let taken: Message[] = [];
  let dropped: Message[] = [];
  let trouble: string | undefined;
  let told = '';
  let running: Promise<void> | undefined;
  let settling: Promise<void> | undefined;
  let cancelPause: (() => void) | undefined;
  let cancelSettle: (() => void) | undefined;
  let failures = 0;

  const next = (): Entry | undefined => {
    let best: Entry | undefined;
    const now = clock.monotonic();
    for (const entry of waiting.values()) {
      if (entry.restsUntil > now) continue;
      if (
        best === undefined ||
        (entry.urgent && !best.urgent) ||
        (entry.urgent === best.urgent && isBefore(entry, best))
      )
        best = entry;
    }
    return best;
  };

  const drop = (entry: Entry, why: string): void => {
    waiting.delete(entry.message.id);
    dropped.push(entry.message);
    options.count('Dropped');
    log('warn', 'a notice was given up', { notifier: options.name, event: entry.message.event, why });
  };

  const pause = (ms: number): void => {
    cancelPause?.();
    cancelPause = clock.after(ms, () => {
      cancelPause = undefined;
      pump();
    });
  };

  const attempt = async (entry: Entry): Promise<void> => {
    entry.tries += 1;
    let delivery: Delivery;
    try {
      const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(DEADLINE_MS)]);
      delivery = await medium.deliver(entry.message, entry.maybeSent, signal);
    } catch (error) {
      delivery = { kind: 'Unavailable', reason: error instanceof Error ? error.message : 'no answer', sent: false };
    }
    if (stopping.signal.aborted && delivery.kind !== 'Taken') return;
    const { message } = entry;
    switch (delivery.kind) {
      case 'Taken':
        waiting.delete(message.id);
        taken.push(message);
        failures = 0;
        trouble = undefined;
        if (delivery.nothing !== true) options.count('Delivered');
        break;
      case 'Refused':
        failures = 0;
        if (entry.tries >= MOST_TRIES) {
          drop(entry, delivery.reason);
        } else {
          options.count('Retried');
          // It rests while others go on.
          const ms = jittered(FIRST_PAUSE_MS * 2 ** entry.tries);
          entry.restsUntil = clock.monotonic() + ms;
          clock.after(ms + 1, pump);
        }
        trouble = delivery.reason;
        break;
      case 'Unavailable': {
        failures += 1;
        entry.maybeSent ||= delivery.sent;
        options.count('Retried');
        trouble = delivery.reason;
        if (clock.now() - Date.parse(message.at) > LONGEST_TRY_MS) drop(entry, delivery.reason);
        const grown = jittered(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 16)));
        pause(Math.max(delivery.retryAfterMs ?? 0, grown));
        break;
      }
    }
    settleLater();
  };

  /** From half to all of it. */
  const jittered = (ms: number): number => ms / 2 + (ms / 2) * (random.bytes(2).readUInt16BE() / 65_536);

  const pump = (): void => {
    if (running !== undefined || cancelPause !== undefined || stopping.signal.aborted) return;
    const entry = next();
    if (entry === undefined) return;
    running = attempt(entry).finally(() => {
      running = undefined;
      pump();
    });
  };

  const settleLater = (): void => {
    if (cancelSettle !== undefined || settling !== undefined || stopping.signal.aborted) return;
    cancelSettle = clock.after(SETTLE_MS, () => {
      cancelSettle = undefined;
      settle();
    });
  };

  const settle = (): void => {
    if (settling !== undefined) return;
    const state = `${trouble ?? ''} ${waiting.size}`;
    if (taken.length === 0 && dropped.length === 0 && state === told) return;
    const batch = { taken, dropped };
    [taken, dropped] = [[], []];
    const oldest = [...waiting.values()].reduce(
      (least, { message }) => Math.min(least, Date.parse(message.at)),
      Infinity,
    );
    settling = options
      .onSettled({
        ...batch,
        trouble,
        waiting: waiting.size,
        oldestWaitingMs: oldest === Infinity ? undefined : oldest,
      })
      .then(
        () => void (told = state),
        (error: unknown) => {
          taken = [...batch.taken, ...taken];
          dropped = [...batch.dropped, ...dropped];
          log('debug', 'what was delivered could not be kept; it is tried again', {
            notifier: options.name,
            error: String(error),
          });
        },
      )
      .finally(() => {
        settling = undefined;
        if (taken.length > 0 || dropped.length > 0 || `${trouble ?? ''} ${waiting.size}` !== told) settleLater();
      });
  };

  return {
    add(message, maybeSent) {
      if (waiting.has(message.id) || stopping.signal.aborted) return;
      waiting.set(message.id, { message, urgent: URGENT.includes(message.event), tries: 0, maybeSent, restsUntil: 0 });
      if (waiting.size > MOST_WAITING) {
        const least = [...waiting.values()]
          .filter((entry) => entry.tries === 0 || running === undefined)
          .reduce<Entry | undefined>(
            (worst, entry) =>
              worst === undefined ||
              (worst.urgent && !entry.urgent) ||
              (worst.urgent === entry.urgent && isBefore(entry, worst))
                ? entry
                : worst,
            undefined,
          );
        if (least !== undefined) drop(least, `more than ${MOST_WAITING} wait`);
        settleLater();
      }
      pump();
    },
    has: (id) =>
      waiting.has(id) || taken.some((message) => message.id === id) || dropped.some((message) => message.id === id),
    retract(ids) {
      const gone = [...waiting.values()].filter(({ message, tries }) => tries === 0 && ids.has(message.id));
      for (const { message } of gone) waiting.delete(message.id);
      taken.push(...gone.map(({ message }) => message));
      if (gone.length > 0) settleLater();
      return gone.map(({ message }) => message);
    },
    use(next_) {
      medium = next_;
      failures = 0;
      cancelPause?.();
      cancelPause = undefined;
      pump();
    },
    get idle() {
      return waiting.size === 0 && running === undefined && settling === undefined && cancelSettle === undefined;
    },
    get waiting() {
      return waiting.size;
    },
    async stop() {
      cancelPause?.();
      cancelSettle?.();
      stopping.abort();
      await running;
      await settling;
      if (taken.length > 0 || dropped.length > 0) settle();
      await settling;
    },
  };
}

const isBefore = (a: Entry, b: Entry): boolean =>
  a.message.at < b.message.at || (a.message.at === b.message.at && a.message.id < b.message.id);
