// From "where does it lead?" to "it may be done there": resolve, judge, wait for the turn, take the name lock, resolve
// again if names may have changed since.
//
// Guarantees: what is answered as permitted leads where it was judged to lead, as long as `release` was not called and
// only this connection changes names.
import type { Clock } from '../../../system/clock.ts';
import type { NameLock } from './name-lock.ts';

export interface NamesHeldParts<R> {
  clock: Clock;
  names: NameLock;
  /** Names mean something else afterwards. */
  changesNames: boolean;
  resolve(): Promise<R>;
  same(one: R, other: R): boolean;
  /** The command's id; undefined: refused, and whoever asked was told. */
  judge(resolved: R): Promise<number | undefined>;
  /** Resolves when all that was asked before has been sent. */
  turn(): Promise<void>;
  /** It was permitted and does not happen. */
  unused(error: { code: string; message: string }): void;
}

export type NamesHeld<R> =
  | { kind: 'Permitted'; id: number; resolved: R; release(): void }
  | { kind: 'Refused' }
  | { kind: 'Failed'; message: string };

/** A resolution older than this is made again before it is used: somebody thought about a hold, or the disk was slow. */
const STALE_MS = 1000;
/** The longest that a request waits for another of this connection that is at the target. */
const LOCK_MS = 30_000;
const ATTEMPTS = 3;

export async function permitWithNamesHeld<R>(parts: NamesHeldParts<R>): Promise<NamesHeld<R>> {
  const { clock, names, changesNames } = parts;
  for (let attempt = 1; ; attempt += 1) {
    const generation = names.generation;
    const since = clock.monotonic();
    const resolved = await parts.resolve();
    const id = await parts.judge(resolved);
    if (id === undefined) return { kind: 'Refused' };
    await parts.turn();
    const release = await acquire(parts);
    if (!release) {
      const message = 'another operation of this connection holds up the target';
      parts.unused({ code: 'Busy', message });
      return { kind: 'Failed', message };
    }
    const isFresh = names.generation === generation + (changesNames ? 1 : 0) && clock.monotonic() - since < STALE_MS;
    try {
      if (isFresh || parts.same(resolved, await parts.resolve())) return { kind: 'Permitted', id, resolved, release };
    } catch (error) {
      release();
      throw error;
    }
    release();
    const message = 'a path led somewhere else by the time it was permitted';
    parts.unused({ code: 'PathChanged', message });
    if (attempt >= ATTEMPTS) return { kind: 'Failed', message };
  }
}

function acquire({
  clock,
  names,
  changesNames,
}: Pick<NamesHeldParts<unknown>, 'clock' | 'names' | 'changesNames'>): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    let late = false;
    const withdraw = clock.after(LOCK_MS, () => {
      late = true;
      resolve(undefined);
    });
    void (changesNames ? names.exclusive() : names.shared()).then((release) => {
      withdraw();
      if (late) release();
      else resolve(release);
    });
  });
}
