// How many logins at one target are under way at once. sshd turns connections away at random from the tenth on that has not
// logged in (MaxStartups 10:30:100), whosever they are: a hundred users who come at once have to come one after
// the other. Guarantees: never more than `atOnce` a target, in the order in which they came; a place is waited for no
// longer than `waitMs`. Not seen here: other replicas, and whoever else logs in at the target.
import type { Clock } from '../../../system/clock.ts';
import { UpstreamError } from './error.ts';

export interface LoginPace {
  /** Resolves with what gives the place back, once. Rejects with UpstreamError: waited in vain, or the signal. */
  place(target: string, signal: AbortSignal): Promise<() => void>;
  /** Targets that have somebody at or before their door. */
  readonly size: number;
}

export const DEFAULT_PACE = { atOnce: 8, waitMs: 30_000 };

interface Door {
  taken: number;
  waiting: Set<() => void>;
}

export function createLoginPace(
  clock: Pick<Clock, 'after'>,
  { atOnce, waitMs }: { atOnce: number; waitMs: number } = DEFAULT_PACE,
): LoginPace {
  const doors = new Map<string, Door>();

  const leave = (target: string, door: Door): void => {
    door.taken -= 1;
    const [next] = door.waiting;
    if (next !== undefined) {
      door.waiting.delete(next);
      next();
    } else if (door.taken === 0) doors.delete(target);
  };
  const taker = (target: string, door: Door): (() => void) => {
    door.taken += 1;
    let given = false;
    return () => {
      if (given) return;
      given = true;
      leave(target, door);
    };
  };

  return {
    place(target, signal) {
      if (signal.aborted) return Promise.reject(ended());
      const door = doors.get(target) ?? { taken: 0, waiting: new Set() };
      doors.set(target, door);
      if (door.taken < atOnce) return Promise.resolve(taker(target, door));
      return new Promise((resolve, reject) => {
        const turn = (): void => {
          stop();
          resolve(taker(target, door));
        };
        const giveUp = (error: UpstreamError): void => {
          stop();
          door.waiting.delete(turn);
          reject(error);
        };
        const onAbort = (): void => giveUp(ended());
        const withdraw = clock.after(waitMs, () => giveUp(busy(waitMs)));
        const stop = (): void => {
          withdraw();
          signal.removeEventListener('abort', onAbort);
        };
        signal.addEventListener('abort', onAbort, { once: true });
        door.waiting.add(turn);
      });
    },
    get size() {
      return doors.size;
    },
  };
}

const ended = (): UpstreamError => new UpstreamError('Ended', 'Sallyport: the session ended before its login.');

const busy = (waitMs: number): UpstreamError =>
  new UpstreamError(
    'Busy',
    `Sallyport: so many log in at the target that ${waitMs / 1000} s were not enough to have a turn.`,
    'Try again. If it stays so, the target answers slowly: its owners look at its load and at its MaxStartups.',
  );
