// What a shell line would do, as far as every POSIX-like shell agrees on it.

/** One word, after quotes are taken off: literal text, or a pattern of what it may become. */
export type ShellWord =
  | { kind: 'Literal'; text: string }
  /** Has an expansion or a glob: may become any of these, several words, or none. `pieces` with undefined for what is not known. */
  | { kind: 'Pattern'; pieces: readonly (string | undefined)[] };

/** One program that would be run, in the line or inside a wrapper, a substitution or a `sh -c` of it. */
export interface SimpleCommand {
  /** First is the name, always literal. */
  words: readonly [{ kind: 'Literal'; text: string }, ...ShellWord[]];
  /** Wrappers around it, outermost first: `sudo`, `env`. They are commands of their own as well. */
  within: readonly string[];
  /** User that a wrapper changes to; undefined: the session's. */
  user?: string;
}

export interface ShellRedirection {
  action: 'Read' | 'Write' | 'Connect';
  target: ShellWord;
}

export interface ShellFacts {
  commands: readonly SimpleCommand[];
  redirections: readonly ShellRedirection[];
  /** Variables that are set for a command. */
  assignments: readonly string[];
  /** An interpreter that would read what comes on stdin: `sh`, `python` without a script. */
  interactive: boolean;
}
