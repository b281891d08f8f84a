// What a client asks for, read from one packet. Pure: what it means for policy is plan.ts's.
import { MalformedData, type Reader, readData } from '../../wire/data.ts';
import { problemOfPath } from '../paths.ts';
import { type Attributes, LONGEST_HANDLE, readAttributes, TYPE } from './packets.ts';

/** Paths and handles are bytes, one latin1 character each. */
export type SftpRequest =
  | { kind: 'Open'; path: string; flags: number; attributes: Attributes }
  | { kind: 'OpenDirectory'; path: string }
  | { kind: 'Close'; handle: string }
  | { kind: 'Read'; handle: string; offset: number; length: number }
  | { kind: 'ReadDirectory'; handle: string }
  | { kind: 'HandleStat'; handle: string }
  | { kind: 'HandleSetStat'; handle: string; attributes: Attributes }
  | { kind: 'Sync'; handle: string }
  | { kind: 'HandleFileSystem'; handle: string }
  | { kind: 'Limits' }
  /** STAT, LSTAT, READLINK, statvfs: looks and changes nothing. */
  | { kind: 'Look'; operation: 'STAT' | 'LSTAT' | 'READLINK' | 'statvfs'; path: string }
  | { kind: 'RealPath'; path: string }
  | { kind: 'ExpandPath'; path: string }
  | { kind: 'HomeDirectory'; user: string }
  | { kind: 'Names'; users: Buffer; groups: Buffer }
  | { kind: 'SetStat'; path: string; follow: boolean; attributes: Attributes }
  | { kind: 'Remove'; path: string }
  | { kind: 'MakeDirectory'; path: string; attributes: Attributes }
  | { kind: 'RemoveDirectory'; path: string }
  | { kind: 'Rename'; operation: 'RENAME' | 'posix-rename'; from: string; to: string }
  | { kind: 'HardLink'; from: string; to: string }
  /** `target` is what the link says, as it is said. */
  | { kind: 'SymbolicLink'; target: string; link: string }
  | { kind: 'CopyData'; from: string; to: string; fields: Buffer }
  | { kind: 'Unknown'; name: string };

/** Extensions that are judged here; the rest never reaches a client's VERSION. */
export const EXTENSIONS: ReadonlySet<string> = new Set([
  'posix-rename@openssh.com',
  'hardlink@openssh.com',
  'fsync@openssh.com',
  'statvfs@openssh.com',
  'fstatvfs@openssh.com',
  'lsetstat@openssh.com',
  'limits@openssh.com',
  'expand-path@openssh.com',
  'copy-data',
  'home-directory',
  'users-groups-by-id@openssh.com',
]);

/** `body` is what follows the id. Throws MalformedData. WRITE is not among them: its data is never gathered. */
export function readRequest(type: number, body: Buffer): SftpRequest {
  const reader = readData(body);
  const request = read(type, reader);
  if (request.kind !== 'Unknown') reader.end();
  return request;
}

function read(type: number, reader: Reader): SftpRequest {
  switch (type) {
    case TYPE.OPEN:
      return { kind: 'Open', path: text(reader), flags: reader.uint32(), attributes: readAttributes(reader) };
    case TYPE.OPENDIR:
      return { kind: 'OpenDirectory', path: text(reader) };
    case TYPE.CLOSE:
      return { kind: 'Close', handle: handle(reader) };
    case TYPE.READ:
      return { kind: 'Read', handle: handle(reader), offset: Number(reader.uint64()), length: reader.uint32() };
    case TYPE.READDIR:
      return { kind: 'ReadDirectory', handle: handle(reader) };
    case TYPE.FSTAT:
      return { kind: 'HandleStat', handle: handle(reader) };
    case TYPE.FSETSTAT:
      return { kind: 'HandleSetStat', handle: handle(reader), attributes: readAttributes(reader) };
    case TYPE.STAT:
      return { kind: 'Look', operation: 'STAT', path: text(reader) };
    case TYPE.LSTAT:
      return { kind: 'Look', operation: 'LSTAT', path: text(reader) };
    case TYPE.READLINK:
      return { kind: 'Look', operation: 'READLINK', path: text(reader) };
    case TYPE.REALPATH:
      return { kind: 'RealPath', path: text(reader) };
    case TYPE.SETSTAT:
      return { kind: 'SetStat', follow: true, path: text(reader), attributes: readAttributes(reader) };
    case TYPE.REMOVE:
      return { kind: 'Remove', path: text(reader) };
    case TYPE.MKDIR:
      return { kind: 'MakeDirectory', path: text(reader), attributes: readAttributes(reader) };
    case TYPE.RMDIR:
      return { kind: 'RemoveDirectory', path: text(reader) };
    case TYPE.RENAME:
      return { kind: 'Rename', operation: 'RENAME', from: text(reader), to: text(reader) };
    case TYPE.SYMLINK:
      // The draft has the link first. OpenSSH has the target first, and so has whoever talks to it (its PROTOCOL, 4.1).
      return { kind: 'SymbolicLink', target: text(reader), link: text(reader) };
    case TYPE.EXTENDED:
      return readExtended(text(reader), reader);
    default:
      return { kind: 'Unknown', name: `type ${type}` };
  }
}

function readExtended(name: string, reader: Reader): SftpRequest {
  switch (name) {
    case 'posix-rename@openssh.com':
      return { kind: 'Rename', operation: 'posix-rename', from: text(reader), to: text(reader) };
    case 'hardlink@openssh.com':
      return { kind: 'HardLink', from: text(reader), to: text(reader) };
    case 'fsync@openssh.com':
      return { kind: 'Sync', handle: handle(reader) };
    case 'statvfs@openssh.com':
      return { kind: 'Look', operation: 'statvfs', path: text(reader) };
    case 'fstatvfs@openssh.com':
      return { kind: 'HandleFileSystem', handle: handle(reader) };
    case 'lsetstat@openssh.com':
      return { kind: 'SetStat', follow: false, path: text(reader), attributes: readAttributes(reader) };
    case 'limits@openssh.com':
      return { kind: 'Limits' };
    case 'expand-path@openssh.com':
      return { kind: 'ExpandPath', path: text(reader) };
    case 'home-directory':
      return { kind: 'HomeDirectory', user: text(reader) };
    case 'users-groups-by-id@openssh.com':
      return { kind: 'Names', users: reader.string(), groups: reader.string() };
    case 'copy-data': {
      const from = handle(reader);
      const range = reader.bytes(16);
      const to = handle(reader);
      return { kind: 'CopyData', from, to, fields: Buffer.concat([range, reader.bytes(8)]) };
    }
    default:
      return { kind: 'Unknown', name };
  }
}

function text(reader: Reader): string {
  const path = reader.string().toString('latin1');
  const problem = problemOfPath(path);
  if (problem !== undefined) throw new MalformedData(problem);
  return path;
}

function handle(reader: Reader): string {
  const bytes = reader.string();
  if (bytes.length > LONGEST_HANDLE) throw new MalformedData('a handle is too long');
  return bytes.toString('latin1');
}
