// The handles that the target issued and the client has not closed: nothing else is ever sent to it as a handle.
import type { FileAccess } from '../../facts.ts';
import { createMeter, type Meter, type Tally } from '../digest.ts';

export interface Handle {
  kind: 'File' | 'Directory';
  /** What it may be used for, as OPEN was judged. */
  reads: boolean;
  writes: boolean;
  /** Lexical and resolved path, as OPEN was judged. */
  at: Pick<FileAccess, 'path' | 'resolved'>;
  /** Of the command that opened it: its result is written when it is closed. */
  command: number;
  read: Meter;
  written: Meter;
  /** Names that READDIR listed. */
  entries: number;
  /** READs, WRITEs and READDIRs that the target refused, but for the end of a file. */
  errors: number;
}

export function createHandle(opened: Omit<Handle, 'read' | 'written' | 'entries' | 'errors'>): Handle {
  return { ...opened, read: createMeter(), written: createMeter(), entries: 0, errors: 0 };
}

export interface Summary {
  bytes: number;
  facts: Readonly<Record<string, unknown>>;
}

/** For the result of the command that opened it. */
export async function closedByClient(handle: Handle): Promise<Summary> {
  return summary(handle, 'Client', await handle.read.end(), await handle.written.end());
}

export function closedByEnd(handle: Handle): Summary {
  return summary(handle, 'Channel', handle.read.stop(), handle.written.stop());
}

function summary(
  handle: Handle,
  closed: 'Client' | 'Channel',
  read: Tally | undefined,
  written: Tally | undefined,
): Summary {
  return {
    bytes: handle.read.bytes + handle.written.bytes,
    facts: {
      ssh: {
        ...(read ? { read } : {}),
        ...(written ? { written } : {}),
        ...(handle.kind === 'Directory' ? { entries: handle.entries } : {}),
        ...(handle.errors > 0 ? { errors: handle.errors } : {}),
        closed,
      },
    },
  };
}
