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
  /** The innermost wrapper around it, as an index into the commands. */
  by?: number;
  /**
   * Of a wrapper, which does nothing but run what it wraps: at which of its words that begins, or undefined if one of its
   * words is a whole line (`sh -c LINE`). Absent: no wrapper.
   */
  wraps?: { at: number | undefined };
  /** User that a wrapper changes to; undefined: the session's. */
  user?: string;
  /** An interpreter that would run whatever comes on stdin. */
  interactive?: true;
}

export interface ShellRedirection {
  action: 'Read' | 'Write' | 'Connect';
  /** A file; of Connect the path `/dev/tcp/HOST/PORT`. */
  target: ShellWord;
  /** As of a command. */
  user?: string;
}

export interface ShellFacts {
  commands: readonly SimpleCommand[];
  redirections: readonly ShellRedirection[];
  /** Variables that are set for a command. */
  assignments: readonly string[];
  /** An interpreter that would read what comes on stdin: `sh`, `python` without a script. */
  interactive: boolean;
}
