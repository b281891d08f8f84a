// JSON lines for people and collectors: `ts`, `level`, `message`, then the fields. Every value passes the redactor.
import type { Clock } from '../system/clock.ts';
import { printableJson, redact, redactText } from './redact.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Log {
  (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** The same log with fields that every line carries. */
  with(fields: Readonly<Record<string, unknown>>): Log;
}

export interface LogOptions {
  clock: Clock;
  /** Lines below it are dropped. Default info. */
  level?: LogLevel;
  /** Takes one line with its newline. Default: stderr. */
  write?: (line: string) => void;
}

export function createLog(options: LogOptions, common: Readonly<Record<string, unknown>> = {}): Log {
  const write = options.write ?? ((line: string): void => void process.stderr.write(line));
  const least = LOG_LEVELS.indexOf(options.level ?? 'info');
  const log = (level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void => {
    if (LOG_LEVELS.indexOf(level) < least) return;
    const members = redact({ ...common, ...fields }) as Record<string, unknown>;
    // Fields can not pass for the line's own members.
    for (const own of ['ts', 'level', 'message']) delete members[own];
    const ts = new Date(options.clock.now()).toISOString();
    try {
      write(`${printableJson({ ts, level, message: redactText(message), ...members })}\n`);
    } catch {
      // Nowhere to say that nothing can be said.
    }
  };
  return Object.assign(log, {
    with: (fields: Readonly<Record<string, unknown>>): Log => createLog(options, { ...common, ...fields }),
  });
}
