// The gateway's own sftp session at a target, by which transfers that can not ask learn where their paths lead. One for
// all transfers of a connection that need it at the same time.
//
// Guarantees: opened only after something was let through on the connection; asks for paths and nothing else; bounded in
// what it keeps; every question is answered or fails in time. Where the target has no sftp that is told apart from a
// target that can not be asked now, since only the latter is somebody's to bring about.
import type { Clock } from '../../../system/clock.ts';
import { homeOf, LookupError, leads, type PathTeller } from '../files/lookup.ts';
import { createOutlet } from '../files/outlet.ts';
import { createUpstream, Ended } from '../files/sftp/upstream.ts';
import { readData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import { Flow } from './flow.ts';
import {
  bare,
  channelData,
  channelOpen,
  channelRequest,
  dataOf,
  parseChannelRequest,
  parseOpenConfirmation,
} from './messages.ts';
import { TargetSide } from './target-side.ts';

/** No channel of a client's has this number or a higher one. */
const FIRST_NUMBER = 0x1_0000;
const NUMBERS = 0x1_0000;
const WINDOW = 64 * 1024;
/** Until the target has told where paths begin, or one path. */
const DEADLINE_MS = 10_000;

export interface PathLookup {
  /** undefined: the target has no sftp. Rejects with LookupError where it can not be asked. */
  ask(): Promise<PathTeller | undefined>;
  owns(number: number): boolean;
  fromTarget(payload: Buffer): void;
  /** The connection to the target is gone. */
  gone(): void;
}

export interface PathLookupParts {
  clock: Clock;
  send(payload: Buffer): void;
}

interface Visit {
  teller: Promise<Omit<PathTeller, 'done'> | undefined>;
  users: number;
  leave(): void;
  take(payload: Buffer): void;
  gone(): void;
}

export function createPathLookup({ clock, send }: PathLookupParts): PathLookup {
  const visits = new Map<number, Visit>();
  let current: Visit | undefined;
  let next = 0;

  const begin = (): Visit => {
    const number = FIRST_NUMBER + next;
    next = (next + 1) % NUMBERS;
    const visit = createVisit({
      clock,
      send,
      number,
      over(visit) {
        if (current === visit) current = undefined;
      },
      removed: () => visits.delete(number),
    });
    visits.set(number, visit);
    return visit;
  };

  return {
    async ask() {
      current ??= begin();
      const visit = current;
      visit.users += 1;
      let left = false;
      const done = (): void => {
        if (left) return;
        left = true;
        visit.users -= 1;
        if (visit.users === 0) visit.leave();
      };
      try {
        const teller = await visit.teller;
        if (teller !== undefined) return { ...teller, done };
        done();
        return undefined;
      } catch (error) {
        done();
        throw error;
      }
    },
    owns: (number) => visits.has(number),
    fromTarget: (payload) => visits.get(payload.readUInt32BE(1))?.take(payload),
    gone() {
      for (const visit of visits.values()) visit.gone();
      visits.clear();
      current = undefined;
    },
  };
}

interface VisitParts extends PathLookupParts {
  number: number;
  /** Nobody new may use it. */
  over(visit: Visit): void;
  /** Nothing comes for its number any more. */
  removed(): void;
}

function createVisit({ clock, send, number, over, removed }: VisitParts): Visit {
  const answer = Promise.withResolvers<Omit<PathTeller, 'done'> | undefined>();
  answer.promise.catch(() => undefined);
  const target = new TargetSide({ send, closed: () => undefined });
  const toTarget = new Flow(undefined, {
    send: (payload) => target.send(payload),
    grant: () => undefined,
    kept: () => 0,
    reserve: 0,
  });
  const upstream = createUpstream(
    createOutlet((data) => toTarget.data(channelData(0, data), true)),
    (text) => end(new LookupError(text)),
  );
  let greeted = false;
  let isOver = false;

  const end = (outcome: LookupError | undefined): void => {
    if (isOver) return;
    isOver = true;
    if (outcome === undefined) answer.resolve(undefined);
    else answer.reject(outcome);
    upstream.end();
    toTarget.stop();
    target.close();
    over(visit);
  };
  const inTime = async <T>(asked: Promise<T>): Promise<T> => {
    const withdraw = clock.after(DEADLINE_MS, () => end(new LookupError('the target does not tell where paths lead')));
    try {
      return await asked;
    } finally {
      withdraw();
    }
  };
  const greet = async (): Promise<void> => {
    try {
      const extensions = await upstream.version;
      greeted = true;
      const home = await homeOf(upstream, extensions);
      answer.resolve({ home, leads: (spelled) => inTime(leads(upstream, spelled)) });
    } catch (error) {
      if (!(error instanceof Ended)) throw error;
      end(new LookupError('the target stopped telling where paths lead'));
    }
  };
  const opened = (payload: Buffer): void => {
    target.opened(parseOpenConfirmation(payload));
    toTarget.open(target.receiver!);
    if (isOver) return target.close();
    target.send(channelRequest(0, 'subsystem', true, { string: 'sftp' }));
  };

  const visit: Visit = {
    teller: answer.promise,
    users: 0,
    leave: () => end(undefined),
    gone: () => {
      target.gone();
      end(new LookupError('the target closed the connection'));
    },
    take(payload) {
      switch (payload[0]) {
        case MSG.CHANNEL_OPEN_CONFIRMATION:
          return opened(payload);
        case MSG.CHANNEL_OPEN_FAILURE:
          target.openFailed();
          removed();
          return end(new LookupError('the target opens no further session to ask where paths lead'));
        case MSG.CHANNEL_WINDOW_ADJUST:
          toTarget.adjust(readData(payload, 5).uint32());
          return;
        case MSG.CHANNEL_SUCCESS:
          if (!isOver) upstream.start();
          return;
        case MSG.CHANNEL_FAILURE:
          return end(undefined);
        case MSG.CHANNEL_DATA:
        case MSG.CHANNEL_EXTENDED_DATA: {
          const data = dataOf(payload);
          if (data === undefined || isOver) return;
          target.grant(data.length);
          if (payload[0] === MSG.CHANNEL_DATA) upstream.feed(Buffer.from(data));
          return;
        }
        case MSG.CHANNEL_REQUEST:
          if (parseChannelRequest(payload).wantReply) target.send(bare(MSG.CHANNEL_FAILURE, 0));
          return;
        case MSG.CHANNEL_EOF:
          // One that ends before it says anything: there is no such program.
          return end(greeted ? new LookupError('the target stopped telling where paths lead') : undefined);
        case MSG.CHANNEL_CLOSE:
          target.hasClosed();
          end(greeted ? new LookupError('the target stopped telling where paths lead') : undefined);
          target.close();
          return removed();
      }
    },
  };
  void inTime(answer.promise).catch(() => undefined);
  greet().catch((error: unknown) => end(new LookupError(error instanceof Error ? error.name : 'unknown')));
  target.opening();
  send(channelOpen({ type: 'session', sender: number, window: WINDOW, maxPacket: WINDOW }));
  return visit;
}
