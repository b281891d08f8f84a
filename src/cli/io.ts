// What a verb sees of the world outside, so that it can be tested without a terminal. Exit codes and errors of the CLI.
import { createInterface } from 'node:readline/promises';
import { styleText } from 'node:util';

/** 0 done, 1 failed, 69 unavailable (try again; nothing was done), 75 not yet (pending, held), 77 denied, 78 misconfigured. */
export const EXIT = { ok: 0, failed: 1, unavailable: 69, pending: 75, denied: 77, misconfigured: 78 } as const;
export type ExitCode = number;

export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Resolves when little of what was written still waits for its reader, or nobody waits any more; between the parts of long output. */
  ready(): Promise<void>;
  /** Whether output goes to a terminal: colour and progress only then. */
  readonly outTty: boolean;
  readonly errTty: boolean;
  readonly inTty: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** y or yes, in any case; anything else is no. */
  ask(question: string): Promise<boolean>;
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

export function systemIo(signal: AbortSignal): Io {
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    ready: () => drained(process.stdout, signal),
    outTty: process.stdout.isTTY === true,
    errTty: process.stderr.isTTY === true,
    inTty: process.stdin.isTTY === true,
    env: process.env,
    async ask(question) {
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      try {
        const answer = await lines.question(question, { signal });
        return /^y(es)?$/i.test(answer.trim());
      } catch {
        return false;
      } finally {
        lines.close();
      }
    },
    signal,
  };
}

function drained(stream: NodeJS.WriteStream, signal: AbortSignal): Promise<void> {
  if (!stream.writableNeedDrain || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    stream.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

/** What a verb ends with when it can not go on: one sentence, what to do next, and the exit code. */
export class CliError extends Error {
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;
  constructor(exitCode: ExitCode, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CliError';
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

type Colour = 'red' | 'green' | 'yellow' | 'dim' | 'bold' | 'cyan';
export function paint(io: Pick<Io, 'outTty' | 'env'>, colour: Colour, text: string): string {
  return io.outTty && !io.env['NO_COLOR'] ? styleText(colour, text, { validateStream: false }) : text;
}

/** Waits, unless the person gives up. Rejects with the signal's reason. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(new CliError(130, 'Given up.'));
    };
    if (signal.aborted) return stop();
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal.addEventListener('abort', stop, { once: true });
  });
}
