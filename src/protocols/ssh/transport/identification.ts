// The lines both sides begin with (RFC 4253, 4.2).
//
// Guarantees: never keeps more than the limits below; takes exactly the bytes up to the peer's identification line's
// end, whatever the chunks; a client that says anything before its identification is refused, a server may.
import { DISCONNECT } from '../wire/message-numbers.ts';
import { Fault } from './fault.ts';

const LONGEST_LINE = 255; // with CR LF
const LONGEST_EARLIER_LINE = 8_192;
const EARLIER_LINES = 1_024;
const EARLIER_BYTES = 64 * 1024;
const LF = 10;
const CR = 13;

export interface IdentificationReader {
  /** The peer's line without its end, and what came after it; undefined while it is not there. */
  push(chunk: Buffer): { version: string; rest: Buffer } | undefined;
}

export function identificationOf(software: string): string {
  return `SSH-2.0-${software}`;
}

/** Reads what a peer of the other role says first. */
export function readIdentification(role: 'Server' | 'Client'): IdentificationReader {
  let line = Buffer.alloc(0);
  let earlierLines = 0;
  let earlierBytes = 0;
  return {
    push(chunk) {
      let at = 0;
      for (;;) {
        const end = chunk.indexOf(LF, at);
        line = Buffer.concat([line, chunk.subarray(at, end === -1 ? chunk.length : end + 1)]);
        checkStart(line, role);
        if (end === -1) return undefined;
        at = end + 1;
        if (line.subarray(0, 4).toString('latin1') === 'SSH-')
          return { version: versionOf(line, role), rest: chunk.subarray(at) };
        earlierLines += 1;
        earlierBytes += line.length;
        if (earlierLines > EARLIER_LINES || earlierBytes > EARLIER_BYTES)
          throw new Fault('Malformed', 'The server says too much before its identification.');
        line = Buffer.alloc(0);
      }
    },
  };
}

function checkStart(line: Buffer, role: 'Server' | 'Client'): void {
  const start = Math.min(line.length, 4);
  const ssh = 'SSH-'.startsWith(line.toString('latin1', 0, start));
  if (!ssh && role === 'Server') throw new Fault('Malformed', 'Invalid SSH identification string.');
  if (line.length > (ssh && start === 4 ? LONGEST_LINE : LONGEST_EARLIER_LINE))
    throw new Fault('Malformed', 'The identification line is too long.');
}

function versionOf(line: Buffer, role: 'Server' | 'Client'): string {
  const end = line.length >= 2 && line[line.length - 2] === CR ? line.length - 2 : line.length - 1;
  const version = line.toString('latin1', 0, end);
  for (let i = 0; i < end; i += 1)
    if (line[i]! < 0x20 || line[i]! > 0x7e) throw new Fault('Malformed', 'The identification line is not plain text.');
  // 1.99 is a server's way to say that it knows the old protocol too (RFC 4253, 5.1).
  if (!version.startsWith('SSH-2.0-') && !(role === 'Client' && version.startsWith('SSH-1.99-')))
    throw new Fault('Malformed', 'SSH protocol version 2.0 is needed.', DISCONNECT.PROTOCOL_VERSION_NOT_SUPPORTED);
  return version;
}
