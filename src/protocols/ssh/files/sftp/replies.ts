// Answers of the target, read strictly: a target that breaks the protocol must not be able to confuse the client, and
// names it lists must be names.
import { MalformedData, readData } from '../../wire/data.ts';
import { LONGEST_HANDLE, STATUS, TYPE } from './packets.ts';

export type Reply =
  | { kind: 'Status'; code: number; message: string }
  | { kind: 'Handle'; handle: string }
  | { kind: 'Names'; names: readonly string[] }
  | { kind: 'Attributes' }
  | { kind: 'Extended' };

/** `body` is what follows the id. Throws MalformedData. DATA is not among them: it is never gathered. */
export function readReply(type: number, body: Buffer): Reply {
  const reader = readData(body);
  switch (type) {
    case TYPE.STATUS: {
      const code = reader.uint32();
      // Servers older than version 3 leave message and language out; OpenSSH reads them so.
      const message = reader.left > 0 ? reader.string().toString('utf8') : '';
      if (reader.left > 0) reader.string();
      reader.end();
      return { kind: 'Status', code, message };
    }
    case TYPE.HANDLE: {
      const handle = reader.string();
      reader.end();
      if (handle.length === 0 || handle.length > LONGEST_HANDLE) throw new MalformedData('a handle of no good length');
      return { kind: 'Handle', handle: handle.toString('latin1') };
    }
    case TYPE.NAME: {
      const count = reader.uint32();
      // The shortest entry has two empty strings and no attributes.
      if (count > reader.left / 12) throw new MalformedData('more names than bytes for them');
      const names: string[] = [];
      for (let index = 0; index < count; index += 1) {
        names.push(reader.string().toString('latin1'));
        reader.string();
        skipAttributes(reader);
      }
      reader.end();
      return { kind: 'Names', names };
    }
    case TYPE.ATTRS:
      skipAttributes(reader);
      reader.end();
      return { kind: 'Attributes' };
    case TYPE.EXTENDED_REPLY:
      return { kind: 'Extended' };
    default:
      throw new MalformedData(`type ${type} is no answer`);
  }
}

/** filexfer-02, 5, with extended attributes: what the target tells may be more than what clients may ask. */
function skipAttributes(reader: ReturnType<typeof readData>): void {
  const flags = reader.uint32();
  if (flags & 1) reader.uint64();
  if (flags & 2) reader.bytes(8);
  if (flags & 4) reader.bytes(4);
  if (flags & 8) reader.bytes(8);
  if (flags & 0x80000000) {
    const count = reader.uint32();
    if (count > reader.left / 8) throw new MalformedData('more attributes than bytes for them');
    for (let index = 0; index < count; index += 1) {
      reader.string();
      reader.string();
    }
  }
}

/** A name of a directory's listing: anything else could lead a client out of the directory it copies to. */
export const isName = (name: string): boolean => name !== '' && !name.includes('/') && !name.includes('\0');

export const succeeded = (reply: Reply): boolean => reply.kind !== 'Status' || reply.code === STATUS.OK;
