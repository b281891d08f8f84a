// The lines of the old scp protocol (rcp's): what the sending side says before each file, and how the other answers.
// There is no specification; scp.c of OpenSSH, `source`, `rsource`, `sink` and `response`, is what everybody copied.

export type ScpRecord =
  | { kind: 'Times' }
  | { kind: 'File'; mode: number; size: number; name: string }
  | { kind: 'Directory'; mode: number; name: string }
  | { kind: 'End' }
  /** The sender tells of a trouble and goes on (1) or gives up (2). Nobody answers. */
  | { kind: 'Trouble'; fatal: boolean };

/** Bytes of one line; scp.c reads into 16 KiB. */
export const LONGEST_LINE = 8 * 1024;

/** `line` is latin1 without its newline. Undefined: it is none. Names are not judged here. */
export function readRecord(line: string): ScpRecord | undefined {
  switch (line[0]) {
    case '\x01':
    case '\x02':
      return { kind: 'Trouble', fatal: line[0] === '\x02' };
    case 'T':
      return /^T[0-9]{1,20} [0-9]{1,6} [0-9]{1,20} [0-9]{1,6}$/.test(line) ? { kind: 'Times' } : undefined;
    case 'E':
      return line === 'E' ? { kind: 'End' } : undefined;
    case 'C':
    case 'D': {
      const parts = /^[CD]([0-7]{4}) ([0-9]{1,16}) (.+)$/s.exec(line);
      if (!parts) return undefined;
      const size = Number(parts[2]);
      if (!Number.isSafeInteger(size)) return undefined;
      const mode = Number.parseInt(parts[1]!, 8);
      const name = parts[3]!;
      return line[0] === 'C' ? { kind: 'File', mode, size, name } : { kind: 'Directory', mode, name };
    }
    default:
      return undefined;
  }
}

/** What is wrong with a name; undefined: it names something in the directory that it is for. */
export function problemOfName(name: string): string | undefined {
  if (name === '.' || name === '..' || name.includes('/')) return 'a name that leads out of its directory';
  // oxlint-disable-next-line no-control-regex
  if (/[\x00-\x1f\x7f]/.test(name)) return 'a name with control characters';
  if (name.length > 255) return 'a name of more than 255 bytes';
  return undefined;
}
