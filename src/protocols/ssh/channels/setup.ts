// What a client asks for before it starts something: a terminal, variables. Kept as it came, bounded, until the target's
// channel is open.

import { readData } from '../wire/data.ts';
import { channelRequest } from './messages.ts';

export interface Pty {
  term: Buffer;
  columns: number;
  rows: number;
  width: number;
  height: number;
  /** Encoded terminal modes (RFC 4254, 8), verbatim. */
  modes: Buffer;
}

export interface Variable {
  name: string;
  value: Buffer;
}

const MOST_VARIABLES = 128;
const MOST_VARIABLE_BYTES = 32 * 1024;
const LONGEST_TERM = 256;
const LONGEST_MODES = 4 * 1024;

/** undefined: it is larger than any terminal's. */
export function parsePty(rest: Buffer): Pty | undefined {
  const reader = readData(rest);
  const term = reader.string();
  const [columns, rows, width, height] = [reader.uint32(), reader.uint32(), reader.uint32(), reader.uint32()];
  const modes = reader.string();
  reader.end();
  if (term.length > LONGEST_TERM || modes.length > LONGEST_MODES) return undefined;
  return { term, columns, rows, width, height, modes };
}

export function ptyRequest(recipient: number, pty: Pty): Buffer {
  const { term, columns, rows, width, height, modes } = pty;
  return channelRequest(
    recipient,
    'pty-req',
    true,
    { string: term },
    { uint32: columns },
    { uint32: rows },
    { uint32: width },
    { uint32: height },
    { string: modes },
  );
}

export function parseVariable(rest: Buffer): Variable {
  const reader = readData(rest);
  const name = reader.text(256);
  const value = reader.string();
  reader.end();
  return { name, value };
}

export class Variables {
  #kept: Variable[] = [];
  #bytes = 0;
  readonly refused: string[] = [];

  get kept(): readonly Variable[] {
    return this.#kept;
  }

  /** false: there is no room. */
  add(variable: Variable): boolean {
    this.#bytes += variable.name.length + variable.value.length;
    if (this.#kept.length >= MOST_VARIABLES || this.#bytes > MOST_VARIABLE_BYTES) return false;
    this.#kept.push(variable);
    return true;
  }

  refuse(name: string): void {
    if (this.refused.length < MOST_VARIABLES) this.refused.push(name);
  }
}
