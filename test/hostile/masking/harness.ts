// Plays a gateway session against a real server, as simply as can be: classify, review, send, plan, mask, rebuild errors.
// Keeps every byte a client would have been shown. The wire is spoken here, so that rows are masked as the bytes they are.
import net from 'node:net';
import type { CompiledMask } from '../../../src/policy/bundle.ts';
import { classify, loadClassifier } from '../../../src/protocols/postgres/classify/classify.ts';

import { openMaskingCatalog } from '../../../src/protocols/postgres/masking/catalog.ts';
import { rebuildError } from '../../../src/protocols/postgres/masking/errors.ts';
import type {
  FieldOrigin,
  MaskReview,
  RowPlan,
  SessionMasking,
} from '../../../src/protocols/postgres/masking/masking.ts';
import type { ClassifiedStatement } from '../../../src/protocols/postgres/statement.ts';
import { systemClock } from '../../../src/system/clock.ts';

interface Message {
  type: string;
  bytes: Buffer;
}

/** A connection to a server that trusts the user. */
export class Wire {
  private readonly socket: net.Socket;
  private buffered = Buffer.alloc(0);
  private waiting: (() => void) | undefined;
  private closed = false;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.buffered = Buffer.concat([this.buffered, chunk]);
      this.waiting?.();
    });
    const gone = (): void => {
      this.closed = true;
      this.waiting?.();
    };
    socket.on('close', gone);
    socket.on('error', gone);
  }

  static async open(port: number, user: string, database: string): Promise<Wire> {
    const socket = net.connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    const wire = new Wire(socket);
    const body = Buffer.from(`user\0${user}\0database\0${database}\0client_encoding\0UTF8\0\0`);
    const head = Buffer.alloc(8);
    head.writeUInt32BE(8 + body.length, 0);
    head.writeUInt32BE(196608, 4);
    socket.write(Buffer.concat([head, body]));
    for (;;) {
      const message = await wire.next();
      if (message.type === 'E') throw new Error(message.bytes.toString('utf8', 5));
      if (message.type === 'Z') return wire;
    }
  }

  async next(): Promise<Message> {
    for (;;) {
      if (this.buffered.length >= 5) {
        const length = this.buffered.readUInt32BE(1) + 1;
        if (this.buffered.length >= length) {
          const bytes = Buffer.from(this.buffered.subarray(0, length));
          this.buffered = this.buffered.subarray(length);
          return { type: String.fromCharCode(bytes[0]!), bytes };
        }
      }
      if (this.closed) throw new Error('the server closed the connection');
      await new Promise<void>((resolve) => {
        this.waiting = resolve;
      });
    }
  }

  send(type: string, ...parts: (string | number | Buffer)[]): void {
    const body = Buffer.concat(
      parts.map((part) => {
        if (Buffer.isBuffer(part)) return part;
        if (typeof part === 'string') return Buffer.from(`${part}\0`);
        const number = Buffer.alloc(2);
        number.writeInt16BE(part);
        return number;
      }),
    );
    const head = Buffer.alloc(5);
    head.write(type, 'latin1');
    head.writeUInt32BE(body.length + 4, 1);
    this.socket.write(Buffer.concat([head, body]));
  }

  close(): void {
    this.socket.destroy();
  }

  async rows(sql: string): Promise<(string | null)[][]> {
    this.send('Q', sql);
    const rows: (string | null)[][] = [];
    let error: string | undefined;
    for (;;) {
      const { type, bytes } = await this.next();
      if (type === 'D') rows.push(valuesOf(bytes).map((value) => value?.toString('utf8') ?? null));
      if (type === 'E') error = fieldsOf(bytes).find((field) => field.code === 'M')?.value;
      if (type === 'Z') {
        if (error !== undefined) throw new Error(error);
        return rows;
      }
    }
  }

  async describe(sql: string): Promise<FieldOrigin[]> {
    this.send('P', '', sql, 0);
    this.send('D', Buffer.from('S\0'));
    this.send('S');
    let fields: FieldOrigin[] = [];
    let error: string | undefined;
    for (;;) {
      const { type, bytes } = await this.next();
      if (type === 'T') fields = originsOf(bytes);
      if (type === 'E') error = fieldsOf(bytes).find((field) => field.code === 'M')?.value;
      if (type === 'Z') {
        if (error !== undefined) throw new Error(error);
        return fields;
      }
    }
  }
}

export function originsOf(bytes: Buffer): FieldOrigin[] {
  const fields: FieldOrigin[] = [];
  let at = 7;
  for (let i = bytes.readUInt16BE(5); i > 0; i--) {
    const end = bytes.indexOf(0, at);
    const name = bytes.toString('utf8', at, end);
    fields.push({
      name,
      tableOid: bytes.readUInt32BE(end + 1),
      attributeNumber: bytes.readInt16BE(end + 5),
      typeOid: bytes.readUInt32BE(end + 7),
      format: bytes.readUInt16BE(end + 17),
    });
    at = end + 19;
  }
  return fields;
}

export function valuesOf(bytes: Buffer): (Buffer | null)[] {
  const values: (Buffer | null)[] = [];
  let at = 7;
  for (let i = bytes.readUInt16BE(5); i > 0; i--) {
    const size = bytes.readInt32BE(at);
    at += 4;
    values.push(size < 0 ? null : bytes.subarray(at, at + size));
    at += Math.max(0, size);
  }
  return values;
}

function fieldsOf(bytes: Buffer): { code: string; value: string }[] {
  const fields: { code: string; value: string }[] = [];
  for (let at = 5; bytes[at] !== 0 && at < bytes.length; ) {
    const end = bytes.indexOf(0, at + 1);
    fields.push({ code: String.fromCharCode(bytes[at]!), value: bytes.toString('utf8', at + 1, end) });
    at = end + 1;
  }
  return fields;
}

export interface Step {
  sql: string;
  /** Extended protocol with results in binary. */
  binary?: boolean;
  parameters?: (string | null)[];
}
export interface Outcome {
  /** Refusals, in order: by review, or by plan once described. */
  refused: string[];
  /** Whether any statement ran to its end without an error. */
  completed: number;
  errors: string[];
  masked: number;
  /** All that a client would have been shown. */
  shown: Buffer;
  rows: (string | null)[][];
}

export interface Player {
  play(steps: readonly (string | Step)[]): Promise<Outcome>;
  masking(): SessionMasking;
  refresh(): Promise<void>;
  close(): void;
}

export async function openPlayer(options: {
  port: number;
  user: string;
  database: string;
  masks: readonly CompiledMask[];
  trustedFunctions?: readonly string[];
}): Promise<Player> {
  await loadClassifier();
  const side = await Wire.open(options.port, options.user, options.database);
  const catalog = openMaskingCatalog({
    query: (sql) => side.rows(sql),
    describe: (sql) => side.describe(sql),
    clock: systemClock,
  });
  await catalog.refresh(true);
  const masking = (): SessionMasking => catalog.resolve(options.masks, options.trustedFunctions ?? []);

  const one = async (wire: Wire, step: Step, outcome: Outcome): Promise<void> => {
    const show = (bytes: Buffer | string): void => {
      outcome.shown = Buffer.concat([outcome.shown, Buffer.from('\n'), Buffer.from(bytes)]);
    };
    if (catalog.stale) await catalog.refresh(false);
    const classified = classify(step.sql);
    if (classified.kind === 'NotUnderstood') {
      outcome.refused.push(`not understood: ${classified.reason}`);
      return;
    }
    let session = masking();
    const statements = classified.statements;
    let reviews = statements.map((statement) => session.review(statement));
    const no = reviews.find((review) => review.kind === 'Refused');
    if (no?.kind === 'Refused') {
      outcome.refused.push(no.message);
      show(`${no.message}\n${no.hint}`);
      return;
    }
    if (step.binary === true || step.parameters !== undefined) {
      const parameters = step.parameters ?? [];
      wire.send('P', '', step.sql, 0);
      const values = parameters.map((value) => {
        const bytes = value === null ? Buffer.alloc(0) : Buffer.from(value);
        const head = Buffer.alloc(4);
        head.writeInt32BE(value === null ? -1 : bytes.length);
        return Buffer.concat([head, bytes]);
      });
      wire.send('B', '', '', 0, parameters.length, ...values, 1, step.binary === true ? 1 : 0);
      wire.send('D', Buffer.from('P\0'));
      wire.send('E', '', Buffer.alloc(4));
      wire.send('S');
    } else {
      wire.send('Q', step.sql);
    }
    let index = 0;
    let plan: RowPlan | undefined;
    for (;;) {
      const { type, bytes } = await wire.next();
      const review: MaskReview = reviews[Math.min(index, reviews.length - 1)] ?? { kind: 'Clear' };
      if (type === 'Z') break;
      if (type === 'T') {
        show(bytes);
        const fields = originsOf(bytes);
        plan = session.plan(review, fields);
        if (plan.kind === 'Unknown') {
          await catalog.refresh(true);
          session = masking();
          reviews = statements.map((statement: ClassifiedStatement) => session.review(statement));
          plan = session.plan(reviews[index]!, fields);
          if (plan.kind === 'Unknown')
            plan = { kind: 'Refused', column: undefined, by: undefined, message: 'unknown relation', hint: '' };
        }
        if (plan.kind === 'Refused') {
          outcome.refused.push(plan.message);
          show(plan.message);
        }
      } else if (type === 'D') {
        if (plan === undefined) throw new Error('a row came before its description');
        if (plan.kind === 'Refused' || plan.kind === 'Unknown') continue;
        const row = plan.kind === 'Mask' ? plan.masker.mask(bytes) : bytes;
        if (plan.kind === 'Mask') outcome.masked = plan.masker.count;
        if (row.length > bytes.length) throw new Error('a masked row grew');
        show(row);
        outcome.rows.push(valuesOf(row).map((value) => value?.toString('utf8') ?? null));
      } else if (type === 'E' || type === 'N') {
        const fields = fieldsOf(bytes);
        const seen =
          review.kind === 'Masked'
            ? rebuildError(fields)
            : fields.map(({ code, value }) => ({ code, value: session.scrub(value) }));
        show(seen.map(({ code, value }) => `${code}${value}`).join('\n'));
        if (type === 'E') outcome.errors.push(seen.find((field) => field.code === 'M')?.value ?? '');
      } else if (type === 'G') {
        wire.send('c');
      } else if (type === 'A') {
        // Payloads are blanked by the session.
      } else {
        if (type === 'd') show(bytes);
        if (type === 'C') {
          outcome.completed += 1;
          index += 1;
          plan = undefined;
          if (/^(CREATE|ALTER|DROP|COMMIT|SELECT|BEGIN)/.test(bytes.toString('latin1', 5))) catalog.invalidate();
        }
      }
    }
  };

  return {
    masking,
    refresh: () => catalog.refresh(true),
    close: () => side.close(),
    async play(steps) {
      const wire = await Wire.open(options.port, options.user, options.database);
      const outcome: Outcome = { refused: [], completed: 0, errors: [], masked: 0, shown: Buffer.alloc(0), rows: [] };
      try {
        for (const step of steps) await one(wire, typeof step === 'string' ? { sql: step } : step, outcome);
      } finally {
        wire.close();
      }
      return outcome;
    },
  };
}
