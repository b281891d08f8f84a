// The side connection: the gateway's own session with the account a client uses, for ending backends and for asking the
// catalog. One per (connection, account, database), opened when first needed, shared, opened again after a failure.
// One request at a time; each has a deadline; an answer is bounded.
import type { Duplex } from 'node:stream';
import type { Clock } from '../../system/clock.ts';
import type { Upstream } from './upstream/connect.ts';
import { Framer } from './wire/framer.ts';
import {
  BACKEND,
  decodeDataRow,
  decodeErrorFields,
  decodeRowDescription,
  describeStatement,
  type Field,
  parse,
  query,
  SYNC,
  WireError,
} from './wire/messages.ts';

export class SideError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SideError';
  }
}

export interface SideConnection {
  /** Whether a connection stands ready. */
  readonly warm: boolean;
  /** Runs SQL; rows of its last result as text. Rejects with SideError. */
  query(sql: string): Promise<(string | null)[][]>;
  /** Describes a statement without running it. Rejects with SideError. */
  describe(sql: string): Promise<Field[]>;
  close(): void;
}

export interface SideOptions {
  open(signal: AbortSignal): Promise<Upstream>;
  clock: Clock;
  timeoutMs: number;
}

const MOST_ROWS = 500_000;
const LONGEST_ROW = 16 * 1024 * 1024;

interface Request {
  bytes: Buffer;
  rows: (string | null)[][];
  fields: Field[];
  error: SideError | undefined;
  resolve(): void;
  reject(error: SideError): void;
  sent: boolean;
}

export function createSideConnection(options: SideOptions): SideConnection {
  let stream: Duplex | undefined;
  let opening: Promise<void> | undefined;
  let closed = false;
  const requests: Request[] = [];
  const lifetime = new AbortController();

  const fail = (error: SideError): void => {
    stream?.destroy();
    stream = undefined;
    for (const request of requests.splice(0)) request.reject(error);
  };

  const attach = (upstream: Upstream): void => {
    const framer = new Framer({
      header: (_type, total) => {
        if (total > LONGEST_ROW) fail(new SideError('the catalog answered with too long a message'));
        return 'Whole';
      },
      whole: (type, buffer, start, end) => {
        try {
          receive(type, buffer, start + 5, end);
        } catch (error) {
          fail(new SideError(error instanceof WireError ? error.message : 'unreadable answer', { cause: error }));
        }
      },
      piece: () => undefined,
      dropped: () => undefined,
      broken: (problem) => fail(new SideError(problem)),
    });
    const mine = upstream.stream;
    stream = mine;
    const gone = (): void => {
      if (stream === mine) fail(new SideError('the side connection was closed'));
    };
    mine.on('data', (chunk: Buffer) => {
      if (stream === mine) framer.push(chunk);
    });
    mine.on('error', gone);
    mine.on('close', gone);
    mine.on('end', gone);
    if (upstream.leftover.length > 0) framer.push(upstream.leftover);
    mine.resume();
  };

  const receive = (type: number, buffer: Buffer, start: number, end: number): void => {
    const request = requests[0];
    if (request === undefined) return; // notices and parameter reports between requests
    switch (type) {
      case BACKEND.DataRow:
        if (request.rows.length >= MOST_ROWS) throw new WireError('too many rows');
        request.rows.push(
          decodeDataRow(buffer, start, end).map((value) => (value === null ? null : value.toString('utf8'))),
        );
        return;
      case BACKEND.RowDescription:
        request.rows = [];
        request.fields = decodeRowDescription(buffer, start, end);
        return;
      case BACKEND.ErrorResponse: {
        const fields = decodeErrorFields(buffer, start, end);
        request.error = new SideError(`${fields.C ?? 'XX000'}: ${fields.M ?? ''}`);
        return;
      }
      case BACKEND.ReadyForQuery:
        requests.shift();
        if (request.error === undefined) request.resolve();
        else request.reject(request.error);
        pump();
        return;
      default:
        return;
    }
  };

  const pump = (): void => {
    const next = requests[0];
    if (next === undefined || next.sent || stream === undefined) return;
    next.sent = true;
    stream.write(next.bytes);
  };

  const ensure = async (): Promise<void> => {
    if (stream !== undefined) return;
    opening ??= options
      .open(lifetime.signal)
      .then((upstream) => {
        if (closed) upstream.stream.destroy();
        else attach(upstream);
      })
      .finally(() => {
        opening = undefined;
      });
    await opening;
  };

  const run = async (bytes: Buffer): Promise<Request> => {
    if (closed) throw new SideError('the side connection is closed');
    try {
      await ensure();
    } catch (error) {
      throw new SideError(error instanceof Error ? error.message : String(error), { cause: error });
    }
    return await new Promise<Request>((resolve, reject) => {
      const stopTimer = options.clock.after(options.timeoutMs, () =>
        fail(new SideError('the side connection did not answer in time')),
      );
      const request: Request = {
        bytes,
        rows: [],
        fields: [],
        error: undefined,
        sent: false,
        resolve: () => {
          stopTimer();
          resolve(request);
        },
        reject: (error) => {
          stopTimer();
          reject(error);
        },
      };
      requests.push(request);
      pump();
    });
  };

  return {
    get warm() {
      return stream !== undefined;
    },
    query: async (sql) => (await run(query(sql))).rows,
    describe: async (sql) => (await run(Buffer.concat([parse('', sql), describeStatement(''), SYNC]))).fields,
    close() {
      closed = true;
      lifetime.abort();
      fail(new SideError('the side connection is closed'));
    },
  };
}
