// The target's side: requests under ids of our own, answers matched to them. Anything that is not the answer to
// something that was asked ends the connection.

import { type Field, MalformedData } from '../../wire/data.ts';
import { createByteQueue } from '../byte-queue.ts';
import type { Outlet } from '../outlet.ts';
import { LONGEST_PACKET, packet, readVersion, STATUS, TYPE } from './packets.ts';
import { type Reply, readReply } from './replies.ts';

/** The session is over: what waited for the target ends with it. */
export class Ended extends Error {
  override name = 'Ended';
}

export interface Answer {
  reply: Reply;
  /** The whole packet, its length before it, under our id: the receiver's to change. */
  packet: Buffer;
}

/** Where the data of one READ goes. `header` is all of DATA that precedes its bytes. */
export interface DataSink {
  /** Bytes that were asked for. */
  length: number;
  begin(header: Buffer): void;
  piece(data: Buffer): void;
  end(): void;
  /** STATUS came instead. */
  status(answer: Answer): void;
}

type Waiting =
  | { kind: 'Whole'; accepts: readonly number[]; resolve(answer: Answer): void; reject(error: Error): void }
  | { kind: 'Data'; sink: DataSink };

export interface Upstream {
  start(): void;
  /** Answers once with VERSION's extensions. */
  readonly version: Promise<ReturnType<typeof readVersion>['extensions']>;
  /** Sends a request of ours, or one built anew; answers with STATUS or one of `accepts`. Rejects with Ended. */
  ask(type: number, fields: readonly Field[], accepts: readonly number[]): Promise<Answer>;
  /** Sends a packet as it is but for its id. It may be only the beginning: the rest is the caller's to push. */
  pass(packet: Buffer, accepts: readonly number[]): Promise<Answer>;
  read(packet: Buffer, sink: DataSink): void;
  feed(data: Buffer): void;
  /** Bytes that were fed to it and that it may yet look at. */
  readonly heldBytes: number;
  end(): void;
}

export function createUpstream(target: Outlet, fail: (text: string) => void): Upstream {
  const input = createByteQueue();
  const waiting = new Map<number, Waiting>();
  let nextId = 0;
  let greeted = false;
  let ended = false;
  let data: { sink: DataSink; left: number } | undefined;
  let greet: (extensions: ReturnType<typeof readVersion>['extensions']) => void = () => {};
  let refuse: (error: Error) => void = () => {};
  const version = new Promise<ReturnType<typeof readVersion>['extensions']>((resolve, reject) => {
    greet = resolve;
    refuse = reject;
  });
  version.catch(() => {});

  const end = (): void => {
    if (ended) return;
    ended = true;
    input.clear();
    refuse(new Ended('the session ended'));
    for (const one of waiting.values()) if (one.kind === 'Whole') one.reject(new Ended('the session ended'));
    waiting.clear();
  };
  const broken = (text: string): void => {
    end();
    fail(text);
  };
  const expect = (packet: Buffer, one: Waiting): void => {
    while (waiting.has(nextId)) nextId = (nextId + 1) >>> 0;
    packet.writeUInt32BE(nextId, 5);
    waiting.set(nextId, one);
    nextId = (nextId + 1) >>> 0;
    target.push(packet);
  };
  const pass = (whole: Buffer, accepts: readonly number[]): Promise<Answer> =>
    new Promise((resolve, reject) => {
      if (ended) reject(new Ended('the session ended'));
      else expect(whole, { kind: 'Whole', accepts, resolve, reject });
    });

  const take = (id: number): Waiting | undefined => {
    const one = waiting.get(id);
    waiting.delete(id);
    return one;
  };
  /** False: more bytes are needed. */
  const step = (): boolean => {
    if (data) {
      const piece = input.some(data.left);
      data.left -= piece.length;
      data.sink.piece(piece);
      if (data.left === 0) {
        const { sink } = data;
        data = undefined;
        sink.end();
      }
      return true;
    }
    if (input.length < 5) return false;
    const head = input.peek(5);
    const length = head.readUInt32BE(0);
    const type = head[4]!;
    if (length < 5 || length > LONGEST_PACKET) throw new MalformedData(`a packet of ${length} bytes`);
    if (type === TYPE.DATA && greeted) {
      if (input.length < 13) return false;
      const header = input.take(13);
      const size = header.readUInt32BE(9);
      const one = take(header.readUInt32BE(5));
      if (one?.kind !== 'Data') throw new MalformedData('DATA that nobody asked for');
      if (size !== length - 9 || size > one.sink.length) throw new MalformedData('DATA of a wrong length');
      one.sink.begin(header);
      if (size === 0) one.sink.end();
      else data = { sink: one.sink, left: size };
      return true;
    }
    if (input.length < 4 + length) return false;
    // A copy, since whoever waits for it looks at it later.
    const whole = Buffer.from(input.take(4 + length));
    if (!greeted) {
      if (type !== TYPE.VERSION) throw new MalformedData(`type ${type} where VERSION was due`);
      const { version: number, extensions } = readVersion(whole.subarray(5));
      if (number !== 3) throw new MalformedData(`SFTP version ${number}, where 3 was asked for`);
      greeted = true;
      greet(extensions);
      return true;
    }
    if (length < 5) throw new MalformedData('a packet without an id');
    const one = take(whole.readUInt32BE(5));
    if (!one) throw new MalformedData('an answer that nobody asked for');
    const reply = readReply(type, whole.subarray(9));
    if (one.kind === 'Data') {
      if (reply.kind !== 'Status' || reply.code === STATUS.OK)
        throw new MalformedData(`type ${type} in answer to READ`);
      one.sink.status({ reply, packet: whole });
    } else {
      const fits =
        one.accepts.includes(type) || (type === TYPE.STATUS && !(reply.kind === 'Status' && reply.code === STATUS.OK));
      if (!fits) throw new MalformedData(`type ${type} does not answer what was asked`);
      one.resolve({ reply, packet: whole });
    }
    return true;
  };

  return {
    version,
    start: () => target.push(packet(TYPE.INIT, { uint32: 3 })),
    ask: (type, fields, accepts) => pass(packet(type, { uint32: 0 }, ...fields), accepts),
    pass,
    read(whole, sink) {
      if (!ended) expect(whole, { kind: 'Data', sink });
    },
    feed(bytes) {
      if (ended) return;
      input.push(bytes);
      try {
        while (!ended && input.length > 0 && step());
      } catch (error) {
        if (!(error instanceof MalformedData)) throw error;
        broken(`The target broke the file transfer protocol: ${error.message}`);
      }
    },
    get heldBytes() {
      return input.length;
    },
    end,
  };
}
