// What the files of this folder say how verbs are called with: options, examples, and where a verb is found in the help.
// Each verb is a function elsewhere. Modules with a SQL parser or a server in them are loaded by the verbs that need them,
// so that the others start at once.
import type { Command } from 'commander';
import type { Context, VerbNeeds } from '../context.ts';
import type { ExitCode } from '../io.ts';

export type Action = (context: Context, args: string[], options: GivenOptions) => Promise<ExitCode>;
// Commander knows options by name only; each verb's own type says which it has declared.
type GivenOptions = Record<string, never>;

export type Verb = (usage: string, summary: string, group: string, examples?: readonly string[]) => Command;
export type Run = (action: Action, needs?: VerbNeeds) => (...given: unknown[]) => Promise<void>;

export interface Shell {
  verb: Verb;
  run: Run;
  /** How commands begin: `sallyport` or `kubectl access`. */
  prefix: string;
  /** Verbs and options of `kubectl access`. */
  cluster: boolean;
}

/** For options that may be repeated. */
export const collected = (value: string, before: string[] = []): string[] => [...before, value];
