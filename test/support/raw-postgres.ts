// A PostgreSQL client that says exactly what it is told, for pipelines no driver would send. Without TLS: for servers
// with trust authentication and gateways with insecureClients.
import net from 'node:net';
import {
  BACKEND,
  decodeErrorFields,
  int16,
  int32,
  message,
  startupMessage,
} from '../../src/protocols/postgres/wire/messages.ts';

export interface RawMessage {
  /** One letter. */
  type: string;
  body: Buffer;
}

export interface RawClient {
  readonly socket: net.Socket;
  /** Everything received and not taken yet. */
  readonly messages: RawMessage[];
  processId: number;
  secret: Buffer;
  send(...parts: Buffer[]): void;
  /** Takes messages up to and with the first that fits. Rejects after 20 s or when the server closes before. */
  until(fits: (message: RawMessage) => boolean): Promise<RawMessage[]>;
  /** Up to `count` ReadyForQuery. */
  ready(count?: number): Promise<RawMessage[]>;
  closed: Promise<void>;
  end(): void;
}

export async function rawConnect(options: {
  port: number;
  user?: string;
  database?: string;
  password?: string;
  version?: number;
  parameters?: Record<string, string>;
}): Promise<RawClient> {
  const socket = net.connect(options.port, '127.0.0.1');
  socket.on('error', () => undefined);
  const client = wrap(socket);
  socket.write(
    startupMessage(
      { user: options.user ?? 'writer', database: options.database ?? 'postgres', ...options.parameters },
      options.version,
    ),
  );
  for (;;) {
    const [first] = await client.until((one) => one.type !== 'v');
    const taken = first!.type === 'v' ? client.messages.shift()! : first!;
    if (taken.type === 'E') throw new Error(JSON.stringify(fields(taken)));
    if (taken.type === 'R' && taken.body.readInt32BE(0) === 3) {
      socket.write(message(0x70, options.password ?? ''));
      continue;
    }
    break;
  }
  const rest = await client.ready();
  const key = rest.find((one) => one.type === 'K');
  if (key !== undefined) {
    client.processId = key.body.readInt32BE(0);
    client.secret = key.body.subarray(4);
  }
  return client;
}

export function wrap(socket: net.Socket): RawClient {
  let buffer: Buffer = Buffer.alloc(0);
  const messages: RawMessage[] = [];
  let wake: (() => void) | undefined;
  let gone = false;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.on('data', (chunk: Buffer) => {
    buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk]);
    let at = 0;
    while (buffer.length - at >= 5 && buffer.length - at >= buffer.readInt32BE(at + 1) + 1) {
      const end = at + buffer.readInt32BE(at + 1) + 1;
      messages.push({ type: String.fromCharCode(buffer[at]!), body: Buffer.from(buffer.subarray(at + 5, end)) });
      at = end;
    }
    buffer = buffer.subarray(at);
    wake?.();
  });
  socket.on('close', () => {
    gone = true;
    resolve();
    wake?.();
  });
  const client: RawClient = {
    socket,
    messages,
    processId: 0,
    secret: Buffer.alloc(0),
    closed,
    send: (...parts) => void socket.write(Buffer.concat(parts)),
    async until(fits) {
      const deadline = setTimeout(() => {
        gone = true;
        wake?.();
      }, 20_000);
      try {
        let from = 0;
        for (;;) {
          for (; from < messages.length; from += 1) {
            if (fits(messages[from]!)) return messages.splice(0, from + 1);
          }
          if (gone) throw new Error(`closed or late; received ${messages.map(show).join(' ')}`);
          await new Promise<void>((done) => {
            wake = done;
          });
        }
      } finally {
        clearTimeout(deadline);
      }
    },
    async ready(count = 1) {
      let left = count;
      return await client.until((one) => {
        if (one.type === 'Z') left -= 1;
        return left === 0;
      });
    },
    end: () => socket.destroy(),
  };
  return client;
}

export function fields(one: RawMessage): Record<string, string> {
  return decodeErrorFields(one.body, 0, one.body.length);
}

/** Short text of a message for comparisons: type, and what matters of the body. */
export function show(one: RawMessage): string {
  switch (one.type) {
    case 'E': {
      const { C, M } = fields(one);
      return `E(${C} ${M})`;
    }
    case 'N':
      return `N(${fields(one).M})`;
    case 'C':
      return `C(${one.body.toString('latin1', 0, one.body.length - 1)})`;
    case 'Z':
      return `Z(${one.body.toString('latin1')})`;
    case 'D':
    case 'd':
      return `${one.type}(${one.body.toString('latin1').replaceAll(/[^\x20-\x7e]/g, '.')})`;
    default:
      return one.type;
  }
}

export function shown(messages: readonly RawMessage[]): string[] {
  return messages.filter((one) => one.type !== 'S').map(show);
}

export const parseMessage = (name: string, sql: string, types: number[] = []): Buffer =>
  message(0x50, name, sql, int16(types.length), ...types.map(int32));

export const bindMessage = (
  portal: string,
  statement: string,
  values: (string | null)[] = [],
  resultFormats: number[] = [],
): Buffer =>
  message(
    0x42,
    portal,
    statement,
    int16(0),
    int16(values.length),
    ...values.flatMap((value) =>
      value === null ? [int32(-1)] : [int32(Buffer.byteLength(value)), Buffer.from(value)],
    ),
    int16(resultFormats.length),
    ...resultFormats.map(int16),
  );

export const executeMessage = (portal: string, rows = 0): Buffer => message(0x45, portal, int32(rows));
export const describeMessage = (kind: 'S' | 'P', name: string): Buffer => message(0x44, Buffer.from(kind), name);
export const closeMessage = (kind: 'S' | 'P', name: string): Buffer => message(0x43, Buffer.from(kind), name);
export const copyData = (text: string): Buffer => message(0x64, Buffer.from(text));
export const copyDone = (): Buffer => message(0x63);
export const copyFail = (reason: string): Buffer => message(0x66, reason);
export { BACKEND };
