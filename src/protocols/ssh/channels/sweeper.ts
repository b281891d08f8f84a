// The gateway's own session on a connection that is cut: runs the sweep and reads what it says. Bounded in what it takes.
import { readSweep, SWEEP_GO, SWEEP_READY, type Swept, sweepCommand } from '../upstream/sweep.ts';
import { MSG } from '../wire/message-numbers.ts';
import { bare, channelData, channelOpen, channelRequest, dataOf, parseOpenConfirmation } from './messages.ts';

/** No channel of a client's has this number. */
const NUMBER = 0x5a11;
const WINDOW = 16 * 1024;

export interface Sweeper {
  owns(number: number): boolean;
  fromTarget(payload: Buffer): void;
  /** Opens the session and lets it look around. `ready` resolves when it has, `swept` when it is done; neither rejects. */
  start(): { ready: Promise<void>; swept: Promise<Swept> };
  /** From now on it kills. */
  go(): void;
  gone(): void;
}

export function createSweeper({ send }: { send(payload: Buffer): void }): Sweeper {
  let target: number | undefined;
  let isDue = false;
  let output = '';
  let result: PromiseWithResolvers<Swept> | undefined;
  const ready = Promise.withResolvers<void>();
  const settle = (): void => {
    ready.resolve();
    result?.resolve(readSweep(output));
  };
  const release = (): void => {
    if (target !== undefined && isDue) send(channelData(target, Buffer.from(SWEEP_GO)));
  };
  return {
    owns: (number) => number === NUMBER && result !== undefined,
    fromTarget(payload) {
      switch (payload[0]) {
        case MSG.CHANNEL_OPEN_CONFIRMATION:
          target = parseOpenConfirmation(payload).sender;
          send(channelRequest(target, 'exec', false, { string: sweepCommand() }));
          release();
          return;
        case MSG.CHANNEL_DATA:
          if (output.length < WINDOW) output += dataOf(payload)?.toString('latin1') ?? '';
          if (output.includes(SWEEP_READY)) ready.resolve();
          return;
        case MSG.CHANNEL_OPEN_FAILURE:
          return settle();
        case MSG.CHANNEL_CLOSE:
          if (target !== undefined) send(bare(MSG.CHANNEL_CLOSE, target));
          return settle();
      }
    },
    start() {
      result ??= Promise.withResolvers<Swept>();
      send(channelOpen({ type: 'session', sender: NUMBER, window: WINDOW, maxPacket: WINDOW }));
      return { ready: ready.promise, swept: result.promise };
    },
    go() {
      isDue = true;
      release();
    },
    gone: settle,
  };
}
