// What a client asks for before it starts something: a terminal, variables. Kept as it came, bounded, until the target's
// channel is open.

import { commandOfEnvironment } from '../commands.ts';
import { readData } from '../wire/data.ts';
import type { Core } from './core.ts';
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

interface Variable {
  name: string;
  value: Buffer;
}

const MOST_VARIABLES = 128;
const MOST_VARIABLE_BYTES = 32 * 1024;
const LONGEST_TERM = 256;
const LONGEST_MODES = 4 * 1024;

/** undefined: it is larger than any terminal's. */
function parsePty(rest: Buffer): Pty | undefined {
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

function parseVariable(rest: Buffer): Variable {
  const reader = readData(rest);
  const name = reader.text(256);
  const value = reader.string();
  reader.end();
  return { name, value };
}

export class Setup {
  #pty: Pty | undefined;
  #variables: Variable[] = [];
  #bytes = 0;
  readonly #refused: string[] = [];

  get pty(): Pty | undefined {
    return this.#pty;
  }

  get variables(): readonly Variable[] {
    return this.#variables;
  }

  /** false: there is one already, or none is to be had. */
  setPty({ rights }: Core, rest: Buffer): boolean {
    if (this.#pty !== undefined || !rights.pty) return false;
    this.#pty = parsePty(rest);
    return this.#pty !== undefined;
  }

  resize(size: Pick<Pty, 'columns' | 'rows' | 'width' | 'height'>): boolean {
    if (this.#pty === undefined) return false;
    this.#pty = { ...this.#pty, ...size };
    return true;
  }

  /** Kept where policy allows it by its name; a hold is no allowance. */
  setVariable({ session, user }: Core, rest: Buffer): boolean {
    const variable = parseVariable(rest);
    const isAllowed =
      session.gate() === undefined &&
      !variable.value.includes(0) &&
      session.decide(commandOfEnvironment({ user, name: variable.name })).kind === 'Allow';
    if (isAllowed && this.#add(variable)) return true;
    if (this.#refused.length < MOST_VARIABLES) this.#refused.push(variable.name);
    return false;
  }

  #add(variable: Variable): boolean {
    this.#bytes += variable.name.length + variable.value.length;
    if (this.#variables.length >= MOST_VARIABLES || this.#bytes > MOST_VARIABLE_BYTES) return false;
    this.#variables.push(variable);
    return true;
  }

  /** For the command's record. */
  extras(): Readonly<Record<string, unknown>> {
    const pty = this.#pty;
    return {
      ...(this.#variables.length === 0 ? {} : { environment: this.#variables.map(({ name }) => name) }),
      ...(this.#refused.length === 0 ? {} : { refusedEnvironment: this.#refused }),
      ...(pty === undefined
        ? {}
        : { terminal: { term: pty.term.toString('latin1'), columns: pty.columns, rows: pty.rows } }),
    };
  }
}
