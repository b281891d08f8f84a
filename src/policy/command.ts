// What a protocol tells the policy engine about one command. The same shape for every protocol.

export type Action = 'Read' | 'Write' | 'Define' | 'Grant' | 'Execute' | 'Session' | 'Connect';

/** One thing a command does to one object. A path is most general first: `['public', 'orders']`. */
export interface Effect {
  action: Action;
  /** Empty when the command names no object (`SELECT 1`, `BEGIN`). A part that is not known is `*`. */
  object: readonly string[];
  /**
   * Needs an Allow that names it (`PreparedMatcher.names`), not merely one that is about everything. `WhereRestricted`: it
   * may do more than can be seen, so only where a Deny or Hold is in force, which it might get around. Absent: no need.
   */
  named?: 'Always' | 'WhereRestricted';
}

/**
 * One command as its protocol understood it. Every command has at least one effect: an allow rule permits effects,
 * and a command none of whose effects is known must not be permitted by accident.
 */
export interface Command<Facts = unknown> {
  /** Registry name of the protocol: `postgresql`. */
  protocol: string;
  /** For people and messages, as the protocol spells it: `DROP TABLE`, `SELECT`. */
  verb: string;
  effects: readonly Effect[];
  /** The command as sent. Never shown or stored unmasked by the engine. */
  text: string;
  /**
   * Why it could not be understood, for people, without a piece of its text: denied unless the session's policy is
   * transparent, and even then where an effect must `Always` be named. Absent: it was understood.
   */
  notUnderstood?: string;
  /** The protocol's own typed facts; only its matcher reads them. */
  facts: Facts;
}
