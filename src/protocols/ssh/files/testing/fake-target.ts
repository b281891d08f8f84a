// A file server in memory for tests: answers what the filter asks, in the order or out of it, and can misbehave.
import { readData } from '../../wire/data.ts';
import { createByteQueue } from '../byte-queue.ts';
import { lexicalForm } from '../paths.ts';
import { namePacket, packet, STATUS, statusPacket, TYPE } from '../sftp/packets.ts';

export interface Asked {
  type: number;
  id: number;
  /** The whole packet. */
  whole: Buffer;
}

export interface FakeTarget {
  feed(data: Buffer): void;
  /** All requests in order, INIT aside. */
  asked: Asked[];
  /** Answers that were kept back: `keep` decides. */
  kept: Buffer[];
  keep: (asked: Asked) => boolean;
  files: Map<string, Buffer>;
}

/** Answers every request: files are in a map, whatever else is said is OK. */
export function createFakeTarget(send: (data: Buffer) => void): FakeTarget {
  const input = createByteQueue();
  const handles = new Map<string, string>();
  let opened = 0;
  const target: FakeTarget = {
    asked: [],
    kept: [],
    keep: () => false,
    files: new Map(),
    feed(data) {
      input.push(data);
      while (input.length >= 4 && input.length >= 4 + input.peek(4).readUInt32BE(0)) {
        const whole = Buffer.from(input.take(4 + input.peek(4).readUInt32BE(0)));
        const type = whole[4]!;
        if (type === TYPE.INIT) {
          send(packet(TYPE.VERSION, { uint32: 3 }, { string: 'limits@openssh.com' }, { string: '1' }));
          continue;
        }
        const asked = { type, id: whole.readUInt32BE(5), whole };
        target.asked.push(asked);
        const answer = respond(asked);
        if (target.keep(asked)) target.kept.push(answer);
        else send(answer);
      }
    },
  };
  const respond = ({ type, id, whole }: Asked): Buffer => {
    const reader = readData(whole, 9);
    const text = (): string => reader.string().toString('latin1');
    switch (type) {
      case TYPE.READLINK:
      case TYPE.REALPATH:
        return namePacket(id, lexicalForm('/home', text()));
      case TYPE.OPEN:
      case TYPE.OPENDIR: {
        opened += 1;
        const handle = `h${opened}`;
        handles.set(handle, text());
        return packet(TYPE.HANDLE, { uint32: id }, { string: handle });
      }
      case TYPE.CLOSE:
        handles.delete(text());
        return statusPacket(id, STATUS.OK, '');
      case TYPE.READ: {
        const file = target.files.get(handles.get(text()) ?? '');
        const offset = Number(reader.uint64());
        const data = file?.subarray(offset, offset + reader.uint32());
        return data === undefined || data.length === 0
          ? statusPacket(id, STATUS.EOF, '')
          : packet(TYPE.DATA, { uint32: id }, { string: data });
      }
      case TYPE.WRITE: {
        const path = handles.get(text()) ?? '';
        const offset = Number(reader.uint64());
        const data = reader.string();
        const old = target.files.get(path) ?? Buffer.alloc(0);
        const file = Buffer.alloc(Math.max(old.length, offset + data.length));
        old.copy(file);
        data.copy(file, offset);
        target.files.set(path, file);
        return statusPacket(id, STATUS.OK, '');
      }
      case TYPE.READDIR:
        return statusPacket(id, STATUS.EOF, '');
      case TYPE.STAT:
      case TYPE.LSTAT:
      case TYPE.FSTAT:
        return packet(TYPE.ATTRS, { uint32: id }, { uint32: 0 });
      default:
        return statusPacket(id, STATUS.OK, '');
    }
  };
  return target;
}
