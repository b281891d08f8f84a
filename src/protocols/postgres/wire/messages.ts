// Builders and decoders of the messages the gateway itself reads or writes. Layouts are those of the PostgreSQL
// manual, "Message Formats". Decoders check every size and throw WireError; nothing here does I/O.

/** A message that does not have the layout its type demands. The peer that sent it loses its connection. */
export class WireError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WireError';
  }
}

/** Type bytes, by their direction. */
export const FRONTEND = {
  Bind: 0x42,
  Close: 0x43,
  CopyData: 0x64,
  CopyDone: 0x63,
  CopyFail: 0x66,
  Describe: 0x44,
  Execute: 0x45,
  Flush: 0x48,
  FunctionCall: 0x46,
  Parse: 0x50,
  Password: 0x70,
  Query: 0x51,
  Sync: 0x53,
  Terminate: 0x58,
} as const;

export const BACKEND = {
  Authentication: 0x52,
  BackendKeyData: 0x4b,
  BindComplete: 0x32,
  CloseComplete: 0x33,
  CommandComplete: 0x43,
  CopyBothResponse: 0x57,
  CopyData: 0x64,
  CopyDone: 0x63,
  CopyInResponse: 0x47,
  CopyOutResponse: 0x48,
  DataRow: 0x44,
  EmptyQueryResponse: 0x49,
  ErrorResponse: 0x45,
  NegotiateProtocolVersion: 0x76,
  NoData: 0x6e,
  NoticeResponse: 0x4e,
  NotificationResponse: 0x41,
  ParameterDescription: 0x74,
  ParameterStatus: 0x53,
  ParseComplete: 0x31,
  PortalSuspended: 0x73,
  ReadyForQuery: 0x5a,
  RowDescription: 0x54,
} as const;

/** Any message: type byte, length, body parts (a string is written as a NUL-terminated UTF-8 string). */
export function message(type: number, ...parts: readonly (Buffer | string)[]): Buffer {
  let size = 5;
  for (const part of parts) size += typeof part === 'string' ? Buffer.byteLength(part) + 1 : part.length;
  const out = Buffer.allocUnsafe(size);
  out[0] = type;
  out.writeInt32BE(size - 1, 1);
  let at = 5;
  for (const part of parts) {
    if (typeof part === 'string') {
      at += out.write(part, at);
      out[at++] = 0;
    } else {
      at += part.copy(out, at);
    }
  }
  return out;
}

export function int32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeInt32BE(value);
  return out;
}

export function int16(value: number): Buffer {
  const out = Buffer.allocUnsafe(2);
  out.writeInt16BE(value);
  return out;
}

/** Fields of ErrorResponse and NoticeResponse by their one-letter code. */
export type ErrorFields = Readonly<Record<string, string>>;

// NUL ends a field on the wire, so one inside a value would let the rest pose as another field.
function fieldBytes(fields: ErrorFields): Buffer {
  return Buffer.concat([
    ...Object.entries(fields).map(([code, value]) => Buffer.from(`${code}${value.replaceAll('\0', '')}\0`)),
    Buffer.from([0]),
  ]);
}

export function errorResponse(fields: ErrorFields): Buffer {
  return message(BACKEND.ErrorResponse, fieldBytes(fields));
}

export function noticeResponse(fields: ErrorFields): Buffer {
  return message(BACKEND.NoticeResponse, fieldBytes(fields));
}

/** StartupMessage: no type byte. */
export function startupMessage(parameters: Readonly<Record<string, string>>, version = 196608): Buffer {
  const body = Buffer.concat([
    int32(version),
    ...Object.entries(parameters).map(([name, value]) => Buffer.from(`${name}\0${value}\0`)),
    Buffer.from([0]),
  ]);
  return Buffer.concat([int32(body.length + 4), body]);
}

export const SSL_REQUEST = Buffer.concat([int32(8), int32(80877103)]);

/** CancelRequest: no type byte. */
export function cancelRequest(processId: number, secret: Buffer): Buffer {
  return Buffer.concat([int32(12 + secret.length), int32(80877102), int32(processId), secret]);
}

export function authenticationOk(): Buffer {
  return message(BACKEND.Authentication, int32(0));
}
export function authenticationCleartextPassword(): Buffer {
  return message(BACKEND.Authentication, int32(3));
}
export function backendKeyData(processId: number, secret: Buffer): Buffer {
  return message(BACKEND.BackendKeyData, int32(processId), secret);
}
export function parameterStatus(name: string, value: string): Buffer {
  return message(BACKEND.ParameterStatus, name, value);
}
export function readyForQuery(status: 'I' | 'T' | 'E'): Buffer {
  return message(BACKEND.ReadyForQuery, Buffer.from(status));
}
export function negotiateProtocolVersion(newestMinor: number, unknown: readonly string[]): Buffer {
  return message(BACKEND.NegotiateProtocolVersion, int32(newestMinor), int32(unknown.length), ...unknown);
}

export function query(sql: string): Buffer {
  return message(FRONTEND.Query, sql);
}
export function parse(name: string, sql: string): Buffer {
  return message(FRONTEND.Parse, name, sql, int16(0));
}
export function describePortal(name: string): Buffer {
  return message(FRONTEND.Describe, Buffer.from('P'), name);
}
export function describeStatement(name: string): Buffer {
  return message(FRONTEND.Describe, Buffer.from('S'), name);
}
export const SYNC = message(FRONTEND.Sync);
export const FLUSH = message(FRONTEND.Flush);
export const TERMINATE = message(FRONTEND.Terminate);

/** A cursor over one message body that never reads past its end. */
export class BodyReader {
  readonly #buffer: Buffer;
  #at: number;
  readonly #end: number;

  constructor(buffer: Buffer, start: number, end: number) {
    this.#buffer = buffer;
    this.#at = start;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }
  byte(): number {
    if (this.left < 1) throw new WireError('message is cut short');
    return this.#buffer[this.#at++]!;
  }
  int16(): number {
    const at = this.#at;
    if (this.#end - at < 2) throw new WireError('message is cut short');
    this.#at = at + 2;
    return ((this.#buffer[at]! << 24) >> 16) | this.#buffer[at + 1]!;
  }
  int32(): number {
    const at = this.#at;
    if (this.#end - at < 4) throw new WireError('message is cut short');
    this.#at = at + 4;
    const buffer = this.#buffer;
    return (buffer[at]! << 24) | (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!;
  }
  /** A view, not a copy. */
  bytes(length: number): Buffer {
    if (length < 0 || length > this.left) throw new WireError('message is cut short');
    const value = this.#buffer.subarray(this.#at, this.#at + length);
    this.#at += length;
    return value;
  }
  /** The bytes before the next NUL, as a view. */
  cstringBytes(): Buffer {
    const nul = this.#buffer.indexOf(0, this.#at);
    if (nul === -1 || nul >= this.#end) throw new WireError('string has no end');
    const value = this.#buffer.subarray(this.#at, nul);
    this.#at = nul + 1;
    return value;
  }
  cstring(): string {
    return this.cstringBytes().toString('utf8');
  }
  /** The bytes before the next NUL, one character each: what names are looked up by. No view is made. */
  latin1(): string {
    const start = this.#at;
    let nul = start;
    while (nul < this.#end && this.#buffer[nul] !== 0) nul += 1;
    if (nul === this.#end) throw new WireError('string has no end');
    this.#at = nul + 1;
    return nul === start ? '' : this.#buffer.toString('latin1', start, nul);
  }
  /** Trailing bytes are refused: two readers that disagree on where a message ends are an attack. */
  done(): void {
    if (this.left !== 0) throw new WireError(`${this.left} bytes too many in a message`);
  }
}

export interface ParseMessage {
  name: string;
  text: Buffer;
  parameterTypes: number[];
}

/** `start` is where the body starts (after type and length), as for every decoder below. */
export function decodeParse(buffer: Buffer, start: number, end: number): ParseMessage {
  const reader = new BodyReader(buffer, start, end);
  const name = reader.latin1();
  const text = reader.cstringBytes();
  const count = reader.int16() & 0xffff;
  const parameterTypes: number[] = [];
  for (let i = 0; i < count; i += 1) parameterTypes.push(reader.int32() >>> 0);
  reader.done();
  return { name, text, parameterTypes };
}

export interface BindMessage {
  portal: string;
  statement: string;
  formats: number[];
  /** null is SQL NULL; views into the message. */
  values: (Buffer | null)[];
  resultFormats: number[];
}

export function decodeBind(buffer: Buffer, start: number, end: number): BindMessage {
  const reader = new BodyReader(buffer, start, end);
  const portal = reader.latin1();
  const statement = reader.latin1();
  const formats = decodeFormats(reader);
  const count = reader.int16() & 0xffff;
  if (formats.length > 1 && formats.length !== count)
    throw new WireError('Bind has as many formats as neither 1 nor its parameters');
  const values: (Buffer | null)[] = [];
  for (let i = 0; i < count; i += 1) {
    const length = reader.int32();
    if (length < -1) throw new WireError('Bind has a parameter of negative length');
    values.push(length === -1 ? null : reader.bytes(length));
  }
  const resultFormats = decodeFormats(reader);
  reader.done();
  return { portal, statement, formats, values, resultFormats };
}

function decodeFormats(reader: BodyReader): number[] {
  const count = reader.int16() & 0xffff;
  const formats: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const format = reader.int16();
    if (format !== 0 && format !== 1) throw new WireError(`unknown format code ${format}`);
    formats.push(format);
  }
  return formats;
}

export function decodeExecute(buffer: Buffer, start: number, end: number): { portal: string; rows: number } {
  const reader = new BodyReader(buffer, start, end);
  const portal = reader.latin1();
  const rows = reader.int32();
  reader.done();
  return { portal, rows };
}

/** Describe and Close have the same layout. */
export function decodeNamed(
  buffer: Buffer,
  start: number,
  end: number,
): { kind: 'Statement' | 'Portal'; name: string } {
  const reader = new BodyReader(buffer, start, end);
  const kind = reader.byte();
  if (kind !== 0x53 && kind !== 0x50) throw new WireError('Describe or Close of neither statement nor portal');
  const name = reader.latin1();
  reader.done();
  return { kind: kind === 0x53 ? 'Statement' : 'Portal', name };
}

/** A view of the text of Query, PasswordMessage and CopyFail: one string and nothing else. */
export function decodeText(buffer: Buffer, start: number, end: number): Buffer {
  const reader = new BodyReader(buffer, start, end);
  const text = reader.cstringBytes();
  reader.done();
  return text;
}

export function decodeErrorFields(buffer: Buffer, start: number, end: number): Record<string, string> {
  const reader = new BodyReader(buffer, start, end);
  const fields: Record<string, string> = {};
  for (let code = reader.byte(); code !== 0; code = reader.byte()) fields[String.fromCharCode(code)] = reader.cstring();
  reader.done();
  return fields;
}

export function decodeParameterStatus(buffer: Buffer, start: number, end: number): { name: string; value: string } {
  const reader = new BodyReader(buffer, start, end);
  const name = reader.cstring();
  const value = reader.cstring();
  reader.done();
  return { name, value };
}

export interface Field {
  name: string;
  tableOid: number;
  attributeNumber: number;
  typeOid: number;
  format: number;
}

export function decodeRowDescription(buffer: Buffer, start: number, end: number): Field[] {
  const reader = new BodyReader(buffer, start, end);
  const count = reader.int16();
  const fields: Field[] = [];
  for (let i = 0; i < count; i += 1) {
    const name = reader.cstring();
    const tableOid = reader.int32() >>> 0;
    const attributeNumber = reader.int16();
    const typeOid = reader.int32() >>> 0;
    reader.bytes(6); // type size and modifier
    fields.push({ name, tableOid, attributeNumber, typeOid, format: reader.int16() });
  }
  reader.done();
  return fields;
}

/** Values of a DataRow as views; null is SQL NULL. */
export function decodeDataRow(buffer: Buffer, start: number, end: number): (Buffer | null)[] {
  const reader = new BodyReader(buffer, start, end);
  const count = reader.int16();
  const values: (Buffer | null)[] = [];
  for (let i = 0; i < count; i += 1) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length));
  }
  reader.done();
  return values;
}
