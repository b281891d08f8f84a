// A small SFTP client for tests: sends what it is told, well formed or not, and matches answers by their order.
import { type Field, readData } from '../../wire/data.ts';
import { createByteQueue } from '../byte-queue.ts';
import { bytesOf, packet, STATUS, TYPE } from '../sftp/packets.ts';

export interface Answered {
  type: number;
  id: number;
  body: Buffer;
}

export interface SftpClient {
  /** Bytes from the server. */
  feed(data: Buffer): void;
  raw(data: Buffer): void;
  init(): Promise<{ version: number; extensions: Map<string, string> }>;
  /** The answer to a request that `raw` sent. */
  next(): Promise<Answered>;
  request(type: number, ...fields: readonly Field[]): Promise<Answered>;
  extended(name: string, ...fields: readonly Field[]): Promise<Answered>;
  /** Status code; OK where the answer was no STATUS. */
  code(type: number, ...fields: readonly Field[]): Promise<number>;
  /** As `code`, of an extension. */
  extendedCode(name: string, ...fields: readonly Field[]): Promise<number>;
  open(path: string, flags: number, permissions?: number): Promise<string>;
  openDirectory(path: string): Promise<string>;
  read(handle: string, offset: number, length: number): Promise<Buffer>;
  /** Names that answer READLINK, REALPATH, READDIR. */
  names(type: number, ...fields: readonly Field[]): Promise<string[]>;
  realpath(path: string): Promise<string>;
  /** The server's bytes ended. */
  ended(): void;
}

export const at = (path: string): Field => ({ string: bytesOf(path) });
export const at64 = (offset: number): Field => ({ uint64: BigInt(offset) });
export const NO_ATTRIBUTES: Field = { uint32: 0 };

export class SftpFailure extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

export function createSftpClient(send: (data: Buffer) => void): SftpClient {
  const input = createByteQueue();
  const waiting: { resolve: (answer: Answered) => void; reject: (error: Error) => void; id: number | undefined }[] = [];
  let nextId = 1000;
  let over = false;
  const next = (id?: number): Promise<Answered> =>
    new Promise((resolve, reject) => {
      if (over) reject(new Error('the server ended'));
      else waiting.push({ resolve, reject, id });
    });
  const client: SftpClient = {
    feed(data) {
      input.push(data);
      while (input.length >= 5) {
        const length = input.peek(4).readUInt32BE(0);
        if (input.length < 4 + length) return;
        const whole = Buffer.from(input.take(4 + length));
        const type = whole[4]!;
        const answer: Answered =
          type === TYPE.VERSION
            ? { type, id: -1, body: whole.subarray(5) }
            : { type, id: whole.readUInt32BE(5), body: whole.subarray(9) };
        const one = waiting.shift();
        if (!one) throw new Error('an answer that nobody asked for');
        if (one.id !== undefined && one.id !== answer.id)
          one.reject(new Error(`ID mismatch (${answer.id} != ${one.id})`));
        else one.resolve(answer);
      }
    },
    raw: send,
    async init() {
      const answer = next();
      send(packet(TYPE.INIT, { uint32: 3 }));
      const reader = readData((await answer).body);
      const version = reader.uint32();
      const extensions = new Map<string, string>();
      while (reader.left > 0) extensions.set(reader.string().toString(), reader.string().toString());
      return { version, extensions };
    },
    next: () => next(),
    request(type, ...fields) {
      const id = nextId;
      // Ids of clients need not rise, nor differ.
      nextId = (nextId * 7 + 3) % 100_000;
      const answer = next(id);
      send(packet(type, { uint32: id }, ...fields));
      return answer;
    },
    extended: (name, ...fields) => client.request(TYPE.EXTENDED, { string: name }, ...fields),
    async code(type, ...fields) {
      return codeOf(await client.request(type, ...fields));
    },
    async open(path, flags, permissions) {
      const attributes: Field[] =
        permissions === undefined ? [NO_ATTRIBUTES] : [{ uint32: 4 }, { uint32: permissions }];
      return handleOf(await client.request(TYPE.OPEN, at(path), { uint32: flags }, ...attributes));
    },
    async extendedCode(name, ...fields) {
      return codeOf(await client.extended(name, ...fields));
    },
    async openDirectory(path) {
      return handleOf(await client.request(TYPE.OPENDIR, at(path)));
    },
    async read(handle, offset, length) {
      return dataOf(await client.request(TYPE.READ, at(handle), at64(offset), { uint32: length }));
    },
    async names(type, ...fields) {
      return namesOf(await client.request(type, ...fields));
    },
    async realpath(path) {
      return (await client.names(TYPE.REALPATH, at(path)))[0]!;
    },
    ended() {
      over = true;
      for (const one of waiting.splice(0)) one.reject(new Error('the server ended'));
    },
  };
  return client;
}

function codeOf(answer: Answered): number {
  return answer.type === TYPE.STATUS ? answer.body.readUInt32BE(0) : STATUS.OK;
}

export function handleOf(answer: Answered): string {
  if (answer.type !== TYPE.HANDLE) throw failure(answer);
  return readData(answer.body).string().toString('latin1');
}

function namesOf(answer: Answered): string[] {
  if (answer.type !== TYPE.NAME) throw failure(answer);
  const reader = readData(answer.body);
  const names: string[] = [];
  for (let left = reader.uint32(); left > 0; left -= 1) {
    names.push(reader.string().toString('latin1'));
    reader.string();
    const flags = reader.uint32();
    reader.bytes((flags & 1 ? 8 : 0) + (flags & 2 ? 8 : 0) + (flags & 4 ? 4 : 0) + (flags & 8 ? 8 : 0));
  }
  return names;
}

function dataOf(answer: Answered): Buffer {
  if (answer.type !== TYPE.DATA) throw failure(answer);
  return readData(answer.body).string();
}

function failure(answer: Answered): Error {
  if (answer.type !== TYPE.STATUS) return new Error(`an answer of type ${answer.type}`);
  const reader = readData(answer.body);
  return new SftpFailure(reader.uint32(), reader.string().toString());
}
