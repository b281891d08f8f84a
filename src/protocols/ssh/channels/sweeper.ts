// The gateway's own session at a target: a shell that waits for the case that the connection is cut, then runs the sweep.
// Guarantees: bounded in what it takes; what start-up files write is not taken for the sweep's word; where the shell went
// away, a new one is tried once it is needed. Opens nothing before it is told to.
import type { Random } from '../../../system/random.ts';
import { readSweep, SWEEP_COMMAND, type Swept, sweepScript } from '../upstream/sweep.ts';
import { readData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';
import {
  bare,
  channelData,
  channelOpen,
  channelRequest,
  dataOf,
  type OpenConfirmation,
  parseChannelRequest,
  parseOpenConfirmation,
  windowAdjust,
} from './messages.ts';

/** No channel of a client's has this number. */
const NUMBER = 0x5a11;
const WINDOW = 64 * 1024;

export interface Sweeper {
  owns(number: number): boolean;
  fromTarget(payload: Buffer): void;
  /** Has a shell started that waits. */
  prepare(): void;
  /** Runs the sweep. `ready`: whether it knows whom to end, and ends them; `swept` resolves when it is over. Neither rejects. */
  start(): { ready: Promise<boolean>; swept: Promise<Swept> };
  /** The connection to the target is gone. */
  gone(): void;
}

export function createSweeper({ send, random }: { send(payload: Buffer): void; random: Random }): Sweeper {
  const mark = random.bytes(12).toString('hex');
  let state: 'None' | 'Opening' | 'Open' = 'None';
  let target: OpenConfirmation | undefined;
  let output = '';
  let isDue = false;
  let isAsked = false;
  /** It may have gone away just as it was needed. */
  let isLast = false;
  const ready = Promise.withResolvers<boolean>();
  const result = Promise.withResolvers<Swept>();

  const open = (): void => {
    if (state !== 'None') return;
    state = 'Opening';
    send(channelOpen({ type: 'session', sender: NUMBER, window: WINDOW, maxPacket: WINDOW }));
  };
  /** As soon as all of it may be sent: sshd gives no window before something runs. */
  const ask = (): void => {
    const script = Buffer.from(sweepScript(mark));
    if (!isDue || isAsked || target === undefined || target.maxPacket === 0 || target.window < script.length) return;
    isAsked = true;
    for (let at = 0; at < script.length; at += target.maxPacket)
      send(channelData(target.sender, script.subarray(at, at + target.maxPacket)));
  };
  const said = (data: Buffer): void => {
    if (target === undefined) return;
    if (!isDue) return send(windowAdjust(target.sender, data.length));
    if (output.length < WINDOW) output += data.toString('latin1');
    const swept = readSweep(output, mark);
    if (swept.ready) ready.resolve(true);
    if (swept.complete) result.resolve(swept);
  };
  const ended = (canRetry: boolean): void => {
    state = 'None';
    target = undefined;
    if (!isDue) return;
    if (canRetry && !isLast && !readSweep(output, mark).ready) {
      isLast = true;
      isAsked = false;
      return open();
    }
    ready.resolve(false);
    result.resolve(readSweep(output, mark));
  };

  return {
    owns: (number) => number === NUMBER && state !== 'None',
    fromTarget(payload) {
      switch (payload[0]) {
        case MSG.CHANNEL_OPEN_CONFIRMATION:
          if (state !== 'Opening') return;
          state = 'Open';
          target = parseOpenConfirmation(payload);
          send(channelRequest(target.sender, 'exec', false, { string: SWEEP_COMMAND }));
          return ask();
        case MSG.CHANNEL_WINDOW_ADJUST:
          if (target !== undefined) target.window += readData(payload, 5).uint32();
          return ask();
        case MSG.CHANNEL_OPEN_FAILURE:
          return ended(false);
        case MSG.CHANNEL_DATA:
        case MSG.CHANNEL_EXTENDED_DATA:
          return said(dataOf(payload) ?? Buffer.alloc(0));
        case MSG.CHANNEL_REQUEST:
          // sshd asks on any channel whether somebody is there.
          if (target !== undefined && parseChannelRequest(payload).wantReply)
            send(bare(MSG.CHANNEL_FAILURE, target.sender));
          return;
        case MSG.CHANNEL_CLOSE:
          if (target !== undefined) send(bare(MSG.CHANNEL_CLOSE, target.sender));
          return ended(true);
      }
    },
    prepare: open,
    start() {
      isDue = true;
      if (state === 'None') isLast = true;
      open();
      ask();
      return { ready: ready.promise, swept: result.promise };
    },
    gone: () => ended(false),
  };
}
