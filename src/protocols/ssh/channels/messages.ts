// Messages of the connection protocol (RFC 4254; OpenSSH's PROTOCOL, 2): made and taken apart. Nothing here knows what
// they are for. Numbers of channels are the recipient's, always at bytes 1 to 4.
import { type Field, readData, writeData } from '../wire/data.ts';
import { MSG } from '../wire/message-numbers.ts';

/** Bytes in front of the data of CHANNEL_DATA. */
export const DATA_HEADER = 9;
/** The same of CHANNEL_EXTENDED_DATA. */
export const EXTENDED_HEADER = 13;
/** The only type of extended data there is. */
export const STDERR = 1;

export interface ChannelOpen {
  type: string;
  /** The opener's number. */
  sender: number;
  window: number;
  maxPacket: number;
  /** What the type adds. */
  rest: Buffer;
}

export function parseChannelOpen(payload: Buffer): ChannelOpen {
  const reader = readData(payload, 1);
  return {
    type: reader.text(256),
    sender: reader.uint32(),
    window: reader.uint32(),
    maxPacket: reader.uint32(),
    rest: reader.rest(),
  };
}

export function channelOpen(open: { type: string; sender: number; window: number; maxPacket: number }): Buffer {
  return writeData(
    { byte: MSG.CHANNEL_OPEN },
    { string: open.type },
    { uint32: open.sender },
    { uint32: open.window },
    { uint32: open.maxPacket },
  );
}

export interface OpenConfirmation {
  recipient: number;
  sender: number;
  window: number;
  maxPacket: number;
}

export function parseOpenConfirmation(payload: Buffer): OpenConfirmation {
  const reader = readData(payload, 1);
  return { recipient: reader.uint32(), sender: reader.uint32(), window: reader.uint32(), maxPacket: reader.uint32() };
}

export function openConfirmation({ recipient, sender, window, maxPacket }: OpenConfirmation): Buffer {
  return writeData(
    { byte: MSG.CHANNEL_OPEN_CONFIRMATION },
    { uint32: recipient },
    { uint32: sender },
    { uint32: window },
    { uint32: maxPacket },
  );
}

/** Text of a CHANNEL_OPEN_FAILURE, for people; bytes that are no UTF-8 are replaced. */
export function parseOpenFailure(payload: Buffer): { code: number; text: string } {
  const reader = readData(payload, 5);
  return { code: reader.uint32(), text: reader.string().subarray(0, 1024).toString('utf8') };
}

export function openFailure(recipient: number, code: number, text: string): Buffer {
  return writeData(
    { byte: MSG.CHANNEL_OPEN_FAILURE },
    { uint32: recipient },
    { uint32: code },
    { string: text },
    { string: '' },
  );
}

export interface ChannelRequest {
  type: string;
  wantReply: boolean;
  rest: Buffer;
}

export function parseChannelRequest(payload: Buffer): ChannelRequest {
  const reader = readData(payload, 5);
  return { type: reader.text(256), wantReply: reader.boolean(), rest: reader.rest() };
}

export function channelRequest(recipient: number, type: string, wantReply: boolean, ...rest: readonly Field[]): Buffer {
  return writeData(
    { byte: MSG.CHANNEL_REQUEST },
    { uint32: recipient },
    { string: type },
    { boolean: wantReply },
    ...rest,
  );
}

/** SUCCESS, FAILURE, EOF and CLOSE have nothing but the number. */
export function bare(
  message: typeof MSG.CHANNEL_SUCCESS | typeof MSG.CHANNEL_FAILURE | typeof MSG.CHANNEL_EOF | typeof MSG.CHANNEL_CLOSE,
  recipient: number,
): Buffer {
  const payload = Buffer.allocUnsafe(5);
  payload[0] = message;
  payload.writeUInt32BE(recipient, 1);
  return payload;
}

export function windowAdjust(recipient: number, bytes: number): Buffer {
  const payload = Buffer.allocUnsafe(9);
  payload[0] = MSG.CHANNEL_WINDOW_ADJUST;
  payload.writeUInt32BE(recipient, 1);
  payload.writeUInt32BE(bytes, 5);
  return payload;
}

export function channelData(recipient: number, data: Buffer): Buffer {
  return Buffer.concat([dataHeader(recipient, data.length), data]);
}

/** What precedes so many bytes of CHANNEL_DATA. */
export function dataHeader(recipient: number, bytes: number): Buffer {
  const header = Buffer.allocUnsafe(DATA_HEADER);
  header[0] = MSG.CHANNEL_DATA;
  header.writeUInt32BE(recipient, 1);
  header.writeUInt32BE(bytes, 5);
  return header;
}

export function extendedData(recipient: number, code: number, data: Buffer): Buffer {
  const payload = Buffer.allocUnsafe(EXTENDED_HEADER + data.length);
  payload[0] = MSG.CHANNEL_EXTENDED_DATA;
  payload.writeUInt32BE(recipient, 1);
  payload.writeUInt32BE(code, 5);
  payload.writeUInt32BE(data.length, 9);
  data.copy(payload, EXTENDED_HEADER);
  return payload;
}

/** The data of a CHANNEL_DATA or CHANNEL_EXTENDED_DATA, as a view; undefined: its length is not that of the message. */
export function dataOf(payload: Buffer): Buffer | undefined {
  const header = payload[0] === MSG.CHANNEL_DATA ? DATA_HEADER : EXTENDED_HEADER;
  if (payload.length < header || payload.readUInt32BE(header - 4) !== payload.length - header) return undefined;
  return payload.subarray(header);
}

export interface GlobalRequest {
  type: string;
  wantReply: boolean;
  rest: Buffer;
}

export function parseGlobalRequest(payload: Buffer): GlobalRequest {
  const reader = readData(payload, 1);
  return { type: reader.text(256), wantReply: reader.boolean(), rest: reader.rest() };
}

export function globalRequest(type: string, wantReply: boolean, ...rest: readonly Field[]): Buffer {
  return writeData({ byte: MSG.GLOBAL_REQUEST }, { string: type }, { boolean: wantReply }, ...rest);
}
