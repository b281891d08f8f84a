// SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL, sections 3 and 4).
import { type Field, MalformedData, type Reader, readData, writeData } from '../../wire/data.ts';

/** filexfer-02, 3 */
export const TYPE = {
  INIT: 1,
  VERSION: 2,
  OPEN: 3,
  CLOSE: 4,
  READ: 5,
  WRITE: 6,
  LSTAT: 7,
  FSTAT: 8,
  SETSTAT: 9,
  FSETSTAT: 10,
  OPENDIR: 11,
  READDIR: 12,
  REMOVE: 13,
  MKDIR: 14,
  RMDIR: 15,
  REALPATH: 16,
  STAT: 17,
  RENAME: 18,
  READLINK: 19,
  SYMLINK: 20,
  STATUS: 101,
  HANDLE: 102,
  DATA: 103,
  NAME: 104,
  ATTRS: 105,
  EXTENDED: 200,
  EXTENDED_REPLY: 201,
} as const;

/** filexfer-02, 7 */
export const STATUS = {
  OK: 0,
  EOF: 1,
  NO_SUCH_FILE: 2,
  PERMISSION_DENIED: 3,
  FAILURE: 4,
  BAD_MESSAGE: 5,
  OP_UNSUPPORTED: 8,
} as const;

/** filexfer-02, 6.3 */
export const OPEN_FLAG = { READ: 1, WRITE: 2, APPEND: 4, CREAT: 8, TRUNC: 16, EXCL: 32 } as const;

/** filexfer-02, 5 */
export const ATTR = { SIZE: 1, UIDGID: 2, PERMISSIONS: 4, ACMODTIME: 8 } as const;

export const VERSION = 3;
/** OpenSSH's SFTP_MAX_MSG_LENGTH: bytes of a packet after its length. */
export const LONGEST_PACKET = 256 * 1024;
/** What fits in a DATA of the longest packet. */
export const LONGEST_READ = LONGEST_PACKET - 1024;
/** filexfer-02, 6.2 */
export const LONGEST_HANDLE = 256;

/** A packet of these fields, its length before it. */
export function packet(type: number, ...fields: readonly Field[]): Buffer {
  const body = writeData(...fields);
  const whole = Buffer.allocUnsafe(5 + body.length);
  whole.writeUInt32BE(1 + body.length, 0);
  whole[4] = type;
  body.copy(whole, 5);
  return whole;
}

export function statusPacket(id: number, code: number, message: string): Buffer {
  return packet(TYPE.STATUS, { uint32: id }, { uint32: code }, { string: message }, { string: 'en' });
}

/** The answer to REALPATH: one name, no attributes. */
export function namePacket(id: number, path: string): Buffer {
  const bytes = bytesOf(path);
  return packet(TYPE.NAME, { uint32: id }, { uint32: 1 }, { string: bytes }, { string: bytes }, { uint32: 0 });
}

/** A path or a handle as it is written; one latin1 character is one byte. */
export const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
export const path = (text: string): Field => ({ string: bytesOf(text) });

export interface Attributes {
  size: boolean;
  owner: boolean;
  permissions: number | undefined;
  times: boolean;
  /** As they came. */
  bytes: Buffer;
}

/** Throws on flags and extended attributes that version 3 servers do not agree on: they could mean anything. */
export function readAttributes(reader: Reader): Attributes {
  const rest = readData(reader.rest());
  const flags = rest.uint32();
  if ((flags & ~(ATTR.SIZE | ATTR.UIDGID | ATTR.PERMISSIONS | ATTR.ACMODTIME)) !== 0)
    throw new MalformedData(`attributes have the unknown flags 0x${(flags >>> 0).toString(16)}`);
  const fields: Field[] = [{ uint32: flags }];
  const copy = (): number => {
    const value = rest.uint32();
    fields.push({ uint32: value });
    return value;
  };
  if (flags & ATTR.SIZE) fields.push({ uint64: rest.uint64() });
  if (flags & ATTR.UIDGID) {
    copy();
    copy();
  }
  const permissions = flags & ATTR.PERMISSIONS ? copy() : undefined;
  if (flags & ATTR.ACMODTIME) {
    copy();
    copy();
  }
  rest.end();
  return {
    size: (flags & ATTR.SIZE) !== 0,
    owner: (flags & ATTR.UIDGID) !== 0,
    permissions,
    times: (flags & ATTR.ACMODTIME) !== 0,
    bytes: writeData(...fields),
  };
}

/** What OPEN and MKDIR are sent with: everything but the permissions is dropped. */
export function onlyPermissions(attributes: Attributes): Buffer {
  return attributes.permissions === undefined
    ? writeData({ uint32: 0 })
    : writeData({ uint32: ATTR.PERMISSIONS }, { uint32: attributes.permissions });
}

/** Body of VERSION after the type. */
export function readVersion(body: Buffer): { version: number; extensions: { name: string; data: Buffer }[] } {
  const reader = readData(body);
  const version = reader.uint32();
  const extensions: { name: string; data: Buffer }[] = [];
  while (reader.left > 0) {
    if (extensions.length >= 64) throw new MalformedData('too many extensions');
    extensions.push({ name: reader.string().toString('latin1'), data: reader.string() });
  }
  return { version, extensions };
}
